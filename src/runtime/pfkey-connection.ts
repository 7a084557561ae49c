/** A PF_KEY client for programs outside the suite, such as a mobility daemon: one connection that is dialled again when it is lost, promises for requests, handlers for the rest. */

import { SystemError } from '../errors.ts';
import type { KmAddress, Policy } from '../ipsec/policy.ts';
import type { SaProtocol } from '../ipsec/sa.ts';
import { PfkeyClient, type PfkeyClientInput, type PfkeyClientOutput } from '../pfkey/client.ts';
import { satypeOf } from '../pfkey/convert.ts';
import { type Migrate, migrateToSadb, readMigrate } from '../pfkey/convert-migrate.ts';
import {
  type Acquire,
  type Expire,
  type NewMapping,
  readAcquire,
  readExpire,
  readNewMapping,
  spdToPolicy,
} from '../pfkey/convert-policy.ts';
import { readSadb, SadbError, SadbFramer, type SadbMessage, sadb, writeSadb } from '../pfkey/message.ts';
import { errnoName, OPT_IN_ALL } from '../pfkey/registry.ts';
import { clock } from './clock.ts';
import { type Driven, drive } from './drive.ts';
import { type Channel, keepConnected } from './unix-socket.ts';

export interface PfkeyHandlers {
  /** The connection stands and the server knows us, at first and after each loss: what was known may be out of date. */
  readonly onSynchronised?: () => void;
  readonly onLost?: () => void;
  /** Tunnels have moved, by our own doing too: everybody is told. */
  readonly onMigrate?: (migrate: Migrate) => void;
  /** An SA is wanted. Comes only where `register` names its protocol. */
  readonly onAcquire?: (acquire: Acquire) => void;
  readonly onExpire?: (expire: Expire) => void;
  readonly onNewMapping?: (mapping: NewMapping) => void;
  /** Everything that was not asked for, as it came: what other clients added, updated and deleted too. */
  readonly onMessage?: (message: SadbMessage) => void;
  /** What the server or a handler did wrong. Without it such things are thrown where nobody catches them. */
  readonly onError?: (error: Error) => void;
}

export interface PfkeyConnectionOptions extends PfkeyHandlers {
  /** SA protocols to hear ACQUIRE, EXPIRE and new mappings of; none unless said. */
  readonly register?: readonly SaProtocol[];
  /** `OPT_IN_*`; KMADDRESS and all private extensions unless said otherwise. */
  readonly optIn?: number;
  /** How long the first connection may take, in milliseconds; 10 s unless said otherwise. */
  readonly patienceMs?: number;
}

/** The server refused a request, or did not answer. */
export class PfkeyError extends SystemError {
  readonly errno: number;
  constructor(request: SadbMessage, errno: number) {
    super(`PF_KEY ${request.type} was answered with ${errnoName(errno)}`, errnoName(errno));
    this.errno = errno;
  }
}

/** An SPD entry as it stands in the datapath. */
export interface InstalledPolicy extends Policy {
  readonly kmAddress: KmAddress | undefined;
}

export interface PfkeyConnection {
  /** Any message. Resolves with the answers: one, or those of a dump; rejects with PfkeyError. */
  request(message: SadbMessage): Promise<readonly SadbMessage[]>;
  /** Moves a policy's tunnel and its SAs. Rejects with PfkeyError: ENOENT (no such policy), ENODATA (it does not end there), EEXIST, EINVAL. */
  migrate(migrate: Migrate): Promise<void>;
  /** The SPD. Entries that are not about packets of this host's policies (per-socket ones of a kernel) are left out. */
  policies(): Promise<readonly InstalledPolicy[]>;
  close(): void;
}

interface Request {
  readonly message: SadbMessage;
  resolve(reply: readonly SadbMessage[]): void;
  reject(error: Error): void;
}

const PATIENCE_MS = 10_000;

/** Connects to the datapath's socket (`/run/tanuki/pfkey.sock`). Rejects with SystemError where nobody answers there in time. */
export function connectPfkey(path: string, options: PfkeyConnectionOptions = {}): Promise<PfkeyConnection> {
  const connection = new Connection(path, options);
  return new Promise((resolve, reject) => {
    const patience = options.patienceMs ?? PATIENCE_MS;
    const timer = setTimeout(() => {
      connection.close();
      reject(
        new SystemError(
          `no datapath answers at ${path} within ${patience / 1000} s; is it running? (tanuki status)`,
          'ETIMEDOUT',
        ),
      );
    }, patience);
    connection.onFirst = () => {
      clearTimeout(timer);
      resolve(connection);
    };
  });
}

class Connection implements PfkeyConnection {
  onFirst: (() => void) | undefined;
  readonly #handlers: PfkeyHandlers;
  readonly #driven: Driven<PfkeyClientInput<Request>>;
  readonly #dialled: { close(): void };
  #channel: Channel | undefined;
  #closed = false;

  constructor(path: string, { register = [], optIn = OPT_IN_ALL, ...handlers }: PfkeyConnectionOptions) {
    this.#handlers = handlers;
    const machine = new PfkeyClient<Request>({ pid: process.pid, register: register.map(satypeOf), optIn, dumps: [] });
    this.#driven = drive<PfkeyClientInput<Request>, PfkeyClientOutput<Request>>({
      machine,
      now: clock(),
      tick: { kind: 'tick' },
      perform: (output) => this.#perform(output),
      report: ({ message }) => this.#failed(new SystemError(message)),
    });
    this.#dialled = keepConnected(path, (channel) => this.#connected(channel));
  }

  request(message: SadbMessage): Promise<readonly SadbMessage[]> {
    if (this.#closed) return Promise.reject(new SystemError('the PF_KEY connection is closed', 'ECONNREFUSED'));
    return new Promise((resolve, reject) => {
      this.#driven.put({ kind: 'request', message, tag: { message, resolve, reject } });
    });
  }

  async migrate(migrate: Migrate): Promise<void> {
    await this.request(migrateToSadb(migrate));
  }

  async policies(): Promise<readonly InstalledPolicy[]> {
    const messages = await this.request(sadb('X_SPDDUMP'));
    return messages.flatMap((message) => {
      const policy = readable(message, spdToPolicy);
      return policy === undefined ? [] : [{ ...policy, kmAddress: message.kmAddress }];
    });
  }

  close(): void {
    if (this.#closed) return;
    // Rejects what is under way.
    this.#driven.put({ kind: 'disconnected' });
    this.#closed = true;
    this.#driven.stop();
    this.#dialled.close();
  }

  #connected(channel: Channel) {
    const framer = new SadbFramer();
    this.#channel = channel;
    this.#driven.put({ kind: 'connected' });
    return {
      onData: (bytes: Uint8Array) => {
        try {
          for (const message of framer.push(bytes)) this.#driven.put({ kind: 'message', message: readSadb(message) });
        } catch (error) {
          if (!(error instanceof SadbError)) throw error;
          this.#failed(new SystemError(`the other end does not speak PF_KEY: ${error.message}`, 'EPROTO'));
          channel.close();
        }
      },
      onClose: () => {
        if (this.#closed) return;
        this.#channel = undefined;
        this.#driven.put({ kind: 'disconnected' });
        this.#handlers.onLost?.();
      },
    };
  }

  #perform(output: PfkeyClientOutput<Request>): void {
    switch (output.kind) {
      case 'send':
        this.#channel?.send(writeSadb(output.message));
        return;
      case 'answer': {
        const { message, resolve, reject } = output.tag;
        if (output.errno === 0) resolve(output.reply);
        else reject(new PfkeyError(message, output.errno));
        return;
      }
      case 'notification':
        this.#notified(output.message);
        return;
      case 'synchronised':
        this.onFirst?.();
        this.onFirst = undefined;
        this.#handlers.onSynchronised?.();
        return;
      case 'failed':
        this.#failed(new SystemError(output.reason));
        this.#channel?.close();
    }
  }

  #notified(message: SadbMessage): void {
    const { onMigrate, onAcquire, onExpire, onNewMapping, onMessage } = this.#handlers;
    const tell = <T>(handler: ((value: T) => void) | undefined, read: (message: SadbMessage) => T) => {
      const value = handler === undefined || message.errno !== 0 ? undefined : readable(message, read);
      if (value !== undefined) handler!(value);
    };
    if (message.type === 'X_MIGRATE') tell(onMigrate, readMigrate);
    else if (message.type === 'ACQUIRE') tell(onAcquire, readAcquire);
    else if (message.type === 'EXPIRE') tell(onExpire, readExpire);
    else if (message.type === 'X_NAT_T_NEW_MAPPING') tell(onNewMapping, readNewMapping);
    onMessage?.(message);
  }

  #failed(error: Error): void {
    const { onError } = this.#handlers;
    if (onError !== undefined) onError(error);
    else
      queueMicrotask(() => {
        throw error;
      });
  }
}

/** What a message says, or undefined where it says nothing of the kind. */
function readable<T>(message: SadbMessage, read: (message: SadbMessage) => T): T | undefined {
  try {
    return read(message);
  } catch (error) {
    if (error instanceof SadbError) return undefined;
    throw error;
  }
}
