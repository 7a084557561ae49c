/** One KINK message as RFC 4430 draws it: `CREATE { AP_REQ, ENCRYPT{ ISAKMP{ SA(ESP …), Ni } } } -->`. Holds no secrets. */

import { hex, readU32be } from '../src/bytes/bytes.ts';
import { WireError } from '../src/errors.ts';
import { showSelector } from '../src/ipsec/selector.ts';
import { readPayloads } from '../src/isakmp/chain.ts';
import { selectorOfId } from '../src/isakmp/client-ids.ts';
import { notifyName, protocolName } from '../src/isakmp/doi.ts';
import { readTransform, transformText } from '../src/isakmp/ipsec-transforms.ts';
import { type Payload as QuickPayload, payloadName as quickPayloadName } from '../src/isakmp/payloads.ts';
import type { Proposal } from '../src/isakmp/sa-payload.ts';
import { printable } from '../src/wire/dump.ts';
import { nameOf } from '../src/wire/registry.ts';
import { type Message, TYPE } from './message.ts';
import { type IsakmpPayload, KINK_ERROR, type Payload, payloadName } from './payloads.ts';

/** Items of a list that are shown. */
const MOST = 8;

/** One line: commands and ACK point right, a REPLY left. `inner` is what KINK_ENCRYPT held, where it could be opened. */
export function ladder(message: Message, inner?: readonly Payload[]): string {
  const reply = message.messageType === TYPE.REPLY;
  const texts = message.payloads.map((payload) =>
    payload.type === 'ENCRYPT' && inner !== undefined
      ? `ENCRYPT{ ${inner.map((held) => payloadText(held, reply)).join(', ')} }`
      : payloadText(payload, reply),
  );
  const flag = message.ACKREQ ? ', ACKREQ' : '';
  const text = `${nameOf(TYPE, message.messageType)}${flag} { ${texts.join(', ')} }`;
  return reply ? `<-- ${text}` : `${text} -->`;
}

/** One payload: `AP_REQ`, `ERROR(KINK_INTERR)`, `ISAKMP{ … }`. */
export function payloadText(payload: Payload, reply: boolean): string {
  switch (payload.type) {
    case 'ENCRYPT':
      return `ENCRYPT(${payload.ciphertext.length} octets)`;
    case 'ERROR':
      return `ERROR(${nameOf(KINK_ERROR, payload.code)})`;
    case 'TGT_REQ':
      return `TGT_REQ(${printable(payload.principal.slice(0, 256))})`;
    case 'ISAKMP':
      return `ISAKMP{ ${quickTexts(payload, reply).join(', ')} }`;
    case 'unknown':
      return `${payloadName(payload.number)}?`;
    default:
      return payload.type;
  }
}

function quickTexts({ first, chain }: IsakmpPayload, reply: boolean): string[] {
  let payloads: QuickPayload[];
  try {
    payloads = readPayloads(chain, first);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return [`${chain.length} octets that are no payloads`];
  }
  let ids = 0;
  return cut(payloads).map((payload) => {
    if (typeof payload === 'string') return payload;
    if (payload.type === 'ID') return idText(payload, ++ids);
    return quickText(payload, reply);
  });
}

function quickText(payload: QuickPayload, reply: boolean): string {
  switch (payload.type) {
    case 'SA':
      return `SA(${proposalsText(payload.proposals)})`;
    case 'Nonce':
      return reply ? 'Nr' : 'Ni';
    case 'Notify':
      return `N(${notifyName(payload.notify)})`;
    case 'Delete':
      return `D(${[protocolName(payload.protocol), ...cut(payload.spis).map(spiText)].join(' ')})`;
    case 'unknown':
      return `${quickPayloadName(payload.number)}?`;
    default:
      return payload.type;
  }
}

/** With `or` between the choices, and `and` between what belongs together (RFC 2408 §4.2). */
function proposalsText(proposals: readonly Proposal[]): string {
  return cut(proposals)
    .map((proposal, i) => {
      if (typeof proposal === 'string') return ` or ${proposal}`;
      const link = i === 0 ? '' : proposals[i - 1]!.number === proposal.number ? ' and ' : ' or ';
      return link + proposalText(proposal);
    })
    .join('');
}

/** `ESP c1a2b3c4: esp aes_cbc-128/hmac_sha1 transport | …`. */
function proposalText({ protocol, spi, transforms }: Proposal): string {
  const texts = cut(transforms).map((transform) => {
    if (typeof transform === 'string') return transform;
    const read = readTransform(protocol, transform);
    return typeof read === 'string' ? `transform ${transform.id}?` : transformText(read).replace(/^\w+ /, '');
  });
  return `${protocolName(protocol)} ${spiText(spi)}: ${texts.join(' | ')}`;
}

function idText(payload: Extract<QuickPayload, { type: 'ID' }>, place: number): string {
  const name = place === 1 ? 'IDci' : place === 2 ? 'IDcr' : 'ID';
  try {
    return `${name}(${showSelector(selectorOfId(payload))})`;
  } catch {
    return `${name}(type ${payload.idType})`;
  }
}

function spiText(spi: Uint8Array | string): string {
  if (typeof spi === 'string') return spi;
  return spi.length === 4 ? readU32be(spi).toString(16).padStart(8, '0') : hex(spi.subarray(0, 16));
}

/** The first items, and how many there are besides. */
function cut<T>(items: readonly T[]): readonly (T | string)[] {
  return items.length <= MOST ? items : [...items.slice(0, MOST), `… ${items.length - MOST} more`];
}
