/** What there is with one peer: its epoch, our clock's difference, the pairs of SAs, and the transactions of both sides (RFC 4430 §3.5, §3.7). */

import type { NamedSa } from '../src/ipsec/sa.ts';
import type { Details, KeyEventName } from '../src/keying/events.ts';
import { type HookEvent, hookFor } from '../src/keying/hooks.ts';
import type { PairOwner } from '../src/keying/sa-pair.ts';
import { earliest, Timers } from '../src/machine.ts';
import type { Path } from '../src/net/address.ts';
import type { Answer } from './answer.ts';
import type { KinkdEventName } from './events.ts';
import type { Host } from './host.ts';
import { showPrincipal } from './krb5/principal.ts';
import type { KinkPair } from './pair.ts';
import type { Peer } from './peers.ts';
import type { Transaction } from './transaction.ts';

/** Answers that are remembered of one peer; one whose ACK is still awaited is never forgotten for another. */
const MOST_ANSWERS = 64;

export class Association implements PairOwner {
  readonly host: Host;
  peer: Peer;
  /** Where the peer was heard last, or will be asked first. */
  path: Path;
  /** The peer's, once it was heard: since when it is known (`mono`), and the newest time of the peer's that showed it, in microseconds. */
  EPOCH: { readonly value: number; readonly since: number; readonly ctime?: number } | undefined;
  /** How far the peer's clock is ahead of ours, where it said so authentically (KRB_AP_ERR_SKEW). Milliseconds. */
  offsetMs = 0;
  /** The ticket at hand may be of no use to the peer: the next one is a fresh one. */
  ticketSuspect = false;
  pairs: KinkPair[] = [];
  /** Commands of ours, by XID. */
  readonly transactions = new Map<number, Transaction>();
  /** Answers to commands of the peer's, by XID, oldest first. */
  readonly answers = new Map<number, Answer>();
  /** SAs of ours that are gone, and the peer did not answer that it knows: it is told once it is heard (`mono` later than `since`). */
  untold: { readonly sas: readonly NamedSa[]; readonly since: number; readonly why: string } | undefined;
  /** When an authentic message or traffic of the peer's came last, `mono`. */
  heard: number;
  /** Looks at its life in a row that traffic made needless. */
  vouched = 0;
  readonly timers = new Timers<
    /** Liveness is looked at. */
    'probe'
  >();
  closed = false;

  constructor(host: Host, peer: Peer, path: Path) {
    this.host = host;
    this.peer = peer;
    this.path = path;
    this.heard = host.now.mono;
  }

  /** The short name that every line of its story carries. */
  get name(): string {
    return `kink:${showPrincipal(this.peer.peersPrincipal)}`;
  }

  report(name: KinkdEventName | KeyEventName, message: string, details: Details = {}): void {
    this.host.report(name, message, { sa: this.name, remote: this.peer.name, ...details });
  }

  /** Runs the script that the remote names for the event. */
  hook(event: HookEvent, environment: Readonly<Record<string, string>>): void {
    for (const output of hookFor(this.peer.kink.scripts, event, this.name, environment)) this.host.emit(output);
  }

  /** The pair that sends to the peer through this SA. */
  outbound(sa: NamedSa): KinkPair | undefined {
    return sa.spi === 0 ? undefined : this.pairs.find((pair) => pair.has('outbound', sa));
  }

  /** Whether another pair carries this one's traffic. */
  carriedBesides(pair: KinkPair): boolean {
    return this.pairs.some((other) => other !== pair && other.policy.name === pair.policy.name && other.usable);
  }

  /** Remembers an answer, and forgets the oldest finished one where there are too many. False where all are unfinished. */
  keep(answer: Answer): boolean {
    if (this.answers.size >= MOST_ANSWERS) {
      const finished = [...this.answers.values()].find(({ stage }) => stage === 'answered');
      if (finished === undefined) return false;
      this.answers.delete(finished.XID);
      finished.closed = true;
    }
    this.answers.set(answer.XID, answer);
    return true;
  }

  /** Nothing is left that would have to be remembered but the epoch. */
  get idle(): boolean {
    return this.pairs.length === 0 && this.transactions.size === 0;
  }

  wakeAt(): number | undefined {
    return earliest(
      this.timers.next(),
      ...this.pairs.flatMap(({ retireAt, rekeyAt }) => [retireAt, rekeyAt]),
      ...[...this.transactions.values()].map(({ deadline }) => deadline),
      ...[...this.answers.values()].map(({ deadline }) => deadline),
    );
  }
}
