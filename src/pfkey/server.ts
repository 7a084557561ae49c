/** The server's end of PF_KEY: clients, who registered for what, who gets which echo and notification (RFC 2367 §2.2, §3.1), with bounded queues. */

import { NONE } from '../bytes/bytes.ts';
import type { Event } from '../event.ts';
import type { Instant, Machine } from '../machine.ts';
import type { IpAddress } from '../net/address.ts';
import { ClientQueue } from './client-queue.ts';
import {
  type Dialect,
  errorReply,
  readSadb,
  SadbError,
  SadbFramer,
  type SadbMessage,
  sadb,
  sadbError,
  writeSadb,
} from './message.ts';
import { type ClientId, Owners, type SaName } from './owners.ts';
import {
  ERRNO,
  errnoName,
  OPT_IN_KEYS,
  OPT_IN_KMADDRESS,
  optInBit,
  SADB_EXT,
  SADB_EXT_PRIVATE,
  SADB_SATYPE,
} from './registry.ts';
import { checkRequest } from './rules.ts';

/** What became of one request. Left out: nothing of the kind. */
export interface VerbResult {
  /** To the client that asked. */
  readonly reply?: readonly SadbMessage[];
  /** To every client, the one that asked included. */
  readonly broadcast?: readonly SadbMessage[];
  /** SAs that have another name now: they stay their owners'. */
  readonly moved?: readonly {
    readonly satype: number;
    readonly spi: number;
    readonly from: IpAddress;
    readonly to: IpAddress;
  }[];
  /** Refused: the client gets the request's header with it, and nobody gets anything else. */
  readonly error?: number;
}

/** Who carries the requests out. REGISTER and PROMISC are the server's own; what arrives here has passed `checkRequest`. May throw SadbError. */
export interface Verbs {
  handle(message: SadbMessage, now: Instant): VerbResult;
  /** What REGISTER tells about algorithms. */
  supported(): { readonly auth: SadbMessage['supportedAuth']; readonly encrypt: SadbMessage['supportedEncrypt'] };
  /** A client has registered that knows of no earlier ACQUIRE: those that are open are to be told again. */
  registered?(): void;
}

export type { ClientId } from './owners.ts';

export type PfkeyServerInput =
  /** `observer`: may not change anything. `mayReadKeys`: may ask for the keys of others' SAs (opt-in bit 31). */
  | { readonly kind: 'connect'; readonly client: ClientId; readonly observer?: boolean; readonly mayReadKeys?: boolean }
  | { readonly kind: 'disconnect'; readonly client: ClientId }
  | { readonly kind: 'bytes'; readonly client: ClientId; readonly bytes: Uint8Array }
  /** So many octets of those handed out have left for the client. */
  | { readonly kind: 'sent'; readonly client: ClientId; readonly octets: number }
  /** From the datapath: ACQUIRE, EXPIRE and new mappings go to who registered, everything else to all. */
  | { readonly kind: 'notify'; readonly message: SadbMessage };

export type PfkeyServerOutput =
  | { readonly kind: 'send'; readonly client: ClientId; readonly bytes: Uint8Array }
  /** After what was sent before; the client is forgotten already. */
  | { readonly kind: 'close'; readonly client: ClientId }
  | { readonly kind: 'event'; readonly event: Event };

export interface PfkeyServerOptions {
  readonly dialect?: Dialect;
  /** Octets that may wait for one client; 8 MiB unless said otherwise. */
  readonly queueLimit?: number;
  /**
   * Octets handed out to one client before the host must report some of them as `sent`. Infinity unless said otherwise: for a host
   * that reports nothing and bounds its sockets itself; then nothing waits here and no EXPIRE is folded.
   */
  readonly inFlight?: number;
}

interface Client {
  readonly id: ClientId;
  readonly framer: SadbFramer;
  readonly queue: ClientQueue;
  readonly observer: boolean;
  readonly mayReadKeys: boolean;
  /** `SADB_SATYPE`s. */
  readonly registered: Set<number>;
  promiscuous: boolean;
  optIn: number;
}

const OBSERVABLE: readonly SadbMessage['type'][] = ['GET', 'DUMP', 'REGISTER', 'X_PROMISC', 'X_SPDGET', 'X_SPDDUMP'];
const FOR_REGISTERED: readonly SadbMessage['type'][] = ['ACQUIRE', 'EXPIRE', 'X_NAT_T_NEW_MAPPING'];

/** All clients of one datapath. */
export class PfkeyServer implements Machine<PfkeyServerInput, PfkeyServerOutput> {
  readonly #verbs: Verbs;
  readonly #dialect: Dialect;
  readonly #queueLimit: number;
  readonly #inFlight: number;
  readonly #clients = new Map<ClientId, Client>();
  readonly #owners = new Owners();

  constructor(
    verbs: Verbs,
    { dialect = 'tanuki', queueLimit = 8 * 1024 * 1024, inFlight = Number.POSITIVE_INFINITY }: PfkeyServerOptions = {},
  ) {
    this.#verbs = verbs;
    this.#dialect = dialect;
    this.#queueLimit = queueLimit;
    this.#inFlight = inFlight;
  }

  /** How many clients there are. */
  get size(): number {
    return this.#clients.size;
  }

  handle(input: PfkeyServerInput, now: Instant): readonly PfkeyServerOutput[] {
    const outputs: PfkeyServerOutput[] = [];
    if (input.kind === 'connect') this.#connect(input);
    else if (input.kind === 'notify') this.#notify(input.message, outputs);
    else {
      const client = this.#clients.get(input.client);
      if (client === undefined) return outputs;
      if (input.kind === 'disconnect') this.#forget(client);
      else if (input.kind === 'sent') this.#drain(client, input.octets, outputs);
      else this.#receive(client, input.bytes, now, outputs);
    }
    return outputs;
  }

  wakeAt(): undefined {
    return undefined;
  }

  #connect({ client, observer = false, mayReadKeys = false }: Extract<PfkeyServerInput, { kind: 'connect' }>): void {
    this.#clients.set(client, {
      id: client,
      framer: new SadbFramer(),
      queue: new ClientQueue(this.#queueLimit, this.#inFlight),
      observer,
      mayReadKeys,
      registered: new Set(),
      promiscuous: false,
      optIn: 0,
    });
  }

  #forget(client: Client): void {
    this.#clients.delete(client.id);
    this.#owners.keepOnly((owned) => owned.client !== client.id);
  }

  #receive(client: Client, bytes: Uint8Array, now: Instant, outputs: PfkeyServerOutput[]): void {
    try {
      for (const message of client.framer.push(bytes))
        if (this.#clients.has(client.id)) this.#request(client, message, now, outputs);
      client.framer.push(NONE);
    } catch (error) {
      if (!(error instanceof SadbError)) throw error;
      // Where the next message begins is not known any more.
      const reply = errorReply(client.framer.header, error.errno);
      if (reply !== undefined) this.#deliver(client, reply, outputs);
      this.#close(client, error.message, outputs);
    }
  }

  #request(client: Client, bytes: Uint8Array, now: Instant, outputs: PfkeyServerOutput[]): void {
    let request: SadbMessage;
    try {
      request = readSadb(bytes, this.#dialect);
    } catch (error) {
      if (!(error instanceof SadbError)) throw error;
      const reply = errorReply(bytes, error.errno);
      if (reply === undefined) this.#close(client, error.message, outputs);
      else this.#refuse(client, reply, error.message, outputs);
      return;
    }
    this.#overheard(request, outputs);
    const refusal = checkRequest(request, this.#dialect);
    if (refusal !== undefined) this.#refuse(client, sadbError(request, refusal.errno), refusal.reason, outputs);
    else if (client.observer && !OBSERVABLE.includes(request.type)) {
      this.#refuse(client, sadbError(request, ERRNO.EACCES), `an observer may not ${request.type}`, outputs);
    } else if (isDump(request) && client.queue.dumping) {
      this.#refuse(client, sadbError(request, ERRNO.EBUSY), 'a dump is under way', outputs);
    } else if (request.type === 'REGISTER') this.#register(client, request, outputs);
    else if (request.type === 'X_PROMISC') this.#promisc(client, request, outputs);
    else this.#carryOut(client, request, now, outputs);
  }

  #carryOut(client: Client, request: SadbMessage, now: Instant, outputs: PfkeyServerOutput[]): void {
    let result: VerbResult;
    try {
      result = this.#verbs.handle(request, now);
    } catch (error) {
      if (!(error instanceof SadbError)) throw error;
      this.#refuse(client, sadbError(request, error.errno), error.message, outputs);
      return;
    }
    if (result.error !== undefined && result.error !== 0) {
      this.#refuse(client, sadbError(request, result.error), `${request.type} was refused`, outputs);
      return;
    }
    const { reply = [], broadcast = [], moved = [] } = result;
    this.#learnOwner(client, request, reply, broadcast);
    this.#renameOwned(moved);
    for (const message of reply) {
      this.#overheard(message, outputs);
      this.#deliver(client, message, outputs, isDump(request));
    }
    for (const message of broadcast) this.#broadcast(message, outputs);
    if (request.type === 'DELETE') this.#disown(request);
    if (request.type === 'FLUSH')
      this.#owners.keepOnly(({ satype }) => request.satype !== SADB_SATYPE.UNSPEC && satype !== request.satype);
  }

  #learnOwner(client: Client, request: SadbMessage, reply: readonly SadbMessage[], broadcast: readonly SadbMessage[]): void {
    const { type } = request;
    const made = type === 'ADD' || type === 'UPDATE' ? (broadcast[0] ?? request) : type === 'GETSPI' ? reply[0] : undefined;
    const name = made && saName(made);
    if (name !== undefined) this.#owners.set(name, client.id);
  }

  #renameOwned(moved: NonNullable<VerbResult['moved']>): void {
    const owned = moved.map(({ satype, spi, from, to }) => {
      const before = { satype, spi, destination: from };
      const owner = this.#owners.get(before);
      this.#owners.delete(before);
      return { owner, name: { satype, spi, destination: to } };
    });
    for (const { owner, name } of owned) if (owner !== undefined) this.#owners.set(name, owner);
  }

  #disown(message: SadbMessage): void {
    const name = saName(message);
    if (name !== undefined) this.#owners.delete(name);
  }

  /** §3.1.7. The answer goes to all who have registered for anything. */
  #register(client: Client, request: SadbMessage, outputs: PfkeyServerOutput[]): void {
    const { satype, optIn } = request;
    if (optIn !== undefined && this.#dialect === 'tanuki') {
      client.optIn = (client.mayReadKeys ? optIn : optIn & ~OPT_IN_KEYS) >>> 0;
    }
    if (satype !== SADB_SATYPE.UNSPEC && client.registered.has(satype)) {
      this.#refuse(client, sadbError(request, ERRNO.EEXIST), `registered for SA type ${satype} already`, outputs);
      return;
    }
    const isFirst = satype !== SADB_SATYPE.UNSPEC && client.registered.size === 0;
    if (satype !== SADB_SATYPE.UNSPEC) client.registered.add(satype);
    const { auth, encrypt } = this.#verbs.supported();
    const reply = sadb('REGISTER', {
      satype,
      seq: request.seq,
      pid: request.pid,
      supportedAuth: auth,
      supportedEncrypt: encrypt,
    });
    this.#deliver(client, optIn === undefined ? reply : { ...reply, optIn: client.optIn }, outputs);
    for (const other of this.#clients.values()) {
      if (other !== client && (other.registered.size > 0 || other.promiscuous)) this.#deliver(other, reply, outputs);
    }
    if (isFirst) this.#verbs.registered?.();
  }

  /** §3.1.11. With a payload it is a message to all, as it is. */
  #promisc(client: Client, request: SadbMessage, outputs: PfkeyServerOutput[]): void {
    if (request.order.length === 0) client.promiscuous = request.satype === 1;
    this.#broadcast(request, outputs);
  }

  #notify(message: SadbMessage, outputs: PfkeyServerOutput[]): void {
    if (!FOR_REGISTERED.includes(message.type)) {
      this.#broadcast(message, outputs);
      return;
    }
    for (const client of this.#clients.values()) {
      if (client.promiscuous) this.#deliver(client, message, outputs);
      if (client.registered.size > 0) this.#deliver(client, message, outputs);
    }
    if (message.type === 'EXPIRE' && message.sa?.state === 3) this.#disown(message);
  }

  /** To all, encoded once for all who may see the same; a promiscuous client gets a second copy. */
  #broadcast(message: SadbMessage, outputs: PfkeyServerOutput[]): void {
    const encoded = new Map<number, Uint8Array>();
    for (const client of this.#clients.values()) {
      const view = 2 * client.optIn + (this.#maySeeKeys(client, message) ? 1 : 0);
      const octets = encoded.get(view) ?? this.#encode(client, message);
      encoded.set(view, octets);
      if (client.promiscuous) this.#deliver(client, message, outputs, false, octets);
      this.#deliver(client, message, outputs, false, octets);
    }
  }

  /** A promiscuous client sees what goes to one client too, itself included. */
  #overheard(message: SadbMessage, outputs: PfkeyServerOutput[]): void {
    for (const other of this.#clients.values()) if (other.promiscuous) this.#deliver(other, message, outputs);
  }

  #refuse(client: Client, reply: SadbMessage, reason: string, outputs: PfkeyServerOutput[]): void {
    this.#overheard(reply, outputs);
    this.#deliver(client, reply, outputs);
    const { type } = reply;
    const message = `PF_KEY client ${client.id}: ${type} refused with ${errnoName(reply.errno)}: ${reason}`;
    outputs.push({
      kind: 'event',
      event: { name: 'pfkey-request-refused', severity: 'debug', message, client: client.id, verb: type, errno: reply.errno },
    });
  }

  #deliver(client: Client, message: SadbMessage, outputs: PfkeyServerOutput[], dump = false, encoded?: Uint8Array): void {
    if (!this.#clients.has(client.id)) return;
    const octets = encoded ?? this.#encode(client, message);
    const fits = client.queue.push(octets, message.type === 'EXPIRE' ? expiredSa(message) : '', dump);
    if (!fits) this.#close(client, `${this.#queueLimit} octets wait for it`, outputs);
    else this.#drain(client, 0, outputs);
  }

  #drain(client: Client, sent: number, outputs: PfkeyServerOutput[]): void {
    for (const bytes of client.queue.drain(sent)) outputs.push({ kind: 'send', client: client.id, bytes });
  }

  #close(client: Client, reason: string, outputs: PfkeyServerOutput[]): void {
    if (!this.#clients.has(client.id)) return;
    this.#forget(client);
    const message = `PF_KEY client ${client.id} is closed: ${reason}; it has to connect again and ask for everything`;
    outputs.push({ kind: 'event', event: { name: 'pfkey-client-closed', severity: 'warning', message, client: client.id } });
    outputs.push({ kind: 'close', client: client.id });
  }

  /** The message as this client may see it: private extensions where it asked for them, keys where the SA is its own. */
  #encode(client: Client, message: SadbMessage): Uint8Array {
    const { optIn } = client;
    const showsEnds = message.type === 'X_MIGRATE' || (optIn & OPT_IN_KMADDRESS) !== 0;
    const hasKeys = message.keyAuth !== undefined || message.keyEncrypt !== undefined;
    const showsKeys = !hasKeys || this.#maySeeKeys(client, message);
    return writeSadb(message, (name) => {
      if (name === 'keyAuth' || name === 'keyEncrypt') return !showsKeys;
      if (name === 'kmAddress') return !showsEnds;
      return SADB_EXT[name] >= SADB_EXT_PRIVATE && name !== 'optIn' && (optIn & optInBit(SADB_EXT[name])) === 0;
    });
  }

  #maySeeKeys(client: Client, message: SadbMessage): boolean {
    if (this.#dialect === 'linux-strict' || (client.optIn & OPT_IN_KEYS) !== 0) return true;
    const name = saName(message);
    return name !== undefined && this.#owners.get(name) === client.id;
  }
}

function isDump({ type }: SadbMessage): boolean {
  return type === 'DUMP' || type === 'X_SPDDUMP';
}

/** What tells SAs apart; undefined for a message about something else. */
function saName({ satype, sa, destination }: SadbMessage): SaName | undefined {
  return sa === undefined || destination === undefined ? undefined : { satype, spi: sa.spi, destination: destination.address };
}

/** The same as text, for `ClientQueue`. */
function expiredSa(message: SadbMessage): string {
  const name = saName(message);
  return name === undefined ? '' : `${name.satype} ${name.destination} ${name.spi}`;
}
