/**
 * Mutated PF_KEY messages: reading ends in a message or a SadbError and in nothing else, what was read can be written and read again, and a
 * server under fire keeps its bounds.
 */

import { expect, test } from 'vitest';
import { hex } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import { addToSa, saToAdd, saToGetspi } from '../../../src/pfkey/convert.ts';
import { policyToSpdAdd, readAcquire, readExpire, readNewMapping, spdToPolicy } from '../../../src/pfkey/convert-policy.ts';
import { readSadb, SadbError, type SadbMessage, sadb, writeSadb } from '../../../src/pfkey/message.ts';
import { PfkeyServer } from '../../../src/pfkey/server.ts';
import { COUNT, LIMIT, MemoryBound } from '../../support/fuzz.ts';

const ip = (text: string) => IpAddress.parse(text)!;

/** A generator of numbers below `n` (mulberry32), the same in every run. */
function generator(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

const SA = {
  spi: 0x12345678,
  protocol: 'esp',
  mode: 'tunnel',
  source: ip('192.0.2.1'),
  destination: ip('192.0.2.2'),
  suite: { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha1' },
  encrKey: new Secret(new Uint8Array(16)),
  integKey: new Secret(new Uint8Array(20)),
  extendedSequence: true,
  replayWindow: 64,
  reqid: 3,
  encapsulation: { source: { address: ip('192.0.2.1'), port: 4500 }, destination: { address: ip('192.0.2.1'), port: 4500 } },
  lifetime: { soft: { seconds: 1, bytes: 0, packets: 0 }, hard: { seconds: 2, bytes: 0, packets: 0 } },
  selectors: {
    source: [{ protocol: 0, startPort: 0, endPort: 65_535, start: ip('10.0.0.0'), end: ip('10.0.0.255') }],
    destination: [{ protocol: 6, startPort: 0, endPort: 0, start: ip('::'), end: ip('::1') }],
  },
} as const;
const POLICY = {
  id: 8,
  selector: {
    source: parsePrefix('10.0.0.0/8')!,
    destination: parsePrefix('10.1.0.0/16')!,
    protocol: 0,
    sourcePort: 0,
    destinationPort: 0,
  },
  direction: 'outbound',
  action: 'protect',
  priority: 9,
  templates: [
    {
      protocol: 'esp',
      mode: 'tunnel',
      level: 'unique',
      reqid: 1,
      endpoints: { source: ip('192.0.2.1'), destination: ip('192.0.2.2') },
    },
  ],
} as const;

const MESSAGES: readonly SadbMessage[] = [
  saToAdd(SA),
  saToGetspi(SA, { min: 256, max: 300 }),
  policyToSpdAdd(POLICY, 60),
  sadb('REGISTER', { satype: 3, optIn: 0xffffffff }),
  sadb('X_PROMISC', { satype: 1 }),
  { ...policyToSpdAdd(POLICY), type: 'ACQUIRE', packet: new Uint8Array(40) },
  sadb('X_MIGRATE', { kmAddress: { local: { address: ip('::1'), port: 0 }, remote: { address: ip('::2'), port: 0 } } }),
  sadb('DUMP', {
    filter: { source: new Uint8Array(16), destination: new Uint8Array(16), family: 2, sourceBits: 8, destinationBits: 0 },
  }),
];
const SEEDS = MESSAGES.map((message) => writeSadb(message));

/** Octets changed, cut, lengthened, doubled or lengths bent. */
function mutate(random: (n: number) => number): Uint8Array {
  let bytes = SEEDS[random(SEEDS.length)]!.slice();
  for (let n = 1 + random(4); n > 0; n--) {
    const at = random(bytes.length);
    const kind = random(6);
    if (kind <= 1) bytes[at] = random(256);
    else if (kind === 2) bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)]!;
    else if (kind === 3) bytes = bytes.slice(0, Math.max(1, at));
    else if (kind === 4) bytes = Uint8Array.from([...bytes, ...bytes.slice(at, at + 8 * random(5))]);
    else
      bytes = Uint8Array.from([
        ...bytes.slice(0, at),
        ...Array.from({ length: random(9) }, () => random(256)),
        ...bytes.slice(at),
      ]);
    if (random(4) > 0 && bytes.length >= 16) new DataView(bytes.buffer).setUint16(4, Math.floor(bytes.length / 8), true);
    if (random(3) > 0) bytes = bytes.slice(0, bytes.length - (bytes.length % 8) || bytes.length);
  }
  return bytes;
}

/** Runs it, and lets only SadbError pass. */
function tolerate(run: () => void): boolean {
  try {
    run();
    return true;
  } catch (error) {
    if (error instanceof SadbError) return false;
    throw error;
  }
}

test(`${COUNT} mutated messages are read or refused`, LIMIT, () => {
  const random = generator(20_250_101);
  let read = 0;
  const memory = new MemoryBound();
  for (let i = 0; i < COUNT; i++) {
    memory.mutant();
    const bytes = mutate(random);
    try {
      tolerate(() => {
        const message = readSadb(bytes);
        read++;
        for (const use of [addToSa, spdToPolicy, readAcquire, readExpire, readNewMapping]) tolerate(() => void use(message));
        const again = writeSadb(message);
        expect(hex(writeSadb(readSadb(again)))).toBe(hex(again));
      });
    } catch (error) {
      throw new Error(`message ${i}: ${hex(bytes)}`, { cause: error });
    }
  }
  memory.end();
  expect(read).toBeGreaterThan(COUNT / 20);
});

test(`a server under ${COUNT} mutated chunks throws nothing, serves the others and keeps its bound`, LIMIT, () => {
  const random = generator(7);
  let handled = 0;
  const server = new PfkeyServer(
    {
      handle(message) {
        handled++;
        addToSa(message);
        return { broadcast: [message] };
      },
      supported: () => ({ auth: [], encrypt: [] }),
    },
    { inFlight: 4096, queueLimit: 65_536 },
  );
  const now = { mono: 0, wall: 0 };
  let closed = 0;
  let honest = 0;
  server.handle({ kind: 'connect', client: 1 }, now);
  const memory = new MemoryBound();
  for (let i = 0; i < COUNT; i++) {
    memory.mutant();
    if (i % 10 === 0) server.handle({ kind: 'connect', client: 2 }, now);
    for (const output of server.handle({ kind: 'bytes', client: 2, bytes: mutate(random) }, now))
      if (output.kind === 'close') closed++;
    server.handle({ kind: 'sent', client: 1, octets: 1_000_000 }, now);
    const answers = server.handle({ kind: 'bytes', client: 1, bytes: SEEDS[0]! }, now);
    if (answers.some((output) => output.kind === 'send' && output.client === 1)) honest++;
  }
  memory.end();
  expect(closed).toBeGreaterThan(0);
  expect(handled).toBeGreaterThan(COUNT);
  expect(honest).toBe(COUNT);
});
