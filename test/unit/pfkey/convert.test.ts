/** SAs and policies to PF_KEY messages and back, and what is refused on the way. */

import { describe, expect, test } from 'vitest';
import { hex } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import { type Policy, samePolicySelector, showPolicySelector } from '../../../src/ipsec/policy.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { selectorOf as trafficSelector } from '../../../src/ipsec/selector.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import { addToSa, saIdTo, saToAdd, saToGetspi, saToSadb } from '../../../src/pfkey/convert.ts';
import {
  acquireFailed,
  policyIdTo,
  policyToSpdAdd,
  policyToSpdDelete,
  policyToSpdUpdate,
  readAcquire,
  readExpire,
  readNewMapping,
  selectorOf,
  spdToPolicy,
} from '../../../src/pfkey/convert-policy.ts';
import { readSadb, SadbError, type SadbMessage, sadb, writeSadb } from '../../../src/pfkey/message.ts';
import { ERRNO, SADB_SAFLAGS } from '../../../src/pfkey/registry.ts';
import { checkRequest } from '../../../src/pfkey/rules.ts';

const ip = (text: string) => IpAddress.parse(text)!;
const prefix = (text: string) => parsePrefix(text)!;
const overTheWire = (message: SadbMessage) => readSadb(writeSadb(message));

const SA: SaParameters = {
  spi: 0xc0ffee01,
  protocol: 'esp',
  mode: 'tunnel',
  source: ip('2001:db8::1'),
  destination: ip('2001:db8::2'),
  suite: { encr: 'aes_cbc', keyBits: 256, integ: 'hmac_sha2_256' },
  encrKey: new Secret(Uint8Array.from({ length: 32 }, (_, i) => i)),
  integKey: new Secret(Uint8Array.from({ length: 32 }, (_, i) => 100 + i)),
  extendedSequence: true,
  replayWindow: 4096,
  reqid: 12,
  encapsulation: {
    source: { address: ip('2001:db8::1'), port: 4500 },
    destination: { address: ip('2001:db8::2'), port: 32_001 },
  },
  lifetime: { soft: { seconds: 3000.7, bytes: 0, packets: 900 }, hard: { seconds: 3600, bytes: 2 ** 40, packets: 1000 } },
  selectors: {
    source: [trafficSelector(prefix('10.0.0.0/8'), 6, { startPort: 80, endPort: 90 })],
    destination: [trafficSelector(prefix('10.1.0.0/16')), trafficSelector(prefix('2001:db8:1::/48'))],
  },
};

const POLICY: Policy = {
  id: 0,
  selector: {
    source: prefix('10.1.0.0/16'),
    destination: prefix('10.2.0.0/16'),
    protocol: 17,
    sourcePort: 53,
    destinationPort: 0,
  },
  direction: 'outbound',
  action: 'protect',
  priority: 77,
  templates: [
    {
      protocol: 'esp',
      mode: 'tunnel',
      level: 'unique',
      reqid: 3,
      endpoints: { source: ip('2001:db8::1'), destination: ip('2001:db8::2') },
    },
    { protocol: 'ah', mode: 'transport', level: 'use', reqid: 0, endpoints: undefined },
  ],
};

function errnoOf(attempt: () => unknown): number {
  try {
    attempt();
  } catch (error) {
    if (error instanceof SadbError) return error.errno;
    throw error;
  }
  return 0;
}

describe('SAs', () => {
  test('come back as they went, with fractions of a second cut off', () => {
    const message = overTheWire(saToAdd(SA));
    expect(message.sa).toMatchObject({ replay: 255, auth: 5, encrypt: 12, flags: SADB_SAFLAGS.X_ESN, state: 1 });
    const back = addToSa(message);
    expect(back).toEqual({ ...SA, lifetime: { ...SA.lifetime, soft: { ...SA.lifetime.soft, seconds: 3000 } } });
    expect(hex(back.encrKey.reveal())).toBe(hex(SA.encrKey.reveal()));
    expect(hex(back.integKey!.reveal())).toBe(hex(SA.integKey!.reveal()));
    expect(checkRequest(message, 'tanuki')).toBeUndefined();
  });

  test.each([
    ['aes_gcm_16', 256, 36],
    ['aes_ctr', 128, 20],
    ['chacha20_poly1305', 0, 36],
    ['null_enc', 0, 0],
  ] as const)('%s keeps its key length', (encr, keyBits, octets) => {
    const integ = encr === 'aes_gcm_16' || encr === 'chacha20_poly1305' ? 'none' : 'hmac_sha2_256';
    const sa = {
      ...SA,
      suite: { encr, keyBits, integ },
      encrKey: new Secret(new Uint8Array(octets)),
      integKey: integ === 'none' ? undefined : SA.integKey,
    } as const;
    const message = overTheWire(saToAdd(sa));
    expect(addToSa(message).suite).toEqual(sa.suite);
    expect(checkRequest(message, 'tanuki')).toBeUndefined();
  });

  test('an answer without keys is an SA without keys', () => {
    const message = overTheWire(
      saToSadb('DUMP', SA, { keys: false, state: 2, seq: 9, current: { allocations: 1, bytes: 2, addtime: 3, usetime: 4 } }),
    );
    expect([message.keyAuth, message.keyEncrypt]).toEqual([undefined, undefined]);
    expect(addToSa(message, false)).toMatchObject({ spi: SA.spi, suite: { encr: 'aes_cbc', integ: 'hmac_sha2_256' } });
    expect(message.lifetimeCurrent).toEqual({ allocations: 1, bytes: 2, addtime: 3, usetime: 4 });
  });

  test('what makes no SA is refused with the errno that says why', () => {
    const add = saToAdd(SA);
    const { sa } = add;
    const cases: [Partial<SadbMessage>, number][] = [
      [{ sa: { ...sa!, encrypt: 99 } }, ERRNO.ENOSYS],
      [{ sa: { ...sa!, auth: 99 } }, ERRNO.ENOSYS],
      [{ keyEncrypt: { bits: 136, key: new Secret(new Uint8Array(17)) } }, ERRNO.EINVAL],
      [{ keyAuth: undefined }, ERRNO.EINVAL],
      [{ sa: { ...sa!, encrypt: 20 } }, ERRNO.EINVAL],
      [{ sa2: { mode: 3, sequence: 0, reqid: 0 } }, ERRNO.EINVAL],
      [{ nattType: 1 }, ERRNO.EINVAL],
      [{ nattSourcePort: undefined }, ERRNO.EINVAL],
      [{ source: undefined }, ERRNO.EINVAL],
      [{ satype: 9 }, ERRNO.ENOSYS],
    ];
    for (const [change, errno] of cases)
      expect(
        errnoOf(() => addToSa({ ...add, ...change })),
        JSON.stringify(Object.keys(change)),
      ).toBe(errno);
  });

  test('GETSPI, GET and DELETE name what they are about', () => {
    expect(overTheWire(saToGetspi(SA, { min: 256, max: 65_535 }, 4))).toMatchObject({
      type: 'GETSPI',
      satype: 3,
      seq: 4,
      spirange: { min: 256, max: 65_535 },
      sa2: { mode: 2, reqid: 12 },
    });
    const get = overTheWire(saIdTo('GET', SA, SA.source));
    expect(get).toMatchObject({ satype: 3, sa: { spi: SA.spi }, source: { prefixLength: 128 } });
    expect(checkRequest(get, 'tanuki')).toBeUndefined();
  });

  test('reserved SPIs are refused, except where Linux is to be imitated', () => {
    const message = saToAdd({ ...SA, spi: 255 });
    expect([checkRequest(message, 'tanuki')?.errno, checkRequest(message, 'linux-strict')?.errno]).toEqual([
      ERRNO.EINVAL,
      undefined,
    ]);
  });
});

describe('policies', () => {
  test('come back as they went', () => {
    for (const message of [policyToSpdAdd(POLICY), policyToSpdUpdate(POLICY, 60)]) {
      expect(checkRequest(message, 'tanuki')).toBeUndefined();
      expect(spdToPolicy(overTheWire(message))).toEqual(POLICY);
    }
    expect(policyToSpdUpdate(POLICY, 60).lifetimeHard?.addtime).toBe(60);
    for (const action of ['bypass', 'discard'] as const) {
      const policy: Policy = {
        ...POLICY,
        action,
        templates: [],
        direction: 'forward',
        selector: { ...POLICY.selector, protocol: 0 },
      };
      const message = overTheWire(policyToSpdAdd(policy));
      expect(message.source?.protocol).toBe(255);
      expect(spdToPolicy(message)).toEqual(policy);
    }
    expect(overTheWire(policyIdTo('X_SPDGET', 88)).policy?.id).toBe(88);
    expect(selectorOf(overTheWire(policyToSpdDelete(POLICY)))).toEqual(POLICY.selector);
  });

  test('an ipsec policy without a complete request is refused: it never becomes a bypass', () => {
    const message = policyToSpdAdd(POLICY);
    const none = { ...message, policy: { ...message.policy!, requests: [] } };
    expect([checkRequest(none, 'linux-strict')?.errno, errnoOf(() => spdToPolicy(none))]).toEqual([ERRNO.EINVAL, ERRNO.EINVAL]);
    // A request in the 8-octet layout of KAME.
    const bytes = writeSadb(none);
    const kame = new Uint8Array(bytes.length + 8);
    const at = bytes.length - 16;
    kame.set(bytes);
    kame.set([8, 0, 50, 0, 1, 2, 0, 0], bytes.length);
    kame[4] = kame.length / 8;
    kame[at] = 3;
    expect(errnoOf(() => readSadb(kame))).toBe(ERRNO.EINVAL);
  });

  test('what is no policy is refused', () => {
    const message = policyToSpdAdd(POLICY);
    const policy = message.policy!;
    const [request] = policy.requests;
    const cases: [Partial<SadbMessage>, number][] = [
      [{ policy: { ...policy, type: 3 } }, ERRNO.EINVAL],
      [{ policy: { ...policy, direction: 4 } }, ERRNO.EINVAL],
      [{ policy: { ...policy, requests: [{ ...request!, mode: 0 }] } }, ERRNO.EINVAL],
      [{ policy: { ...policy, requests: [{ ...request!, addresses: undefined }] } }, ERRNO.EINVAL],
      [{ policy: { ...policy, requests: Array(7).fill(request) } }, ERRNO.ELOOP],
      [{ destination: { ...message.destination!, address: ip('::1') } }, ERRNO.EINVAL],
    ];
    for (const [change, errno] of cases) expect(checkRequest({ ...message, ...change }, 'tanuki')?.errno).toBe(errno);
    const down = { sourceLow: 2, sourceHigh: 1, destinationLow: 0, destinationHigh: 65_535 };
    expect(errnoOf(() => spdToPolicy({ ...message, portRanges: down }))).toBe(ERRNO.EINVAL);
  });

  test('port ranges travel beside addresses without ports, and come back', () => {
    const portRanges = { sourceLow: 0, sourceHigh: 65_535, destinationLow: 5000, destinationHigh: 5010 };
    const selector = { ...POLICY.selector, sourcePort: 0, destinationPort: 0, portRanges };
    const message = readSadb(writeSadb(policyToSpdAdd({ ...POLICY, selector })));
    expect([message.source!.port, message.destination!.port, message.portRanges]).toEqual([0, 0, portRanges]);
    expect(samePolicySelector(spdToPolicy(message).selector, selector)).toBe(true);
    expect(showPolicySelector(selector)).toMatch(/\[5000-5010\]/);
    const { portRanges: _, ...anyPort } = selector;
    expect(samePolicySelector(anyPort, selector)).toBe(false);
    expect(
      samePolicySelector(anyPort, { ...selector, portRanges: { ...portRanges, destinationLow: 0, destinationHigh: 65_535 } }),
    ).toBe(true);
  });
});

describe('what a server sends unasked', () => {
  const host = (text: string, port = 0) => ({ protocol: 0, prefixLength: 32, address: ip(text), port });
  const sa = { spi: 9, replay: 0, state: 3, auth: 0, encrypt: 0, flags: 0 };
  const ends = { satype: 3, source: host('192.0.2.1'), destination: host('192.0.2.2') };

  test('ACQUIRE, and its refusal', () => {
    const policy = { type: 2, direction: 2, id: 41, priority: 0, requests: [] };
    const acquire = readAcquire(overTheWire(sadb('ACQUIRE', { ...ends, seq: 6, policy, packet: Uint8Array.of(0x45, 0) })));
    expect(acquire).toMatchObject({
      seq: 6,
      protocol: 'esp',
      policyId: 41,
      direction: 'outbound',
      packet: Uint8Array.of(0x45, 0),
    });
    expect(overTheWire(acquireFailed(acquire, ERRNO.ETIMEDOUT))).toMatchObject({
      type: 'ACQUIRE',
      seq: 6,
      errno: ERRNO.ETIMEDOUT,
      satype: 3,
    });
    expect(errnoOf(() => readAcquire(sadb('ACQUIRE')))).toBe(ERRNO.EINVAL);
  });

  test('EXPIRE: hard and soft', () => {
    const current = { allocations: 5, bytes: 6, addtime: 7, usetime: 8 };
    const expire = sadb('EXPIRE', { ...ends, sa, lifetimeCurrent: current, sa2: { mode: 2, sequence: 0, reqid: 4 } });
    expect(readExpire(overTheWire(expire))).toMatchObject({ hard: true, spi: 9, reqid: 4, current });
    expect(readExpire({ ...expire, sa: { ...sa, state: 2 } }).hard).toBe(false);
    expect(errnoOf(() => readExpire(sadb('EXPIRE')))).toBe(ERRNO.EINVAL);
  });

  test('new mapping: the same peer before and now', () => {
    const message = sadb('X_NAT_T_NEW_MAPPING', { ...ends, sa, nattSourcePort: 4500, nattDestinationPort: 1025 });
    const { before, now } = readNewMapping(overTheWire(message));
    expect([`${before.address} ${before.port}`, `${now.address} ${now.port}`]).toEqual(['192.0.2.1 4500', '192.0.2.2 1025']);
    expect(overTheWire(message).order).toEqual([1, 5, 21, 6, 22]);
  });
});
