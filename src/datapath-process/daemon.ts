/**
 * The datapath's shell: it plays the kernel. PF_KEY, encap.sock and control.sock around an engine host. What device and which ports it serves is
 * told by spmd (`configure`), the only reader of policy files; before that it holds nothing and PF_KEY is closed, so that clients wait.
 */

import { WireError } from '../errors.ts';
import type { Event } from '../event.ts';
import type { ControlRequest } from '../runtime/control.ts';
import { EncapFramer, writeEncapFrame } from '../runtime/encap-frame.ts';
import { NamedSocket } from '../runtime/named-socket.ts';
import { type Daemon, type DaemonOptions, type Shell, shell } from '../runtime/shell.ts';
import type { Channel, ChannelEvents } from '../runtime/unix-socket.ts';
import { readCapture, writeCaptured } from './capture-request.ts';
import type { EngineHost, HostEvents } from './engine-host.ts';
import { closedDoors, startEngineHost } from './hosts.ts';
import type { CaptureAnswer, DatapathSettings, DatapathStatus, PingResult, TraceResult } from './ports.ts';
import { readSettings } from './settings.ts';
import { readTrace } from './trace-request.ts';

/** Starts the datapath. Throws ConfigError where the run directory is of no use. */
export async function startDatapath(options: DaemonOptions): Promise<Daemon> {
  const daemon = new DatapathDaemon(options);
  await daemon.start();
  return daemon;
}

class DatapathDaemon implements Daemon {
  readonly #shell: Shell;
  readonly #clients = new Map<number, Channel>();
  #nextClient = 1;
  #host: EngineHost | undefined;
  #settings: DatapathSettings | undefined;
  #problems: string[] = [];
  #pfkey: { close(): Promise<void> } | undefined;
  /** `interface { pfkey … }`. */
  readonly #named: NamedSocket;
  #encapListener: { close(): Promise<void> } | undefined;
  /** iked's end of encap.sock; the newest connection wins. */
  #encap: Channel | undefined;
  #configuring: Promise<unknown> = Promise.resolve();

  constructor(options: DaemonOptions) {
    this.#shell = shell('datapath', options);
    this.#named = new NamedSocket(this.#shell.dir.pfkey, this.#shell.listenAlso, (channel) => this.#pfkeyConnected(channel));
  }

  async start(): Promise<void> {
    this.#encapListener = await this.#shell.doors.encap.listen((channel) => this.#encapConnected(channel));
    await this.#shell.serveControl((request) => this.#control(request));
  }

  async stop(): Promise<void> {
    await this.#configuring;
    await this.#named.follow(undefined);
    await this.#pfkey?.close();
    await this.#encapListener?.close();
    await this.#host?.stop();
    await this.#shell.close();
  }

  async #control(request: ControlRequest): Promise<unknown> {
    switch (request.verb) {
      case 'status':
        return this.#status();
      case 'configure': {
        const settings = readSettings(request.settings);
        const next = this.#configuring.then(() => this.#configure(settings));
        this.#configuring = next.catch(() => undefined);
        return next;
      }
      case 'ping':
        return this.#ping(request);
      case 'trace':
        return this.#trace(request);
      case 'capture':
        return this.#capture(request);
      default:
        throw new Error(`unknown verb "${request.verb}"; expected status, configure, ping, trace, capture or events`);
    }
  }

  async #status(): Promise<DatapathStatus> {
    const closed = closedDoors();
    const engine = await this.#host?.status();
    if (engine === undefined) {
      const device = { kind: 'none', name: '', mtu: 0, offloads: [] } as const;
      const problems = [
        ...this.#problems,
        ...(this.#settings === undefined ? ['the datapath waits for spmd to tell it its device and ports'] : []),
      ];
      return { device, cipher: 'none', closed, sas: [], policies: [], drops: {}, clients: 0, problems };
    }
    return { ...engine, closed, problems: this.#allProblems };
  }

  /** The same settings again change nothing; others replace the host, and every client connects anew and resynchronises. */
  async #configure(settings: DatapathSettings): Promise<{ changed: boolean; problems: readonly string[] }> {
    this.#shell.configureLog(settings.logging);
    if (this.#host !== undefined && sameHost(this.#settings, settings)) {
      const moved = `${this.#settings?.localAddresses}` !== `${settings.localAddresses}`;
      this.#settings = settings;
      for (const message of moved ? await this.#host.serveAt(settings.localAddresses) : [])
        this.#shell.report({ name: 'datapath-problem', severity: 'error', message });
      await this.#serveNamed(settings.pfkey);
      return { changed: false, problems: this.#allProblems };
    }
    await this.#named.follow(undefined);
    await this.#pfkey?.close();
    await this.#host?.stop();
    this.#host = undefined;
    this.#clients.clear();
    this.#problems = [];
    this.#settings = settings;
    this.#host = await startEngineHost(settings, this.#events(), this.#problems);
    for (const message of this.#problems) this.#shell.report({ name: 'datapath-problem', severity: 'error', message });
    this.#pfkey = await this.#shell.doors.pfkey.listen((channel) => this.#pfkeyConnected(channel));
    await this.#serveNamed(settings.pfkey);
    const { device, cipher } = await this.#host.status();
    const what = device.kind === 'none' ? 'no device, nothing is protected' : `${device.kind} device ${device.name} is up`;
    const message = `${what}; packets are sealed by ${cipher}`;
    this.#shell.report({ name: 'datapath-up', severity: 'notice', message, device: device.name, cipher });
    return { changed: true, problems: this.#allProblems };
  }

  async #serveNamed(path: string | undefined): Promise<void> {
    const problem = await this.#named.follow(path);
    if (problem === undefined) return;
    this.#shell.report({ name: 'socket-failed', severity: 'error', message: `interface { pfkey … }: ${problem}` });
  }

  get #allProblems(): readonly string[] {
    const { problem } = this.#named;
    return problem === undefined ? this.#problems : [...this.#problems, `interface { pfkey … }: ${problem}`];
  }

  #events(): HostEvents {
    return {
      onPfkey: (client, bytes) =>
        this.#clients.get(client)?.send(bytes, () => this.#host?.pfkey({ kind: 'sent', client, octets: bytes.length })),
      onPfkeyClose: (client) => {
        this.#clients.get(client)?.close();
        this.#clients.delete(client);
      },
      onIke: (path, bytes, taken) => {
        if (this.#encap === undefined) taken?.();
        else this.#encap.send(writeEncapFrame({ kind: 'ike', path, bytes }), taken);
      },
      report: (event: Event) => this.#shell.report(event),
    };
  }

  #pfkeyConnected(channel: Channel): ChannelEvents {
    const client = this.#nextClient++;
    const host = this.#host;
    this.#clients.set(client, channel);
    host?.pfkey({ kind: 'connect', client });
    return {
      onData: (bytes) => host?.pfkey({ kind: 'bytes', client, bytes }),
      onClose: () => {
        this.#clients.delete(client);
        if (host === this.#host) host?.pfkey({ kind: 'disconnect', client });
      },
    };
  }

  #encapConnected(channel: Channel): ChannelEvents {
    const framer = new EncapFramer();
    this.#encap?.close();
    this.#encap = channel;
    return {
      onData: (bytes) => {
        try {
          for (const frame of framer.put(bytes)) {
            if (frame.kind === 'ike') this.#host?.sendIke(frame.path, frame.bytes);
            else this.#host?.sendKeepalive(frame.path);
          }
        } catch (error) {
          if (!(error instanceof WireError)) throw error;
          this.#shell.report({ name: 'encap-broken', severity: 'warning', message: `encap.sock: ${error.message}` });
          channel.close();
        }
      },
      onClose: () => {
        if (this.#encap === channel) this.#encap = undefined;
      },
    };
  }

  async #trace(request: ControlRequest): Promise<TraceResult> {
    const asked = readTrace(request);
    if (this.#host === undefined) throw new Error('the datapath has no device yet; see: tanuki status');
    return this.#host.trace(asked);
  }

  async #capture(request: ControlRequest): Promise<CaptureAnswer> {
    const asked = readCapture(request);
    if (this.#host === undefined) throw new Error('the datapath has no device yet; see: tanuki status');
    return writeCaptured(await this.#host.capture(asked));
  }

  async #ping({ address, source, sequence, timeoutMs }: ControlRequest): Promise<PingResult> {
    if (typeof address !== 'string') throw new Error('ping: expected "address": a numeric address');
    if (this.#host === undefined) throw new Error('the datapath has no device yet; see: tanuki status');
    return this.#host.ping({
      address,
      source: typeof source === 'string' ? source : '',
      sequence: typeof sequence === 'number' ? sequence : 1,
      timeoutMs: typeof timeoutMs === 'number' && timeoutMs > 0 ? Math.min(timeoutMs, 60_000) : 5_000,
    });
  }
}

/** Logging, limits and the host's addresses may change under a running host: a node that moves keeps its SAs. */
function sameHost(a: DatapathSettings | undefined, b: DatapathSettings): boolean {
  const essence = ({ datapath, keyPorts, unmatched }: DatapathSettings) => JSON.stringify([datapath, keyPorts, unmatched]);
  return a !== undefined && essence(a) === essence(b);
}
