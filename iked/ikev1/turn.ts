/** Whose turn it is in one exchange, and how a lost message is made good: each side repeats what it said last (RFC 2408 §5.1, RFC 2409 §5). */

import { equal } from '../../src/bytes/bytes.ts';
import type { RandomBytes } from '../../src/machine.ts';
import { backoff, type RetryPolicy } from '../retry.ts';

interface Said {
  readonly bytes: Uint8Array;
  tries: number;
  /** When to say it again or give up, `mono`; undefined: only when the other side repeats itself. */
  deadline: number | undefined;
}

export class Turn {
  /** The datagram that was answered last. Equal octets are a repetition; nothing else in IKEv1 tells. */
  #heard: Uint8Array | undefined;
  #said: Said | undefined;

  get tries(): number {
    return this.#said?.tries ?? 0;
  }

  get deadline(): number | undefined {
    return this.#said?.deadline;
  }

  /** Whether the datagram is the one that was answered last, and what was answered, if that has left. */
  repetition(bytes: Uint8Array): { readonly answer: Uint8Array | undefined } | undefined {
    if (this.#heard === undefined || !equal(this.#heard, bytes)) return undefined;
    return { answer: this.#said?.bytes };
  }

  /** The datagram is being answered; what was said before needs no answer any more. */
  hear(bytes: Uint8Array): void {
    this.#heard = bytes;
    this.#said = undefined;
  }

  /** Our message leaves and is repeated until it is answered. */
  ask(bytes: Uint8Array, mono: number, retry: RetryPolicy, random: RandomBytes): void {
    this.#said = { bytes, tries: 1, deadline: mono + backoff(retry, 1, random) };
  }

  /** Our message leaves, and again only where the other side repeats what it answers. */
  answer(bytes: Uint8Array): void {
    this.#said = { bytes, tries: 1, deadline: undefined };
  }

  /** It is not repeated by itself any more. */
  rest(): void {
    if (this.#said !== undefined) this.#said.deadline = undefined;
  }

  /** Gives up after `more` further transmissions at the latest. */
  limit(mono: number, more: number, { maxRetries, intervalMs }: RetryPolicy): void {
    const said = this.#said;
    if (said?.deadline === undefined) return;
    said.tries = Math.max(said.tries, maxRetries - more + 1);
    said.deadline = Math.min(said.deadline, mono + intervalMs);
  }

  /** The octets to say again whatever the deadline, where an answer is awaited: what was said lately may not have left this host. It is no try. */
  resend(mono: number, retry: RetryPolicy, random: RandomBytes): Uint8Array | undefined {
    const said = this.#said;
    if (said?.deadline === undefined) return undefined;
    said.deadline = mono + backoff(retry, 1, random);
    return said.bytes;
  }

  /** The octets to say again, `'give-up'` after the last try, or undefined where nothing is due. What is `free` is no try. */
  repeat(mono: number, retry: RetryPolicy, random: RandomBytes, free: boolean): Uint8Array | 'give-up' | undefined {
    const said = this.#said;
    if (said?.deadline === undefined || mono < said.deadline) return undefined;
    if (free) return this.resend(mono, retry, random);
    if (said.tries > retry.maxRetries) return 'give-up';
    said.tries += 1;
    said.deadline = mono + backoff(retry, said.tries, random);
    return said.bytes;
  }
}
