/** What goes wrong and may yet come right: what `status` shows until it does, and which lines of the log were written before. */

import { printable } from '../wire/dump.ts';
import type { KeyEvent } from './events.ts';

/** Failures that `status` shows, and subjects whose last line is remembered. */
const MOST_FAILURES = 64;

/** A limit that is hit again is told of again after this. Milliseconds. */
const LIMIT_PAUSE_MS = 10_000;

export interface Failure {
  /** `wall`. */
  readonly at: number;
  readonly why: string;
}

export class Failures {
  readonly #configured: (name: string) => boolean;
  /** By remote, selector or address; oldest first. */
  readonly all = new Map<string, Failure>();
  /** The last line of the log about what fails, by subject. */
  readonly #said = new Map<string, string>();
  /** When a limit was told of last, `wall`. */
  readonly #limits = new Map<string, number>();

  /** `configured`: whether a name is that of a remote or a selector in force. */
  constructor(configured: (name: string) => boolean) {
    this.#configured = configured;
  }

  /** Strangers, whose subject is an address, never push out what is configured; and what a peer sent commands no terminal that shows it. */
  remember(subject: string, why: string, wall: number): void {
    this.all.delete(subject);
    this.all.set(subject, { at: wall, why: printable(why) });
    if (this.all.size <= MOST_FAILURES) return;
    const oldest = [...this.all.keys()];
    const stranger = oldest.find((name) => !this.#configured(name));
    this.all.delete(stranger ?? oldest[0]!);
  }

  mended(subject: string): void {
    this.all.delete(subject);
    this.#said.delete(subject);
  }

  /**
   * Takes note of what an event says about failures. True where the same was said of the same subject before: a peer that sends its request
   * again gets the same answer, and we try again too; the line is written once.
   */
  note({ name, message, child, remote, peer, limit }: KeyEvent, wall: number): boolean {
    if (name === 'limit-reached') return this.#limitSaid(`${limit}`, wall);
    if (name === 'child-sa-up') for (const one of [child, remote]) this.mended(`${one}`);
    const subject = [child, remote, peer].find((one) => typeof one === 'string');
    const failed = name.endsWith('-sa-failed') && subject !== undefined;
    if (!failed && name !== 'message-refused') return false;
    const again = this.#said.get(`${subject}`) === message;
    this.#said.delete(`${subject}`);
    this.#said.set(`${subject}`, message);
    if (this.#said.size > MOST_FAILURES) this.#said.delete([...this.#said.keys()][0]!);
    if (failed) this.remember(subject, message, wall);
    return again;
  }

  /** Strangers decide how often a limit is hit: one line of the log in a while is enough. */
  #limitSaid(limit: string, wall: number): boolean {
    const last = this.#limits.get(limit);
    if (last !== undefined && Math.abs(wall - last) < LIMIT_PAUSE_MS) return true;
    this.#limits.set(limit, wall);
    return false;
  }
}
