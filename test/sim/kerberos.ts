/** Kerberos in the simulator: a KDC that is sometimes away, and each host's keytab, ticket cache and file of the replay cache. */

import { type Credential, lasts } from '../../kinkd/krb5/credential.ts';
import { enctype } from '../../kinkd/krb5/enctypes.ts';
import { Keytab, type KeytabEntry } from '../../kinkd/krb5/keytab.ts';
import { type Principal, parsePrincipal, showPrincipal } from '../../kinkd/krb5/principal.ts';
import { issueTicket } from '../../kinkd/krb5/stand-in-kdc.ts';
import type { KinkdOutput, TicketAnswer, TicketQuestion } from '../../kinkd/ports.ts';
import { cat } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { Chance } from './chance.ts';
import type { Clock } from './clock.ts';
import { principalText } from './policy-text.ts';

const ETYPE = 18;
/** Until a client gives up on a KDC that is away. Milliseconds. */
const PATIENCE_MS = 10_000;

/** The KDC of everybody. Its clock is the world's. */
export class SimKdc {
  readonly #clock: Clock;
  readonly #chance: Chance;
  readonly #ticketSeconds: number;
  /** How many outages are in force. */
  #outages = 0;

  constructor(clock: Clock, chance: Chance, ticketSeconds: number) {
    this.#clock = clock;
    this.#chance = chance;
    this.#ticketSeconds = ticketSeconds;
  }

  stop(milliseconds: number): void {
    this.#outages++;
    this.#clock.after(milliseconds, () => this.#outages--);
  }

  /** A ticket, after a while, or undefined after a longer one. */
  ask(client: Principal, server: Principal, answer: (ticket: Credential | undefined) => void): void {
    this.#clock.after(this.#chance.between(2, 60), () => {
      if (this.#outages > 0) return this.#clock.after(PATIENCE_MS, () => answer(undefined));
      const starttime = Math.floor(this.#clock.now().wall / 1000);
      const sessionKey = { etype: ETYPE, key: new Secret(this.#chance.bytes(enctype(ETYPE).keyBytes)) } as const;
      const terms = { client, server, serverKey: keyOf(server), sessionKey, starttime, endtime: starttime + this.#ticketSeconds };
      answer(issueTicket(terms, this.#chance.bytes));
    });
  }
}

/** What a host keeps for its kinkd. */
export class KerberosFiles {
  readonly #kdc: SimKdc;
  readonly #wall: () => number;
  readonly #tickets = new Map<string, Credential>();
  /** The file of the replay cache. */
  replays: Uint8Array | undefined;

  constructor(kdc: SimKdc, wall: () => number) {
    this.#kdc = kdc;
    this.#wall = wall;
  }

  keytabOf(node: string): Keytab {
    return new Keytab([keyOf(parsePrincipal(principalText(node)))]);
  }

  /** Appended, or written anew. */
  write(output: Extract<KinkdOutput, { kind: 'replays' }>): void {
    this.replays = 'whole' in output ? output.whole : cat(this.replays ?? new Uint8Array(0), output.record);
  }

  /** Out of the cache, or from the KDC. */
  ticket({ id, question: { client, server, fresh } }: TicketQuestion, answer: (input: TicketAnswer) => void): void {
    const name = showPrincipal(server);
    const known = this.#tickets.get(name);
    if (known !== undefined && !fresh && lasts(known, this.#wall())) return answer({ kind: 'answer', id, ticket: copyOf(known) });
    this.#kdc.ask(client, server, (ticket) => {
      if (ticket === undefined) return answer({ kind: 'answer', id, ticket: undefined, why: 'no KDC answered' });
      this.#tickets.set(name, ticket);
      answer({ kind: 'answer', id, ticket: copyOf(ticket) });
    });
  }
}

/** Each transaction wipes the session key that it was given. */
function copyOf(ticket: Credential): Credential {
  return { ...ticket, key: { ...ticket.key, key: new Secret(ticket.key.key.reveal().slice()) } };
}

/** The long-term key of a principal, the same wherever it is asked for. */
function keyOf(principal: Principal): KeytabEntry {
  const seed = [...showPrincipal(principal)].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) >>> 0, ETYPE);
  return { principal, kvno: 2, etype: ETYPE, key: new Secret(new Chance(seed).bytes(enctype(ETYPE).keyBytes)) };
}
