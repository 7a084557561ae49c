/** The datapath's process of a simulated node: the engine with its PF_KEY server, a memory device, and the ports of the node. */

import { noblePacketCipher } from '../../src/crypto/packet-cipher-noble.ts';
import { nodePacketCipher } from '../../src/crypto/packet-cipher-node.ts';
import { announce } from '../../src/datapath/announce.ts';
import { Datapath } from '../../src/datapath/datapath.ts';
import { INPUT, OUTPUT, reserveIn } from '../../src/datapath/slots.ts';
import { EngineVerbs } from '../../src/datapath/verbs.ts';
import type { Event } from '../../src/event.ts';
import type { Endpoint, IpAddress, Path } from '../../src/net/address.ts';
import { PfkeyServer, type PfkeyServerInput, type Verbs } from '../../src/pfkey/server.ts';
import type { Chance } from './chance.ts';
import type { Timeline } from './clock.ts';
import type { KeyWatch } from './key-watch.ts';
import type { Datagram } from './network.ts';
import { ESP, ipPacket } from './packets.ts';

const SLOTS = 2;
const OUTPUT_BYTES = 96 * 1024;
const ARENA_BYTES = (SLOTS + 1) * 66_000 + OUTPUT_BYTES + 4096;

export interface DatapathDoors {
  readonly clock: Timeline;
  readonly chance: Chance;
  readonly cipher: 'noble' | 'node';
  readonly send: (datagram: Datagram) => void;
  /** An IKE message from the encapsulation port. */
  readonly onIke: (path: Path, bytes: Uint8Array) => void;
  /** A packet for the device. */
  readonly onDevice: (packet: Uint8Array) => void;
  /** A packet that leaves as it is. */
  readonly onClear: (packet: Uint8Array) => void;
  readonly onPfkey: (client: number, bytes: Uint8Array) => void;
  readonly onPfkeyClose: (client: number) => void;
  readonly onEvent: (event: Event) => void;
  readonly breach: (what: string) => void;
  /** Sees every key and every sequence number of this host's. */
  readonly watch: KeyWatch;
  /** Another machine in place of the real one: how a test plants a broken rule. */
  readonly alter?: ((datapath: { engine: Datapath; verbs: Verbs }) => { engine: Datapath; verbs: Verbs }) | undefined;
}

const MARKER = new Uint8Array(4);

export class DatapathNode {
  readonly engine: Datapath;
  readonly server: PfkeyServer;
  readonly #doors: DatapathDoors;
  readonly #arena: Uint8Array;
  #alarm = 0;
  #alarmAt: number | undefined;
  #inSecond = 0;
  #second = -1;
  #stopped = false;

  constructor(doors: DatapathDoors) {
    this.#doors = doors;
    this.#arena = new Uint8Array(ARENA_BYTES);
    const engine = new Datapath({
      arena: this.#arena,
      reserve: reserveIn(this.#arena),
      cipher: doors.cipher === 'noble' ? noblePacketCipher(this.#arena) : nodePacketCipher(this.#arena),
      random: doors.chance.bytes,
      slots: SLOTS,
      outputs: 64,
      outputBytes: OUTPUT_BYTES,
      unmatched: 'bypass',
      coalesce: false,
    });
    const verbs = new EngineVerbs(engine, { random: doors.chance.bytes });
    const altered = doors.alter?.({ engine, verbs }) ?? { engine, verbs };
    this.engine = altered.engine;
    this.server = new PfkeyServer(doors.watch.over(altered.engine, altered.verbs));
  }

  /** The process is killed. */
  stop(): void {
    this.#stopped = true;
  }

  pfkey(input: PfkeyServerInput): void {
    if (this.#stopped) return;
    this.#guard(() => this.#serve(input));
    this.#settle();
  }

  /** A packet from the device's side. */
  fromDevice(packet: Uint8Array): void {
    if (this.#stopped) return;
    this.#guard(() => {
      const { engine } = this;
      this.#arena.set(packet, engine.inputs.buffer[0]!);
      engine.inputs.takePacket(0, INPUT.frame, packet.length);
      engine.protectBatch(0, 1, this.#doors.clock.now());
      this.#carryOut();
    });
    this.#settle();
  }

  /** A datagram for the encapsulation port, or ESP over IP. */
  received(datagram: Datagram): void {
    if (this.#stopped) return;
    if (datagram.kind === 'udp') {
      const { bytes, from, to } = datagram;
      if (bytes.length === 1 && bytes[0] === 0xff) return;
      if (bytes.length > 4 && bytes.subarray(0, 4).every((octet) => octet === 0)) {
        return this.#doors.onIke({ local: to, remote: from, encapsulated: true }, bytes.slice(4));
      }
    }
    this.#guard(() => {
      this.#take(datagram);
      this.engine.unprotectBatch(0, 1, this.#doors.clock.now());
      this.#carryOut();
    });
    this.#settle();
  }

  #take(datagram: Datagram): void {
    const { inputs } = this.engine;
    inputs.trafficClass[0] = 0;
    if (datagram.kind === 'esp' && datagram.to.family === 4) {
      const packet = ipPacket(datagram.from, datagram.to, ESP, datagram.bytes);
      this.#arena.set(packet, inputs.buffer[0]!);
      inputs.takePacket(0, INPUT.rawWithHeader, packet.length);
      return;
    }
    this.#arena.set(datagram.bytes, inputs.buffer[0]!);
    inputs.takePacket(0, datagram.kind === 'esp' ? INPUT.raw : INPUT.udp, datagram.bytes.length);
    const [from, to] = datagram.kind === 'udp' ? [datagram.from, datagram.to] : [noPort(datagram.from), noPort(datagram.to)];
    const scratch = inputs.buffer[1]!;
    this.#arena.set(from.address.bytes, scratch);
    inputs.setRemote(0, from.address.family, scratch, from.port);
    this.#arena.set(to.address.bytes, scratch + 16);
    inputs.setLocal(0, to.address.family, scratch + 16, to.port);
  }

  /** IKE on the encapsulation port (RFC 3948 §2.2), or a keepalive where there is no message. */
  sendIke(path: Path, bytes: Uint8Array | undefined): void {
    if (this.#stopped) return;
    const payload = bytes === undefined ? Uint8Array.of(0xff) : Buffer.concat([MARKER, bytes]);
    this.#doors.send({ kind: 'udp', from: path.local, to: path.remote, bytes: new Uint8Array(payload) });
  }

  #serve(input: PfkeyServerInput): void {
    const { clock, onPfkey, onPfkeyClose, onEvent } = this.#doors;
    for (const output of this.server.handle(input, clock.now())) {
      if (output.kind === 'send') onPfkey(output.client, output.bytes);
      else if (output.kind === 'close') onPfkeyClose(output.client);
      else onEvent(output.event);
    }
  }

  #carryOut(): void {
    const { outputs } = this.engine;
    const device: Uint8Array[] = [];
    for (let i = 0; i < outputs.count; i++) {
      if (outputs.kind[i] === OUTPUT.esp) this.#sendEsp(i);
      else if (outputs.kind[i] === OUTPUT.device) device.push(this.#piecesOf(i));
      else if (outputs.kind[i] === OUTPUT.clear) {
        this.#doors.onClear(this.#arena.slice(outputs.offset[i]!, outputs.offset[i]! + outputs.length[i]!));
      }
    }
    for (const packet of device) this.#doors.onDevice(packet);
  }

  #sendEsp(output: number): void {
    const { engine } = this;
    const { offset, length, segmentBytes } = engine.outputs;
    const path = engine.path(engine.outputs.path[output]!);
    if (path === undefined) return this.#doors.breach('an ESP output has a path id that is none');
    const end = offset[output]! + length[output]!;
    const step = segmentBytes[output]! > 0 ? segmentBytes[output]! : length[output]!;
    for (let at = offset[output]!; at < end; at += step) {
      const bytes = this.#arena.slice(at, Math.min(at + step, end));
      this.#doors.watch.sent(bytes, path.remote.address);
      if (path.encapsulated) this.#doors.send({ kind: 'udp', from: path.local, to: path.remote, bytes });
      else this.#doors.send({ kind: 'esp', from: path.local.address, to: path.remote.address, bytes });
    }
  }

  #piecesOf(output: number): Uint8Array {
    const { firstPiece, pieces, pieceOffset, pieceLength } = this.engine.outputs;
    const parts: Uint8Array[] = [];
    for (let piece = firstPiece[output]!; piece < firstPiece[output]! + pieces[output]!; piece++) {
      parts.push(this.#arena.subarray(pieceOffset[piece]!, pieceOffset[piece]! + pieceLength[piece]!));
    }
    return new Uint8Array(Buffer.concat(parts));
  }

  /** Lets go what waited for an SA, and tells the key daemon what is to be told. */
  #settle(): void {
    if (this.#stopped) return;
    this.#guard(() => {
      const { clock } = this.#doors;
      while (this.engine.hasReleasable) {
        this.engine.releaseHeld(clock.now());
        this.#carryOut();
      }
      for (const effect of this.engine.drain()) this.#serve({ kind: 'notify', message: announce(effect) });
    });
    this.#arm();
  }

  #arm(): void {
    const { clock, breach } = this.#doors;
    const at = this.engine.wakeAt();
    if (at === this.#alarmAt && at !== undefined && at > clock.mono) return;
    this.#alarmAt = at;
    const alarm = ++this.#alarm;
    if (at === undefined || at === Number.POSITIVE_INFINITY) return;
    clock.at(at <= clock.mono ? clock.mono + 1 : at, () => {
      if (alarm !== this.#alarm || this.#stopped) return;
      this.#alarmAt = undefined;
      const second = Math.floor(clock.mono / 1000);
      this.#inSecond = second === this.#second ? this.#inSecond + 1 : 1;
      this.#second = second;
      if (this.#inSecond > 1000) {
        breach('the datapath loops: wakeAt() asks for over 1000 ticks within a second');
        this.#stopped = true;
        return;
      }
      this.#guard(() => this.engine.tick(clock.now()));
      this.#settle();
    });
  }

  #guard(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#doors.breach(`the datapath threw: ${error instanceof Error ? error.stack : String(error)}`);
      this.#stopped = true;
    }
  }
}

function noPort(address: IpAddress): Endpoint {
  return { address, port: 0 };
}
