/** The layout of each PF_KEY extension: RFC 2367 §2.3, the Linux dialect's, and our private ones. Offsets count from the extension header. */

import { cat } from '../bytes/bytes.ts';
import { Secret } from '../bytes/secret.ts';
import { Fault } from '../errors.ts';
import type { TrafficSelector } from '../ipsec/selector.ts';
import { build, Field, fresh, type Layout, readSockaddr, setU64, writeSockaddr } from './field.ts';
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
  write(value) {
    const sockaddr = writeSockaddr(value);
    return build(8 + sockaddr.length, (_, bytes) => {
      bytes.set([value.protocol, value.prefixLength], 4);
      bytes.set(sockaddr, 8);
    });
  },
};

const lifetime: Layout<SadbLifetime> = {
  minimum: 32,
  read: (field) => ({ allocations: field.u32(4), bytes: field.u64(8), addtime: field.u64(16), usetime: field.u64(24) }),
  write: (value) =>
    build(32, (view) => {
      view.setUint32(4, value.allocations, true);
      setU64(view, 8, value.bytes);
      setU64(view, 16, value.addtime);
      setU64(view, 24, value.usetime);
    }),
};

const key: Layout<SadbKey> = {
  minimum: 8,
  read(field) {
    const bits = field.u16(4);
    const length = Math.ceil(bits / 8);
    if (8 + length > field.length) field.refuse(`${bits} bits do not fit into ${field.length - 8} octets`, 4);
    return { bits, key: new Secret(field.slice(8, 8 + length)) };
  },
  write({ bits, key: secret }) {
    return build(8 + secret.length, (view, bytes) => {
      view.setUint16(4, bits, true);
      bytes.set(secret.reveal(), 8);
    });
  },
};

const identity: Layout<SadbIdentity> = {
  minimum: 16,
  read(field) {
    const text = field.slice(16);
    const end = text.indexOf(0);
    return { type: field.u16(4), id: field.u64(8), name: end < 0 ? text : text.slice(0, end) };
  },
  write({ type, id, name }) {
    return build(16 + (name.length === 0 ? 0 : name.length + 1), (view, bytes) => {
      view.setUint16(4, type, true);
      setU64(view, 8, id);
      bytes.set(name, 16);
    });
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
  write: (algorithms) =>
    build(8 + ALGORITHM * algorithms.length, (view, bytes) => {
      for (const [i, { id, ivBytes, minBits, maxBits }] of algorithms.entries()) {
        const at = 8 + ALGORITHM * i;
        bytes.set([id, ivBytes], at);
        view.setUint16(at + 2, minBits, true);
        view.setUint16(at + 4, maxBits, true);
      }
    }),
};

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

function writeComb(view: DataView, at: number, comb: SadbComb): void {
  view.setUint8(at, comb.auth);
  view.setUint8(at + 1, comb.encrypt);
  view.setUint16(at + 2, comb.flags, true);
  view.setUint16(at + 4, comb.authMinBits, true);
  view.setUint16(at + 6, comb.authMaxBits, true);
  view.setUint16(at + 8, comb.encryptMinBits, true);
  view.setUint16(at + 10, comb.encryptMaxBits, true);
  view.setUint32(at + 16, comb.soft.allocations, true);
  view.setUint32(at + 20, comb.hard.allocations, true);
  for (const [i, member] of (['bytes', 'addtime', 'usetime'] as const).entries()) {
    setU64(view, at + 24 + 16 * i, comb.soft[member]);
    setU64(view, at + 32 + 16 * i, comb.hard[member]);
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

function writeRequest({ protocol, mode, level, reqid, addresses }: SadbIpsecRequest): Uint8Array {
  const tail =
    addresses === undefined ? new Uint8Array(0) : cat(writeSockaddr(addresses.source), writeSockaddr(addresses.destination));
  const bytes = new Uint8Array(IPSEC_REQUEST + tail.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, bytes.length, true);
  view.setUint16(2, protocol, true);
  bytes.set([mode, level], 4);
  view.setUint32(8, reqid, true);
  bytes.set(tail, IPSEC_REQUEST);
  return bytes;
}

/** A selector as RFC 7296 §3.13.1 lays it out, with the family (4 or 6) in the place of the type. */
function writeSelector(ts: TrafficSelector): Uint8Array {
  const octets = ts.start.family === 4 ? 4 : 16;
  const bytes = fresh(8 + 2 * octets);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  bytes.set([ts.start.family, ts.protocol]);
  view.setUint16(4, ts.startPort, false);
  view.setUint16(6, ts.endPort, false);
  ts.start.writeTo(bytes, 8);
  ts.end.writeTo(bytes, 8 + octets);
  return bytes;
}

function readSelectors(field: Field, from: number, count: number): { selectors: TrafficSelector[]; end: number } {
  const selectors: TrafficSelector[] = [];
  let at = from;
  for (let i = 0; i < count; i++) {
    if (at + 16 > field.length) field.refuse(`selector ${i + 1} of ${count} is cut off`, at);
    const family = field.u8(at);
    if (family !== 4 && family !== 6) field.refuse(`selector family is ${family}, not 4 or 6`, at);
    const octets = family === 4 ? 4 : 16;
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
  write: (value) => build(8, (view) => view.setUint16(4, value, false)),
};

/** One 32-bit number at offset 4. */
const number32: Layout<number> = {
  minimum: 8,
  read: (field) => field.u32(4),
  write: (value) => build(8, (view) => view.setUint32(4, value, true)),
};

const opaque: Layout<Uint8Array> = {
  minimum: 8,
  read: (field) => field.slice(4),
  write: (body) => build(4 + body.length, (_, bytes) => bytes.set(body, 4)),
};

type Layouts = { readonly [Name in SadbExtension]: Layout<NonNullable<SadbExtensions[Name]>> };

const LAYOUTS: Layouts = {
  sa: {
    minimum: 16,
    read: (f) => ({ spi: f.be32(4), replay: f.u8(8), state: f.u8(9), auth: f.u8(10), encrypt: f.u8(11), flags: f.u32(12) }),
    write: (sa) =>
      build(16, (view, bytes) => {
        view.setUint32(4, sa.spi, false);
        bytes.set([sa.replay, sa.state, sa.auth, sa.encrypt], 8);
        view.setUint32(12, sa.flags, true);
      }),
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
    write: ({ replay, combs }) =>
      build(8 + COMB * combs.length, (view, bytes) => {
        bytes[4] = replay;
        for (const [i, comb] of combs.entries()) writeComb(view, 8 + COMB * i, comb);
      }),
  },
  supportedAuth: supported,
  supportedEncrypt: supported,
  spirange: {
    minimum: 16,
    read: (field) => ({ min: field.u32(4), max: field.u32(8) }),
    write: ({ min, max }) =>
      build(16, (view) => {
        view.setUint32(4, min, true);
        view.setUint32(8, max, true);
      }),
  },
  kmPrivate: opaque,
  policy: {
    minimum: 16,
    read: (f) => ({ type: f.u16(4), direction: f.u8(6), id: f.u32(8), priority: f.u32(12), requests: readRequests(f) }),
    write({ type, direction, id, priority, requests }) {
      const tail = cat(...requests.map(writeRequest));
      return build(16 + tail.length, (view, bytes) => {
        view.setUint16(4, type, true);
        bytes[6] = direction;
        view.setUint32(8, id, true);
        view.setUint32(12, priority, true);
        bytes.set(tail, 16);
      });
    },
  },
  sa2: {
    minimum: 16,
    read: (field) => ({ mode: field.u8(4), sequence: field.u32(8), reqid: field.u32(12) }),
    write: ({ mode, sequence, reqid }) =>
      build(16, (view, bytes) => {
        bytes[4] = mode;
        view.setUint32(8, sequence, true);
        view.setUint32(12, reqid, true);
      }),
  },
  nattType: {
    minimum: 8,
    read: (field) => field.u8(4),
    write: (type) => build(8, (view) => view.setUint8(4, type)),
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
    write: ({ algorithm, doi, context }) =>
      build(8 + context.length, (view, bytes) => {
        bytes.set([algorithm, doi], 4);
        view.setUint16(6, context.length, true);
        bytes.set(context, 8);
      }),
  },
  kmAddress: {
    minimum: 40,
    read(field) {
      const local = readSockaddr(field, 8);
      const remote = readSockaddr(field, 8 + local.length);
      return { local: local.endpoint, remote: remote.endpoint };
    },
    write({ local, remote }) {
      const pair = cat(writeSockaddr(local), writeSockaddr(remote));
      return build(8 + pair.length, (_, bytes) => bytes.set(pair, 8));
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
    write: (filter) =>
      build(40, (view, bytes) => {
        bytes.set(filter.source, 4);
        bytes.set(filter.destination, 20);
        view.setUint16(36, filter.family, true);
        bytes.set([filter.sourceBits, filter.destinationBits], 38);
      }),
  },
  window: number32,
  sequenceState: {
    minimum: 24,
    read: (field) => ({ outbound: field.u64(8), inbound: field.u64(16) }),
    write: ({ outbound, inbound }) =>
      build(24, (view) => {
        setU64(view, 8, outbound);
        setU64(view, 16, inbound);
      }),
  },
  tfcPadding: number32,
  packet: {
    minimum: 8,
    read(field) {
      const length = field.u32(4);
      if (length > field.length - 8) field.refuse(`says ${length} octets, but ${field.length - 8} are there`, 4);
      return field.slice(8, 8 + length);
    },
    write: (packet) =>
      build(8 + packet.length, (view, bytes) => {
        view.setUint32(4, packet.length, true);
        bytes.set(packet, 8);
      }),
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
    write({ index, name }) {
      if (name.length > 16 || /[^\u0001-\u00ff]/.test(name)) throw new Fault(`an interface name has at most 16 octets: ${name}`);
      return build(24, (view, bytes) => {
        view.setUint32(4, index, true);
        for (let i = 0; i < name.length; i++) bytes[8 + i] = name.charCodeAt(i);
      });
    },
  },
  nattOriginalInitiator: address,
  nattOriginalResponder: address,
  nattFragment: {
    minimum: 8,
    read: (field) => field.u16(4),
    write: (octets) => build(8, (view) => view.setUint16(4, octets, true)),
  },
  portRanges: {
    minimum: 16,
    read: (f) => ({ sourceLow: f.be16(4), sourceHigh: f.be16(6), destinationLow: f.be16(8), destinationHigh: f.be16(10) }),
    write: (ranges) =>
      build(16, (view) => {
        view.setUint16(4, ranges.sourceLow, false);
        view.setUint16(6, ranges.sourceHigh, false);
        view.setUint16(8, ranges.destinationLow, false);
        view.setUint16(10, ranges.destinationHigh, false);
      }),
  },
  saSelectors: {
    minimum: 8,
    read(field) {
      const source = readSelectors(field, 8, field.u16(4));
      const destination = readSelectors(field, source.end, field.u16(6));
      if (destination.end !== field.length) field.refuse('octets are left over behind the last selector', destination.end);
      return { source: source.selectors, destination: destination.selectors };
    },
    write({ source, destination }) {
      const tail = cat(...[...source, ...destination].map(writeSelector));
      return build(8 + tail.length, (view, bytes) => {
        view.setUint16(4, source.length, true);
        view.setUint16(6, destination.length, true);
        bytes.set(tail, 8);
      });
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

/** One extension as octets, padded to 8. */
export function writeExtension<Name extends SadbExtension>(name: Name, value: NonNullable<SadbExtensions[Name]>): Uint8Array {
  const layout: Layout<NonNullable<SadbExtensions[Name]>> = LAYOUTS[name];
  const bytes = layout.write(value);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length > 0xffff * 8) throw new Fault(`${name} has ${bytes.length} octets, more than an extension can`);
  view.setUint16(0, bytes.length / 8, true);
  view.setUint16(2, SADB_EXT[name], true);
  return bytes;
}
