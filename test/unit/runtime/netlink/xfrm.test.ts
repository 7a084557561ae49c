/** NETLINK_XFRM's octets: equal to those that iproute2 sends, and what is broken is refused without harm. */

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hex } from '../../../../src/bytes/bytes.ts';
import { Secret } from '../../../../src/bytes/secret.ts';
import { SystemError, WireError } from '../../../../src/errors.ts';
import { UNLIMITED } from '../../../../src/ipsec/lifetime.ts';
import type { Policy, Template } from '../../../../src/ipsec/policy.ts';
import { IpAddress } from '../../../../src/net/address.ts';
import { parsePrefix } from '../../../../src/net/prefix.ts';
import {
  anyOf,
  decodeAcquire,
  decodePolicy,
  decodePolicyExpire,
  encodeMigrate,
  encodePolicy,
  encodePolicyId,
} from '../../../../src/runtime/netlink/xfrm-policy.ts';
import {
  decodeAevent,
  decodeExpire,
  decodeMapping,
  decodeSa,
  encodeAllocSpi,
  encodeFlush,
  encodeMoved,
  encodeSa,
  encodeSaId,
  type XfrmSa,
} from '../../../../src/runtime/netlink/xfrm-sa.ts';
import { SIZE, type XFRM_MSG } from '../../../../src/runtime/netlink/xfrm-structs.ts';

interface Recorded {
  readonly command: string;
  readonly type: keyof typeof XFRM_MSG;
  readonly body: string;
}
/** What iproute2 6.1 hands to sendmsg(2), recorded by strace. */
const RECORDED: Readonly<Record<string, Recorded>> = JSON.parse(
  readFileSync(new URL('../../../vectors/xfrm/iproute2.json', import.meta.url), 'utf8'),
);
const v4 = { source: IpAddress.parse('192.0.2.1')!, destination: IpAddress.parse('192.0.2.2')! };
const v6 = { source: IpAddress.parse('2001:db8::1')!, destination: IpAddress.parse('2001:db8::2')! };
const key = (octet: number, length: number) => new Secret(new Uint8Array(length).fill(octet));
const GCM: XfrmSa = {
  spi: 0x1001,
  protocol: 'esp',
  mode: 'tunnel',
  ...v4,
  suite: { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
  encrKey: key(1, 20),
  integKey: undefined,
  extendedSequence: false,
  replayWindow: 32,
  reqid: 7,
  encapsulation: undefined,
  lifetime: { soft: UNLIMITED, hard: UNLIMITED },
  selectors: { source: [], destination: [] },
  seq: 0,
  selector: undefined,
  ours: false,
};
const CBC: XfrmSa = {
  ...GCM,
  spi: 0x1002,
  mode: 'transport',
  ...v6,
  suite: { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' },
  encrKey: key(3, 16),
  integKey: key(2, 32),
  extendedSequence: true,
  replayWindow: 64,
  reqid: 8,
};
const AH: XfrmSa = { ...CBC, ...v4, spi: 0x1003, protocol: 'ah', reqid: 9, extendedSequence: false, replayWindow: 32 };
const selector = {
  source: parsePrefix('10.1.0.0/24')!,
  destination: parsePrefix('10.2.0.0/24')!,
  protocol: 17,
  sourcePort: 0,
  destinationPort: 53,
};
const tunnel: Template = { protocol: 'esp', mode: 'tunnel', level: 'unique', reqid: 7, endpoints: v4 };
const protect: Policy = { id: 0, selector, direction: 'outbound', action: 'protect', priority: 100, templates: [tunnel] };
const transport = (protocol: 'esp' | 'ah', level: 'use' | 'unique', reqid: number): Template => ({
  protocol,
  mode: 'transport',
  level,
  reqid,
  endpoints: undefined,
});
const bundle: Policy = {
  ...protect,
  selector: {
    source: parsePrefix('2001:db8::1/128')!,
    destination: parsePrefix('2001:db8::2/128')!,
    protocol: 0,
    sourcePort: 0,
    destinationPort: 0,
  },
  direction: 'inbound',
  priority: 9,
  templates: [transport('esp', 'use', 7), transport('ah', 'unique', 8)],
};

const OURS: Readonly<Record<string, Uint8Array>> = {
  gcm: encodeSa(GCM),
  'cbc-esn': encodeSa(CBC),
  ah: encodeSa(AH),
  encap: encodeSa({
    ...GCM,
    spi: 0x1004,
    encapsulation: { source: { address: v4.source, port: 4500 }, destination: { address: v4.destination, port: 40000 } },
  }),
  limits: encodeSa({
    ...GCM,
    spi: 0x1005,
    mode: 'transport',
    lifetime: { soft: { seconds: 50, bytes: 1000, packets: 10 }, hard: { seconds: 60, bytes: 2000, packets: 20 } },
    selector: {
      source: parsePrefix('192.0.2.1/32')!,
      destination: parsePrefix('192.0.2.2/32')!,
      protocol: 6,
      sourcePort: 0,
      destinationPort: 80,
    },
  }),
  update: encodeSa(GCM),
  delete: encodeSaId(GCM),
  allocspi: encodeAllocSpi({ ...GCM, seq: 0 }, { min: 0x100, max: 0x200 }),
  protect: encodePolicy(protect, 0, false),
  bundle: encodePolicy(bundle, 0, false),
  block: encodePolicy(
    { ...protect, selector: anyOf(4), direction: 'forward', action: 'discard', priority: 4_000_000_000, templates: [] },
    0,
    false,
  ),
  bypass: encodePolicy(
    { ...protect, selector: { ...anyOf(4), protocol: 17, sourcePort: 500 }, action: 'bypass', priority: 1, templates: [] },
    0,
    false,
  ),
  'policy-delete': encodePolicyId(protect),
  'policy-get': encodePolicyId({ selector: { ...selector, protocol: 0, destinationPort: 0 }, direction: 'inbound' }),
  flush: encodeFlush('esp'),
};

/** What iproute2 adds or leaves out at the end of a body, by name. */
const DIFFERENT: Readonly<
  Record<string, { readonly field: string; readonly why: string; readonly cut: (body: string) => string }>
> = {
  delete: {
    field: 'XFRMA_SRCADDR',
    why: 'the source tells SAs apart only without an SPI',
    cut: (body) => body.slice(0, 2 * SIZE.saId),
  },
  'cbc-esn': {
    field: 'XFRMA_REPLAY_ESN_VAL: length and bitmap',
    why: 'iproute2 leaves out the bitmap that its bmp_len announces, which the kernel allows',
    cut: (body) => body.replace(/(?:1c|24)00170002000000(.{40}).*$/, '170002000000$1'),
  },
};

describe('as iproute2 sends it', () => {
  test('everything that was recorded is compared', () => {
    expect(Object.keys(OURS).sort()).toEqual(Object.keys(RECORDED).sort());
    expect(Object.keys(RECORDED).length).toBe(15);
  });

  test.each(Object.entries(RECORDED))('%s', (name, { body }) => {
    const cut = DIFFERENT[name]?.cut ?? ((octets: string) => octets);
    expect(cut(hex(OURS[name]!))).toBe(cut(body));
  });

  test('where it differs, it differs', () => {
    for (const name of Object.keys(DIFFERENT)) expect(hex(OURS[name]!)).not.toBe(RECORDED[name]!.body);
  });
});

describe('what the kernel tells', () => {
  test('an SA: its names, limits, ports and sequence numbers', () => {
    const { spi, source, destination, protocol, mode, reqid } = GCM;
    const info = decodeSa(OURS.encap!);
    expect(info).toMatchObject({ spi: 0x1004, protocol, mode, reqid, ours: false });
    expect([info.source, info.destination].map(String)).toEqual([source, destination].map(String));
    expect(info.encapsulation).toEqual({ sourcePort: 4500, destinationPort: 40000 });
    expect(decodeSa(OURS['cbc-esn']!).sequence).toEqual({ outbound: 0, inbound: 0 });
    expect(decodeSa(OURS.limits!).lifetime).toEqual({
      soft: { seconds: 50, bytes: 1000, packets: 10 },
      hard: { seconds: 60, bytes: 2000, packets: 20 },
    });
    expect(decodeSa(encodeSa({ ...GCM, ours: true }))).toMatchObject({ spi, ours: true, lifetime: { soft: UNLIMITED } });
    const { suite, extendedSequence, replayWindow } = CBC;
    const inbound = decodeSa(encodeSa({ ...CBC, ours: true, direction: 'inbound' }));
    expect(inbound).toMatchObject({ direction: 'inbound', ours: true, suite, extendedSequence, replayWindow });
  });

  test('a policy comes back as it went', () => {
    for (const policy of [protect, bundle]) {
      const { current, ours, ...back } = decodePolicy(encodePolicy(policy, 0, true));
      expect(JSON.stringify(back)).toBe(JSON.stringify(policy));
      expect([current.added, ours]).toEqual([0, true]);
    }
  });

  test('an SA that moves keeps its keys and takes other ends and ports', () => {
    const to = { source: v4.destination, destination: v4.source };
    const ports = { source: { address: to.source, port: 4500 }, destination: { address: to.destination, port: 4501 } };
    const moved = encodeMoved(OURS.gcm!, to, ports);
    expect(hex(moved)).toBe(hex(encodeSa({ ...GCM, ...to, encapsulation: ports })));
    // Struct xfrm_lifetime_cur: what it has carried and lived goes along.
    const used = OURS.gcm!.slice();
    used.set([1, 2, 3, 4], 160);
    expect(hex(encodeMoved(used, to, undefined))).toContain(`24000900${hex(used.slice(160, 192))}`);
  });

  test('MIGRATE names old and new ends', () => {
    const movement = { protocol: 'esp', mode: 'tunnel', reqid: 7, old: v4, new: v6 } as const;
    const body = encodeMigrate(protect, [movement]);
    expect(body.length).toBe(SIZE.policyId + 4 + SIZE.migrate);
    expect(hex(body.slice(SIZE.policyId))).toBe(
      `50001100${hex(v4.destination.bytes)}${'00'.repeat(12)}${hex(v4.source.bytes)}${'00'.repeat(12)}${hex(v6.destination.bytes)}${hex(v6.source.bytes)}320100000700000002000a00`,
    );
  });
});

test('an algorithm that the kernel has not is refused by name', () => {
  const iiv = { ...GCM, suite: { encr: 'aes_gcm_16_iiv', keyBits: 128, integ: 'none' } } as const;
  expect(() => encodeSa(iiv)).toThrow(new SystemError("the kernel's ESP has no AES_GCM_16_IIV_128", 'ENOSYS'));
});

test('ranges of ports are refused before anything is sent', () => {
  const portRanges = { sourceLow: 0, sourceHigh: 65_535, destinationLow: 1, destinationHigh: 9 };
  expect(() => encodePolicy({ ...protect, selector: { ...selector, destinationPort: 0, portRanges } }, 0, true)).toThrow(
    /has no ranges/,
  );
});

test('no octets make a reader throw anything but a WireError', () => {
  const readers = [decodeSa, decodeExpire, decodeMapping, decodeAevent, decodePolicy, decodeAcquire, decodePolicyExpire];
  const whole = Object.values(OURS).map((body) => {
    const padded = new Uint8Array(body.length + SIZE.acquire);
    padded.set(body);
    return padded;
  });
  fc.assert(
    fc.property(
      fc.constantFrom(...whole),
      fc.array(fc.tuple(fc.nat(500), fc.nat(255)), { maxLength: 8 }),
      fc.nat(600),
      (body, edits, length) => {
        const mutant = body.slice(0, length);
        for (const [at, octet] of edits) if (at < mutant.length) mutant[at] = octet;
        for (const read of readers) {
          try {
            read(mutant);
          } catch (error) {
            if (!(error instanceof WireError)) throw error;
          }
        }
      },
    ),
    { numRuns: 500 },
  );
});
