/** IDci and IDcr, the traffic that Quick Mode is about, and traffic selectors: RFC 2407 §4.6.2, RFC 2409 §5.5. */

import { cat } from '../bytes/bytes.ts';
import { PeerError } from '../errors.ts';
import { ANY_PORT, showSelector, type TrafficSelector } from '../ipsec/selector.ts';
import { IpAddress } from '../net/address.ts';
import { bitsOf, firstAddress, lastAddress, rangeToPrefixes } from '../net/prefix.ts';
import { nameOf } from '../wire/registry.ts';
import { ID_TYPE } from './doi.ts';
import { all, type Payload, type PayloadOf } from './payloads.ts';

/** Both ends of an SA's traffic, named after the exchange's initiator and responder. */
export interface ClientSelectors {
  readonly IDci: TrafficSelector;
  readonly IDcr: TrafficSelector;
}

/** Whether an ID payload can say the selector: it has room for one port or for any, which is 0. */
export function canIdentify({ startPort, endPort }: TrafficSelector): boolean {
  return (startPort === endPort && startPort !== 0) || isAnyPort(startPort, endPort);
}

function isAnyPort(startPort: number, endPort: number): boolean {
  return startPort === ANY_PORT.startPort && endPort === ANY_PORT.endPort;
}

/** The ID payload of a selector: an address, else a subnet, else a range. Port 0 is any port (RFC 2407 §4.6.2). Throws PeerError where `canIdentify` is false. */
export function idOf(selector: TrafficSelector): PayloadOf<'ID'> {
  const { start, end, protocol, startPort, endPort } = selector;
  if (!canIdentify(selector)) {
    throw new PeerError(
      'INVALID-ID-INFORMATION',
      `${showSelector(selector)}: an ID payload says one port, which is not 0, or any`,
    );
  }
  const port = isAnyPort(startPort, endPort) ? 0 : startPort;
  const v4 = start.family === 4;
  const payload = (idType: number, data: Uint8Array) => ({ type: 'ID' as const, idType, protocol, port, data });
  if (start.equals(end)) return payload(v4 ? ID_TYPE.IPV4_ADDR : ID_TYPE.IPV6_ADDR, start.bytes);
  const [prefix, ...more] = rangeToPrefixes(start, end);
  if (prefix !== undefined && more.length === 0) {
    const mask = maskOf(prefix.length, start.bytes.length);
    return payload(v4 ? ID_TYPE.IPV4_ADDR_SUBNET : ID_TYPE.IPV6_ADDR_SUBNET, cat(start.bytes, mask));
  }
  return payload(v4 ? ID_TYPE.IPV4_ADDR_RANGE : ID_TYPE.IPV6_ADDR_RANGE, cat(start.bytes, end.bytes));
}

/** The selector of an ID payload. Throws PeerError INVALID-ID-INFORMATION for types that name no addresses, and for malformed data. */
export function selectorOfId({ idType, protocol, port, data }: PayloadOf<'ID'>): TrafficSelector {
  const ports = port === 0 ? ANY_PORT : { startPort: port, endPort: port };
  const { start, end } = addressesOf(idType, data);
  return { protocol, ...ports, start, end };
}

/**
 * What IDci and IDcr of a message say: the first two ID payloads, in this order; without them, all traffic between the hosts themselves.
 * Throws PeerError where there is only one, or what they name is no traffic.
 */
export function clientSelectors(payloads: readonly Payload[], initiator: IpAddress, responder: IpAddress): ClientSelectors {
  const [IDci, IDcr, ...more] = all(payloads, 'ID');
  if (IDci === undefined) return { IDci: hostSelector(initiator), IDcr: hostSelector(responder) };
  if (IDcr === undefined || more.length > 0) {
    throw new PeerError(
      'INVALID-ID-INFORMATION',
      `expected two ID payloads (IDci, IDcr) or none, found ${2 + more.length - (IDcr === undefined ? 1 : 0)}`,
    );
  }
  const selectors = { IDci: selectorOfId(IDci), IDcr: selectorOfId(IDcr) };
  if (selectors.IDci.start.family !== selectors.IDcr.start.family) {
    throw new PeerError(
      'INVALID-ID-INFORMATION',
      `IDci is ${showSelector(selectors.IDci)} but IDcr is ${showSelector(selectors.IDcr)}`,
    );
  }
  return selectors;
}

/** Whether the ID payloads can be left away, since they say no more than the hosts' addresses. */
export function areHosts({ IDci, IDcr }: ClientSelectors, initiator: IpAddress, responder: IpAddress): boolean {
  const is = (ts: TrafficSelector, host: IpAddress) =>
    ts.protocol === 0 && isAnyPort(ts.startPort, ts.endPort) && ts.start.equals(host) && ts.end.equals(host);
  return is(IDci, initiator) && is(IDcr, responder);
}

function hostSelector(address: IpAddress): TrafficSelector {
  return { protocol: 0, ...ANY_PORT, start: address, end: address };
}

function addressesOf(idType: number, data: Uint8Array): { start: IpAddress; end: IpAddress } {
  const octets = FAMILY_OCTETS[idType];
  if (octets === undefined) throw invalid(idType, 'names no address');
  const single = idType === ID_TYPE.IPV4_ADDR || idType === ID_TYPE.IPV6_ADDR;
  const expected = single ? octets : 2 * octets;
  if (data.length !== expected) throw invalid(idType, `has ${data.length} octets, expected ${expected}`);
  const start = IpAddress.of(data.subarray(0, octets));
  if (single) return { start, end: start };
  const second = data.subarray(octets);
  if (idType === ID_TYPE.IPV4_ADDR_RANGE || idType === ID_TYPE.IPV6_ADDR_RANGE) {
    const end = IpAddress.of(second);
    if (start.compare(end) > 0) throw invalid(idType, `ends at ${end}, before it begins at ${start}`);
    return { start, end };
  }
  const length = prefixLength(second);
  if (length === undefined) throw invalid(idType, `has the mask ${IpAddress.of(second)}, whose ones are not all in front`);
  const prefix = { address: start, length };
  return { start: firstAddress(prefix), end: lastAddress(prefix) };
}

const FAMILY_OCTETS: Readonly<Record<number, number>> = {
  [ID_TYPE.IPV4_ADDR]: 4,
  [ID_TYPE.IPV4_ADDR_SUBNET]: 4,
  [ID_TYPE.IPV4_ADDR_RANGE]: 4,
  [ID_TYPE.IPV6_ADDR]: 16,
  [ID_TYPE.IPV6_ADDR_SUBNET]: 16,
  [ID_TYPE.IPV6_ADDR_RANGE]: 16,
};

/** A network mask with `length` leading ones. */
function maskOf(length: number, octets: number): Uint8Array {
  const all = IpAddress.of(new Uint8Array(octets).fill(0xff));
  return length === bitsOf(all.family) ? all.bytes : firstAddress({ address: all, length }).bytes;
}

/** The number of leading ones, or undefined where a one follows a zero. */
function prefixLength(mask: Uint8Array): number | undefined {
  let length = 0;
  while (length < mask.length * 8 && (mask[length >> 3]! & (0x80 >> (length & 7))) !== 0) length++;
  return maskOf(length, mask.length).every((octet, i) => octet === mask[i]) ? length : undefined;
}

function invalid(idType: number, problem: string): PeerError {
  return new PeerError('INVALID-ID-INFORMATION', `an ID of type ${nameOf(ID_TYPE, idType)} ${problem}`);
}
