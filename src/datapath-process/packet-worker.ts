/**
 * The worker thread of the datapath: engine, PF_KEY server and packet loop in one thread, so that the verbs are synchronous with the packets.
 * It never returns to the event loop before it stops: messages come by `waitingMessages` after a kick of the eventfd.
 */

import { workerData } from 'node:worker_threads';
import { SystemError } from '../errors.ts';
import type { Instant } from '../machine.ts';
import { earliest } from '../machine.ts';
import { IpAddress, type Path } from '../net/address.ts';
import { EncapFramer, writeEncapFrame } from '../runtime/encap-frame.ts';
import { close, drain, type Libc, libcDoor, openTun, type Tun } from '../runtime/native/index.ts';
import { systemRandom } from '../runtime/random.ts';
import { type Assembly, assemble } from './assembly.ts';
import { Capture, type CaptureRequest, captureStep } from './capture.ts';
import { CapturedEngine } from './captured-engine.ts';
import { type EchoAnswer, Echoes } from './echoes.ts';
import { type EngineStatus, KEEPALIVE_OCTET, type PingRequest } from './engine-host.ts';
import { Diversion } from './host.ts';
import { IkeQueue, networkOf } from './ike-queue.ts';
import { BATCH, PacketLoop } from './packet-loop.ts';
import { type NativeMemory, nativeMemory } from './packet-memory.ts';
import { Sender, type Sockets } from './sender.ts';
import { closeSockets, openSockets } from './sockets.ts';
import { type FromWorker, type ToWorker, type WorkerStart, waitingMessages } from './worker-messages.ts';

/** Slots, outputs, message tables and socket addresses; pages that are not used cost nothing. */
const ARENA_OCTETS = 16 * 1024 * 1024;
const KEEPALIVE = Uint8Array.of(KEEPALIVE_OCTET);

class PacketWorker {
  readonly #start: WorkerStart;
  readonly #libc: Libc;
  readonly #memory: NativeMemory;
  readonly #tun: Tun;
  readonly #sockets: Sockets;
  readonly #assembly: Assembly;
  readonly #sender: Sender;
  readonly #loop: PacketLoop;
  readonly #diversion: Diversion;
  readonly #ike = new IkeQueue();
  readonly #framer = new EncapFramer();
  readonly #echoes: Echoes;
  readonly #capture = new Capture();
  /** PF_KEY's, kept until the host's rules agree with what they say. */
  #answers: FromWorker[] = [];
  #ikeDropped = 0;
  #stopping = false;

  /** Throws SystemError where there is no device; sockets and routes that cannot be had are told in `problems`. */
  constructor(start: WorkerStart, memory: NativeMemory, problems: string[]) {
    const { settings, wakeFd } = start;
    const { datapath } = settings;
    const { libc } = memory;
    this.#start = start;
    this.#libc = libc;
    this.#memory = memory;
    this.#tun = openTun(libc, this.#memory.arena, datapath.name);
    this.#sockets = openSockets(libc, settings, problems);
    this.#assembly = assemble(
      { settings, memory: this.#memory, slots: BATCH, coalesce: this.#tun.offloads.tcp },
      {
        send: (client, bytes) => this.#answers.push({ kind: 'pfkey', client, bytes }),
        close: (client) => this.#answers.push({ kind: 'pfkey-close', client }),
        report: (event) => this.#tell({ kind: 'event', event }),
      },
    );
    const engine = new CapturedEngine(this.#assembly.engine, this.#capture, memory.bytes);
    this.#sender = new Sender(this.#memory, engine, this.#sockets);
    this.#diversion = new Diversion(libc, settings, this.#tun.name, (event) => this.#tell({ kind: 'event', event }));
    const others = [wakeFd, this.#diversion.monitorFd];
    const { deviceIndex } = this.#diversion;
    this.#loop = new PacketLoop(this.#memory, engine, this.#tun, this.#sockets, this.#sender, datapath, deviceIndex, others, {
      onIke: (slot, at, length) => this.#ikeArrived(slot, at, length),
      inspects: () => this.#echoes.isWaiting,
      onFrame: (packet) => this.#tookEcho(packet),
    });
    const [high, low] = systemRandom(2);
    this.#echoes = new Echoes((high! << 8) | low!);
  }

  /** Until it is told to stop. */
  run(): void {
    const { engine } = this.#assembly;
    while (!this.#stopping) {
      this.#loop.turn(earliest(engine.wakeAt(), this.#echoes.wakeAt(), this.#diversion.wakeAt()));
      if (this.#loop.has(0) && drain(this.#libc, this.#start.wakeFd)) {
        for (const message of waitingMessages(this.#start.port)) this.#take(message);
      }
      if (this.#loop.has(1)) this.#diversion.hostChanged();
      this.#settle();
    }
    this.#close();
  }

  /** Time, what waited for SAs, what is to be told, and the host's rules where policies changed. */
  #settle(): void {
    const { engine, control } = this.#assembly;
    const due = engine.wakeAt();
    if (due !== undefined && due <= this.#loop.now.mono) engine.tick(this.#instant());
    this.#loop.release();
    const effects = engine.drain();
    if (effects.length > 0) control.tell(effects, this.#instant());
    this.#diversion.follow(engine.core.spd, this.#loop.now.mono);
    if (this.#answers.length > 0) {
      for (const answer of this.#answers) this.#tell(answer);
      this.#answers = [];
    }
    if (this.#echoes.isWaiting) for (const answer of this.#echoes.expire(this.#loop.now.mono)) this.#pong(answer);
    for (let frame = this.#ike.next(); frame !== undefined; frame = this.#ike.next()) {
      this.#tell({ kind: 'encap', frames: frame });
    }
  }

  #take(message: ToWorker): void {
    switch (message.kind) {
      case 'pfkey':
        this.#assembly.control.handle(message.input, this.#instant());
        return;
      case 'encap':
        this.#sendEncap(message.frames);
        return;
      case 'ike-taken':
        this.#ike.taken(message.count);
        return;
      case 'ping':
        this.#ping(message.id, message.request);
        return;
      case 'status':
        this.#tell({ kind: 'status', id: message.id, status: this.#status() });
        return;
      case 'trace': {
        const { packet, direction } = message.request;
        this.#tell({ kind: 'traced', id: message.id, result: this.#assembly.engine.trace(packet, direction) });
        return;
      }
      case 'capture':
        this.#captureStep(message.id, message.request);
        return;
      case 'stop':
        this.#stopping = true;
    }
  }

  #sendEncap(frames: Uint8Array): void {
    for (const frame of this.#framer.put(frames)) {
      if (frame.kind === 'ike') this.#sender.datagram(frame.path, frame.bytes, true);
      else this.#sender.datagram(frame.path, KEEPALIVE, false);
    }
  }

  #ikeArrived(slot: number, at: number, length: number): void {
    const { inputs } = this.#assembly.engine;
    const remote = this.#loop.remoteOf(slot);
    const local = this.#loop.localOf(slot);
    if (remote === undefined || local === undefined) {
      this.#ikeDropped++;
      return;
    }
    const path: Path = { local: { address: local, port: inputs.localPort[slot]! }, remote, encapsulated: true };
    const frame = writeEncapFrame({ kind: 'ike', path, bytes: this.#memory.bytes.subarray(at, at + length) });
    if (!this.#ike.put(networkOf(remote.address.bytes), frame)) this.#ikeDropped++;
  }

  #ping(id: number, request: PingRequest): void {
    const { address, source, sequence, timeoutMs } = request;
    const destination = IpAddress.parse(address);
    if (destination === undefined)
      return this.#tell({ kind: 'refused', id, why: `ping: expected a numeric address, found "${address}"` });
    if (this.#echoes.isFull) return this.#tell({ kind: 'refused', id, why: 'ping: too many are under way; try again' });
    const from = source === '' ? this.#diversion.sourceFor(this.#assembly.engine.core.spd, destination) : IpAddress.parse(source);
    if (from === undefined || from.family !== destination.family) {
      const why = `ping: this host has no address that a policy to ${address} takes as its source: give --source`;
      return this.#tell({ kind: 'refused', id, why });
    }
    this.#loop.inject(this.#echoes.begin(id, from, destination, sequence, timeoutMs, this.#loop.now.mono));
  }

  #captureStep(id: number, request: CaptureRequest): void {
    try {
      this.#tell({ kind: 'captured', id, result: captureStep(this.#capture, request, this.#loop.now.mono) });
    } catch (error) {
      this.#tell({ kind: 'refused', id, why: (error as Error).message });
    }
  }

  #tookEcho(packet: Uint8Array): boolean {
    const answer = this.#echoes.take(packet, this.#loop.now.mono);
    if (answer !== undefined) this.#pong(answer);
    return answer !== undefined;
  }

  #pong({ id, result }: EchoAnswer): void {
    this.#tell({ kind: 'pong', id, result });
  }

  #status(): EngineStatus {
    const { control, snapshot } = this.#assembly;
    const { drops, ...rest } = snapshot();
    const counted = {
      ...drops,
      ...this.#loop.drops,
      ...this.#sender.drops,
      ...this.#diversion.drops(),
      ikeQueueFull: this.#ikeDropped,
    };
    return {
      ...rest,
      drops: Object.fromEntries(Object.entries(counted).filter(([, count]) => count > 0)),
      clients: control.clients,
      device: { kind: 'tun', name: this.#tun.name, mtu: this.#diversion.mtu, offloads: this.#offloads() },
    };
  }

  #offloads(): string[] {
    const { checksum, tcp, udp } = this.#tun.offloads;
    const sockets = [this.#sockets[4].udp, this.#sockets[6].udp];
    const named: readonly [string, boolean][] = [
      ['checksum', checksum],
      ['tcp-segmentation', tcp],
      ['udp-segmentation', udp],
      ['udp-send-segments', sockets.some((socket) => socket?.segments === true)],
      ['udp-receive-coalescing', sockets.some((socket) => socket?.coalesces === true)],
    ];
    return named.filter(([, on]) => on).map(([name]) => name);
  }

  #close(): void {
    this.#loop.close();
    this.#diversion.close();
    closeSockets(this.#libc, this.#sockets);
    close(this.#libc, this.#tun.fd);
  }

  /** Both clocks, in an object that may be kept. */
  #instant(): Instant {
    return { mono: this.#memory.boottime(), wall: Date.now() };
  }

  #tell(message: FromWorker): void {
    this.#start.port.postMessage(message);
  }
}

async function main(start: WorkerStart): Promise<void> {
  const problems: string[] = [];
  const tell = (message: FromWorker) => start.port.postMessage(message);
  let worker: PacketWorker;
  try {
    const { open: libc, why } = libcDoor();
    if (libc === undefined) throw new SystemError(why);
    const memory = await nativeMemory(libc, start.settings.datapath.cipher, ARENA_OCTETS, problems);
    worker = new PacketWorker(start, memory, problems);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    tell({ kind: 'failed', why: error.message });
    start.port.close();
    return;
  }
  tell({ kind: 'ready', problems });
  worker.run();
  tell({ kind: 'stopped' });
  start.port.close();
}

await main(workerData as WorkerStart);
