/** Echo requests under way: which answer belongs to which question, and how long it took. */

import type { IpAddress } from '../net/address.ts';
import { echoRequest, readEchoReply } from './echo.ts';
import type { PingResult } from './ports.ts';

/** Octets of data in each request, as ping(8) sends. */
const DATA = new Uint8Array(56).map((_, i) => i);

interface Waiting {
  readonly sentAt: number;
  readonly source: string;
  readonly resolve: (result: PingResult) => void;
  readonly timer: NodeJS.Timeout;
}

export class Pinger {
  readonly #now: () => number;
  readonly #waiting = new Map<number, Waiting>();
  #nextIdentifier: number;

  /** `now` in milliseconds; `identifier`: where to begin, so that two runs differ. */
  constructor(now: () => number, identifier: number) {
    this.#now = now;
    this.#nextIdentifier = identifier & 0xffff;
  }

  /** Sends one request through `send` and waits for its answer. */
  ping(
    source: IpAddress,
    destination: IpAddress,
    sequence: number,
    timeoutMs: number,
    send: (packet: Uint8Array) => void,
  ): Promise<PingResult> {
    const identifier = this.#nextIdentifier;
    this.#nextIdentifier = (identifier + 1) & 0xffff;
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(identifier);
        resolve({
          answered: false,
          source: `${source}`,
          why: `no answer within ${timeoutMs / 1000} s; see drops and problems in: tanuki status`,
        });
      }, timeoutMs);
      this.#waiting.set(identifier, { sentAt: this.#now(), source: `${source}`, resolve, timer });
      send(echoRequest({ source, destination, identifier, sequence: sequence & 0xffff }, DATA));
    });
  }

  /** Whether any answer is awaited: else packets need not be looked at. */
  get isWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** True where the packet answers one of ours: it is then not for the device. */
  take(packet: Uint8Array): boolean {
    const reply = readEchoReply(packet);
    const waiting = reply === undefined ? undefined : this.#waiting.get(reply.identifier);
    if (reply === undefined || waiting === undefined || waiting.source !== `${reply.destination}`) return false;
    this.#waiting.delete(reply.identifier);
    clearTimeout(waiting.timer);
    waiting.resolve({ answered: true, source: waiting.source, rttMs: this.#now() - waiting.sentAt });
    return true;
  }

  stop(): void {
    for (const { resolve, timer, source } of this.#waiting.values()) {
      clearTimeout(timer);
      resolve({ answered: false, source, why: 'the datapath is going down' });
    }
    this.#waiting.clear();
  }
}
