// Nanoseconds per 1400-octet packet through the engine's doors, one core, no I/O: with a cipher that costs nothing, so that the engine itself is
// seen, and with each real one that is here. Usage: npm run build && node test/bench/engine.mjs [milliseconds per figure]

import { Secret } from '../../dist/src/bytes/secret.js';
import { noblePacketCipher } from '../../dist/src/crypto/packet-cipher-noble.js';
import { Datapath } from '../../dist/src/datapath/datapath.js';
import { INPUT, OUTPUT, reserveIn } from '../../dist/src/datapath/slots.js';
import { IpAddress } from '../../dist/src/net/address.js';
import { Checksum, fold } from '../../dist/src/net/checksum.js';
import { everything } from '../../dist/src/net/prefix.js';
import { Arena, libcDoor, packetCipher } from '../../dist/src/runtime/native/index.js';

const MILLISECONDS = Number(process.argv.slice(2).find((word) => /^\d+$/.test(word)) ?? 1000);
const NOW = { mono: 0, wall: 0 };
const PACKET = 1400;
const BATCH = 64;
const UNLIMITED = { seconds: 0, bytes: 0, packets: 0 };
const ip = (text) => IpAddress.parse(text);

const freeCipher = { name: 'none', supports: () => true, create: () => 0, destroy() {}, seal: () => true, open: () => true };

const ARENA_BYTES = BATCH * 66_000 + 8 * 1024 * 1024;

/** An arena of ordinary memory, with a cipher over it. */
const plain = (cipherOf) => () => {
  const arena = new Uint8Array(ARENA_BYTES);
  return { arena, reserve: reserveIn(arena), cipher: cipherOf(arena) };
};

/** OpenSSL through FFI over mapped memory, or why there is none. */
function openssl() {
  const { open: libc, why } = libcDoor();
  if (libc === undefined) return why;
  const make = () => {
    const arena = new Arena(libc, ARENA_BYTES);
    const { open: cipher, why: reason } = packetCipher(libc, arena);
    return cipher === undefined
      ? reason
      : { arena: arena.bytes, reserve: (length, align) => arena.reserve(length, align), cipher };
  };
  return typeof make() === 'string' ? make() : make;
}

function engineOf(make) {
  const { arena, reserve, cipher } = make();
  const engine = new Datapath({
    arena,
    reserve,
    cipher,
    random: (length) => new Uint8Array(length),
    slots: BATCH,
    unmatched: 'discard',
    coalesce: true,
  });
  return { arena, engine };
}

function policy(direction) {
  const template = { protocol: 'esp', mode: 'tunnel', level: 'unique', reqid: 1, endpoints: undefined };
  const selector = { source: everything(4), destination: everything(4), protocol: 0, sourcePort: 0, destinationPort: 0 };
  return { id: 0, selector, direction, action: 'protect', priority: 1, templates: [template] };
}

function sa(replayWindow) {
  return {
    spi: 0x1000,
    protocol: 'esp',
    mode: 'tunnel',
    source: ip('192.0.2.1'),
    destination: ip('192.0.2.2'),
    suite: { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
    encrKey: new Secret(new Uint8Array(20).fill(1)),
    integKey: undefined,
    extendedSequence: true,
    replayWindow,
    reqid: 1,
    encapsulation: undefined,
    lifetime: { soft: UNLIMITED, hard: UNLIMITED },
    selectors: { source: [], destination: [] },
  };
}

/** A TCP segment with timestamps of `length` octets in all, at `at`. `partial`: its checksum is left to a network card. */
function writeTcp(arena, at, length, sequence, partial) {
  const checksum = new Checksum(arena);
  const view = new DataView(arena.buffer, arena.byteOffset);
  arena.fill(0, at, at + length);
  arena.set([0x45, 0, length >> 8, length & 255, 0, sequence & 255, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 2, 0, 2], at);
  view.setUint16(at + 10, checksum.of(at, 20));
  arena.set([3, 232, 0, 80, 0, 0, 0, 0, 0, 0, 0, 77, 0x80, 0x10, 2, 0], at + 20);
  view.setUint32(at + 24, sequence);
  const pseudo = checksum.pseudo(at, 6, length - 20);
  view.setUint16(at + 36, partial ? fold(pseudo) : checksum.of(at + 20, length - 20, pseudo));
}

/** Milliseconds of processor time, which other programs on the machine disturb less than they disturb the clock. */
function used() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Runs `step`, which handles `packets` packets, for the time given: median nanoseconds per packet of ten parts. */
function measure(what, packets, step) {
  for (const end = used() + MILLISECONDS / 4; used() < end; ) step();
  const parts = [];
  for (let part = 0; part < 10; part++) {
    const start = used();
    let done = 0;
    let now = start;
    while (now - start < MILLISECONDS / 10) {
      for (let i = 0; i < 10; i++) step();
      done += 10 * packets;
      now = used();
    }
    parts.push(((now - start) * 1e6) / done);
  }
  parts.sort((a, b) => a - b);
  console.log(`${what.padEnd(58)} ${parts[5].toFixed(0).padStart(8)} ns/packet  [${parts[0].toFixed(0)}-${parts[9].toFixed(0)}]`);
}

function benchOutbound(name, make) {
  const single = engineOf(make);
  single.engine.addPolicy(policy('outbound'), NOW);
  single.engine.addSa(sa(0), NOW);
  for (let slot = 0; slot < BATCH; slot++) {
    writeTcp(single.arena, single.engine.inputs.buffer[slot], PACKET, slot * 1348, false);
    single.engine.inputs.takePacket(slot, INPUT.frame, PACKET);
  }
  measure(`${name}: protect, ${BATCH} packets a batch`, BATCH, () => single.engine.protectBatch(0, BATCH, NOW));
  const frames = engineOf(make);
  frames.engine.addPolicy(policy('outbound'), NOW);
  frames.engine.addSa(sa(0), NOW);
  const { inputs } = frames.engine;
  writeTcp(frames.arena, inputs.buffer[0], 52 + 45 * 1348, 1, true);
  inputs.takePacket(0, INPUT.frame, 52 + 45 * 1348);
  inputs.gsoType[0] = 1;
  inputs.flags[0] = 1;
  inputs.segmentBytes[0] = 1348;
  measure(`${name}: protect, one frame of 45 segments (TSO)`, 45, () => frames.engine.protectBatch(0, 1, NOW));
}

function benchInbound(name, make) {
  const sender = engineOf(make);
  sender.engine.addPolicy(policy('outbound'), NOW);
  sender.engine.addSa(sa(0), NOW);
  for (let slot = 0; slot < 45; slot++) {
    writeTcp(sender.arena, sender.engine.inputs.buffer[slot], PACKET, slot * 1348, false);
    sender.engine.inputs.takePacket(slot, INPUT.frame, PACKET);
  }
  sender.engine.protectBatch(0, 45, NOW);
  const { outputs } = sender.engine;
  if (outputs.count !== 1 || outputs.kind[0] !== OUTPUT.esp) throw new Error('expected one train');
  const run = sender.arena.slice(outputs.offset[0], outputs.offset[0] + outputs.length[0]);
  const { arena, engine } = engineOf(make);
  engine.addPolicy(policy('inbound'), NOW);
  const [receiver] = [engine.addSa(sa(0), NOW, 'inbound')];
  const at = engine.inputs.buffer[0];
  measure(`${name}: unprotect, one run of 45 (GRO), coalesced`, 45, () => {
    arena.set(run, at);
    engine.inputs.takePacket(0, INPUT.udp, run.length, outputs.segmentBytes[0]);
    engine.unprotectBatch(0, 1, NOW);
  });
  if (engine.outputs.count !== 1 || engine.drops.total > 0) throw new Error(JSON.stringify(engine.drops));
  if (receiver.packets === 0) throw new Error('nothing arrived');
}

const ciphers = [['no cipher', plain(() => freeCipher)]];
if (!process.argv.includes('--free')) {
  const native = openssl();
  if (typeof native === 'string') console.log(`openssl: not measured, ${native}`);
  else ciphers.push(['openssl', native]);
  ciphers.push(['noble', plain(noblePacketCipher)]);
}
for (const [name, make] of ciphers) {
  benchOutbound(name, make);
  benchInbound(name, make);
}
