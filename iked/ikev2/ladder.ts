/** One IKEv2 message as the RFC draws it: `IKE_SA_INIT { SA(aes_gcm_16-256 | …), KE(x25519), Ni } -->`. Holds no secrets. */

import { fromUtf8, hex } from '../../src/bytes/bytes.ts';
import { encrByIkev2, integByIkev2, keByIkev2, prfByIkev2 } from '../../src/crypto/transforms.ts';
import type { Proposal, Transform } from '../../src/ipsec/proposal.ts';
import { showSelector } from '../../src/ipsec/selector.ts';
import { IpAddress } from '../../src/net/address.ts';
import { dump, printable } from '../../src/wire/dump.ts';
import { knownName, nameOf } from '../../src/wire/registry.ts';
import { EXCHANGE, type Message, type ReadMessage } from './message.ts';
import { notifyDetail, notifyName } from './notify.ts';
import { AUTH_METHOD, CERT_ENCODING, CFG_TYPE, ID_TYPE, type Payload, PROTOCOL, payloadName } from './payloads.ts';

/**
 * One line. The original initiator of the IKE SA stands on the left: its messages point right, those of the other side left. `left` says
 * otherwise, for a picture of two nodes that outlives an IKE SA.
 */
export function ladder(message: Message, left = message.initiator): string {
  return rung(message, payloadTexts([...(message.outer ?? []), ...message.payloads], message.response), left);
}

/** The same for a message that could not be opened: what is clear, and how long the rest is. */
export function sealedLadder({ header, payloads, sealed, fragment }: ReadMessage, left = header.initiator): string {
  const texts = payloadTexts(payloads, header.response);
  if (sealed !== undefined) texts.push(`SK(${sealed.body.length} octets)`);
  if (fragment !== undefined) texts.push(`SKF(${fragment.body.length} octets)`);
  return rung({ ...header, payloads }, texts, left);
}

/** All members of a message, one a line, for `--dump`. What proves an identity (AUTH, EAP) is only counted. */
export function dumpMessage(message: Message): string {
  const payloads = message.payloads.map((payload) =>
    payload.type === 'AUTH' || payload.type === 'EAP'
      ? { ...payload, data: `${payload.data.length} octets`, received: undefined }
      : payload,
  );
  return dump({ ...message, payloads }, { name: (member, value) => NAMES[member]?.(value) });
}

/** What the numbers of a member are called. */
const NAMES: Readonly<Record<string, (value: number) => string | undefined>> = {
  exchange: (value) => knownName(EXCHANGE, value),
  notify: notifyName,
  group: keByIkev2,
  idType: (value) => knownName(ID_TYPE, value),
  method: (value) => knownName(AUTH_METHOD, value),
  encoding: (value) => knownName(CERT_ENCODING, value),
  cfgType: (value) => knownName(CFG_TYPE, value),
};

function payloadTexts(payloads: readonly Payload[], response: boolean): string[] {
  return cut(payloads, 40).map((payload) => (typeof payload === 'string' ? payload : payloadText(payload, response)));
}

function rung(message: Message, texts: readonly string[], left: boolean): string {
  const held = texts.length === 0 ? '{ }' : `{ ${texts.join(', ')} }`;
  const text = `${nameOf(EXCHANGE, message.exchange)} ${held}`;
  return left ? `${text} -->` : `<-- ${text}`;
}

/** One payload: `TSi(10.1.0.0-10.1.0.255)`, `N(COOKIE)`, `Ni`. */
export function payloadText(payload: Payload, response: boolean): string {
  switch (payload.type) {
    case 'SA':
      return `SA(${proposalsText(payload.proposals, 'with SPIs')})`;
    case 'KE':
      return `KE(${keByIkev2(payload.group) ?? `group ${payload.group}`})`;
    case 'IDi':
    case 'IDr':
      return `${payload.type}(${identityText(payload.idType, payload.data)})`;
    case 'CERT':
    case 'CERTREQ':
      return `${payload.type}(${nameOf(CERT_ENCODING, payload.encoding)})`;
    case 'AUTH':
      return `AUTH(${nameOf(AUTH_METHOD, payload.method)})`;
    case 'Nonce':
      return response ? 'Nr' : 'Ni';
    case 'Notify': {
      const detail = notifyDetail(payload);
      return detail === '' ? `N(${notifyName(payload.notify)})` : `N(${notifyName(payload.notify)}, ${detail})`;
    }
    case 'Delete':
      return `D(${[nameOf(PROTOCOL, payload.protocol), ...cut(payload.spis, 8).map((spi) => (typeof spi === 'string' ? spi : hex(spi)))].join(' ')})`;
    case 'VendorId':
      return 'V';
    case 'TSi':
    case 'TSr':
      return `${payload.type}(${cut(payload.selectors, 4)
        .map((ts) => (typeof ts === 'string' ? ts : showSelector(ts)))
        .join(', ')})`;
    case 'CP':
      return `CP(${nameOf(CFG_TYPE, payload.cfgType)})`;
    case 'EAP':
      return 'EAP';
    case 'unknown':
      return `${payloadName(payload.number)}?${payload.critical ? '!' : ''}`;
  }
}

/** `aes_gcm_16-256 | prf_hmac_sha2_256 | x25519`; several proposals with `or` between. Used beside a refusal, too, without SPIs: "we had sent …". */
export function proposalsText(proposals: readonly Proposal[], spis?: 'with SPIs'): string {
  return cut(proposals, 6)
    .map((proposal) => (typeof proposal === 'string' ? proposal : proposalText(proposal, spis !== undefined)))
    .join(' or ');
}

function proposalText({ protocol, spi, transforms }: Proposal, withSpi: boolean): string {
  const types = [...new Set(transforms.map((transform) => transform.type))];
  const columns = types.map((type) =>
    cut(
      transforms.filter((transform) => transform.type === type),
      16,
    )
      .map((transform) => (typeof transform === 'string' ? transform : transformText(transform)))
      .join(','),
  );
  const about = withSpi && spi.length > 0 ? `${protocol} ${hex(spi)}: ` : protocol === 'ike' ? '' : `${protocol}: `;
  return about + columns.join(' | ');
}

function transformText({ type, id, keyBits }: Transform): string {
  const bits = keyBits === undefined ? '' : `-${keyBits}`;
  switch (type) {
    case 'ENCR':
      return `${encrByIkev2(id) ?? `encr ${id}`}${bits}`;
    case 'PRF':
      return `prf_${prfByIkev2(id) ?? id}`;
    case 'INTEG':
      return id === 0 ? 'none' : (integByIkev2(id) ?? `integ ${id}`);
    case 'KE':
      return id === 0 ? 'none' : (keByIkev2(id) ?? `group ${id}`);
    case 'ESN':
      return id === 0 ? 'no_esn' : id === 1 ? 'esn' : `esn ${id}`;
    default:
      return `type ${type} ${id}${bits}`;
  }
}

/** An identity as people write it; control characters of a hostile one are made visible. */
export function identityText(idType: number, data: Uint8Array): string {
  if ((idType === ID_TYPE.IPV4_ADDR && data.length === 4) || (idType === ID_TYPE.IPV6_ADDR && data.length === 16))
    return `${IpAddress.of(data)}`;
  if (idType === ID_TYPE.FQDN || idType === ID_TYPE.RFC822_ADDR) return printable(fromUtf8(data.subarray(0, 256)));
  return `${nameOf(ID_TYPE, idType)} ${hex(data.subarray(0, 32))}${data.length > 32 ? '…' : ''}`;
}

/** At most `most` items, and how many there are besides. */
function cut<T>(items: readonly T[], most: number): readonly (T | string)[] {
  return items.length <= most ? items : [...items.slice(0, most), `… ${items.length - most} more`];
}
