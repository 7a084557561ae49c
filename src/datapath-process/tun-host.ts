/** The main thread's end of a worker, that of packets on a TUN device or that of `backend xfrm`: messages and kicks one way, messages the other. Never blocks. */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { SystemError } from '../errors.ts';
import type { Path } from '../net/address.ts';
import type { PfkeyServerInput } from '../pfkey/server.ts';
import { EncapFramer, writeEncapFrame } from '../runtime/encap-frame.ts';
import { close, createEventFd, kick, type Libc, libcDoor } from '../runtime/native/index.ts';
import type { CaptureRequest, CaptureResult } from './capture.ts';
import type { EngineHost, EngineStatus, HostEvents, PingRequest, TraceRequest } from './engine-host.ts';
import type { DatapathSettings, PingResult, TraceResult } from './ports.ts';
import type { FromWorker, ToWorker, WorkerStart } from './worker-messages.ts';

/** Compiled: a worker cannot be TypeScript on Node 20. */
const WORKERS = {
  embedded: new URL('./packet-worker.js', import.meta.url),
  xfrm: new URL('../datapath-xfrm/worker.js', import.meta.url),
} as const;
const NO_BYTES = new Uint8Array(0);

/** Starts the worker of the backend. Throws SystemError where there can be no device, or no ESP in the kernel; the rest that is missing is told in `problems`. */
export async function startWorkerHost(settings: DatapathSettings, events: HostEvents, problems: string[]): Promise<EngineHost> {
  const { open: libc, why } = libcDoor();
  if (libc === undefined) throw new SystemError(why);
  const worker = WORKERS[settings.datapath.backend];
  if (!existsSync(fileURLToPath(worker))) throw new SystemError(`there is no ${fileURLToPath(worker)}; run: npm run build`);
  const host = new WorkerHost(libc, settings, events, worker);
  problems.push(...(await host.ready));
  return host;
}

class WorkerHost implements EngineHost {
  /** What is wrong, once the worker runs. */
  readonly ready: Promise<readonly string[]>;
  readonly #libc: Libc;
  readonly #events: HostEvents;
  readonly #wakeFd: number;
  readonly #port: MessageChannel['port1'];
  readonly #framer = new EncapFramer();
  /** What was asked of the worker, by number. */
  readonly #questions = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
  readonly #exited: Promise<void>;
  #nextId = 1;
  #state: 'starting' | 'running' | 'stopping' | 'ended' = 'starting';

  constructor(libc: Libc, settings: DatapathSettings, events: HostEvents, code: URL) {
    this.#libc = libc;
    this.#events = events;
    this.#wakeFd = createEventFd(libc);
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const start: WorkerStart = { settings, wakeFd: this.#wakeFd, port: port2 };
    const worker = new Worker(code, { workerData: start, transferList: [port2] });
    this.ready = new Promise((resolve, reject) => {
      const take = (message: FromWorker) => {
        if (message.kind === 'ready') {
          this.#state = 'running';
          resolve(message.problems);
        } else if (message.kind === 'failed') reject(new SystemError(message.why));
        else this.#take(message);
      };
      port1.on('message', take);
      worker.once('exit', () => {
        // What it said last may still be under way.
        for (let last = receiveMessageOnPort(port1); last !== undefined; last = receiveMessageOnPort(port1)) take(last.message);
        reject(new SystemError('the worker ended before it was ready'));
      });
      worker.once('error', (error) => {
        if (this.#state === 'starting') reject(error);
        else this.#failed(error);
      });
    });
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => {
        const broke = this.#state === 'running';
        this.#state = 'ended';
        this.#port.close();
        close(libc, this.#wakeFd);
        this.#abandon('the datapath is going down');
        resolve();
        if (broke) this.#failed(new Error('the packet worker has ended by itself'));
      });
    });
  }

  pfkey(input: Exclude<PfkeyServerInput, { kind: 'notify' }>): void {
    this.#tell({ kind: 'pfkey', input });
  }

  sendIke(path: Path, bytes: Uint8Array): void {
    this.#tell({ kind: 'encap', frames: writeEncapFrame({ kind: 'ike', path, bytes }) });
  }

  sendKeepalive(path: Path): void {
    this.#tell({ kind: 'encap', frames: writeEncapFrame({ kind: 'keepalive', path }) });
  }

  ping(request: PingRequest): Promise<PingResult> {
    return this.#ask((id) => ({ kind: 'ping', id, request }));
  }

  status(): Promise<EngineStatus> {
    return this.#ask((id) => ({ kind: 'status', id }));
  }

  trace(request: TraceRequest): Promise<TraceResult> {
    return this.#ask((id) => ({ kind: 'trace', id, request }));
  }

  capture(request: CaptureRequest): Promise<CaptureResult> {
    return this.#ask((id) => ({ kind: 'capture', id, request }));
  }

  /** The worker's sockets are bound to no address. */
  async serveAt(): Promise<readonly string[]> {
    return [];
  }

  async stop(): Promise<void> {
    if (this.#state === 'running') {
      this.#tell({ kind: 'stop' });
      this.#state = 'stopping';
    }
    await this.#exited;
  }

  #tell(message: ToWorker): void {
    if (this.#state !== 'running') {
      this.#abandon('the datapath is going down');
      return;
    }
    this.#port.postMessage(message);
    kick(this.#libc, this.#wakeFd);
  }

  #take(message: Exclude<FromWorker, { kind: 'ready' | 'failed' }>): void {
    switch (message.kind) {
      case 'pfkey':
        this.#events.onPfkey(message.client, message.bytes);
        return;
      case 'pfkey-close':
        this.#events.onPfkeyClose(message.client);
        return;
      case 'encap':
        for (const { path, ...frame } of this.#framer.put(message.frames)) {
          const bytes = frame.kind === 'ike' ? frame.bytes : NO_BYTES;
          this.#events.onIke(path, bytes, () => this.#tell({ kind: 'ike-taken', count: 1 }));
        }
        return;
      case 'event':
        this.#events.report(message.event);
        return;
      case 'pong':
      case 'traced':
      case 'captured':
        this.#answered(message.id, message.result);
        return;
      case 'status':
        this.#answered(message.id, message.status);
        return;
      case 'refused':
        this.#questions.get(message.id)?.reject(new Error(message.why));
        this.#questions.delete(message.id);
        return;
      case 'stopped':
    }
  }

  #ask<Answer>(question: (id: number) => ToWorker): Promise<Answer> {
    return new Promise<Answer>((resolve, reject) => {
      const id = this.#nextId++;
      this.#questions.set(id, { resolve, reject });
      this.#tell(question(id));
    });
  }

  /** The kind of the answer is that of the question with its number. */
  #answered(id: number, answer: unknown): void {
    this.#questions.get(id)?.resolve(answer as never);
    this.#questions.delete(id);
  }

  #abandon(why: string): void {
    for (const { reject } of this.#questions.values()) reject(new Error(why));
    this.#questions.clear();
  }

  /** Packets are not protected any more: the process ends, and is started anew by who supervises it. */
  #failed(error: Error): void {
    this.#events.report({
      name: 'packet-worker-failed',
      severity: 'error',
      message: `the packet worker failed: ${error.message}`,
    });
    queueMicrotask(() => {
      throw error;
    });
  }
}
