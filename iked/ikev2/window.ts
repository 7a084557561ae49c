/** Message IDs, retransmission and cached responses of one IKE SA, window size 1 each way (RFC 7296 §2.1 to §2.3). */

import type { RandomBytes } from '../../src/machine.ts';
import { backoff, type RetryPolicy } from '../retry.ts';

/** The one request of ours that waits for its response. */
export interface Outstanding {
  readonly messageId: number;
  readonly bytes: Uint8Array;
  /** Transmissions so far. */
  tries: number;
  /** When to send again or give up, `mono`. */
  deadline: number;
}

/** What an authentic request's Message ID makes of it. */
export type Admission =
  /** The next one: handle it. */
  | { readonly is: 'new' }
  /** The one handled last: send the same response octets again. */
  | { readonly is: 'answered'; readonly response: Uint8Array }
  /** It is being handled, or too old or too far ahead to matter. */
  | { readonly is: 'ignored'; readonly why: string };

export class Window {
  /** Message ID of our next request. */
  #next = 0;
  /** Message ID that the peer's next request must have. */
  #expected = 0;
  #handling = false;
  #response: Uint8Array | undefined;
  #outstanding: Outstanding | undefined;
  /** Requests that the peer is ready to have outstanding (SET_WINDOW_SIZE, §2.3). We never use more than one. */
  peerSize = 1;

  get nextMessageId(): number {
    return this.#next;
  }

  get expectedMessageId(): number {
    return this.#expected;
  }

  get outstanding(): Outstanding | undefined {
    return this.#outstanding;
  }

  get lastResponse(): Uint8Array | undefined {
    return this.#response;
  }

  /** Whether a request of ours may leave now. */
  get open(): boolean {
    return this.#outstanding === undefined;
  }

  /** Whether a request of the peer is parked. */
  get handling(): boolean {
    return this.#handling;
  }

  /** Begins at other numbers: what IKE_SA_INIT, which every retry of has Message ID 0, leaves behind (§2.2). */
  startAt(next: number, expected: number): void {
    this.#next = next;
    this.#expected = expected;
  }

  /** What to do about the peer's request with this Message ID. */
  admit(messageId: number): Admission {
    if (messageId === this.#expected) {
      return this.#handling ? { is: 'ignored', why: 'a retransmission of a request that is being handled' } : { is: 'new' };
    }
    if (messageId === this.#expected - 1 && this.#response !== undefined) return { is: 'answered', response: this.#response };
    return { is: 'ignored', why: `Message ID ${messageId} where ${this.#expected} was expected` };
  }

  /** The peer's request is being handled; retransmissions are absorbed until it is answered. */
  handle(): void {
    this.#handling = true;
  }

  /** The peer's request was answered with these octets. */
  answer(response: Uint8Array): void {
    this.#handling = false;
    this.#response = response;
    this.#expected += 1;
  }

  /** A request of ours left for the first time. */
  send(messageId: number, bytes: Uint8Array, mono: number, retry: RetryPolicy, random: RandomBytes): void {
    this.#outstanding = { messageId, bytes, tries: 1, deadline: mono + backoff(retry, 1, random) };
    this.#next = messageId + 1;
  }

  /** Whether a response belongs to our outstanding request. */
  awaits(messageId: number): boolean {
    return this.#outstanding?.messageId === messageId;
  }

  /** Gives up after `more` further transmissions at the latest. */
  limit(mono: number, more: number, { maxRetries, intervalMs }: RetryPolicy): void {
    const sent = this.#outstanding;
    if (sent === undefined) return;
    sent.tries = Math.max(sent.tries, maxRetries - more + 1);
    sent.deadline = Math.min(sent.deadline, mono + intervalMs);
  }

  /** Our outstanding request was answered, or is forgotten. */
  settle(): void {
    this.#outstanding = undefined;
  }

  /** The octets to send again now whatever the deadline: what was sent lately may not have left this host. It is no try. */
  resend(mono: number, retry: RetryPolicy, random: RandomBytes): Uint8Array | undefined {
    const sent = this.#outstanding;
    if (sent === undefined) return undefined;
    sent.deadline = mono + backoff(retry, 1, random);
    return sent.bytes;
  }

  /**
   * The octets to send again, `'give-up'` after the last try, or undefined where nothing is due. What is `free` is no try: silence means
   * nothing while our own way out is broken.
   */
  retransmit(mono: number, retry: RetryPolicy, random: RandomBytes, free = false): Uint8Array | 'give-up' | undefined {
    const sent = this.#outstanding;
    if (sent === undefined || mono < sent.deadline) return undefined;
    if (free) return this.resend(mono, retry, random);
    if (sent.tries > retry.maxRetries) return 'give-up';
    sent.tries += 1;
    sent.deadline = mono + backoff(retry, sent.tries, random);
    return sent.bytes;
  }
}
