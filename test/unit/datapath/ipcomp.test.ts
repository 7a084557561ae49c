/** IPComp in the engine: inside ESP and AH, only where it gains something, and bounded on the way back (RFC 3173, RFC 2394). */
import { deflateRawSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { INPUT } from '../../../src/datapath/slots.ts';
import { EngineVerbs } from '../../../src/datapath/verbs.ts';
import type { Policy, Template } from '../../../src/ipsec/policy.ts';
import type { Mode, SaParameters } from '../../../src/ipsec/sa.ts';
import { saToAdd, saToGetspi, saToUpdate } from '../../../src/pfkey/convert.ts';
import { policyToSpdAdd } from '../../../src/pfkey/convert-policy.ts';
import { SADB_SATYPE } from '../../../src/pfkey/registry.ts';
import { zlibCompressor } from '../../../src/runtime/deflate.ts';
import { mutate, numbers } from '../../support/mutate.ts';
import { copyOf, ip, ipPacket, NOW, Node, policyOf, saOf, seeded, selectorOf, templateOf, udpPacket } from './pair.ts';

const HOSTS = {
  4: { source: '192.0.2.1', destination: '192.0.2.2' },
  6: { source: '2001:db8::1', destination: '2001:db8::2' },
} as const;
const NULL_SHA = { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' } as const;

function endsOf(family: 4 | 6) {
  return { source: ip(HOSTS[family].source), destination: ip(HOSTS[family].destination) };
}

function ipcompSa(mode: Mode, family: 4 | 6 = 4): SaParameters {
  const suite = { encr: 'null_enc', keyBits: 0, integ: 'none' } as const;
  const empty = saOf({ suite: NULL_SHA });
  return {
    ...empty,
    ...endsOf(family),
    spi: 0x4321,
    protocol: 'ipcomp',
    mode,
    reqid: 31,
    suite,
    encrKey: empty.encrKey.slice(0, 0),
    integKey: undefined,
  };
}

const espSa = (mode: Mode, family: 4 | 6 = 4) => saOf({ spi: 0x1001, mode, reqid: 32, ...endsOf(family) });
const ahSa = (family: 4 | 6 = 4) =>
  saOf({ spi: 0x1002, mode: 'transport', reqid: 33, protocol: 'ah', suite: NULL_SHA, ...endsOf(family) });

function templates(sas: readonly SaParameters[]): Template[] {
  return sas.map(({ protocol, mode, reqid, source, destination }) =>
    templateOf({ protocol, mode, reqid, endpoints: mode === 'tunnel' ? { source, destination } : undefined }),
  );
}

function nodes(sas: readonly SaParameters[]) {
  const a = new Node({ compressor: zlibCompressor });
  const b = new Node({ compressor: zlibCompressor });
  for (const family of [4, 6] as const) {
    const policy = (direction: Policy['direction']) =>
      policyOf({ direction, selector: selectorOf({}, family), templates: templates(sas) });
    a.engine.addPolicy(policy('outbound'), NOW);
    b.engine.addPolicy(policy('inbound'), NOW);
  }
  for (const sa of sas) {
    a.engine.addSa(copyOf(sa), NOW);
    b.engine.addSa(copyOf(sa), NOW, 'inbound');
  }
  return { a, b };
}

/** What A sends, as B receives it. */
function through(a: Node, b: Node, packet: Uint8Array, family: 4 | 6 = 4): { octets: number; taken: Uint8Array[] } {
  const [esp] = a.protect([packet]);
  const bytes = esp?.bytes ?? a.clears()[0]!;
  const kind = esp === undefined ? INPUT.ah : family === 4 ? INPUT.rawWithHeader : INPUT.raw;
  const wire = esp !== undefined && family === 4 ? ipPacket(50, bytes, HOSTS[4]) : bytes;
  return {
    octets: bytes.length,
    taken: b.unprotect([{ bytes: wire, path: 0, trafficClass: 0 }], kind).map((frame) => frame.packet),
  };
}

const dull = (octets: number, family: 4 | 6 = 4) => udpPacket(new Uint8Array(octets).fill(0x41), HOSTS[family]);
const random = (octets: number, family: 4 | 6 = 4) => udpPacket(seeded(octets)(octets), HOSTS[family]);

describe('in ESP', () => {
  for (const family of [4, 6] as const) {
    test(`transport mode, IPv${family}: what is dull becomes short, what is random goes as it is`, () => {
      const { a, b } = nodes([ipcompSa('transport', family), espSa('transport', family)]);
      const [short, long] = [through(a, b, dull(1000, family), family), through(a, b, random(1000, family), family)];
      const payload = family === 4 ? 20 : 40;
      expect(short.taken.map((packet) => packet.slice(payload))).toEqual([dull(1000, family).slice(payload)]);
      expect(long.taken.map((packet) => packet.slice(payload))).toEqual([random(1000, family).slice(payload)]);
      expect(short.octets).toBeLessThan(120);
      expect(long.octets).toBeGreaterThan(1000);
      expect(b.engine.drops.toJSON()).toEqual({});
    });

    test(`a tunnel in ESP between its ends, IPv${family}: a plain tunnel where nothing would be gained`, () => {
      const { a, b } = nodes([ipcompSa('tunnel', family), espSa('transport', family)]);
      for (const inner of [
        udpPacket(new Uint8Array(900)),
        udpPacket(seeded(8)(900)),
        udpPacket(new Uint8Array(900), { source: 'fd00:1::1', destination: 'fd00:2::2' }),
      ])
        expect(through(a, b, inner, family).taken).toEqual([inner]);
      expect(b.engine.drops.toJSON()).toEqual({});
    });
  }

  test('in ESP in AH', () => {
    const { a, b } = nodes([ipcompSa('transport'), espSa('transport'), ahSa()]);
    for (const inner of [dull(1000), random(1000), dull(20)]) expect(through(a, b, inner).taken).toEqual([inner]);
  });

  test('in AH alone', () => {
    const { a, b } = nodes([ipcompSa('transport'), ahSa()]);
    const { octets, taken } = through(a, b, dull(1000));
    expect([octets < 120, taken]).toEqual([true, [dull(1000)]]);
  });
});

test('after packets that did not become shorter more and more are not tried, and one that does ends that (§2.2)', () => {
  const { a, b } = nodes([ipcompSa('transport'), espSa('transport')]);
  const isShort = (packet: Uint8Array) => through(a, b, packet).octets < 200;
  expect([isShort(random(800)), isShort(dull(800)), isShort(dull(800)), isShort(dull(800))]).toEqual([false, false, false, true]);
  expect(isShort(dull(800))).toBe(true);
});

describe('hostile', () => {
  /** Any payload behind an IPComp header of ours, in ESP. */
  function sealed(a: Node, payload: Uint8Array, cpi = 0x4321): Uint8Array {
    const { esp, sad, outputs } = a.engine.core;
    const sa = [...sad.all].find(({ parameters }) => parameters.protocol === 'esp')!;
    const body = Uint8Array.of(17, 0, cpi >> 8, cpi & 255, ...payload);
    a.arena.set(body, esp.payloadAt(sa, outputs.start));
    const length = esp.seal(sa, outputs.start, body.length, 108);
    return ipPacket(50, a.arena.slice(outputs.start, outputs.start + length), HOSTS[4]);
  }

  test('bombs, garbage, nothing at all, and an unknown CPI', () => {
    const { a, b } = nodes([ipcompSa('transport'), espSa('transport')]);
    const outcome = (bytes: Uint8Array) => {
      const frames = b.unprotect([{ bytes, path: 0, trafficClass: 0 }], INPUT.rawWithHeader);
      return frames.length > 0 ? 'taken' : b.drop(0);
    };
    expect(outcome(sealed(a, deflateRawSync(new Uint8Array(10_000_000))))).toBe('badCompression');
    expect(outcome(sealed(a, deflateRawSync(new Uint8Array(65_536))))).toBe('badCompression');
    expect(outcome(sealed(a, deflateRawSync(new Uint8Array(60_000))))).toBe('taken');
    expect(outcome(sealed(a, seeded(3)(200)))).toBe('badCompression');
    expect(outcome(sealed(a, new Uint8Array(0)))).toBe('badCompression');
    expect(outcome(sealed(a, deflateRawSync(new Uint8Array(100)), 0x4322))).toBe('noSa');
  });

  test('mutated streams give packets or named drops', () => {
    const { a, b } = nodes([ipcompSa('transport'), espSa('transport')]);
    const numbersOf = numbers(41);
    const seed = deflateRawSync(seeded(2)(300));
    for (let i = 0; i < 300; i++) {
      const before = b.engine.drops.total;
      const bytes = sealed(a, mutate(seed, numbersOf));
      const taken = b.unprotect([{ bytes, path: 0, trafficClass: 0 }], INPUT.rawWithHeader).length;
      expect(taken + b.engine.drops.total - before).toBe(1);
    }
    expect(Object.keys(b.engine.drops.toJSON())).toEqual(['badCompression']);
  });
});

describe('PF_KEY', () => {
  test('a CPI has 16 bits, DEFLATE is the only algorithm, and IPComp alone protects nothing', () => {
    const node = new Node({ compressor: zlibCompressor });
    const verbs = new EngineVerbs(node.engine, { random: seeded(5) });
    const sa = ipcompSa('transport');
    const { source, destination, mode, reqid, protocol } = sa;
    const range = { min: 0x100, max: 0xefff };
    const { spi } = verbs.handle(saToGetspi({ protocol, mode, reqid, source, destination }, range), NOW).reply![0]!.sa!;
    expect(spi).toBeLessThanOrEqual(0xefff);
    const done = verbs.handle(saToUpdate({ ...sa, spi }), NOW).broadcast![0]!;
    expect(done).toMatchObject({ satype: SADB_SATYPE.IPCOMP, sa: { encrypt: 2, auth: 0 } });
    expect([done.keyAuth, done.keyEncrypt]).toEqual([undefined, undefined]);
    expect(node.engine.status().sas).toMatchObject([{ protocol: 'ipcomp', suite: 'DEFLATE', direction: 'inbound' }]);
    expect(() => verbs.handle(saToAdd({ ...sa, spi: 0x1_0000 }), NOW)).toThrow(/a CPI has 16 bits/);
    const message = saToAdd(sa);
    expect(() => verbs.handle({ ...message, sa: { ...message.sa!, encrypt: 3 } }, NOW)).toThrow(/only DEFLATE/);
    const policy = (sas: readonly SaParameters[]) => policyToSpdAdd(policyOf({ templates: templates(sas) }));
    expect(() => verbs.handle(policy([sa]), NOW)).toThrow(/IPComp protects nothing/);
    expect(verbs.handle(policy([sa, espSa('transport')]), NOW).broadcast).toHaveLength(1);
  });
});
