/** One IKEv1 message as the RFC draws it: `Main Mode { SA(AES_CBC_256/…), V(DPD) } -->`. Holds no secrets. */

import { fromUtf8, hex } from '../../src/bytes/bytes.ts';
import { showSelector } from '../../src/ipsec/selector.ts';
import { selectorOfId } from '../../src/isakmp/client-ids.ts';
import { ID_TYPE, notifyName, PROTOCOL, protocolName } from '../../src/isakmp/doi.ts';
import * as ipsec from '../../src/isakmp/ipsec-transforms.ts';
import { type Payload, type PayloadOf, payloadName } from '../../src/isakmp/payloads.ts';
import type { Proposal } from '../../src/isakmp/sa-payload.ts';
import { printable } from '../../src/wire/dump.ts';
import { nameOf } from '../../src/wire/registry.ts';
import { EXCHANGE, type Message, type ReadMessage } from './message.ts';
import { transformText } from './phase-1-proposals.ts';
import { vendorName } from './vendor-id.ts';

/** One line. `left`: its sender stands on the left, which in IKEv1 no message says of itself. */
export function ladder(message: Message, left: boolean): string {
  return rung(
    message.exchange,
    message.encrypted,
    cut(message.payloads, 40).map((one) => (typeof one === 'string' ? one : payloadText(one))),
    left,
  );
}

/** The same for a message that could not be decrypted. */
export function sealedLadder({ header, payloads, ciphertext }: ReadMessage, left: boolean): string {
  if (!header.encrypted) return ladder({ ...header, payloads }, left);
  return rung(header.exchange, true, [`${ciphertext.length} octets`], left);
}

function rung(exchange: number, encrypted: boolean, texts: readonly string[], left: boolean): string {
  const text = `${nameOf(EXCHANGE, exchange)}${encrypted ? '*' : ''} ${texts.length === 0 ? '{ }' : `{ ${texts.join(', ')} }`}`;
  return left ? `${text} -->` : `<-- ${text}`;
}

function payloadText(payload: Payload): string {
  switch (payload.type) {
    case 'SA':
      return `SA(${proposalsText(payload.proposals)})`;
    case 'ID':
      return `ID(${identityText(payload)})`;
    case 'Notify':
      return `N(${notifyName(payload.notify)}${spisText(payload.protocol, [payload.spi])})`;
    case 'Delete':
      return `D(${protocolName(payload.protocol)}${spisText(payload.protocol, payload.spis)})`;
    case 'VendorId':
      return `V${vendorText(payload.data)}`;
    case 'Nonce':
      return 'N';
    case 'unknown':
      return `${payloadName(payload.number)}?`;
    default:
      return payload.type;
  }
}

/** `esp c0ffee00: AES_CBC_256/…` with `or` between the choices, and `and` between what belongs together (RFC 2408 §4.2). */
export function proposalsText(proposals: readonly Proposal[]): string {
  return cut(proposals, 6)
    .map((proposal, i) => {
      if (typeof proposal === 'string') return ` or ${proposal}`;
      const link = i === 0 ? '' : proposals[i - 1]!.number === proposal.number ? ' and ' : ' or ';
      return link + proposalText(proposal);
    })
    .join('');
}

function proposalText({ protocol, spi, transforms }: Proposal): string {
  const phase1 = protocol === PROTOCOL.ISAKMP;
  const texts = cut(transforms, 6).map((transform) => {
    if (typeof transform === 'string') return transform;
    if (phase1) return transformText(transform);
    const read = ipsec.readTransform(protocol, transform);
    return typeof read === 'string' ? read : ipsec.transformText(read);
  });
  return `${phase1 || spi.length === 0 ? '' : `${hex(spi)}: `}${texts.join(' | ')}`;
}

/** An identity as people write it; control characters of a hostile one are made visible. */
export function identityText(id: PayloadOf<'ID'>): string {
  if (id.idType === ID_TYPE.FQDN || id.idType === ID_TYPE.USER_FQDN) return printable(fromUtf8(id.data.subarray(0, 256)));
  try {
    return showSelector(selectorOfId(id));
  } catch {
    return `${nameOf(ID_TYPE, id.idType)} ${hex(id.data.subarray(0, 32))}${id.data.length > 32 ? '…' : ''}`;
  }
}

function spisText(protocol: number, spis: readonly Uint8Array[]): string {
  if (protocol === PROTOCOL.ISAKMP) return ''; // the cookies, which the header has already
  const texts = cut(
    spis.filter((spi) => spi.length > 0),
    8,
  ).map((spi) => (typeof spi === 'string' ? spi : hex(spi.subarray(0, 8))));
  return texts.length === 0 ? '' : ` ${texts.join(' ')}`;
}

function vendorText(data: Uint8Array): string {
  const name = vendorName(data);
  return name === undefined ? '' : `(${name})`;
}

/** At most `most` items, and how many there are besides. */
function cut<T>(items: readonly T[], most: number): readonly (T | string)[] {
  return items.length <= most ? items : [...items.slice(0, most), `… ${items.length - most} more`];
}
