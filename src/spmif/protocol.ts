/**
 * spmif, the interface of the key daemons to spmd: racoon2's text protocol (lines ended by CRLF, three-digit replies), pipelined, with the
 * CONFIG commands by which spmd feeds a daemon its compiled configuration generation by generation.
 */

import { hex, utf8 } from '../bytes/bytes.ts';
import type { Config } from '../config/config.ts';
import { digest } from '../crypto/hash.ts';
import { WireError } from '../errors.ts';

/** Reply codes. 3xx lines are not replies: spmd sends them unasked to a daemon that subscribed. */
export const CODE = {
  banner: 220,
  done: 250,
  empty: 251,
  prepare: 351,
  commit: 352,
  abort: 353,
  syntax: 500,
  notCached: 501,
  unknownCommand: 502,
  failed: 550,
  noSuch: 551,
} as const;

/** Longest line of a client. A PREPARE line of spmd holds a whole configuration. */
export const LONGEST_COMMAND = 64 * 1024;
export const LONGEST_LINE = 64 * 1024 * 1024;

/** One line of a reply; `more` says that it is not the last of its reply. */
export interface ReplyLine {
  readonly code: number;
  readonly more: boolean;
  readonly text: string;
}

/** A complete reply: its code and the text of each line. */
export interface Reply {
  readonly code: number;
  readonly lines: readonly string[];
}

/** What spmd says unasked. */
export type Notification =
  | { readonly kind: 'prepare'; readonly generation: number; readonly config: Config }
  | { readonly kind: 'commit'; readonly generation: number }
  | { readonly kind: 'abort'; readonly generation: number };

/** Cuts a stream into lines without their CRLF (a bare LF is taken too). Throws WireError where a line never ends. */
export class Lines {
  readonly #longest: number;
  readonly #decoder = new TextDecoder();
  #parts: string[] = [];
  #length = 0;

  constructor(longest: number) {
    this.#longest = longest;
  }

  put(chunk: Uint8Array): string[] {
    const pieces = this.#decoder.decode(chunk, { stream: true }).split('\n');
    const lines: string[] = [];
    for (let i = 0; i < pieces.length; i++) {
      this.#parts.push(pieces[i]!);
      this.#length += pieces[i]!.length;
      if (this.#length > this.#longest)
        throw new WireError(`expected a line of at most ${this.#longest} characters, found a longer one`);
      if (i === pieces.length - 1) break;
      const line = this.#parts.join('');
      lines.push(line.endsWith('\r') ? line.slice(0, -1) : line);
      this.#parts = [];
      this.#length = 0;
    }
    return lines;
  }
}

/** One line on the wire. Line ends within the text would forge further lines: they become blanks. */
export function line(text: string): Uint8Array {
  return utf8(`${text.replace(/[\r\n]+/g, ' ')}\r\n`);
}

export function replyLine(code: number, text: string, more = false): Uint8Array {
  return line(`${code}${more ? '-' : ' '}${text}`);
}

/** Throws WireError where the line is no reply. */
export function readReplyLine(text: string): ReplyLine {
  const match = /^(\d{3})([ -])(.*)$/s.exec(text);
  if (match === null) throw new WireError(`expected three digits, a blank or "-" and text, found "${text.slice(0, 40)}"`);
  return { code: Number(match[1]), more: match[2] === '-', text: match[3]! };
}

export function prepareLine(generation: number, config: Config): Uint8Array {
  return replyLine(CODE.prepare, `PREPARE ${generation} ${JSON.stringify(config)}`);
}

/** Throws WireError where a 3xx line is none of ours. */
export function readNotification({ code, text }: ReplyLine): Notification {
  const match = /^(PREPARE|COMMIT|ABORT) (\d+)(?: (.*))?$/s.exec(text);
  if (match === null) throw new WireError(`expected PREPARE, COMMIT or ABORT with a generation, found "${text.slice(0, 40)}"`);
  const generation = Number(match[2]);
  if (code === CODE.commit) return { kind: 'commit', generation };
  if (code === CODE.abort) return { kind: 'abort', generation };
  if (code !== CODE.prepare) throw new WireError(`expected a notification 351 to 353, found ${code}`);
  try {
    return { kind: 'prepare', generation, config: JSON.parse(match[3] ?? '') as Config };
  } catch {
    throw new WireError(`expected the configuration of generation ${generation} as JSON`);
  }
}

/**
 * racoon2's proof of the shared password (reference §3.2): upper-case hexadecimal digits of SHA-1 over the challenge and the upper-case
 * hexadecimal digits of the password file's octets.
 */
export function loginDigest(challenge: string, password: Uint8Array): string {
  return hex(digest('sha1', utf8(challenge + hex(password).toUpperCase()))).toUpperCase();
}
