/** How the processes of one host talk: streams that arrive in order after a moment, and a client's connection to the datapath made of two of them. */

import { readSadb, SadbFramer, type SadbMessage, writeSadb } from '../../src/pfkey/message.ts';
import type { PfkeyServerInput } from '../../src/pfkey/server.ts';
import type { Chance } from './chance.ts';
import type { Clock } from './clock.ts';

/** Milliseconds. */
const LINK_DELAY: readonly [number, number] = [0, 2];

/** One direction of a stream between two processes; what is under way is lost with it. */
export class Link {
  readonly #clock: Clock;
  readonly #chance: Chance;
  #last = 0;
  open = true;

  constructor(clock: Clock, chance: Chance) {
    this.#clock = clock;
    this.#chance = chance;
  }

  carry(act: () => void): void {
    this.#last = Math.max(this.#last, this.#clock.mono + this.#chance.between(...LINK_DELAY));
    this.#clock.at(this.#last, () => {
      if (this.open) act();
    });
  }
}

/** What a PF_KEY client's process does with its connection. */
export interface PfkeyUser {
  readonly put: (
    input: { readonly kind: 'pfkey-link'; readonly up: boolean } | { readonly kind: 'pfkey'; readonly message: SadbMessage },
  ) => void;
}

/** The host's side of it. */
export interface PfkeyHost {
  readonly world: Clock;
  readonly chance: Chance;
  /** A number for a new connection. */
  nextClient(): number;
  readonly datapathRuns: boolean;
  toDatapath(input: PfkeyServerInput): void;
}

interface Connection {
  readonly client: number;
  readonly link: Link;
  readonly back: Link;
  readonly framer: SadbFramer;
}

/** One process's way to the datapath: connected whenever both run. */
export class PfkeyPort {
  readonly #host: PfkeyHost;
  #user: PfkeyUser | undefined;
  #connection: Connection | undefined;
  /** Messages from the datapath that get lost with the connection, as in an overrun of the client's queue: all while this holds. */
  deaf = false;

  constructor(host: PfkeyHost) {
    this.#host = host;
  }

  /** The process has started. */
  open(user: PfkeyUser): void {
    this.#user = user;
    this.connect();
  }

  /** The process is gone. */
  close(): void {
    this.drop();
    this.#user = undefined;
  }

  connect(): void {
    const { world, chance } = this.#host;
    if (this.#user === undefined || this.#connection !== undefined || !this.#host.datapathRuns) return;
    const connection = {
      client: this.#host.nextClient(),
      link: new Link(world, chance),
      back: new Link(world, chance),
      framer: new SadbFramer(),
    };
    this.#connection = connection;
    connection.link.carry(() => this.#host.toDatapath({ kind: 'connect', client: connection.client }));
    connection.back.carry(() => this.#user?.put({ kind: 'pfkey-link', up: true }));
  }

  /** The connection breaks: the datapath is gone, or has closed it. */
  drop(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#connection = undefined;
    connection.link.open = false;
    connection.back.open = false;
    this.#host.toDatapath({ kind: 'disconnect', client: connection.client });
    this.#user?.put({ kind: 'pfkey-link', up: false });
  }

  send(message: SadbMessage): void {
    const connection = this.#connection;
    const bytes = writeSadb(message);
    connection?.link.carry(() => this.#host.toDatapath({ kind: 'bytes', client: connection.client, bytes }));
  }

  /** The datapath says something to a client, perhaps this one. */
  received(client: number, bytes: Uint8Array): void {
    const connection = this.#connection;
    if (connection?.client !== client || this.deaf) return;
    connection.back.carry(() => {
      for (const message of connection.framer.push(bytes)) this.#user?.put({ kind: 'pfkey', message: readSadb(message) });
    });
  }

  /** The datapath has closed a client's connection, perhaps this one's. */
  closed(client: number): void {
    if (this.#connection?.client !== client) return;
    this.drop();
    this.connect();
  }
}
