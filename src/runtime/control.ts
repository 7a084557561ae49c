/** control.sock: how `tanuki` and other programs speak to a daemon. Requests and answers as JSON lines, and a stream of events on demand. */

import { SystemError } from '../errors.ts';
import type { Event } from '../event.ts';
import { jsonLine, LineSplitter, readJsonLine } from './json-lines.ts';
import type { PeerCheck } from './peer-check.ts';
import { type Channel, type ChannelEvents, connect, listen } from './unix-socket.ts';

/** `{"id":1,"verb":"status"}`; further members are the verb's arguments. */
export interface ControlRequest {
  readonly id: number;
  readonly verb: string;
  readonly [argument: string]: unknown;
}

/** What a daemon does with a request: the result, or an Error whose message is for the person who asked. */
export type Answerer = (request: ControlRequest) => Promise<unknown>;

export interface ControlServer {
  /** Sends an event to every client that asked for the stream. */
  publish(event: Event): void;
  close(): Promise<void>;
}

/** A client that asks a second question before the first is answered is served; one with more than this many open is told so. */
const MOST_OPEN_REQUESTS = 64;

/** Serves `path`. The verb `events` is answered here: from then on the client also receives `{"event":{…}}` lines. */
export async function serveControl(path: string, answer: Answerer, admits?: PeerCheck): Promise<ControlServer> {
  const listeners = new Set<Channel>();
  const server = await listen(path, (channel) => client(channel, answer, listeners), admits);
  return {
    publish(event) {
      if (listeners.size === 0) return;
      const line = jsonLine({ event });
      for (const channel of listeners) channel.send(line);
    },
    close: () => server.close(),
  };
}

function client(channel: Channel, answer: Answerer, listeners: Set<Channel>): ChannelEvents {
  const lines = new LineSplitter(64 * 1024);
  let open = 0;

  async function serve(line: string): Promise<void> {
    const request = requestOf(readJsonLine(line));
    if (typeof request === 'string') return channel.send(jsonLine({ id: 0, ok: false, error: request }));
    const { id, verb } = request;
    if (verb === 'events') {
      listeners.add(channel);
      return channel.send(jsonLine({ id, ok: true, result: {} }));
    }
    if (open >= MOST_OPEN_REQUESTS)
      return channel.send(
        jsonLine({ id, ok: false, error: `more than ${MOST_OPEN_REQUESTS} requests are open; wait for answers` }),
      );
    open++;
    try {
      channel.send(jsonLine({ id, ok: true, result: (await answer(request)) ?? {} }));
    } catch (error) {
      channel.send(jsonLine({ id, ok: false, error: error instanceof Error ? error.message : String(error) }));
    } finally {
      open--;
    }
  }

  return {
    onData(bytes) {
      try {
        for (const line of lines.put(bytes)) if (line.trim() !== '') void serve(line);
      } catch (error) {
        channel.send(jsonLine({ id: 0, ok: false, error: (error as Error).message }));
        channel.close();
      }
    },
    onClose: () => listeners.delete(channel),
  };
}

function requestOf(value: unknown): ControlRequest | string {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return 'expected one JSON object a line, such as {"id":1,"verb":"status"}';
  const { id, verb } = value as Record<string, unknown>;
  if (typeof id !== 'number' || !Number.isSafeInteger(id)) return 'expected "id": a whole number that the answer repeats';
  if (typeof verb !== 'string') return 'expected "verb": the name of what to do, such as "status"';
  return value as ControlRequest;
}

export interface ControlClient {
  /** One request. Rejects with an Error whose message is the daemon's own sentence. */
  ask(verb: string, args?: Readonly<Record<string, unknown>>, timeoutMs?: number): Promise<unknown>;
  close(): void;
}

const ANSWER_LIMIT_MS = 30_000;

/** Connects to a daemon's control.sock; `onEvent` sees the event stream once `ask('events')` was answered. */
export async function controlClient(
  path: string,
  onEvent: (event: Event) => void = () => {},
  onClose: () => void = () => {},
): Promise<ControlClient> {
  const waiting = new Map<
    number,
    { resolve: (result: unknown) => void; reject: (error: Error) => void; timer: NodeJS.Timeout }
  >();
  const lines = new LineSplitter();
  let nextId = 1;
  const settle = (value: unknown) => {
    if (typeof value !== 'object' || value === null) return;
    const { id, ok, result, error, event } = value as {
      id?: number;
      ok?: boolean;
      result?: unknown;
      error?: string;
      event?: Event;
    };
    if (event !== undefined) return onEvent(event);
    const question = waiting.get(id ?? 0);
    if (question === undefined) return;
    waiting.delete(id!);
    clearTimeout(question.timer);
    if (ok === true) question.resolve(result);
    else question.reject(new Error(error ?? 'refused without a reason'));
  };
  const channel = await connect(path, (end) => ({
    onData(bytes) {
      try {
        for (const line of lines.put(bytes)) settle(readJsonLine(line));
      } catch {
        end.close(); // a line that never ends: this is no daemon of ours
      }
    },
    onClose(why) {
      for (const { reject, timer } of waiting.values()) {
        clearTimeout(timer);
        reject(new SystemError(`the daemon at ${path} closed the connection (${why})`));
      }
      waiting.clear();
      onClose();
    },
  }));
  return {
    ask: (verb, args = {}, timeoutMs = ANSWER_LIMIT_MS) =>
      new Promise((resolve, reject) => {
        const id = nextId++;
        const timer = setTimeout(() => {
          waiting.delete(id);
          reject(new SystemError(`the daemon at ${path} did not answer "${verb}" within ${timeoutMs / 1000} s`, 'ETIMEDOUT'));
        }, timeoutMs);
        waiting.set(id, { resolve, reject, timer });
        channel.send(jsonLine({ ...args, id, verb }));
      }),
    close: () => channel.close(),
  };
}
