/**
 * `linux-strict` against the recordings of a kernel: each exchange that has a request is said to our PF_KEY server and engine, and what every socket
 * gets (A asks, R has registered, N is plain, P promiscuous) is compared octet by octet, behind the masks of the recordings' README.
 */

import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { fromHex, hex, u16be } from '../../../src/bytes/bytes.ts';
import { LinuxVerbs } from '../../../src/datapath/linux-strict.ts';
import { readSadb, type SadbMessage, sadb, writeSadb } from '../../../src/pfkey/message.ts';
import { PfkeyServer, type PfkeyServerOutput } from '../../../src/pfkey/server.ts';
import { at, ipPacket, Node, seeded, udpPacket } from './pair.ts';

const FILE = '../shared/vectors/pfkey/linux-6.1-exchanges.jsonl';

interface Exchange {
  readonly title: string;
  readonly by: Socket | null;
  readonly sent: string | null;
  readonly send_errno: number;
  readonly got: readonly { readonly sock: Socket; readonly hex: string }[];
}
type Socket = 'A' | 'R' | 'N' | 'P';

/** The recording was made in several runs; each began with an empty kernel. */
interface Run {
  readonly from: number;
  readonly to: number;
  /** Whose messages were recorded; of R in the second run only what it registered for. */
  readonly heard: (socket: Socket, index: number, message: SadbMessage) => boolean;
  /** xfrm_acq_expires, in seconds. */
  readonly acquireSeconds: number;
}

const FOR_REGISTERED: readonly SadbMessage['type'][] = ['ACQUIRE', 'EXPIRE'];
const unasked = (socket: Socket, _: number, { type }: SadbMessage) =>
  socket === 'A' || (socket === 'R' && FOR_REGISTERED.includes(type));
const RUNS: readonly Run[] = [
  { from: 0, to: 98, heard: (socket) => socket !== 'P', acquireSeconds: 30 },
  { from: 99, to: 118, heard: unasked, acquireSeconds: 30 },
  { from: 119, to: 134, heard: unasked, acquireSeconds: 3 },
  { from: 135, to: 169, heard: (socket) => socket === 'A', acquireSeconds: 30 },
  // P was open up to the last message about promiscuous sockets.
  { from: 170, to: 181, heard: (socket, index) => socket !== 'N' && (socket !== 'P' || index <= 177), acquireSeconds: 30 },
];

const SEND_FAILS = 'send() fails on AF_KEY; ours is a stream: an error reply, and a close where it cannot be framed';
const NOT_RECORDED = 'the kernel must answer, but the recording has no message of any socket';
/** By title. */
const EXCLUDED: Readonly<Record<string, string>> = {
  short: SEND_FAILS,
  'ver 1': SEND_FAILS,
  'reserved 1': SEND_FAILS,
  'type 25': SEND_FAILS,
  'type 0': SEND_FAILS,
  'bad len': SEND_FAILS,
  'spdadd ipsec with zero reqs':
    'an ipsec policy without a complete request becomes a bypass in Linux; ours is EINVAL: closed rather than open',
  'dump ESP all': NOT_RECORDED,
  ...Object.fromEntries([2, 3, 5, 6, 7, 8, 9, 10].map((n) => [`auth ${n}`, NOT_RECORDED])),
};
/** The second of two exchanges of one title. */
const EXCLUDED_INDEX: Readonly<Record<number, string>> = { 134: NOT_RECORDED };

const [ONE, TWO] = ['2001:db8:1::1', '2001:db8:1::a'] as const;
const mobility = (type: number) => ipPacket(135, Uint8Array.of(59, 0, type, 0, 0, 0, 0, 0), { source: ONE, destination: TWO });
const icmp = (type: number, code: number, source: string = ONE, destination: string = TWO) =>
  ipPacket(58, Uint8Array.of(type, code, 0, 0, 0, 1, 0, 1), { source, destination }, 2);
const udp = (destination: string) => udpPacket(new Uint8Array(5), { source: ONE, destination, destinationPort: 53 });
/** What caused an exchange without a request; those left out are about AH, which the engine does not make. */
const STIMULI: Readonly<Record<string, Uint8Array>> = {
  'send MH type 6 (should not match)': mobility(6),
  'send MH type 5 (should ACQUIRE)': mobility(5),
  'send MH type 5 again while larval': mobility(5),
  'send MH5 after error': mobility(5),
  'ICMPv6 128/0': icmp(128, 0, '2001:db8:c0a::1', '2001:db8:9::9'),
  'ICMPv6 128/3': icmp(128, 3, '2001:db8:c0a::1', '2001:db8:9::9'),
  'udp matching tunnel': udp('2001:db8:77::1'),
  ...Object.fromEntries([0, 1, 2, 3, 4].map((n) => [`packet ${n}`, udp('2001:db8:77::1')])),
};

/** Linux 6.1 counts too many words in the header of a policy with requests of both kinds of address; this puts the true number there. */
function trueLength(octets: string): string {
  const [high, low] = u16be(octets.length / 16);
  return `${octets.slice(0, 8)}${hex(Uint8Array.of(low!, high!))}${octets.slice(12)}`;
}

/** With the masks applied: pid, times of CURRENT, reserved of SPD messages, random SPIs, policy ids, seq of ACQUIREs. */
function masked(message: SadbMessage, randomSpi: boolean): string {
  const { type, lifetimeCurrent, policy, sa } = message;
  return hex(
    writeSadb({
      ...message,
      pid: 0,
      reserved: type.startsWith('X_SPD') ? 0 : message.reserved,
      seq: type === 'ACQUIRE' ? 0 : message.seq,
      lifetimeCurrent: lifetimeCurrent && { ...lifetimeCurrent, addtime: 0, usetime: 0 },
      policy: policy && { ...policy, id: 0 },
      sa: sa && { ...sa, spi: randomSpi ? 0 : sa.spi },
    }),
  );
}

class Kernel {
  readonly #node: Node;
  readonly #verbs: LinuxVerbs;
  readonly #server: PfkeyServer;
  readonly #got: { readonly sock: Socket; readonly message: SadbMessage }[] = [];
  #milliseconds = 0;

  constructor({ acquireSeconds, heard }: Run) {
    this.#node = new Node({ larvalLifetime: acquireSeconds * 1000, unmatched: 'bypass' });
    this.#verbs = new LinuxVerbs(this.#node.engine, { random: seeded(3) });
    this.#server = new PfkeyServer(this.#verbs, { dialect: 'linux-strict' });
    for (const client of SOCKETS.keys()) this.#server.handle({ kind: 'connect', client }, this.#now());
    if (heard === unasked) for (const satype of [2, 3]) this.say('R', hex(writeSadb(sadb('REGISTER', { satype }))));
    this.take();
  }

  #now() {
    return at(this.#milliseconds);
  }

  say(by: Socket, octets: string): void {
    this.#take(this.#server.handle({ kind: 'bytes', client: SOCKETS.indexOf(by), bytes: fromHex(octets)! }, this.#now()));
    this.#tell();
  }

  send(packet: Uint8Array): void {
    this.#node.protect([packet], this.#now());
    this.#tell();
  }

  /** Lets time pass until so many EXPIREs have come to R, or nothing is due any more. */
  await(expiries: number): void {
    const expired = () => this.#got.filter(({ sock, message }) => sock === 'R' && message.type === 'EXPIRE').length;
    while (expired() < expiries) {
      const due = this.#node.engine.wakeAt();
      if (due === undefined) return;
      this.#milliseconds += due - this.#now().mono;
      this.#node.engine.tick(this.#now());
      this.#tell();
    }
  }

  take() {
    return this.#got.splice(0);
  }

  #tell(): void {
    for (const effect of this.#node.engine.drain())
      this.#take(this.#server.handle({ kind: 'notify', message: this.#verbs.announce(effect) }, this.#now()));
  }

  #take(outputs: readonly PfkeyServerOutput[]): void {
    for (const output of outputs)
      if (output.kind === 'send')
        this.#got.push({ sock: SOCKETS[output.client]!, message: readSadb(output.bytes, 'linux-strict') });
  }
}
const SOCKETS: readonly Socket[] = ['A', 'R', 'N', 'P'];

/** Which sockets got what; each socket's own messages in order. */
function bySocket(messages: readonly { readonly sock: Socket; readonly message: SadbMessage }[], randomSpi: boolean) {
  return SOCKETS.map((sock) => [
    sock,
    messages.filter((one) => one.sock === sock).map(({ message }) => masked(message, randomSpi)),
  ]);
}

/** Of a dump of policies what we have not refused, numbered again. */
function withoutRefused(messages: readonly { readonly sock: Socket; readonly message: SadbMessage }[]) {
  const kept = messages.filter(
    ({ message }) => !(message.type === 'X_SPDDUMP' && message.policy?.type === 1 && message.source?.port === 0x8a),
  );
  if (kept.length === messages.length) return messages;
  return kept.map(({ sock, message }, i) => ({ sock, message: { ...message, seq: i === kept.length - 1 ? 0 : i + 1 } }));
}

describe.skipIf(!existsSync(FILE))(`recordings of Linux 6.1 (skipped where ${FILE} is absent)`, () => {
  const exchanges = existsSync(FILE)
    ? readFileSync(FILE, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Exchange)
    : [];
  const whyNot = (index: number) => EXCLUDED[exchanges[index]!.title] ?? EXCLUDED_INDEX[index];

  for (const run of RUNS) {
    describe(`exchanges ${run.from} to ${run.to}`, () => {
      const kernel = new Kernel(run);
      for (let index = run.from; index <= run.to && index < exchanges.length; index++) {
        const { title, by, sent, got } = exchanges[index]!;
        if (sent === null || by === null) {
          // Not an exchange with a request; what it caused is needed by those behind it.
          test(`(${title})`, () => {
            const packet = STIMULI[title];
            if (packet !== undefined) kernel.send(packet);
            kernel.take();
          });
          continue;
        }
        const excluded = whyNot(index);
        test(`${index} ${title}${excluded === undefined ? '' : `, not compared: ${excluded}`}`, () => {
          const recorded = got.map(({ sock, hex: octets }) => ({
            sock,
            message: readSadb(fromHex(trueLength(octets))!, 'linux-strict'),
          }));
          if (excluded === undefined || excluded === NOT_RECORDED) kernel.say(by, sent);
          kernel.await(recorded.filter(({ sock, message }) => sock === 'R' && message.type === 'EXPIRE').length);
          const ours = kernel.take().filter(({ sock, message }) => run.heard(sock, index, message));
          if (excluded !== undefined) return;
          const random = sent.slice(2, 4) === '01' && !isSingle(sent);
          expect(bySocket(ours, random)).toEqual(bySocket(withoutRefused(recorded), random));
        });
      }
    });
  }

  test('what is excluded is there, and is little', () => {
    const indexes = exchanges.flatMap(({ sent }, index) => (sent === null ? [] : [index]));
    const excluded = indexes.filter((index) => whyNot(index) !== undefined);
    expect(excluded.map((index) => exchanges[index]!.title).toSorted()).toEqual([...Object.keys(EXCLUDED), 'flush'].toSorted());
    expect(indexes.length - excluded.length).toBeGreaterThan(140);
    for (const index of excluded.filter((one) => whyNot(one) === SEND_FAILS)) expect(exchanges[index]!.send_errno).not.toBe(0);
    for (const index of excluded.filter((one) => whyNot(one) === NOT_RECORDED)) expect(exchanges[index]!.got).toEqual([]);
  });
});

/** Where the kernel's `send` fails: what a stream does with the same octets. */
test.each([
  ['an unknown type', '021900000200000001000000e5000000', ['close']],
  ['type 0', '020000000200000001000000e5000000', ['close']],
  ['version 1', '010700030200000001000000e5000000', ['22', 'close']],
  ['a reserved field', '020700030200010001000000e5000000', ['22']],
  ['a length below the header', '020700030100000001000000e5000000', ['90', 'close']],
  ['a length beyond what came: the rest is waited for', '020700030300000001000000e5000000', []],
])('%s', (_, octets, expected) => {
  const server = new PfkeyServer(new LinuxVerbs(new Node().engine, { random: seeded(3) }), { dialect: 'linux-strict' });
  server.handle({ kind: 'connect', client: 1 }, at(0));
  const outputs = server.handle({ kind: 'bytes', client: 1, bytes: fromHex(octets)! }, at(0));
  const shown = outputs.flatMap((output) =>
    output.kind === 'event' ? [] : [output.kind === 'close' ? 'close' : `${output.bytes[2]}`],
  );
  expect(shown).toEqual(expected);
});

/** A GETSPI for one SPI. */
function isSingle(sent: string): boolean {
  const { spirange } = readSadb(fromHex(sent)!, 'linux-strict');
  return spirange !== undefined && spirange.min === spirange.max;
}
