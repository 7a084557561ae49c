/** Asks a KDC over UDP and TCP (RFC 4120 §7.2): bounded in time and number, several addresses, and never a wait that blocks anything else. */

import { createSocket } from 'node:dgram';
import { createConnection } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { cat, readU32be, u32be } from '../bytes/bytes.ts';
import { SystemError } from '../errors.ts';
import { plain } from './unix-socket.ts';

export interface KdcAddress {
  readonly host: string;
  readonly port: number;
}

/** One round over all addresses each: how it goes, and how long an answer is awaited. What UDP cannot reach, TCP may (§7.2.2). */
const ROUNDS = [
  { by: 'udp', waitMs: 1_000 },
  { by: 'udp', waitMs: 2_000 },
  { by: 'tcp', waitMs: 4_000 },
] as const;
/** All rounds together. */
const LONGEST_MS = 15_000;
/** Between rounds, so that refused datagrams do not become a loop. */
const PAUSE_MS = 500;
/** A request of more octets goes by TCP at once: in UDP it would be fragmented. */
const UDP_BYTES = 1_465;
/** No answer is longer. */
const ANSWER_BYTES = 256 * 1024;
const IN_FLIGHT = 8;
const WAITING = 256;

export interface KdcClientOptions {
  readonly kdcs: readonly KdcAddress[];
  /** `tcp` never uses UDP. */
  readonly by?: 'udp-first' | 'tcp';
  /** Whether an answer by UDP asks for TCP. */
  readonly asksForTcp: (answer: Uint8Array) => boolean;
}

export class KdcClient {
  readonly #options: KdcClientOptions;
  readonly #closed = new AbortController();
  readonly #waiting: (() => void)[] = [];
  #inFlight = 0;
  /** Who answered last is asked first. */
  #preferred = 0;

  constructor(options: KdcClientOptions) {
    this.#options = options;
  }

  /** The first answer that any KDC gives. Rejects with a SystemError that names what was tried. */
  async ask(request: Uint8Array): Promise<Uint8Array> {
    await this.#turn();
    try {
      return await this.#rounds(request);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#inFlight -= 1;
      else next();
    }
  }

  /** Whatever is under way rejects. */
  close(): void {
    this.#closed.abort();
    for (const go of this.#waiting.splice(0)) go();
  }

  async #turn(): Promise<void> {
    if (this.#inFlight < IN_FLIGHT) {
      this.#inFlight += 1;
      return;
    }
    if (this.#waiting.length >= WAITING) throw new SystemError(`${WAITING} requests to the KDC wait already`, 'EBUSY');
    await new Promise<void>((go) => this.#waiting.push(go)); // and takes over the place of who ends
  }

  async #rounds(request: Uint8Array): Promise<Uint8Array> {
    const { kdcs, by } = this.#options;
    if (kdcs.length === 0) throw new SystemError('no KDC is known; write kerberos { kdc HOST; }', 'EDESTADDRREQ');
    const deadline = performance.now() + LONGEST_MS;
    const problems = new Map<string, string>();
    for (const [round, { by: usual, waitMs }] of ROUNDS.entries()) {
      if (round > 0) await this.#pause();
      for (let i = 0; i < kdcs.length; i++) {
        const which = (this.#preferred + i) % kdcs.length;
        const kdc = kdcs[which]!;
        const left = Math.min(waitMs, deadline - performance.now());
        if (this.#closed.signal.aborted) throw new SystemError('no longer asking the KDC: closed', 'ECANCELED');
        if (left <= 0) break;
        const tcp = by === 'tcp' || usual === 'tcp' || request.length > UDP_BYTES;
        try {
          const answer = await this.#attempt(tcp ? 'tcp' : 'udp', kdc, request, left);
          this.#preferred = which;
          return answer;
        } catch (error) {
          if (!(error instanceof SystemError)) throw error;
          problems.set(`${kdc.host} port ${kdc.port}`, error.message);
        }
      }
    }
    const tried = [...problems].map(([kdc, problem]) => `${kdc}: ${problem}`).join('; ');
    throw new SystemError(`no KDC answers (${tried}); is krb5kdc running, and is the address right?`, 'ETIMEDOUT');
  }

  async #attempt(by: 'udp' | 'tcp', kdc: KdcAddress, request: Uint8Array, waitMs: number): Promise<Uint8Array> {
    if (by === 'tcp') return overTcp(kdc, request, this.#within(waitMs));
    const answer = await overUdp(kdc, request, this.#within(waitMs));
    return this.#options.asksForTcp(answer) ? overTcp(kdc, request, this.#within(ROUNDS[2].waitMs)) : answer;
  }

  #within(milliseconds: number): AbortSignal {
    return AbortSignal.any([this.#closed.signal, AbortSignal.timeout(Math.max(1, Math.ceil(milliseconds)))]);
  }

  async #pause(): Promise<void> {
    try {
      await delay(PAUSE_MS, undefined, { signal: this.#closed.signal });
    } catch {
      throw new SystemError('no longer asking the KDC: closed', 'ECANCELED');
    }
  }
}

/** A connected socket takes datagrams of this KDC only, and hears that its port is closed. */
function overUdp({ host, port }: KdcAddress, request: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4' });
    const settle = (outcome: Uint8Array | SystemError) => {
      signal.removeEventListener('abort', onAbort);
      socket.removeAllListeners();
      socket.on('error', () => undefined); // what fails after the answer is nobody's concern
      socket.close();
      if (outcome instanceof SystemError) reject(outcome);
      else resolve(outcome);
    };
    const onAbort = () => settle(silence());
    signal.addEventListener('abort', onAbort);
    socket.on('error', (error: NodeJS.ErrnoException) => settle(failure(error)));
    socket.on('message', (bytes) => settle(plain(bytes)));
    socket.on('connect', () => socket.send(request));
    socket.connect(port, host);
  });
}

/** §7.2.2: four octets of length before each message. */
function overTcp({ host, port }: KdcAddress, request: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host, port });
    let received: Uint8Array = new Uint8Array(0);
    const settle = (outcome: Uint8Array | SystemError) => {
      signal.removeEventListener('abort', onAbort);
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.destroy();
      if (outcome instanceof SystemError) reject(outcome);
      else resolve(outcome);
    };
    const onAbort = () => settle(silence());
    signal.addEventListener('abort', onAbort);
    socket.on('error', (error: NodeJS.ErrnoException) => settle(failure(error)));
    socket.on('end', () => settle(new SystemError('it closed the connection without an answer', 'ECONNRESET')));
    socket.on('connect', () => socket.write(cat(u32be(request.length), request)));
    socket.on('data', (chunk) => {
      received = cat(received, plain(chunk));
      if (received.length < 4) return;
      const length = readU32be(received);
      if (length > ANSWER_BYTES) settle(new SystemError(`it announces an answer of ${length} octets`, 'EMSGSIZE'));
      else if (received.length >= 4 + length) settle(received.slice(4, 4 + length));
    });
  });
}

function silence(): SystemError {
  return new SystemError('no answer in time', 'ETIMEDOUT');
}

function failure({ message, code }: NodeJS.ErrnoException): SystemError {
  return new SystemError(code === 'ECONNREFUSED' ? 'nobody listens there' : message, code);
}
