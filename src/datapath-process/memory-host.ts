/**
 * The engine without privilege: a memory device, which answers echo requests to its addresses, and ordinary UDP sockets for ESP and IKE on
 * the encapsulation port (RFC 3948). For the quick start, tests and embedders; it makes objects per packet, which the packet worker does not.
 */

import type { PacketEngine } from '../datapath/datapath.ts';
import { INPUT, OUTPUT } from '../datapath/slots.ts';
import { SystemError } from '../errors.ts';
import type { Instant } from '../machine.ts';
import { type Endpoint, IpAddress, type Path, sameEndpoint, showEndpoint } from '../net/address.ts';
import type { PfkeyServerInput } from '../pfkey/server.ts';
import { bindUdp, type UdpSocket } from '../runtime/udp.ts';
import { type Capture, type CaptureRequest, type CaptureResult, captureStep } from './capture.ts';
import type { ControlPlane } from './control-plane.ts';
import { echoReplyTo } from './echo.ts';
import {
  type EngineHost,
  type EngineStatus,
  type HostEvents,
  KEEPALIVE_OCTET,
  NON_ESP_MARKER,
  type PingRequest,
  type TraceRequest,
} from './engine-host.ts';
import { Pinger } from './pinger.ts';
import type { DatapathSettings, PingResult, TraceResult } from './ports.ts';

export interface MemoryHostOptions {
  readonly settings: DatapathSettings;
  readonly engine: PacketEngine;
  readonly arena: Uint8Array;
  /** In front of the engine. */
  readonly capture: Capture;
  readonly control: ControlPlane;
  readonly snapshot: () => Omit<EngineStatus, 'device' | 'clients'>;
  readonly trace: (packet: Uint8Array, direction: TraceRequest['direction']) => TraceResult;
  readonly now: () => Instant;
  readonly events: HostEvents;
  /** The one that the pings of this run begin with. */
  readonly identifier: number;
  /** `none` where a TUN was asked for and cannot be had: keys are negotiated, and nothing is protected. */
  readonly kind: 'memory' | 'none';
}

/** Slots of the engine that this host needs: one packet is under way at a time. */
export const MEMORY_SLOTS = 2;
/** Local ends that may be opened at the same time, and datagrams that wait for one. */
const MOST_OPENING = 16;
const MOST_WAITING = 16;
const OPEN_AGAIN_MS = 1000;
/** What the device tells of itself; nothing is cut to it. */
const DEVICE_MTU = 1400;

/** Opens the sockets. What cannot be opened is told in `problems` and does not stop the rest. */
export async function startMemoryHost(options: MemoryHostOptions, problems: string[]): Promise<EngineHost> {
  const host = new MemoryHost(options);
  await host.open(problems);
  return host;
}

class MemoryHost implements EngineHost {
  readonly #options: MemoryHostOptions;
  readonly #addresses: readonly IpAddress[];
  readonly #pinger: Pinger;
  #sockets: UdpSocket[] = [];
  /** Local ends that are being opened because something leaves from there, and what waits for them. */
  readonly #opening = new Map<string, { readonly datagram: Uint8Array; readonly remote: Endpoint }[]>();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: MemoryHostOptions) {
    this.#options = options;
    const { addresses } = options.settings.datapath;
    this.#addresses = options.kind === 'none' ? [] : addresses.flatMap((text) => IpAddress.parse(text) ?? []);
    this.#pinger = new Pinger(() => performance.now(), options.identifier);
  }

  async open(problems: string[]): Promise<void> {
    problems.push(...(await this.serveAt(this.#options.settings.localAddresses)));
  }

  async serveAt(texts: readonly string[]): Promise<readonly string[]> {
    const problems: string[] = [];
    const addresses = texts.flatMap((text) => IpAddress.parse(text) ?? []);
    const isWanted = ({ local }: UdpSocket) => addresses.some((address) => address.equals(local.address));
    const gone = this.#sockets.filter((socket) => !isWanted(socket));
    this.#sockets = this.#sockets.filter(isWanted);
    await Promise.all(gone.map((socket) => socket.close()));
    for (const address of addresses) {
      if (this.#sockets.some(({ local }) => local.address.equals(address))) continue;
      try {
        this.#sockets.push(await this.#bind({ address, port: this.#options.settings.datapath.encapPort }));
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        problems.push(error.message);
      }
    }
    return problems;
  }

  #bind(local: Endpoint): Promise<UdpSocket> {
    const { report } = this.#options.events;
    return bindUdp(local, {
      onDatagram: (bytes, remote, bound) => this.#received(bytes, { local: bound, remote, encapsulated: true }),
      onError: (error) => report({ name: 'send-failed', severity: 'warning', message: error.message }),
    });
  }

  pfkey(input: Exclude<PfkeyServerInput, { kind: 'notify' }>): void {
    this.#options.control.handle(input, this.#options.now());
    this.#settle();
  }

  sendIke(path: Path, bytes: Uint8Array): void {
    const datagram = new Uint8Array(NON_ESP_MARKER + bytes.length);
    datagram.set(bytes, NON_ESP_MARKER);
    this.#send(path, datagram);
  }

  sendKeepalive(path: Path): void {
    this.#send(path, Uint8Array.of(KEEPALIVE_OCTET));
  }

  async ping({ address, source, sequence, timeoutMs }: PingRequest): Promise<PingResult> {
    const destination = IpAddress.parse(address);
    if (destination === undefined) throw new Error(`ping: expected a numeric address, found "${address}"`);
    const from = source === '' ? this.#addresses.find(({ family }) => family === destination.family) : IpAddress.parse(source);
    if (from === undefined || from.family !== destination.family) {
      throw new Error(
        `ping: no source address for ${address}: write one in interface { datapath { addresses … } } or give --source`,
      );
    }
    return this.#pinger.ping(from, destination, sequence, timeoutMs, (packet) => this.#fromDevice(packet));
  }

  async status(): Promise<EngineStatus> {
    const { control, snapshot, settings, kind } = this.#options;
    return {
      ...snapshot(),
      clients: control.clients,
      device:
        kind === 'none'
          ? { kind, name: '', mtu: 0, offloads: [] }
          : { kind, name: settings.datapath.name, mtu: DEVICE_MTU, offloads: [] },
    };
  }

  async trace({ packet, direction }: TraceRequest): Promise<TraceResult> {
    return this.#options.trace(packet, direction);
  }

  async capture(request: CaptureRequest): Promise<CaptureResult> {
    return captureStep(this.#options.capture, request, this.#options.now().mono);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#pinger.stop();
    await Promise.all(this.#sockets.map((socket) => socket.close()));
  }

  /** One datagram on the encapsulation port: a keepalive, IKE behind its marker, or ESP (RFC 3948 §2). */
  #received(bytes: Uint8Array, path: Path): void {
    if (bytes.length === 1 && bytes[0] === KEEPALIVE_OCTET) return;
    if (bytes.length > NON_ESP_MARKER && bytes.subarray(0, NON_ESP_MARKER).every((octet) => octet === 0)) {
      this.#options.events.onIke(path, bytes.slice(NON_ESP_MARKER));
      return;
    }
    const { engine, arena, now } = this.#options;
    const slots = engine.inputs;
    arena.set(bytes, slots.buffer[0]!);
    slots.takePacket(0, INPUT.udp, bytes.length);
    // The addresses go where the second slot's packet would: it is not in use.
    const scratch = slots.buffer[1]!;
    arena.set(path.remote.address.bytes, scratch);
    slots.setRemote(0, path.remote.address.family, scratch, path.remote.port);
    arena.set(path.local.address.bytes, scratch + 16);
    slots.setLocal(0, path.local.address.family, scratch + 16, path.local.port);
    slots.trafficClass[0] = 0;
    engine.unprotectBatch(0, 1, now());
    this.#carryOut();
    this.#settle();
  }

  /** One packet from the device's side. */
  #fromDevice(packet: Uint8Array): void {
    const { engine, arena, now } = this.#options;
    arena.set(packet, engine.inputs.buffer[0]!);
    engine.inputs.takePacket(0, INPUT.frame, packet.length);
    engine.protectBatch(0, 1, now());
    this.#carryOut();
    this.#settle();
  }

  /** Sends and delivers what the last batch gave. */
  #carryOut(): void {
    const { engine, arena } = this.#options;
    const { outputs } = engine;
    const toDevice: Uint8Array[] = [];
    for (let i = 0; i < outputs.count; i++) {
      if (outputs.kind[i] === OUTPUT.esp) this.#sendEsp(i);
      else if (outputs.kind[i] === OUTPUT.device) toDevice.push(this.#piecesOf(i));
      else toDevice.push(arena.slice(outputs.offset[i]!, outputs.offset[i]! + outputs.length[i]!)); // bypassed: the only network there is is this device's
    }
    for (const packet of toDevice) this.#toDevice(packet);
  }

  #sendEsp(output: number): void {
    const { engine, arena } = this.#options;
    const { offset, length, segmentBytes } = engine.outputs;
    const path = engine.path(engine.outputs.path[output]!);
    if (path === undefined || !path.encapsulated) return; // raw ESP needs a privilege; iked forces UDP here
    const end = offset[output]! + length[output]!;
    const step = segmentBytes[output]! > 0 ? segmentBytes[output]! : length[output]!;
    for (let at = offset[output]!; at < end; at += step) this.#send(path, arena.slice(at, Math.min(at + step, end)));
  }

  #send(path: Path, datagram: Uint8Array): void {
    const socket =
      this.#sockets.find(({ local }) => sameEndpoint(local, path.local)) ??
      this.#sockets.find(({ local }) => local.address.equals(path.local.address));
    if (socket !== undefined) socket.send(datagram, path.remote);
    else if (!path.local.address.isUnspecified) this.#openFor(path, datagram);
  }

  /** An SA has moved to an address that nothing was sent from yet. */
  #openFor({ local, remote }: Path, datagram: Uint8Array): void {
    const name = showEndpoint(local);
    const waiting = this.#opening.get(name) ?? [];
    if (waiting.length < MOST_WAITING) waiting.push({ datagram, remote });
    if (this.#opening.has(name) || this.#opening.size >= MOST_OPENING) return;
    this.#opening.set(name, waiting);
    this.#bind(local).then(
      (socket) => {
        if (this.#stopped) return void socket.close();
        this.#opening.delete(name);
        this.#sockets.push(socket);
        for (const each of waiting) socket.send(each.datagram, each.remote);
      },
      (error: Error) => {
        // It stays among those that are being opened for a while: not every packet tries again.
        this.#options.events.report({ name: 'send-failed', severity: 'warning', message: error.message });
        setTimeout(() => this.#opening.delete(name), OPEN_AGAIN_MS).unref();
      },
    );
  }

  #piecesOf(output: number): Uint8Array {
    const { engine, arena } = this.#options;
    const { firstPiece, pieces, pieceOffset, pieceLength, length } = engine.outputs;
    const packet = new Uint8Array(length[output]!);
    let at = 0;
    for (let piece = firstPiece[output]!; piece < firstPiece[output]! + pieces[output]!; piece++) {
      packet.set(arena.subarray(pieceOffset[piece]!, pieceOffset[piece]! + pieceLength[piece]!), at);
      at += pieceLength[piece]!;
    }
    return packet;
  }

  #toDevice(packet: Uint8Array): void {
    if (this.#pinger.isWaiting && this.#pinger.take(packet)) return;
    const reply = echoReplyTo(packet, this.#addresses);
    if (reply !== undefined) this.#fromDevice(reply);
  }

  /** Lets go what waited for an SA, tells what is to be told, and arms the one timer. */
  #settle(): void {
    if (this.#stopped) return;
    const { engine, control, now } = this.#options;
    while (engine.hasReleasable) {
      engine.releaseHeld(now());
      this.#carryOut();
    }
    control.tell(engine.drain(), now());
    clearTimeout(this.#timer);
    const at = engine.wakeAt();
    if (at === undefined) return;
    this.#timer = setTimeout(() => this.#tick(), Math.max(0, Math.min(at - now().mono, 2 ** 31 - 1)));
  }

  #tick(): void {
    this.#options.engine.tick(this.#options.now());
    this.#settle();
  }
}
