/** The client's end of spmif, as a value: commands in, lines out; replies are matched in order, notifications handed on as they come. */

import { WireError } from '../errors.ts';
import {
  CODE,
  Lines,
  LONGEST_LINE,
  line,
  loginDigest,
  type Notification,
  type Reply,
  readNotification,
  readReplyLine,
} from './protocol.ts';

/** What came of some bytes. */
export type ClientOutput =
  | { readonly kind: 'send'; readonly bytes: Uint8Array }
  /** Logged in where a password is needed: commands may go. */
  | { readonly kind: 'ready' }
  | { readonly kind: 'reply'; readonly tag: number; readonly reply: Reply }
  | { readonly kind: 'notification'; readonly notification: Notification }
  /** The other end is no spmd, or refused the password: close the connection. */
  | { readonly kind: 'broken'; readonly why: string };

const LOGIN = -1;

/** One connection. A new one needs a new object. */
export class SpmifClient {
  readonly #password: Uint8Array | undefined;
  readonly #lines = new Lines(LONGEST_LINE);
  readonly #waiting: number[] = [];
  #gathered: string[] = [];
  #greeted = false;

  /** `password`: the content of the `spmd_password` file, where one is used. */
  constructor(password?: Uint8Array) {
    this.#password = password;
  }

  /** A command; its reply will carry `tag`, a number that is not negative. */
  command(tag: number, text: string): ClientOutput {
    this.#waiting.push(tag);
    return { kind: 'send', bytes: line(text) };
  }

  put(chunk: Uint8Array): ClientOutput[] {
    const outputs: ClientOutput[] = [];
    try {
      for (const text of this.#lines.put(chunk)) this.#take(text, outputs);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      outputs.push({ kind: 'broken', why: error.message });
    }
    return outputs;
  }

  #take(text: string, outputs: ClientOutput[]): void {
    const reply = readReplyLine(text);
    if (reply.code >= 300 && reply.code < 400) {
      outputs.push({ kind: 'notification', notification: readNotification(reply) });
      return;
    }
    if (!this.#greeted) {
      if (reply.code !== CODE.banner) throw new WireError(`expected spmd's banner (220), found "${text.slice(0, 40)}"`);
      this.#greeted = true;
      if (this.#password === undefined) outputs.push({ kind: 'ready' });
      else outputs.push(this.command(LOGIN, `LOGIN ${loginDigest(reply.text, this.#password)}`));
      return;
    }
    this.#gathered.push(reply.text);
    if (reply.more) return;
    const lines = this.#gathered;
    this.#gathered = [];
    const tag = this.#waiting.shift();
    if (tag === undefined) throw new WireError(`a reply that nothing was asked for: "${text.slice(0, 40)}"`);
    if (tag !== LOGIN) outputs.push({ kind: 'reply', tag, reply: { code: reply.code, lines } });
    else if (reply.code === CODE.done) outputs.push({ kind: 'ready' });
    else throw new WireError(`spmd refused the password: ${reply.text}; spmd_password must name the same file for both`);
  }
}
