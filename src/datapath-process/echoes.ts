/** Pings under way in the packet worker, which has no event loop: deadlines are polled for, and answers recognised by identifier and addresses. */

import type { IpAddress } from '../net/address.ts';
import { echoRequest, readEchoReply } from './echo.ts';
import type { PingResult } from './ports.ts';

/** Octets of data in each request, as ping(8) sends. */
const DATA = new Uint8Array(56).map((_, i) => i);
/** Pings that may be under way at once. */
const LIMIT = 256;

interface Waiting {
  readonly id: number;
  readonly source: string;
  readonly sentAt: number;
  readonly deadline: number;
  readonly timeoutMs: number;
}

export interface EchoAnswer {
  readonly id: number;
  readonly result: PingResult;
}

export class Echoes {
  /** By identifier. */
  readonly #waiting = new Map<number, Waiting>();
  #nextIdentifier: number;

  /** `identifier`: where to begin, so that two runs differ. */
  constructor(identifier: number) {
    this.#nextIdentifier = identifier & 0xffff;
  }

  /** Whether any answer is awaited: else packets need not be looked at. */
  get isWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  get isFull(): boolean {
    return this.#waiting.size >= LIMIT;
  }

  /** The packet to send. `now` in milliseconds. */
  begin(id: number, source: IpAddress, destination: IpAddress, sequence: number, timeoutMs: number, now: number): Uint8Array {
    while (this.#waiting.has(this.#nextIdentifier)) this.#nextIdentifier = (this.#nextIdentifier + 1) & 0xffff;
    const identifier = this.#nextIdentifier;
    this.#nextIdentifier = (identifier + 1) & 0xffff;
    this.#waiting.set(identifier, { id, source: `${source}`, sentAt: now, deadline: now + timeoutMs, timeoutMs });
    return echoRequest({ source, destination, identifier, sequence: sequence & 0xffff }, DATA);
  }

  /** What the packet answers, if it answers one of ours: it is then not for the device. */
  take(packet: Uint8Array, now: number): EchoAnswer | undefined {
    const reply = readEchoReply(packet);
    const waiting = reply === undefined ? undefined : this.#waiting.get(reply.identifier);
    if (reply === undefined || waiting === undefined || waiting.source !== `${reply.destination}`) return undefined;
    this.#waiting.delete(reply.identifier);
    return { id: waiting.id, result: { answered: true, source: waiting.source, rttMs: now - waiting.sentAt } };
  }

  /** Those whose time is over. */
  expire(now: number): EchoAnswer[] {
    const over: EchoAnswer[] = [];
    for (const [identifier, { id, source, deadline, timeoutMs }] of this.#waiting) {
      if (deadline > now) continue;
      this.#waiting.delete(identifier);
      const why = `no answer within ${timeoutMs / 1000} s; see drops and problems in: tanuki status`;
      over.push({ id, result: { answered: false, source, why } });
    }
    return over;
  }

  /** When the next one's time is over. */
  wakeAt(): number | undefined {
    let at: number | undefined;
    for (const { deadline } of this.#waiting.values()) if (at === undefined || deadline < at) at = deadline;
    return at;
  }
}
