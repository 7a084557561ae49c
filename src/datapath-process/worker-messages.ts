/** What the main thread and the packet worker tell each other: plain data that a structured clone carries. Paths travel as frames of encap.sock. */

import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Event } from '../event.ts';
import type { PfkeyServerInput } from '../pfkey/server.ts';
import type { CaptureRequest, CaptureResult } from './capture.ts';
import type { EngineStatus, PingRequest, TraceRequest } from './engine-host.ts';
import type { DatapathSettings, PingResult, TraceResult } from './ports.ts';

/** What a worker is started with. */
export interface WorkerStart {
  readonly settings: DatapathSettings;
  /** The eventfd that is kicked after each message. */
  readonly wakeFd: number;
  readonly port: MessagePort;
}

export type ToWorker =
  | { readonly kind: 'pfkey'; readonly input: Exclude<PfkeyServerInput, { kind: 'notify' }> }
  /** IKE and keepalives to send: one or more frames of encap.sock. */
  | { readonly kind: 'encap'; readonly frames: Uint8Array }
  /** So many IKE messages have been taken over. */
  | { readonly kind: 'ike-taken'; readonly count: number }
  | { readonly kind: 'ping'; readonly id: number; readonly request: PingRequest }
  | { readonly kind: 'status'; readonly id: number }
  | { readonly kind: 'trace'; readonly id: number; readonly request: TraceRequest }
  | { readonly kind: 'capture'; readonly id: number; readonly request: CaptureRequest }
  | { readonly kind: 'stop' };

export type FromWorker =
  | { readonly kind: 'ready'; readonly problems: readonly string[] }
  /** There is no device; the worker has ended. */
  | { readonly kind: 'failed'; readonly why: string }
  | { readonly kind: 'pfkey'; readonly client: number; readonly bytes: Uint8Array }
  | { readonly kind: 'pfkey-close'; readonly client: number }
  | { readonly kind: 'encap'; readonly frames: Uint8Array }
  | { readonly kind: 'event'; readonly event: Event }
  | { readonly kind: 'pong'; readonly id: number; readonly result: PingResult }
  /** The request of that number cannot be carried out. */
  | { readonly kind: 'refused'; readonly id: number; readonly why: string }
  | { readonly kind: 'status'; readonly id: number; readonly status: EngineStatus }
  | { readonly kind: 'traced'; readonly id: number; readonly result: TraceResult }
  | { readonly kind: 'captured'; readonly id: number; readonly result: CaptureResult }
  | { readonly kind: 'stopped' };

/** What has come for a worker that does not return to its event loop; call it after a kick. */
export function* waitingMessages(port: MessagePort): Generator<ToWorker> {
  for (;;) {
    const received = receiveMessageOnPort(port) as { message: ToWorker } | undefined;
    if (received === undefined) return;
    yield received.message;
  }
}
