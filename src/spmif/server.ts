/** spmd's end of spmif, as a value: bytes of many clients in, requests and lines out. Replies leave in the order of their commands. */

import { equal, hex, utf8 } from '../bytes/bytes.ts';
import type { Config } from '../config/config.ts';
import { WireError } from '../errors.ts';
import type { RandomBytes } from '../machine.ts';
import { CODE, Lines, LONGEST_COMMAND, line, loginDigest, prepareLine, replyLine } from './protocol.ts';
import { type Request, readRequest } from './request.ts';

export type ServerOutput =
  | { readonly kind: 'send'; readonly client: number; readonly bytes: Uint8Array }
  | { readonly kind: 'close'; readonly client: number; readonly why: string }
  /** To be answered with `reply(client, ticket, …)`, at once or later. */
  | {
      readonly kind: 'request';
      readonly client: number;
      readonly ticket: number;
      readonly request: Exclude<Request, { verb: 'login' | 'quit' }>;
    };

/** Commands of one client that may wait for their replies. */
const MOST_OPEN = 256;

interface Client {
  readonly lines: Lines;
  readonly challenge: string;
  loggedIn: boolean;
  attempted: boolean;
  /** Tickets in order; the text of each reply once it is there. */
  readonly open: { readonly ticket: number; reply: Uint8Array[] | undefined }[];
}

export class SpmifServer {
  readonly #random: RandomBytes;
  readonly #clients = new Map<number, Client>();
  #password: Uint8Array | undefined;
  #nextTicket = 1;

  /** `password`: the content of the `spmd_password` file, where one is used. */
  constructor(random: RandomBytes, password?: Uint8Array) {
    this.#random = random;
    this.#password = password;
  }

  /** For connections from now on. */
  setPassword(password: Uint8Array | undefined): void {
    this.#password = password;
  }

  /** `trusted`: no LOGIN is needed, since only this user and root can have connected. */
  connected(client: number, trusted = false): ServerOutput[] {
    const challenge = hex(this.#random(20)).toUpperCase();
    this.#clients.set(client, {
      lines: new Lines(LONGEST_COMMAND),
      challenge,
      loggedIn: trusted || this.#password === undefined,
      attempted: false,
      open: [],
    });
    return [{ kind: 'send', client, bytes: replyLine(CODE.banner, challenge) }];
  }

  disconnected(client: number): void {
    this.#clients.delete(client);
  }

  received(client: number, chunk: Uint8Array): ServerOutput[] {
    const state = this.#clients.get(client);
    if (state === undefined) return [];
    const outputs: ServerOutput[] = [];
    try {
      for (const text of state.lines.put(chunk)) if (text.trim() !== '') outputs.push(...this.#command(client, state, text));
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      outputs.push(
        { kind: 'send', client, bytes: replyLine(CODE.syntax, error.message) },
        { kind: 'close', client, why: error.message },
      );
    }
    return outputs;
  }

  /** The reply to a request; several lines make one reply. Nothing where the client has gone. */
  reply(client: number, ticket: number, code: number, ...lines: readonly string[]): ServerOutput[] {
    const state = this.#clients.get(client);
    const slot = state?.open.find((entry) => entry.ticket === ticket);
    if (state === undefined || slot === undefined) return [];
    slot.reply = lines.map((text, i) => replyLine(code, text, i < lines.length - 1));
    const outputs: ServerOutput[] = [];
    while (state.open[0]?.reply !== undefined)
      for (const bytes of state.open.shift()!.reply!) outputs.push({ kind: 'send', client, bytes });
    return outputs;
  }

  prepare(client: number, generation: number, config: Config): ServerOutput[] {
    return this.#clients.has(client) ? [{ kind: 'send', client, bytes: prepareLine(generation, config) }] : [];
  }

  commit(client: number, generation: number): ServerOutput[] {
    return this.#notify(client, `${CODE.commit} COMMIT ${generation}`);
  }

  abort(client: number, generation: number): ServerOutput[] {
    return this.#notify(client, `${CODE.abort} ABORT ${generation}`);
  }

  #notify(client: number, text: string): ServerOutput[] {
    return this.#clients.has(client) ? [{ kind: 'send', client, bytes: line(text) }] : [];
  }

  #command(client: number, state: Client, text: string): ServerOutput[] {
    const ticket = this.#nextTicket++;
    if (state.open.length >= MOST_OPEN) {
      return [{ kind: 'close', client, why: `more than ${MOST_OPEN} commands wait for their replies` }];
    }
    state.open.push({ ticket, reply: undefined });
    const request = readRequest(text);
    if ('code' in request) return this.reply(client, ticket, request.code, request.text);
    if (request.verb === 'quit')
      return [...this.reply(client, ticket, CODE.done, 'BYE'), { kind: 'close', client, why: 'it said QUIT' }];
    if (request.verb === 'login') return this.#login(client, state, ticket, request.digest);
    if (!state.loggedIn) return this.reply(client, ticket, CODE.failed, 'need login');
    return [{ kind: 'request', client, ticket, request }];
  }

  /** The challenge is good for one attempt. */
  #login(client: number, state: Client, ticket: number, digest: string): ServerOutput[] {
    if (this.#password === undefined) return this.reply(client, ticket, CODE.done, 'OK');
    const right = !state.attempted && equal(utf8(digest.toUpperCase()), utf8(loginDigest(state.challenge, this.#password)));
    state.attempted = true;
    if (!right) return this.reply(client, ticket, CODE.failed, 'wrong password; spmd_password must name the same file for both');
    state.loggedIn = true;
    return this.reply(client, ticket, CODE.done, 'OK');
  }
}
