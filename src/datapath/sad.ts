/** The Security Association Database (RFC 4301 §4.4.2): SAs by SPI for what comes in, by policy template for what goes out. */

import type { PacketCipher } from '../crypto/packet-cipher.ts';
import { type Ends, endsOf, hasEnds, type Template } from '../ipsec/policy.ts';
import type { SaParameters, SaProtocol, Spi } from '../ipsec/sa.ts';
import type { Instant } from '../machine.ts';
import type { IpAddress, Path } from '../net/address.ts';
import type { IpPacket } from '../net/ip-packet.ts';
import { Deadlines } from './deadlines.ts';
import { holds } from './matcher.ts';
import { Paths } from './paths.ts';
import { PathMtus } from './pmtu.ts';
import { movedTo } from './recent-movements.ts';
import { hasWords, type Larval, Sa } from './sa.ts';

/** The database. SAs are found by SPI through a table of integers, so that an SPI above 2^30 costs no object. */
export class Sad {
  readonly paths = new Paths();
  readonly pathMtus: PathMtus;
  readonly #cipher: PacketCipher;
  readonly #sas = new Set<Sa>();
  readonly #byReqid = new Map<number, Sa[]>();
  /** By a hash of the destination: for templates that have no reqid. */
  readonly #byDestination = new Map<number, Sa[]>();
  /** GETSPI gives an SPI to one only. */
  readonly #larvals = new Map<Spi, Larval>();
  readonly #deadlines = new Deadlines<Sa>();
  readonly #larvalDeadlines = new Deadlines<Larval>();
  /** When those that are on hold are let go in any case. */
  readonly #holds = new Deadlines<Sa>();
  /** SAs of AH and IPComp by SPI, apart, so that nothing that comes as ESP is ever opened with their keys. */
  readonly #others = new Map<Spi, Sa[]>();
  /** SAs that look-ups of outbound SAs have looked at, for tests of what one costs. */
  candidates = 0;
  /** What SAs have carried that are gone. */
  readonly gone = { inbound: { packets: 0, bytes: 0 }, outbound: { packets: 0, bytes: 0 } };
  #keys = new Int32Array(64);
  #slots: (Sa | undefined)[] = new Array<Sa | undefined>(64).fill(undefined);
  #serial = 0;
  /** The largest `padTo` that any SA has had: there must be room for it. */
  padTo = 0;

  constructor(cipher: PacketCipher, pathMtus = new PathMtus()) {
    this.#cipher = cipher;
    this.pathMtus = pathMtus;
  }

  get size(): number {
    return this.#sas.size;
  }

  get all(): Iterable<Sa> {
    return this.#sas;
  }

  get larvals(): Iterable<Larval> {
    return this.#larvals.values();
  }

  /**
   * The SA that a received packet names: SPI and, where there are several of that SPI, destination (in words), RFC 4301 §4.1. With
   * `anyDestination` the outer destination is not known. SAs in use for the other direction do not count, and one that has moved is found at its
   * former end for a time.
   */
  inbound(spi: number, destination: Int32Array, anyDestination: boolean, mono: number): Sa | undefined {
    const key = spi | 0;
    const mask = this.#keys.length - 1;
    for (let at = place(key) & mask; ; at = (at + 1) & mask) {
      const sa = this.#slots[at];
      if (sa === undefined) return undefined;
      if (this.#keys[at] !== key || sa.direction === 'outbound') continue;
      if (anyDestination || hasWords(sa.destination, destination) || sa.endedAt(destination, mono)) return sa;
    }
  }

  /** The same for a protocol other than ESP, whose packets always tell their destination. */
  inboundOf(protocol: SaProtocol, spi: Spi, destination: Int32Array, mono: number): Sa | undefined {
    for (const sa of this.#others.get(spi) ?? NO_SAS) {
      if (sa.direction === 'outbound' || sa.parameters.protocol !== protocol) continue;
      if (hasWords(sa.destination, destination) || sa.endedAt(destination, mono)) return sa;
    }
    return undefined;
  }

  /** Whether an inbound tunnel of IPComp ends at the packet's ends: what would not become shorter comes through it as it is. */
  hasIpcompTunnel(packet: IpPacket): boolean {
    for (const sas of this.#others.values())
      for (const sa of sas)
        if (sa.parameters.protocol === 'ipcomp' && sa.tunnel && sa.direction !== 'outbound' && endsAt(sa, packet)) return true;
    return false;
  }

  /** Whether any SA has the SPI, or it is set aside. */
  hasSpi(spi: Spi): boolean {
    if (this.#larvals.has(spi) || this.#others.has(spi)) return true;
    const key = spi | 0;
    const mask = this.#keys.length - 1;
    let at = place(key) & mask;
    while (this.#slots[at] !== undefined && this.#keys[at] !== key) at = (at + 1) & mask;
    return this.#slots[at] !== undefined;
  }

  /** By name: SPI, protocol and destination. */
  find(spi: Spi, protocol: SaProtocol, destination: IpAddress): Sa | undefined {
    if (protocol !== 'esp') {
      return this.#others
        .get(spi)
        ?.find(({ parameters }) => parameters.protocol === protocol && parameters.destination.equals(destination));
    }
    const key = spi | 0;
    const mask = this.#keys.length - 1;
    for (let at = place(key) & mask; ; at = (at + 1) & mask) {
      const sa = this.#slots[at];
      if (sa === undefined) return undefined;
      if (this.#keys[at] === key && sa.parameters.destination.equals(destination)) return sa;
    }
  }

  /** The SA that had this name before it moved, however long ago: a daemon that has not heard of it may still use it. */
  formerly(spi: Spi, protocol: SaProtocol, destination: IpAddress): Sa | undefined {
    if (protocol !== 'esp')
      return this.#others.get(spi)?.find((sa) => sa.parameters.protocol === protocol && sa.hasEndedAt(destination));
    const key = spi | 0;
    const mask = this.#keys.length - 1;
    for (let at = place(key) & mask; ; at = (at + 1) & mask) {
      const sa = this.#slots[at];
      if (sa === undefined) return undefined;
      if (this.#keys[at] === key && sa.hasEndedAt(destination)) return sa;
    }
  }

  /**
   * The SA for an outbound packet under a policy's template (RFC 4301 §4.4.2): same reqid (a template without one takes any), mode and endpoints, and
   * selectors that cover the packet. The newest wins, so that traffic moves to a rekeyed SA at once (RFC 7296 §2.8); one whose soft limit
   * is reached serves only where there is no other. `outer`: the SA whose tunnel the packet is in by then; `without`: SAs that do not count.
   */
  outbound(template: Template, packet: IpPacket, outer?: Sa, without: ReadonlySet<Sa> = NONE): Sa | undefined {
    const candidates = this.#candidates(template, packet, outer);
    let dying: Sa | undefined;
    for (let i = candidates.length - 1; i >= 0; i--) {
      const sa = candidates[i]!;
      this.candidates++;
      if (sa.direction === 'inbound' || sa.state === 'dead' || sa.onHold || without.has(sa)) continue;
      if (!fits(sa, template, packet, outer)) continue;
      if (outer === undefined && !holds(sa.parameters.selectors, packet)) continue;
      if (sa.state === 'mature') return sa;
      dying ??= sa;
    }
    return dying;
  }

  /**
   * The SAs of the reqid or of the destination (the tunnel's end, or the packet's), whichever are fewer, the newest last. Only a tunnel to anywhere
   * without a reqid must look at all.
   */
  #candidates(template: Template, packet: IpPacket, outer: Sa | undefined): readonly Sa[] {
    const ofReqid = template.reqid === 0 ? undefined : (this.#byReqid.get(template.reqid) ?? NO_SAS);
    const ends = endsOf(template);
    let hash: number;
    if (template.mode === 'transport')
      hash = outer === undefined ? hashOf(packet.destination0, packet.destination3) : hashOfAddress(outer.destination);
    else if (ends === undefined || ends.destination.isUnspecified) return ofReqid ?? [...this.#sas];
    else hash = hashOfAddress(ends.destination);
    const ofDestination = this.#byDestination.get(hash) ?? NO_SAS;
    return ofReqid !== undefined && ofReqid.length <= ofDestination.length ? ofReqid : ofDestination;
  }

  /** Whether any SA serves the template at all, for whichever packets. */
  hasOutbound(template: Template): boolean {
    return this.#ofTemplate(template, false) !== undefined;
  }

  /** An SA that would serve the template, but is on hold. */
  heldOutbound(template: Template): Sa | undefined {
    return this.#holds.size === 0 ? undefined : this.#ofTemplate(template, true);
  }

  #ofTemplate(template: Template, onHold: boolean): Sa | undefined {
    for (const sa of this.#byReqid.get(template.reqid) ?? NO_SAS) {
      const { protocol, mode } = sa.parameters;
      if (sa.direction === 'inbound' || sa.onHold !== onHold) continue;
      if (protocol === template.protocol && mode === template.mode) return sa;
    }
    return undefined;
  }

  /** Nothing goes through an outbound SA until `letGo`, or until then (`mono` milliseconds): its packets wait for another SA. */
  hold(sa: Sa, until: number): void {
    if (sa.onHold) return;
    sa.onHold = true;
    this.#holds.set(sa, until);
  }

  letGo(sa: Sa): void {
    sa.onHold = false;
    this.#holds.delete(sa);
  }

  /** An SA that was on hold for as long as it may. */
  takeDueHold(mono: number): Sa | undefined {
    const sa = this.#holds.take(mono);
    if (sa !== undefined) sa.onHold = false;
    return sa;
  }

  /** Adds an SA with its counters at zero. `lived`: milliseconds of its life that are over already. */
  add(parameters: SaParameters, direction: Sa['direction'], iv: { high: number; low: number }, now: Instant, lived = 0): Sa {
    const sa = this.#enter(parameters, now, lived);
    sa.direction = direction;
    sa.ivHigh = iv.high;
    sa.ivLow = iv.low;
    return sa;
  }

  /**
   * Gives an SA other parameters (addresses, ports, lifetimes, selectors) while it goes on as it is: keys, sequence numbers, window, counters and
   * age stay. It is never two at once, so no number is used twice.
   */
  replace(sa: Sa, parameters: SaParameters, born: Instant): Sa {
    const { suite, encrKey, integKey } = sa.parameters;
    this.#leave(sa);
    const next = this.#enter({ ...parameters, suite, encrKey, integKey, extendedSequence: sa.extended }, born, 0);
    next.direction = sa.direction;
    next.ivHigh = sa.ivHigh;
    next.ivLow = sa.ivLow;
    next.sequence = sa.sequence;
    next.window = sa.window;
    next.sealHandle = sa.sealHandle;
    next.openHandle = sa.openHandle;
    next.packets = sa.packets;
    next.bytes = sa.bytes;
    next.inheritEnds(sa);
    next.firstUse = sa.firstUse;
    next.lastUse = sa.lastUse;
    return next;
  }

  /**
   * Moves SAs to other ends: the same objects with their keys, cipher contexts, sequence numbers, windows, counters, lifetimes and age. UDP encapsulation
   * keeps its ports. Until `graceUntil` packets to the former ends are taken. Nobody else may have the new names.
   */
  move(moves: readonly { readonly sa: Sa; readonly to: Ends }[], graceUntil: number): void {
    for (const { sa, to } of moves) {
      const former = { source: sa.source, destination: sa.destination };
      sa.parameters = movedTo(sa.parameters, to);
      const path = this.paths.acquire(pathOf(sa.parameters));
      this.paths.release(sa.path);
      sa.path = path;
      sa.source = to.source;
      take(this.#byDestination, hashOfAddress(sa.destination), sa);
      sa.destination = to.destination;
      put(this.#byDestination, hashOfAddress(sa.destination), sa);
      sa.rememberEnds(former, graceUntil);
      this.pathMtus.apply(sa);
    }
  }

  #enter(parameters: SaParameters, now: Instant, lived: number): Sa {
    const path = this.paths.acquire(pathOf(parameters));
    const sa = new Sa(parameters, ++this.#serial, path, now, lived);
    this.pathMtus.apply(sa);
    this.#sas.add(sa);
    this.padTo = Math.max(this.padTo, sa.padTo);
    put(this.#byReqid, parameters.reqid, sa);
    put(this.#byDestination, hashOfAddress(sa.destination), sa);
    this.schedule(sa);
    if (parameters.protocol !== 'esp') put(this.#others, sa.spi, sa);
    else if (2 * this.#sas.size > this.#keys.length) this.#rebuild(2 * this.#keys.length);
    else this.#insert(sa);
    return sa;
  }

  /** Takes an SA out and forgets its keys. */
  remove(sa: Sa): void {
    if (!this.#sas.has(sa)) return;
    this.#leave(sa);
    const gone = this.gone[sa.direction === 'inbound' ? 'inbound' : 'outbound'];
    gone.packets += sa.packets;
    gone.bytes += sa.bytes;
    if (sa.sealHandle >= 0) this.#cipher.destroy(sa.sealHandle);
    if (sa.openHandle >= 0) this.#cipher.destroy(sa.openHandle);
    sa.sealHandle = -1;
    sa.openHandle = -1;
    sa.parameters.encrKey.wipe();
    sa.parameters.integKey?.wipe();
  }

  #leave(sa: Sa): void {
    this.#sas.delete(sa);
    sa.state = 'dead';
    take(this.#byReqid, sa.parameters.reqid, sa);
    take(this.#byDestination, hashOfAddress(sa.destination), sa);
    this.#deadlines.delete(sa);
    if (sa.onHold) this.letGo(sa);
    this.paths.release(sa.path);
    if (sa.parameters.protocol === 'esp') this.#erase(sa);
    else take(this.#others, sa.spi, sa);
  }

  /** Makes the keys of an SA ready at its first packet in a direction; false where the cipher cannot. */
  prepare(sa: Sa, direction: 'inbound' | 'outbound'): boolean {
    const { suite, encrKey, integKey } = sa.parameters;
    if (!this.canRun(sa)) return false;
    if (direction === 'inbound') sa.openHandle = this.#cipher.create(suite, 'open', encrKey, integKey);
    else sa.sealHandle = this.#cipher.create(suite, 'seal', encrKey, integKey);
    return true;
  }

  /** Whether it is there, and the cipher has its algorithms. */
  canRun({ state, parameters }: Sa): boolean {
    return state !== 'dead' && this.#cipher.supports(parameters.suite);
  }

  /** Plans the next that time does to an SA: its soft limit, until that is reached, and its hard one. */
  schedule(sa: Sa): void {
    this.#deadlines.set(sa, sa.state === 'mature' ? Math.min(sa.softAt, sa.hardAt) : sa.hardAt);
  }

  /** When that is for the next SA, larval SA or hold, in `mono` milliseconds. */
  get nextDue(): number {
    return Math.min(this.#deadlines.next, this.#larvalDeadlines.next, this.#holds.next);
  }

  /** An SA whose soft or hard limit is reached; the caller schedules or removes it. */
  takeDue(mono: number): Sa | undefined {
    return this.#deadlines.take(mono);
  }

  /** A larval SA whose time is over, which is gone. */
  takeDueLarval(mono: number): Larval | undefined {
    const larval = this.#larvalDeadlines.take(mono);
    if (larval !== undefined) this.#larvals.delete(larval.spi);
    return larval;
  }

  larval(spi: Spi, protocol: SaProtocol, destination: IpAddress): Larval | undefined {
    const larval = this.#larvals.get(spi);
    return larval?.protocol === protocol && larval.destination.equals(destination) ? larval : undefined;
  }

  /** The larval SA that a packet of ESP to `destination`, in words, is for; undefined: that is not known. */
  larvalInbound(spi: Spi, destination: Int32Array | undefined): Larval | undefined {
    const larval = this.#larvals.get(spi);
    if (larval?.protocol !== 'esp') return undefined;
    if (destination === undefined || hasWords(larval.destination, destination)) return larval;
    return larval.former !== undefined && hasWords(larval.former, destination) ? larval : undefined;
  }

  addLarval(larval: Larval): void {
    this.#larvals.set(larval.spi, larval);
    this.#larvalDeadlines.set(larval, larval.expiresAt);
  }

  /** The larval SA that had this name before it moved. */
  larvalFormerly(spi: Spi, protocol: SaProtocol, destination: IpAddress): Larval | undefined {
    const larval = this.#larvals.get(spi);
    return larval?.protocol === protocol && larval.former?.equals(destination) ? larval : undefined;
  }

  removeLarval(larval: Larval): void {
    if (this.#larvals.get(larval.spi) === larval) this.#larvals.delete(larval.spi);
    this.#larvalDeadlines.delete(larval);
  }

  #insert(sa: Sa): void {
    const mask = this.#keys.length - 1;
    let at = place(sa.spi | 0) & mask;
    while (this.#slots[at] !== undefined) at = (at + 1) & mask;
    this.#keys[at] = sa.spi | 0;
    this.#slots[at] = sa;
  }

  /** Takes an SA out of the open-addressed table, and moves up what was displaced by it. */
  #erase(sa: Sa): void {
    const mask = this.#keys.length - 1;
    let hole = place(sa.spi | 0) & mask;
    while (this.#slots[hole] !== sa) hole = (hole + 1) & mask;
    for (let at = (hole + 1) & mask; this.#slots[at] !== undefined; at = (at + 1) & mask) {
      const home = place(this.#keys[at]!) & mask;
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      this.#keys[hole] = this.#keys[at]!;
      this.#slots[hole] = this.#slots[at];
      hole = at;
    }
    this.#slots[hole] = undefined;
  }

  #rebuild(size: number): void {
    this.#keys = new Int32Array(size);
    this.#slots = new Array<Sa | undefined>(size).fill(undefined);
    for (const sa of this.#sas) if (sa.parameters.protocol === 'esp') this.#insert(sa);
  }
}

const NO_SAS: readonly Sa[] = [];
const NONE: ReadonlySet<Sa> = new Set();

function pathOf({ source, destination, encapsulation }: SaParameters): Path {
  return {
    local: encapsulation?.source ?? { address: source, port: 0 },
    remote: encapsulation?.destination ?? { address: destination, port: 0 },
    encapsulated: encapsulation !== undefined,
  };
}

function place(spi: number): number {
  const h = Math.imul(spi ^ (spi >>> 16), 0x9e3779b1);
  return h ^ (h >>> 15);
}

/** Lists are in the order of serials. */
function put(lists: Map<number, Sa[]>, key: number, sa: Sa): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [sa]);
  else if (list.at(-1)!.serial < sa.serial) list.push(sa);
  else list.splice(placeIn(list, sa), 0, sa);
}

function take(lists: Map<number, Sa[]>, key: number, sa: Sa): void {
  const list = lists.get(key)!;
  if (list.length === 1) lists.delete(key);
  else list.splice(placeIn(list, sa), 1);
}

/** Where it is, or belongs. */
function placeIn(list: readonly Sa[], { serial }: Sa): number {
  let low = 0;
  for (let high = list.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (list[middle]!.serial < serial) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Of an address by its first and last word, which is all of an IPv4 address and tells most IPv6 addresses apart. */
function hashOf(first: number, last: number): number {
  return (first ^ Math.imul(last, 0x9e3779b1)) & 0x3fff_ffff;
}

function hashOfAddress({ word0, word3 }: IpAddress): number {
  return hashOf(word0, word3);
}

/** Protocol, mode and reqid (0: any). A transport SA ends where the packet does, or the tunnel that the packet is in. */
function fits(sa: Sa, template: Template, packet: IpPacket, outer: Sa | undefined): boolean {
  const { protocol, mode, reqid, source, destination } = sa.parameters;
  if (protocol !== template.protocol || mode !== template.mode) return false;
  if (template.reqid !== 0 && template.reqid !== reqid) return false;
  if (mode === 'transport') {
    if (outer !== undefined) return sa.source.hasWordsOf(outer.source) && sa.destination.hasWordsOf(outer.destination);
    return source.family === packet.family && packetIs(packet, sa.source, sa.destination);
  }
  return hasEnds(template, source, destination);
}

/** Whether the packet, which is of the same family, goes from `source` to `destination`. */
function packetIs(p: IpPacket, source: IpAddress, destination: IpAddress): boolean {
  return (
    p.source0 === source.word0 &&
    p.destination0 === destination.word0 &&
    p.source1 === source.word1 &&
    p.source2 === source.word2 &&
    p.source3 === source.word3 &&
    p.destination1 === destination.word1 &&
    p.destination2 === destination.word2 &&
    p.destination3 === destination.word3
  );
}

/** Whether the packet goes from the SA's source to its destination. */
function endsAt(sa: Sa, packet: IpPacket): boolean {
  return sa.parameters.source.family === packet.family && packetIs(packet, sa.source, sa.destination);
}
