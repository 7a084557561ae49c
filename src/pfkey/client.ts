/** The client's end of PF_KEY (RFC 2367 §2, §3): requests matched by seq and pid, registration, dumps, timeouts, and resynchronising. */

import type { Instant, Machine } from '../machine.ts';
import { type SadbMessage, sadb } from './message.ts';
import { ERRNO, SADB_SATYPE, SADB_TYPE, type SadbType } from './registry.ts';

/** How long a request may remain unanswered, in milliseconds. A dump may pause this long between two messages. */
export const REQUEST_TIMEOUT = 10_000;

export type PfkeyClientInput<Tag> =
  | { readonly kind: 'tick' }
  /** The stream to the server stands; whatever was known about SAs and policies may be out of date. */
  | { readonly kind: 'connected' }
  | { readonly kind: 'disconnected' }
  | { readonly kind: 'message'; readonly message: SadbMessage }
  /** A seq other than 0 (that of an ACQUIRE) is kept; pid is ours. The answer comes back under `tag`. */
  | { readonly kind: 'request'; readonly tag: Tag; readonly message: SadbMessage };

export type PfkeyClientOutput<Tag> =
  | { readonly kind: 'send'; readonly message: SadbMessage }
  /** `errno` 0: done. A dump's messages are all in `reply`, and an empty dump is no error. */
  | { readonly kind: 'answer'; readonly tag: Tag; readonly errno: number; readonly reply: readonly SadbMessage[] }
  /** What was not asked for: ACQUIRE, EXPIRE, new mappings, and what other clients did. */
  | { readonly kind: 'notification'; readonly message: SadbMessage }
  /** Registered, and all that the server has (as far as it was to be dumped): after every connect, so also after an overrun or a restart of the server. */
  | {
      readonly kind: 'synchronised';
      readonly sas: readonly SadbMessage[];
      readonly policies: readonly SadbMessage[];
      /** The answers to REGISTER, with the algorithms. */
      readonly registered: readonly SadbMessage[];
    }
  /** The server did not let us register or dump; the owner should disconnect and try again. */
  | { readonly kind: 'failed'; readonly reason: string };

export interface PfkeyClientOptions {
  readonly pid: number;
  /** SA types to register for; none: no ACQUIRE, EXPIRE or mapping will come. */
  readonly register?: readonly number[];
  /** `OPT_IN_*`: private extensions to be sent to us. */
  readonly optIn?: number;
  /** What to ask for at every connect; both unless said otherwise. */
  readonly dumps?: readonly ('sas' | 'policies')[];
}

type Purpose<Tag> = { readonly tag: Tag } | 'register' | 'sas' | 'policies';

interface Pending<Tag> {
  readonly purpose: Purpose<Tag>;
  readonly message: SadbMessage;
  readonly reply: SadbMessage[];
  deadline: number;
}

/** What was learned since the connect. */
interface Sync {
  sas?: readonly SadbMessage[];
  policies?: readonly SadbMessage[];
  readonly registered: SadbMessage[];
  /** X_MIGRATEs meanwhile: a dump may show what was before them, so they are told after it. */
  readonly movements: SadbMessage[];
}

/** A movement more than that while the dumps are under way, and it is better to begin again. */
const MOST_MOVEMENTS = 1024;

const NOTIFICATIONS: readonly SadbType[] = ['ACQUIRE', 'EXPIRE', 'X_NAT_T_NEW_MAPPING'];

/** One connection to a PF_KEY server. Reconnecting is the shell's; this end only says what to send and what came of it. */
export class PfkeyClient<Tag> implements Machine<PfkeyClientInput<Tag>, PfkeyClientOutput<Tag>> {
  readonly #options: PfkeyClientOptions;
  #seq = 0;
  #connected = false;
  /** Requests on their way, oldest first. */
  #pending: Pending<Tag>[] = [];
  /** Dumps wait here for the one of their verb that is under way: its messages carry no seq to tell them apart. */
  #waiting: Pending<Tag>[] = [];
  #sync: Sync | undefined;

  constructor(options: PfkeyClientOptions) {
    this.#options = options;
  }

  get connected(): boolean {
    return this.#connected;
  }

  handle(input: PfkeyClientInput<Tag>, now: Instant): readonly PfkeyClientOutput<Tag>[] {
    switch (input.kind) {
      case 'tick':
        return this.#expire(now);
      case 'connected':
        return this.#connect(now);
      case 'disconnected':
        return this.#disconnect();
      case 'message':
        return this.#receive(input.message, now);
      case 'request':
        return this.#request({ tag: input.tag }, input.message, now);
    }
  }

  wakeAt(): number | undefined {
    return this.#pending.length === 0 ? undefined : Math.min(...this.#pending.map(({ deadline }) => deadline));
  }

  #connect(now: Instant): PfkeyClientOutput<Tag>[] {
    const lost = this.#disconnect();
    this.#connected = true;
    const { register = [], optIn, dumps = ['sas', 'policies'] } = this.#options;
    this.#sync = {
      registered: [],
      movements: [],
      ...(dumps.includes('sas') ? {} : { sas: [] }),
      ...(dumps.includes('policies') ? {} : { policies: [] }),
    };
    const registrations = register.length > 0 ? register : optIn === undefined ? [] : [SADB_SATYPE.UNSPEC];
    return [
      ...lost,
      ...registrations.flatMap((satype) => this.#request('register', sadb('REGISTER', { satype, optIn }), now)),
      ...dumps.flatMap((dump) => this.#request(dump, sadb(dump === 'sas' ? 'DUMP' : 'X_SPDDUMP'), now)),
    ];
  }

  #disconnect(): PfkeyClientOutput<Tag>[] {
    const lost = [...this.#pending, ...this.#waiting];
    this.#connected = false;
    this.#sync = undefined;
    this.#pending = [];
    this.#waiting = [];
    return lost.flatMap(({ purpose }) => (typeof purpose === 'string' ? [] : [answer(purpose.tag, ERRNO.ECONNREFUSED)]));
  }

  #request(purpose: Purpose<Tag>, message: SadbMessage, now: Instant): PfkeyClientOutput<Tag>[] {
    if (!this.#connected) return typeof purpose === 'string' ? [] : [answer(purpose.tag, ERRNO.ECONNREFUSED)];
    if (message.seq === 0) this.#seq = (this.#seq % 0x7fffffff) + 1;
    const numbered = { ...message, seq: message.seq === 0 ? this.#seq : message.seq, pid: this.#options.pid };
    // A daemon's negative ACQUIRE has no answer.
    if (message.type === 'ACQUIRE')
      return [{ kind: 'send', message: numbered }, ...(typeof purpose === 'string' ? [] : [answer(purpose.tag, 0)])];
    const pending: Pending<Tag> = { purpose, message: numbered, reply: [], deadline: now.mono + REQUEST_TIMEOUT };
    if (isDump(message.type) && this.#pending.some((other) => other.message.type === message.type)) {
      this.#waiting.push(pending);
      return [];
    }
    this.#pending.push(pending);
    return [{ kind: 'send', message: numbered }];
  }

  #receive(message: SadbMessage, now: Instant): PfkeyClientOutput<Tag>[] {
    if (!this.#connected) return [];
    if (message.pid !== this.#options.pid || NOTIFICATIONS.includes(message.type)) return this.#notify(message);
    const index = this.#pending.findIndex((pending) => answers(pending.message, message));
    const pending = this.#pending[index];
    // A second copy of an answer: a FLUSH is echoed and broadcast.
    if (pending === undefined) return [];
    if (isDump(message.type) && message.errno === 0) {
      pending.reply.push(message);
      pending.deadline = now.mono + REQUEST_TIMEOUT;
      if (message.seq !== 0) return [];
    } else if (message.errno === 0) pending.reply.push(message);
    this.#pending.splice(index, 1);
    const empty = isDump(message.type) && message.errno === ERRNO.ENOENT;
    return [...this.#conclude(pending, empty ? 0 : message.errno), ...this.#nextDump(message.type, now)];
  }

  #notify(message: SadbMessage): PfkeyClientOutput<Tag>[] {
    if (this.#sync === undefined || message.type !== 'X_MIGRATE') return [{ kind: 'notification', message }];
    if (this.#sync.movements.push(message) <= MOST_MOVEMENTS) return [];
    this.#sync = undefined;
    return [{ kind: 'failed', reason: `more than ${MOST_MOVEMENTS} movements while the dumps were under way` }];
  }

  #nextDump(type: SadbType, now: Instant): PfkeyClientOutput<Tag>[] {
    const index = this.#waiting.findIndex(({ message }) => message.type === type);
    if (index < 0 || this.#pending.some(({ message }) => message.type === type)) return [];
    const next = this.#waiting.splice(index, 1)[0]!;
    next.deadline = now.mono + REQUEST_TIMEOUT;
    this.#pending.push(next);
    return [{ kind: 'send', message: next.message }];
  }

  #conclude({ purpose, reply, message }: Pending<Tag>, errno: number): PfkeyClientOutput<Tag>[] {
    if (typeof purpose !== 'string') return [answer(purpose.tag, errno, reply)];
    const sync = this.#sync;
    if (sync === undefined) return [];
    // EEXIST: registered before, which is what we want.
    if (errno !== 0 && !(purpose === 'register' && errno === ERRNO.EEXIST)) {
      this.#sync = undefined;
      return [{ kind: 'failed', reason: `${message.type} was answered with errno ${errno}` }];
    }
    if (purpose === 'register') sync.registered.push(...reply);
    else sync[purpose] = reply;
    const { sas, policies, registered, movements } = sync;
    if (sas === undefined || policies === undefined || this.#pending.some((other) => other.purpose === 'register')) return [];
    this.#sync = undefined;
    return [
      { kind: 'synchronised', sas, policies, registered },
      ...movements.map((message) => ({ kind: 'notification', message }) as const),
    ];
  }

  #expire(now: Instant): PfkeyClientOutput<Tag>[] {
    const due = this.#pending.filter(({ deadline }) => deadline <= now.mono);
    this.#pending = this.#pending.filter(({ deadline }) => deadline > now.mono);
    return due.flatMap((pending) => [...this.#conclude(pending, ERRNO.ETIMEDOUT), ...this.#nextDump(pending.message.type, now)]);
  }
}

function isDump(type: SadbType): boolean {
  return type === 'DUMP' || type === 'X_SPDDUMP';
}

/** Whether `reply` answers `request`: same verb and seq. A dump numbers its messages itself; SPDSETIDX is answered as SPDADD. */
function answers(request: SadbMessage, reply: SadbMessage): boolean {
  if (isDump(request.type)) return reply.type === request.type;
  if (request.type === 'X_SPDSETIDX' && reply.type === 'X_SPDADD') return request.seq === reply.seq;
  return SADB_TYPE[request.type] === SADB_TYPE[reply.type] && request.seq === reply.seq;
}

function answer<Tag>(tag: Tag, errno: number, reply: readonly SadbMessage[] = []): PfkeyClientOutput<Tag> {
  return { kind: 'answer', tag, errno, reply };
}
