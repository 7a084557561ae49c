// 50,000 SAs and 5,000 policies (`--sas`, `--policies`): how fast PF_KEY adds and deletes them, what one costs in memory, and what a packet costs among
// them and while they change. One engine with its PF_KEY server and two registered clients, no I/O; processor time. Usage: npm run bench -- scale

import { parseArgs } from 'node:util';
import { Secret } from '../../dist/src/bytes/secret.js';
import { Datapath } from '../../dist/src/datapath/datapath.js';
import { INPUT } from '../../dist/src/datapath/slots.js';
import { EngineVerbs } from '../../dist/src/datapath/verbs.js';
import { IpAddress } from '../../dist/src/net/address.js';
import { Checksum } from '../../dist/src/net/checksum.js';
import { parsePrefix } from '../../dist/src/net/prefix.js';
import { saIdTo, saToAdd } from '../../dist/src/pfkey/convert.js';
import { policyToSpdAdd } from '../../dist/src/pfkey/convert-policy.js';
import { sadb, writeSadb } from '../../dist/src/pfkey/message.js';
import { PfkeyServer } from '../../dist/src/pfkey/server.js';
import { Arena, libcDoor, packetCipher } from '../../dist/src/runtime/native/index.js';
import { systemRandom } from '../../dist/src/runtime/random.js';

const { values } = parseArgs({ options: { sas: { type: 'string' }, policies: { type: 'string' }, free: { type: 'boolean' } } });
const SAS = Number(values.sas ?? 50_000);
const POLICIES = Number(values.policies ?? 5000);
const BATCH = 32;
const PACKET = 1400;
const HOUR = { seconds: 3600, bytes: 0, packets: 0 };
const SOFT = { seconds: 3000, bytes: 0, packets: 0 };
const OUTBOUND = Math.ceil(POLICIES / 2);
const PARTS = 9;

const arenaOctets = 16 * 1024 * 1024;
const { open: libc, why } = libcDoor();
if (libc === undefined) throw new Error(why);
const arena = new Arena(libc, arenaOctets);
const { open: cipher, why: noCipher } = packetCipher(libc, arena);
if (cipher === undefined) throw new Error(noCipher);
const free = { name: 'none', supports: () => true, create: () => 0, destroy() {}, seal: () => true, open: () => true };
const now = { mono: 1000, wall: 1_700_000_000_000 };
const engine = new Datapath({
  arena: arena.bytes,
  reserve: (length, align) => arena.reserve(length, align),
  cipher: values.free ? free : cipher,
  random: systemRandom,
  slots: BATCH,
  unmatched: 'discard',
  coalesce: true,
});
const server = new PfkeyServer(new EngineVerbs(engine, { random: systemRandom }));
let answers = 0;
function ask(client, message) {
  say(client, writeSadb(message));
}
function say(client, bytes) {
  for (const output of server.handle({ kind: 'bytes', client, bytes }, now)) {
    if (output.kind === 'send') answers++;
    else if (output.kind === 'event') throw new Error(output.event.message);
  }
}
for (const client of [1, 2]) {
  server.handle({ kind: 'connect', client }, now);
  ask(client, sadb('REGISTER', { satype: 3 }));
}

/** The `i`-th of the peers: its tunnel end, and the network behind it. */
const peer = (i) => IpAddress.of(Uint8Array.of(198, 18 + (i >>> 16), i >>> 8, i));
const network = (i) => parsePrefix(`10.${64 + (i >>> 8)}.${i & 255}.0/24`);
const OWN = IpAddress.parse('192.0.2.1');
const HOME = parsePrefix('10.1.0.0/16');

function policy(i) {
  const of = Math.floor(i / 2) % OUTBOUND;
  const outbound = i % 2 === 0;
  const endpoints = outbound ? { source: OWN, destination: peer(of) } : { source: peer(of), destination: OWN };
  const template = { protocol: 'esp', mode: 'tunnel', level: 'unique', reqid: 20_000 + of, endpoints };
  const selector = {
    source: outbound ? HOME : network(of),
    destination: outbound ? network(of) : HOME,
    protocol: 0,
    sourcePort: 0,
    destinationPort: 0,
  };
  return {
    id: 0,
    selector,
    direction: outbound ? 'outbound' : 'inbound',
    action: 'protect',
    priority: 1000,
    templates: [template],
  };
}

/** Outbound and inbound in turns; SAs of one policy are generations of one another. */
function sa(i, spi = 0x10_0000 + i) {
  const of = Math.floor(i / 2) % OUTBOUND;
  const outbound = i % 2 === 0;
  return {
    spi,
    protocol: 'esp',
    mode: 'tunnel',
    source: outbound ? OWN : peer(of),
    destination: outbound ? peer(of) : OWN,
    suite: { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
    encrKey: new Secret(systemRandom(20).slice()),
    integKey: undefined,
    extendedSequence: true,
    replayWindow: 64,
    reqid: 20_000 + of,
    encapsulation: {
      source: { address: outbound ? OWN : peer(of), port: 4500 },
      destination: { address: outbound ? peer(of) : OWN, port: 4500 },
    },
    lifetime: { soft: SOFT, hard: HOUR },
    selectors: {
      source: [selectorOf(outbound ? HOME : network(of))],
      destination: [selectorOf(outbound ? network(of) : HOME)],
    },
  };
}

function selectorOf(prefix) {
  const end = prefix.address.bytes.slice();
  for (let bit = prefix.length; bit < 32; bit++) end[bit >> 3] |= 0x80 >> (bit & 7);
  return { protocol: 0, start: prefix.address, end: IpAddress.of(end), startPort: 0, endPort: 65_535 };
}

function used() {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Octets that are resident, with nothing left to collect. */
function resident() {
  global.gc?.();
  return process.memoryUsage.rss();
}

/** Of requests that are made beforehand. */
function requests(what, count, messageOf) {
  const all = Array.from({ length: count }, (_, i) => writeSadb(messageOf(i)));
  global.gc?.();
  return rate(what, count, (i) => say(1, all[i]));
}

function rate(what, count, step) {
  const start = used();
  for (let i = 0; i < count; i++) step(i);
  const perSecond = count / ((used() - start) / 1e6);
  console.log(`${what.padEnd(64)} ${Math.round(perSecond).toLocaleString('en').padStart(10)} a second of processor time`);
  return perSecond;
}

/** A TCP segment from home to a host behind the `of`-th peer. */
const checksum = new Checksum(arena.bytes);
function writeSegment(slot, of, flow = 0) {
  const at = engine.inputs.buffer[slot];
  const view = arena.view;
  arena.bytes.fill(0, at, at + PACKET);
  arena.bytes.set(
    [0x45, 0, PACKET >> 8, PACKET & 255, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 64 + (of >>> 8), of & 255, 9],
    at,
  );
  view.setUint16(at + 10, checksum.of(at, 20));
  arena.bytes.set([3, 232 + (flow & 7), 0, 80, 0, 0, 0, 0, 0, 0, 0, 77, 0x50, 0x10, 2, 0], at + 20);
  engine.inputs.takePacket(slot, INPUT.frame, PACKET);
}

/**
 * Nanoseconds a packet of each kind of traffic: the median of `PARTS`, each the mean of so many batches of packets to the peers that `ofAt` names. As
 * many pass before, so that flows are decided and keys ready; and the kinds take turns, since other work on the machine slows them all. `between`
 * happens before each batch and is not counted.
 */
function traffic(kinds) {
  const part = ({ what, ofAt, batches = 400, between = () => {} }) => {
    let spent = 0;
    for (let n = 0; n < batches; n++) {
      between();
      for (let slot = 0; slot < BATCH; slot++) writeSegment(slot, ofAt(n * BATCH + slot));
      const start = process.hrtime.bigint();
      let done = 0;
      while (done < BATCH) done += engine.protectBatch(done, BATCH - done, now);
      spent += Number(process.hrtime.bigint() - start);
      if (engine.outputs.count === 0) throw new Error(`${what}: nothing was sealed: ${JSON.stringify(engine.drops)}`);
      engine.drain();
    }
    return spent / batches / BATCH;
  };
  for (const kind of kinds) part(kind);
  const parts = kinds.map(() => []);
  for (let turn = 0; turn < PARTS; turn++) for (const [i, kind] of kinds.entries()) parts[i].push(part(kind));
  return kinds.map(({ what }, i) => {
    parts[i].sort((a, b) => a - b);
    const median = parts[i][PARTS >> 1];
    console.log(
      `${what.padEnd(64)} ${median.toFixed(0).padStart(6)} ns a packet  [${parts[i][0].toFixed(0)}-${parts[i].at(-1).toFixed(0)}]`,
    );
    return median;
  });
}

console.log(`${SAS} SAs, ${POLICIES} policies; ${values.free ? 'no cipher' : 'AES-128-GCM'}, ${PACKET} octets`);
requests('X_SPDADD', POLICIES, (i) => policyToSpdAdd(policy(i)));
// What comes and goes makes the young generation grow to its size, which is no SA's.
for (let i = 0; i < 20_000; i++) {
  const one = sa(0, 0x800_0000 + i);
  ask(1, saToAdd(one));
  ask(1, saIdTo('DELETE', one, one.source));
}
const before = resident();
requests('ADD', SAS, (i) => saToAdd(sa(i)));
const installed = resident();
const all = [...engine.core.sad.all];
for (const one of all) engine.core.sad.prepare(one, one.spi % 2 === 0 ? 'outbound' : 'inbound');
const prepared = resident();
console.log(
  `resident memory an SA: ${((installed - before) / SAS).toFixed(0)} octets, ${((prepared - before) / SAS).toFixed(0)} with its cipher context`,
);
let spi = 0x400_0000;
let rekeyed = 0;
const rekey = () => {
  for (let k = 0; k < 16; k++) ask(1, saToAdd(sa((2 * rekeyed++) % SAS, spi++)));
};
const [one, spread, singles, scattered, storm] = traffic([
  { what: 'one flow', ofAt: () => 7 },
  { what: '32 packets to each of the peers in turn', ofAt: (i) => Math.floor(i / BATCH) % OUTBOUND, batches: OUTBOUND },
  { what: 'two flows, a packet of each in turn', ofAt: (i) => i & 1 },
  { what: 'every packet to another peer', ofAt: (i) => i % OUTBOUND },
  { what: 'one flow, 16 SAs rekeyed before each batch', ofAt: () => 7, batches: 100, between: rekey },
]);
console.log(
  `of one flow's: 32 packets to each ${(spread / one).toFixed(2)}x, under a rekey storm ${(storm / one).toFixed(2)}x; of two flows': to another each ${(scattered / singles).toFixed(2)}x`,
);
rate('tick that is due (one SA softens)', 2000, () => engine.tick(now));
requests('DELETE', all.length, (i) => {
  const { spi: which, parameters } = all[i];
  return saIdTo('DELETE', { spi: which, protocol: 'esp', destination: parameters.destination }, parameters.source);
});
ask(1, sadb('FLUSH', { satype: 3 }));
for (const i of [0, 1]) ask(1, saToAdd(sa(i, 0x200 + i)));
const [alone] = traffic([{ what: 'one flow, with no other SA', ofAt: () => 0 }]);
console.log(`one flow among all: ${(one / alone).toFixed(2)}x of its time without them`);
console.log(`${answers} answers`);
