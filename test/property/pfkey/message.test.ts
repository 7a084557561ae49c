/** Any PF_KEY message comes back from its octets as it went, in either order of writing. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hex } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import type { TrafficSelector } from '../../../src/ipsec/selector.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { readSadb, type SadbExtensions, type SadbMessage, sadb, writeSadb } from '../../../src/pfkey/message.ts';
import { SADB_EXT, SADB_TYPE, type SadbType } from '../../../src/pfkey/registry.ts';

const u8 = fc.nat({ max: 0xff });
const u16 = fc.nat({ max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const u64 = fc.maxSafeNat();
const octets = (max: number) => fc.uint8Array({ maxLength: max });

const v4 = fc.uint8Array({ minLength: 4, maxLength: 4 }).map((bytes) => IpAddress.of(bytes));
const v6 = fc
  .tuple(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.constantFrom('', '1', '4294967295'))
  .map(([bytes, zone]) => IpAddress.of(bytes, zone));
const ip = fc.oneof(v4, v6);
const endpoint = fc.record({ address: ip, port: u16 });
const address = ip.chain((one) =>
  fc.record({ protocol: u8, prefixLength: fc.nat({ max: one.family === 4 ? 32 : 128 }), address: fc.constant(one), port: u16 }),
);
const lifetime = fc.record({ allocations: u32, bytes: u64, addtime: u64, usetime: u64 });
const key = octets(64).map((bytes) => ({ bits: bytes.length * 8, key: new Secret(bytes) }));
const algorithms = fc.array(fc.record({ id: u8, ivBytes: u8, minBits: u16, maxBits: u16 }), { maxLength: 5 });
const identity = fc.record({ type: u16, id: u64, name: fc.uint8Array({ min: 1, maxLength: 40 }) });
const comb = fc.record({
  auth: u8,
  encrypt: u8,
  flags: u16,
  authMinBits: u16,
  authMaxBits: u16,
  encryptMinBits: u16,
  encryptMaxBits: u16,
  soft: lifetime,
  hard: lifetime,
});
const request = fc.record({
  protocol: u16,
  mode: u8,
  level: u8,
  reqid: u32,
  addresses: fc.option(fc.record({ source: endpoint, destination: endpoint }), { nil: undefined }),
});
const selector = fc
  .record({
    protocol: u8,
    startPort: u16,
    endPort: u16,
    six: fc.boolean(),
    a: octets(0),
    start: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  })
  .map(({ protocol, startPort, endPort, six, start }): TrafficSelector => {
    const size = six ? 16 : 4;
    return {
      protocol,
      startPort,
      endPort,
      start: IpAddress.of(start.slice(0, size)),
      end: IpAddress.of(start.slice(size, 2 * size)),
    };
  });
const policyRequests = fc.array(request, { maxLength: 4 }).map((requests) => {
  // The extension ends at a multiple of 8 octets, and so do its requests: two IPv6 endpoints make 72, one of each 60.
  const size = requests.reduce(
    (sum, { addresses }) =>
      sum + (addresses === undefined ? 16 : 16 + sizeOf(addresses.source.address) + sizeOf(addresses.destination.address)),
    0,
  );
  return size % 8 === 0 ? requests : [];
});

function sizeOf({ family }: IpAddress): number {
  return family === 4 ? 16 : 28;
}

const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 3 });
const arbitraries: { readonly [Name in keyof SadbExtensions]-?: fc.Arbitrary<SadbExtensions[Name]> } = {
  sa: optional(fc.record({ spi: u32, replay: u8, state: u8, auth: u8, encrypt: u8, flags: u32 })),
  lifetimeCurrent: optional(lifetime),
  lifetimeHard: optional(lifetime),
  lifetimeSoft: optional(lifetime),
  source: optional(address),
  destination: optional(address),
  proxy: optional(address),
  keyAuth: optional(key),
  keyEncrypt: optional(key),
  identitySource: optional(identity),
  identityDestination: optional(identity),
  sensitivity: optional(fc.uint8Array({ minLength: 12, maxLength: 12 })),
  proposal: optional(fc.record({ replay: u8, combs: fc.array(comb, { maxLength: 3 }) })),
  supportedAuth: optional(algorithms),
  supportedEncrypt: optional(algorithms),
  spirange: optional(fc.record({ min: u32, max: u32 })),
  kmPrivate: optional(fc.uint8Array({ minLength: 4, maxLength: 4 })),
  policy: optional(fc.record({ type: u16, direction: u8, id: u32, priority: u32, requests: policyRequests })),
  sa2: optional(fc.record({ mode: u8, sequence: u32, reqid: u32 })),
  nattType: optional(u8),
  nattSourcePort: optional(u16),
  nattDestinationPort: optional(u16),
  nattOriginalAddress: optional(address),
  securityContext: optional(fc.record({ algorithm: u8, doi: u8, context: octets(30) })),
  kmAddress: optional(fc.record({ local: endpoint, remote: endpoint })),
  filter: optional(
    fc.record({
      source: fc.uint8Array({ minLength: 16, maxLength: 16 }),
      destination: fc.uint8Array({ minLength: 16, maxLength: 16 }),
      family: u16,
      sourceBits: fc.nat({ max: 127 }),
      destinationBits: fc.nat({ max: 127 }),
    }),
  ),
  window: optional(u32),
  sequenceState: optional(fc.record({ outbound: u64, inbound: u64 })),
  tfcPadding: optional(u32),
  packet: optional(octets(100)),
  newSource: optional(address),
  newDestination: optional(address),
  interfaceBinding: optional(fc.record({ index: u32, name: fc.constantFrom('', 'eth0', 'sixteen-letters!') })),
  nattOriginalInitiator: optional(address),
  nattOriginalResponder: optional(address),
  nattFragment: optional(u16),
  portRanges: optional(fc.record({ sourceLow: u16, sourceHigh: u16, destinationLow: u16, destinationHigh: u16 })),
  saSelectors: optional(
    fc.record({ source: fc.array(selector, { maxLength: 4 }), destination: fc.array(selector, { maxLength: 4 }) }),
  ),
  optIn: optional(u32),
};

const message = fc
  .record({
    type: fc.constantFrom(...(Object.keys(SADB_TYPE) as SadbType[])),
    header: fc.record({ errno: u8, satype: u8, seq: u32, pid: u32, reserved: u16 }),
    extensions: fc.record(arbitraries),
    unknown: fc.array(
      fc.record({ number: fc.integer({ min: 27, max: 0x7fff }), body: fc.uint8Array({ minLength: 4, maxLength: 4 }) }),
      { maxLength: 2 },
    ),
  })
  .map(({ type, header, extensions, unknown }): SadbMessage => sadb(type, { ...header, ...extensions, unknown }));

/** With secrets laid open, so that they are compared too. */
function plain(value: SadbMessage): unknown {
  return JSON.parse(
    JSON.stringify({ ...value, order: [] }, (_, one) =>
      one instanceof Secret ? hex(one.reveal()) : one instanceof Uint8Array ? hex(one) : one,
    ),
  );
}

test('reading gives what was written, and writing what was read', () => {
  fc.assert(
    fc.property(message, (sent) => {
      const bytes = writeSadb(sent);
      const received = readSadb(bytes);
      expect(plain(received)).toEqual(plain(sent));
      expect(received.order).toHaveLength(
        new Set(received.order).size + received.unknown.length - new Set(received.unknown.map(({ number }) => number)).size,
      );
      expect(hex(writeSadb(received))).toBe(hex(bytes));
      expect(hex(writeSadb({ ...received, order: [...received.order].reverse() }))).toHaveLength(2 * bytes.length);
    }),
    { numRuns: 400 },
  );
});

test('every extension is among those that are tried', () => {
  expect(Object.keys(arbitraries).sort()).toEqual(Object.keys(SADB_EXT).sort());
});
