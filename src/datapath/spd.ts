/** The Security Policy Database (RFC 4301 §4.4.1): ordered entries by direction. */

import {
  hasEnds,
  type KmAddress,
  type Policy,
  type PolicyDirection,
  type PolicySelector,
  samePolicySelector,
  sameTunnel,
  type Template,
} from '../ipsec/policy.ts';
import type { Instant } from '../machine.ts';
import type { IpPacket } from '../net/ip-packet.ts';
import { Deadlines } from './deadlines.ts';
import { PolicyMatcher } from './matcher.ts';
import type { Sa } from './sa.ts';
import { placeIn, SpdIndex } from './spd-index.ts';

/** The direction's number in PF_KEY policy ids: id modulo 8. */
const DIRECTION_INDEX: Readonly<Record<PolicyDirection, number>> = { inbound: 0, outbound: 1, forward: 2 };

/** One entry as the engine keeps it; only `Spd` and the packet path write it. */
export class SpdEntry {
  policy: Policy;
  readonly added: Instant;
  /** When it goes by itself, in `mono` milliseconds; Infinity: never. */
  readonly expiresAt: number;
  /** Packets that it decided about, and when the last did (`wall`; 0: never). */
  hits = 0;
  lastHit = 0;
  /** The first template, which is the only one but in a bundle; undefined where nothing is protected. */
  template: Template | undefined;
  /** Where key management talks about its SAs, since the last X_MIGRATE that told it. */
  kmAddress: KmAddress | undefined;
  /** Whether packets take the slower lane: AH, IPComp, several SAs for one packet. */
  readonly isBundle: boolean;
  /** Changes with the SAs that it may use: what was decided under another stamp counts no more. */
  stamp = 0;
  /** Whether it names ports, or types of messages, which later fragments do not have (RFC 4301 §7). */
  readonly selectsPorts: boolean;
  readonly #matcher: PolicyMatcher;
  /** Ties of priority are decided by who came first. */
  readonly order: number;

  constructor(policy: Policy, seconds: number, added: Instant, order: number, kmAddress: KmAddress | undefined) {
    this.policy = policy;
    this.added = { mono: added.mono, wall: added.wall };
    this.expiresAt = seconds === 0 ? Infinity : added.mono + 1000 * seconds;
    this.order = order;
    this.template = policy.templates[0];
    this.kmAddress = kmAddress;
    this.isBundle = policy.templates.length > 1 || (this.template !== undefined && this.template.protocol !== 'esp');
    const { sourcePort, destinationPort, portRanges } = policy.selector;
    this.selectsPorts = sourcePort !== 0 || destinationPort !== 0 || portRanges !== undefined;
    this.#matcher = new PolicyMatcher(policy.selector);
  }

  matches(packet: IpPacket): boolean {
    return this.#matcher.matches(packet);
  }

  /** Whether it may match the whole packet that a fragment is part of. */
  couldMatch(packet: IpPacket): boolean {
    return this.#matcher.couldMatch(packet);
  }

  /** Whether it demands an SA like this one, and no other with it. */
  asksFor(sa: Sa): boolean {
    return this.asksForAll([sa]);
  }

  /** Whether an SA like this one is among those that it demands. */
  names(sa: Sa): boolean {
    return this.policy.templates.some((template) => demands(template, sa));
  }

  /** Whether a packet that came through these SAs, outermost first, came through all that it demands and nothing else (RFC 4301 §5.2 step 4). */
  asksForAll(bundle: readonly Sa[]): boolean {
    const { templates } = this.policy;
    let next = bundle.length - 1;
    for (const template of templates) {
      if (next >= 0 && demands(template, bundle[next]!)) next--;
      // What would not have become shorter was not compressed (RFC 3173 §2.2).
      else if (template.level !== 'use' && template.protocol !== 'ipcomp') return false;
    }
    return templates.length > 0 && next < 0;
  }
}

/** Protocol, mode, reqid (0: any) and, where the template names them, endpoints. */
function demands(template: Template, { parameters }: Sa): boolean {
  const { protocol, mode, reqid, source, destination } = parameters;
  if (template.protocol !== protocol || template.mode !== mode) return false;
  return (template.reqid === 0 || template.reqid === reqid) && hasEnds(template, source, destination);
}

export class Spd {
  /** Changes whenever an entry comes or goes. */
  generation = 0;
  readonly #byId = new Map<number, SpdEntry>();
  readonly #ordered: Record<PolicyDirection, SpdEntry[]> = { inbound: [], outbound: [], forward: [] };
  readonly #index: Record<PolicyDirection, SpdIndex<SpdEntry>> = {
    inbound: new SpdIndex(),
    outbound: new SpdIndex(),
    forward: new SpdIndex(),
  };
  /** By the reqids of their templates; 0 is any. */
  readonly #byReqid = new Map<number, Set<SpdEntry>>();
  readonly #deadlines = new Deadlines<SpdEntry>();
  #nextIndex = 0;
  #nextOrder = 1;

  get size(): number {
    return this.#byId.size;
  }

  /** Every entry, in order of ids. */
  entries(): readonly SpdEntry[] {
    return [...this.#byId.values()].sort((a, b) => a.policy.id - b.policy.id);
  }

  /** The entries of a direction in the order in which they are tried. */
  ordered(direction: PolicyDirection): readonly SpdEntry[] {
    return this.#ordered[direction];
  }

  byId(id: number): SpdEntry | undefined {
    return this.#byId.get(id);
  }

  bySelector(direction: PolicyDirection, selector: PolicySelector): SpdEntry | undefined {
    return this.#index[direction].alike(selector).find((entry) => samePolicySelector(entry.policy.selector, selector));
  }

  /**
   * Adds an entry, or puts it in the place of `replaced`, whose id, age and order it takes over. The id follows PF_KEY's usage: a running
   * number times 8 and the direction. `seconds` is its life; 0: for ever. Where key management talks is kept while the tunnel's ends are the same.
   */
  add(policy: Policy, seconds: number, now: Instant, replaced?: SpdEntry, kmAddress?: KmAddress): SpdEntry {
    if (replaced !== undefined) this.remove(replaced);
    const id = replaced?.policy.id ?? this.#newId(policy.direction);
    const order = replaced?.order ?? this.#nextOrder++;
    const kept = replaced !== undefined && sameTunnel(replaced.policy, policy) ? replaced.kmAddress : undefined;
    const entry = new SpdEntry({ ...policy, id }, seconds, now, order, kmAddress ?? kept);
    this.#byId.set(id, entry);
    const list = this.#ordered[policy.direction];
    list.splice(placeIn(list, entry), 0, entry);
    this.#index[policy.direction].add(entry);
    this.#bindReqids(entry);
    this.#deadlines.set(entry, entry.expiresAt);
    this.generation++;
    return entry;
  }

  /** As Linux counts: from 1 for an outbound entry; there is no 0. */
  #newId(direction: PolicyDirection): number {
    const id = this.#nextIndex++ * 8 + DIRECTION_INDEX[direction];
    return id === 0 ? this.#newId(direction) : id;
  }

  /** Gives an entry other templates in its place, after a movement: id, age, order and hits stay. */
  retarget(entry: SpdEntry, templates: readonly Template[], kmAddress: KmAddress | undefined): void {
    this.#unbindReqids(entry);
    entry.policy = { ...entry.policy, templates };
    this.#bindReqids(entry);
    entry.template = templates[0];
    entry.kmAddress = kmAddress;
    this.generation++;
  }

  remove(entry: SpdEntry): void {
    this.#byId.delete(entry.policy.id);
    const { direction } = entry.policy;
    const list = this.#ordered[direction];
    list.splice(placeIn(list, entry), 1);
    this.#index[direction].remove(entry);
    this.#unbindReqids(entry);
    this.#deadlines.delete(entry);
    this.generation++;
  }

  /** SAs of this reqid have come, gone or changed. */
  touch(reqid: number): void {
    for (const entry of this.#byReqid.get(reqid) ?? []) entry.stamp++;
    if (reqid !== 0) for (const entry of this.#byReqid.get(0) ?? []) entry.stamp++;
  }

  /** When the next entry goes by itself (`mono`); and those that are due, which the caller removes. */
  get nextExpiry(): number {
    return this.#deadlines.next;
  }

  expired(mono: number): SpdEntry | undefined {
    return this.#deadlines.take(mono);
  }

  /** The first entry of the direction that matches, without any cache. */
  match(direction: PolicyDirection, packet: IpPacket): SpdEntry | undefined {
    return this.#index[direction].match(packet);
  }

  /** The first that matches and demands these SAs and no others. */
  matchFor(sas: readonly Sa[], direction: PolicyDirection, packet: IpPacket): SpdEntry | undefined {
    return this.#index[direction].match(packet, (entry) => entry.asksForAll(sas));
  }

  /** The first that may match the whole packet that a fragment is part of; and that demands these SAs, where they are given. */
  couldMatch(direction: PolicyDirection, packet: IpPacket, sas?: readonly Sa[]): SpdEntry | undefined {
    return this.#index[direction].match(packet, sas && ((entry) => entry.asksForAll(sas)), true);
  }

  /** Entries that look-ups have matched so far. */
  get candidates(): number {
    return this.#index.inbound.candidates + this.#index.outbound.candidates + this.#index.forward.candidates;
  }

  #bindReqids(entry: SpdEntry): void {
    for (const { reqid } of entry.policy.templates) {
      const entries = this.#byReqid.get(reqid);
      if (entries === undefined) this.#byReqid.set(reqid, new Set([entry]));
      else entries.add(entry);
    }
  }

  #unbindReqids(entry: SpdEntry): void {
    for (const { reqid } of entry.policy.templates) {
      const entries = this.#byReqid.get(reqid);
      entries?.delete(entry);
      if (entries?.size === 0) this.#byReqid.delete(reqid);
    }
  }
}
