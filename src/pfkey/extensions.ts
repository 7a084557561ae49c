/** The layout of each PF_KEY extension: RFC 2367 §2.3, the Linux dialect's, and our private ones. Offsets count from the extension header. */

import { Secret } from '../bytes/secret.ts';
import { Fault } from '../errors.ts';
import type { TrafficSelector } from '../ipsec/selector.ts';
import type { Family } from '../net/address.ts';
import { Field, type Layout, type MessageWriter, readSockaddr, sockaddrBytes, writeSockaddr } from './field.ts';
import { SADB_EXT, type SadbExtension } from './registry.ts';
import type {
  SadbAddress,
  SadbAlgorithm,
  SadbComb,
  SadbExtensions,
  SadbIdentity,
  SadbIpsecRequest,
  SadbKey,
  SadbLifetime,
} from './sadb.ts';

const COMB = 72;
const ALGORITHM = 8;
const IPSEC_REQUEST = 16;

const address: Layout<SadbAddress> = {
  minimum: 24,
  read(field) {
    const { endpoint, length } = readSockaddr(field, 8);
    const expected = Math.ceil((8 + length) / 8) * 8;
    if (field.length !== expected) field.refuse(`has ${field.length} octets, not ${expected}`);
    const prefixLength = field.u8(5);
    const bits = endpoint.address.family === 4 ? 32 : 128;
    if (prefixLength > bits) field.refuse(`prefix length is ${prefixLength}, more than ${bits}`, 5);
    return { protocol: field.u8(4), prefixLength, ...endpoint };
  },
  write(value, out) {
    out.begin(8 + sockaddrBytes(value));
    out.u8(4, value.protocol);
    out.u8(5, value.prefixLength);
    writeSockaddr(out, 8, value);
  },
};

const lifetime: Layout<SadbLifetime> = {
  minimum: 32,
  read: (field) => ({ allocations: field.u32(4), bytes: field.u64(8), addtime: field.u64(16), usetime: field.u64(24) }),
  write(value, out) {
    out.begin(32);
    out.u32(4, value.allocations);
    out.u64(8, value.bytes);
    out.u64(16, value.addtime);
    out.u64(24, value.usetime);
  },
};

const key: Layout<SadbKey> = {
  minimum: 8,
  read(field) {
    const bits = field.u16(4);
    const length = Math.ceil(bits / 8);
    if (8 + length > field.length) field.refuse(`${bits} bits do not fit into ${field.length - 8} octets`, 4);
    return { bits, key: new Secret(field.slice(8, 8 + length)) };
  },
  write({ bits, key: secret }, out) {
    out.begin(8 + secret.length);
    out.u16(4, bits);
    out.octets(8, secret.reveal());
  },
};

const identity: Layout<SadbIdentity> = {
  minimum: 16,
  read(field) {
    const text = field.slice(16);
    const end = text.indexOf(0);
    return { type: field.u16(4), id: field.u64(8), name: end < 0 ? text : text.slice(0, end) };
  },
  write({ type, id, name }, out) {
    out.begin(16 + (name.length === 0 ? 0 : name.length + 1));
    out.u16(4, type);
    out.u64(8, id);
    out.octets(16, name);
  },
};

const supported: Layout<readonly SadbAlgorithm[]> = {
  minimum: 8,
  read(field) {
    const algorithms: SadbAlgorithm[] = [];
    for (let at = 8; at < field.length; at += ALGORITHM) {
      algorithms.push({ id: field.u8(at), ivBytes: field.u8(at + 1), minBits: field.u16(at + 2), maxBits: field.u16(at + 4) });
    }
    return algorithms;
  },
  write(algorithms, out) {
    out.begin(8 + ALGORITHM * algorithms.length);
    for (const [i, { id, ivBytes, minBits, maxBits }] of algorithms.entries()) {
      const at = 8 + ALGORITHM * i;
      out.u8(at, id);
      out.u8(at + 1, ivBytes);
      out.u16(at + 2, minBits);
      out.u16(at + 4, maxBits);
    }
  },
};

function octetsOf(family: Family): number {
  return family === 4 ? 4 : 16;
}

function readComb(field: Field, at: number): SadbComb {
  return {
    auth: field.u8(at),
    encrypt: field.u8(at + 1),
    flags: field.u16(at + 2),
    authMinBits: field.u16(at + 4),
    authMaxBits: field.u16(at + 6),
    encryptMinBits: field.u16(at + 8),
    encryptMaxBits: field.u16(at + 10),
    soft: {
      allocations: field.u32(at + 16),
      bytes: field.u64(at + 24),
      addtime: field.u64(at + 40),
      usetime: field.u64(at + 56),
    },
    hard: {
      allocations: field.u32(at + 20),
      bytes: field.u64(at + 32),
      addtime: field.u64(at + 48),
      usetime: field.u64(at + 64),
    },
  };
}

function writeComb(out: MessageWriter, at: number, comb: SadbComb): void {
  out.u8(at, comb.auth);
  out.u8(at + 1, comb.encrypt);
  out.u16(at + 2, comb.flags);
  out.u16(at + 4, comb.authMinBits);
  out.u16(at + 6, comb.authMaxBits);
  out.u16(at + 8, comb.encryptMinBits);
  out.u16(at + 10, comb.encryptMaxBits);
  out.u32(at + 16, comb.soft.allocations);
  out.u32(at + 20, comb.hard.allocations);
  for (const [i, member] of (['bytes', 'addtime', 'usetime'] as const).entries()) {
    out.u64(at + 24 + 16 * i, comb.soft[member]);
    out.u64(at + 32 + 16 * i, comb.hard[member]);
  }
}

/** A request whose length is not its true one is refused: taken as "no request", an ipsec policy would become a bypass. */
function readRequests(field: Field): SadbIpsecRequest[] {
  const requests: SadbIpsecRequest[] = [];
  for (let at = 16; at < field.length; ) {
    if (field.length - at < IPSEC_REQUEST) field.refuse('octets are left over behind the last request', at);
    const length = field.u16(at);
    if (length < IPSEC_REQUEST || at + length > field.length) field.refuse(`a request says ${length} octets`, at);
    let addresses: SadbIpsecRequest['addresses'];
    if (length > IPSEC_REQUEST) {
      const source = readSockaddr(field, at + IPSEC_REQUEST);
      const destination = readSockaddr(field, at + IPSEC_REQUEST + source.length);
      const expected = IPSEC_REQUEST + source.length + destination.length;
      if (length !== expected) field.refuse(`a request says ${length} octets, its addresses make ${expected}`, at);
      addresses = { source: source.endpoint, destination: destination.endpoint };
    }
    requests.push({
      protocol: field.u16(at + 2),
      mode: field.u8(at + 4),
      level: field.u8(at + 5),
      reqid: field.u32(at + 8),
      addresses,
    });
    at += length;
  }
  return requests;
}

function requestBytes({ addresses }: SadbIpsecRequest): number {
  return addresses === undefined
    ? IPSEC_REQUEST
    : IPSEC_REQUEST + sockaddrBytes(addresses.source) + sockaddrBytes(addresses.destination);
}

function writeRequest(out: MessageWriter, at: number, request: SadbIpsecRequest): void {
  const { protocol, mode, level, reqid, addresses } = request;
  out.u16(at, requestBytes(request));
  out.u16(at + 2, protocol);
  out.u8(at + 4, mode);
  out.u8(at + 5, level);
  out.u32(at + 8, reqid);
  if (addresses === undefined) return;
  writeSockaddr(out, at + IPSEC_REQUEST, addresses.source);
  writeSockaddr(out, at + IPSEC_REQUEST + sockaddrBytes(addresses.source), addresses.destination);
}

/** A selector as RFC 7296 §3.13.1 lays it out, with the family (4 or 6) in the place of the type. */
function writeSelector(out: MessageWriter, at: number, ts: TrafficSelector): void {
  out.u8(at, ts.start.family);
  out.u8(at + 1, ts.protocol);
  out.be16(at + 4, ts.startPort);
  out.be16(at + 6, ts.endPort);
  out.address(at + 8, ts.start);
  out.address(at + 8 + octetsOf(ts.start.family), ts.end);
}

function readSelectors(field: Field, from: number, count: number): { selectors: TrafficSelector[]; end: number } {
  const selectors: TrafficSelector[] = [];
  let at = from;
  for (let i = 0; i < count; i++) {
    if (at + 16 > field.length) field.refuse(`selector ${i + 1} of ${count} is cut off`, at);
    const family = field.u8(at);
    if (family !== 4 && family !== 6) field.refuse(`selector family is ${family}, not 4 or 6`, at);
    const octets = octetsOf(family);
    if (at + 8 + 2 * octets > field.length) field.refuse(`selector ${i + 1} of ${count} is cut off`, at);
    selectors.push({
      protocol: field.u8(at + 1),
      startPort: field.be16(at + 4),
      endPort: field.be16(at + 6),
      start: field.address(at + 8, family),
      end: field.address(at + 8 + octets, family),
    });
    at += 8 + 2 * octets;
  }
  // What is pushed to has room for 17, and an SA keeps these for all its life.
  return { selectors: selectors.slice(), end: at };
}

/** One 16-bit number in network order at offset 4. */
const port: Layout<number> = {
  minimum: 8,
  read: (field) => field.be16(4),
  write(value, out) {
    out.begin(8);
    out.be16(4, value);
  },
};

/** One 32-bit number at offset 4. */
const number32: Layout<number> = {
  minimum: 8,
  read: (field) => field.u32(4),
  write(value, out) {
    out.begin(8);
    out.u32(4, value);
  },
};

const opaque: Layout<Uint8Array> = {
  minimum: 8,
  read: (field) => field.slice(4),
  write(body, out) {
    out.begin(4 + body.length);
    out.octets(4, body);
  },
};

type Layouts = { readonly [Name in SadbExtension]: Layout<NonNullable<SadbExtensions[Name]>> };

const LAYOUTS: Layouts = {
  sa: {
    minimum: 16,
    read: (f) => ({ spi: f.be32(4), replay: f.u8(8), state: f.u8(9), auth: f.u8(10), encrypt: f.u8(11), flags: f.u32(12) }),
    write(sa, out) {
      out.begin(16);
      out.be32(4, sa.spi);
      out.u8(8, sa.replay);
      out.u8(9, sa.state);
      out.u8(10, sa.auth);
      out.u8(11, sa.encrypt);
      out.u32(12, sa.flags);
    },
  },
  lifetimeCurrent: lifetime,
  lifetimeHard: lifetime,
  lifetimeSoft: lifetime,
  source: address,
  destination: address,
  proxy: address,
  keyAuth: key,
  keyEncrypt: key,
  identitySource: identity,
  identityDestination: identity,
  sensitivity: { ...opaque, minimum: 16 },
  proposal: {
    minimum: 8,
    read(field) {
      if ((field.length - 8) % COMB !== 0) field.refuse(`${field.length - 8} octets are not whole combinations of ${COMB}`, 8);
      const combs: SadbComb[] = [];
      for (let at = 8; at < field.length; at += COMB) combs.push(readComb(field, at));
      return { replay: field.u8(4), combs };
    },
    write({ replay, combs }, out) {
      out.begin(8 + COMB * combs.length);
      out.u8(4, replay);
      for (const [i, comb] of combs.entries()) writeComb(out, 8 + COMB * i, comb);
    },
  },
  supportedAuth: supported,
  supportedEncrypt: supported,
  spirange: {
    minimum: 16,
    read: (field) => ({ min: field.u32(4), max: field.u32(8) }),
    write({ min, max }, out) {
      out.begin(16);
      out.u32(4, min);
      out.u32(8, max);
    },
  },
  kmPrivate: opaque,
  policy: {
    minimum: 16,
    read: (f) => ({ type: f.u16(4), direction: f.u8(6), id: f.u32(8), priority: f.u32(12), requests: readRequests(f) }),
    write({ type, direction, id, priority, requests }, out) {
      out.begin(requests.reduce((sum, request) => sum + requestBytes(request), 16));
      out.u16(4, type);
      out.u8(6, direction);
      out.u32(8, id);
      out.u32(12, priority);
      let at = 16;
      for (const request of requests) {
        writeRequest(out, at, request);
        at += requestBytes(request);
      }
    },
  },
  sa2: {
    minimum: 16,
    read: (field) => ({ mode: field.u8(4), sequence: field.u32(8), reqid: field.u32(12) }),
    write({ mode, sequence, reqid }, out) {
      out.begin(16);
      out.u8(4, mode);
      out.u32(8, sequence);
      out.u32(12, reqid);
    },
  },
  nattType: {
    minimum: 8,
    read: (field) => field.u8(4),
    write(type, out) {
      out.begin(8);
      out.u8(4, type);
    },
  },
  nattSourcePort: port,
  nattDestinationPort: port,
  nattOriginalAddress: address,
  securityContext: {
    minimum: 8,
    read(field) {
      const length = field.u16(6);
      if (Math.ceil((8 + length) / 8) * 8 !== field.length) field.refuse(`a context of ${length} octets does not fill it`, 6);
      return { algorithm: field.u8(4), doi: field.u8(5), context: field.slice(8, 8 + length) };
    },
    write({ algorithm, doi, context }, out) {
      out.begin(8 + context.length);
      out.u8(4, algorithm);
      out.u8(5, doi);
      out.u16(6, context.length);
      out.octets(8, context);
    },
  },
  kmAddress: {
    minimum: 40,
    read(field) {
      const local = readSockaddr(field, 8);
      const remote = readSockaddr(field, 8 + local.length);
      return { local: local.endpoint, remote: remote.endpoint };
    },
    write({ local, remote }, out) {
      out.begin(8 + sockaddrBytes(local) + sockaddrBytes(remote));
      writeSockaddr(out, 8, local);
      writeSockaddr(out, 8 + sockaddrBytes(local), remote);
    },
  },
  filter: {
    minimum: 40,
    read(field) {
      const [sourceBits, destinationBits] = [field.u8(38), field.u8(39)];
      if (sourceBits >= 128 || destinationBits >= 128) field.refuse('a prefix length is 128 or more', 38);
      return {
        source: field.slice(4, 20),
        destination: field.slice(20, 36),
        family: field.u16(36),
        sourceBits,
        destinationBits,
      };
    },
    write(filter, out) {
      out.begin(40);
      out.octets(4, filter.source);
      out.octets(20, filter.destination);
      out.u16(36, filter.family);
      out.u8(38, filter.sourceBits);
      out.u8(39, filter.destinationBits);
    },
  },
  window: number32,
  sequenceState: {
    minimum: 24,
    read: (field) => ({ outbound: field.u64(8), inbound: field.u64(16) }),
    write({ outbound, inbound }, out) {
      out.begin(24);
      out.u64(8, outbound);
      out.u64(16, inbound);
    },
  },
  tfcPadding: number32,
  packet: {
    minimum: 8,
    read(field) {
      const length = field.u32(4);
      if (length > field.length - 8) field.refuse(`says ${length} octets, but ${field.length - 8} are there`, 4);
      return field.slice(8, 8 + length);
    },
    write(packet, out) {
      out.begin(8 + packet.length);
      out.u32(4, packet.length);
      out.octets(8, packet);
    },
  },
  newSource: address,
  newDestination: address,
  interfaceBinding: {
    minimum: 24,
    read(field) {
      const text = field.slice(8, 24);
      const end = text.indexOf(0);
      return { index: field.u32(4), name: String.fromCharCode(...(end < 0 ? text : text.subarray(0, end))) };
    },
    write({ index, name }, out) {
      if (name.length > 16 || /[^\u0001-\u00ff]/.test(name)) throw new Fault(`an interface name has at most 16 octets: ${name}`);
      out.begin(24);
      out.u32(4, index);
      for (let i = 0; i < name.length; i++) out.u8(8 + i, name.charCodeAt(i));
    },
  },
  nattOriginalInitiator: address,
  nattOriginalResponder: address,
  nattFragment: {
    minimum: 8,
    read: (field) => field.u16(4),
    write(octets, out) {
      out.begin(8);
      out.u16(4, octets);
    },
  },
  portRanges: {
    minimum: 16,
    read: (f) => ({ sourceLow: f.be16(4), sourceHigh: f.be16(6), destinationLow: f.be16(8), destinationHigh: f.be16(10) }),
    write(ranges, out) {
      out.begin(16);
      out.be16(4, ranges.sourceLow);
      out.be16(6, ranges.sourceHigh);
      out.be16(8, ranges.destinationLow);
      out.be16(10, ranges.destinationHigh);
    },
  },
  saSelectors: {
    minimum: 8,
    read(field) {
      const source = readSelectors(field, 8, field.u16(4));
      const destination = readSelectors(field, source.end, field.u16(6));
      if (destination.end !== field.length) field.refuse('octets are left over behind the last selector', destination.end);
      return { source: source.selectors, destination: destination.selectors };
    },
    write({ source, destination }, out) {
      const selectors = [...source, ...destination];
      out.begin(selectors.reduce((sum, { start }) => sum + 8 + 2 * octetsOf(start.family), 8));
      out.u16(4, source.length);
      out.u16(6, destination.length);
      let at = 8;
      for (const ts of selectors) {
        writeSelector(out, at, ts);
        at += 8 + 2 * octetsOf(ts.start.family);
      }
    },
  },
  optIn: number32,
};

/** The value of one extension from the `length` octets at `at` of its message, header included. Throws SadbError (EINVAL). */
export function readExtension(name: SadbExtension, bytes: Uint8Array, view: DataView, at: number, length: number): unknown {
  const layout = LAYOUTS[name];
  const field = new Field(name, bytes, view, at, length);
  if (length < layout.minimum) field.refuse(`has ${length} octets, not ${layout.minimum}`);
  return layout.read(field);
}

/** Writes one extension, padded to 8 octets, behind what is there. */
export function writeExtension<Name extends SadbExtension>(
  out: MessageWriter,
  name: Name,
  value: NonNullable<SadbExtensions[Name]>,
): void {
  const layout: Layout<NonNullable<SadbExtensions[Name]>> = LAYOUTS[name];
  layout.write(value, out);
  out.end(SADB_EXT[name]);
}
