/** Makes the host agree with the plan (`plan.ts`) by rtnetlink, and undoes all of it at the end; leftovers of a crash hold until policies are there again. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { Spd } from '../datapath/spd.ts';
import { SystemError } from '../errors.ts';
import type { Event } from '../event.ts';
import type { Policy } from '../ipsec/policy.ts';
import type { Family, IpAddress } from '../net/address.ts';
import { prefixHolds, showPrefix } from '../net/prefix.ts';
import type { Libc } from '../runtime/native/index.ts';
import { NO_FILTER, PacketFilter } from '../runtime/netlink/packet-filter.ts';
import type { InterfaceAddress, Route, Rule } from '../runtime/netlink/route.ts';
import { HostMonitor, Rtnetlink } from '../runtime/netlink/rtnetlink.ts';
import { arrivalRules, CLEAR_COUNTERS, FILTER_TABLE } from './clear-text.ts';
import { deviceMtu, LEAST_MTU } from './mtu.ts';
import { type Plan, PRIORITY, PROTOCOL, planOf, routeKey, ruleKey, sourceFor, TABLE } from './plan.ts';
import type { DatapathSettings } from './ports.ts';

const USUAL_MTU = 1500;
const TABLE_LOCAL = 255;
const GLOBAL_SCOPE = 0;
/** IFA_F_DEPRECATED, IFA_F_TENTATIVE, IFA_F_DADFAILED. */
const UNUSABLE = 0x20 | 0x40 | 0x08;
const NOTHING: Plan = { rules: [], routes: [], localMoved: { 4: false, 6: false } };
/** A kernel without IPv6 answers so. */
const NO_FAMILY = ['EAFNOSUPPORT', 'EOPNOTSUPP'];
/** How long a predecessor's leftovers may stay where no policy comes, and how long after the last policy that came. */
const HOLD_MS = 10_000;
const QUIET_MS = 300;
/** What is gone already needs no undoing. */
const GONE = ['ENOENT', 'ESRCH', 'ENODEV'];

export class Diversion {
  readonly mtu: number;
  readonly #rtnetlink: Rtnetlink;
  readonly #monitor: HostMonitor;
  readonly #settings: DatapathSettings;
  readonly #device: { readonly name: string; readonly index: number };
  readonly #report: (event: Event) => void;
  /** Of the SPD that the host agrees with; -1: none yet. */
  #generation = -1;
  #warned = false;
  /** Those that the host's kernel has rules for. */
  readonly #families: readonly Family[];
  /** The host's own, without the device's. */
  #addresses: readonly InterfaceAddress[] = [];

  /** Undefined where the kernel has none: rules keep clear text out then. */
  readonly #filter: PacketFilter | undefined;
  /** Ours, and those that a predecessor has left, which drop what it dropped until policies are there again. */
  readonly #chain: string;
  #leftChains: readonly string[];
  /** Of the table as it was found, to be taken off, and of one that has gone, to be added. */
  #countedBefore: ReadonlyMap<string, number>;
  #countedSince: Readonly<Record<string, number>> = {};
  /** The policies that the filter was made from. */
  #keptOut: readonly Policy[] | undefined;

  /**
   * Until then (`mono`) what a crashed predecessor has left stays: it holds protected traffic back while spmd puts the policies one by one.
   * Infinity before the first turn, 0 once it is gone.
   */
  #holdUntil = Number.POSITIVE_INFINITY;

  /** Brings the device up. Throws SystemError. */
  constructor(libc: Libc, settings: DatapathSettings, name: string, report: (event: Event) => void) {
    this.#rtnetlink = new Rtnetlink(libc);
    this.#monitor = new HostMonitor(libc, ['LINK', 'IPV4_IFADDR', 'IPV6_IFADDR']);
    this.#settings = settings;
    this.#report = report;
    this.#filter = this.#openFilter(libc);
    this.#leftChains = this.#filter?.chains() ?? [];
    this.#countedBefore = this.#filter?.counts() ?? new Map();
    this.#chain = `arrivals-${1 + Math.max(0, ...this.#leftChains.map((name) => Number(name.split('-')[1]) || 0))}`;
    this.#families = ([4, 6] as const).filter((family) => this.#hasRules(family));
    const device = this.#rtnetlink.link(name);
    if (device === undefined) throw new SystemError(`the TUN device ${name} is gone; start again`, 'ENODEV');
    this.#device = device;
    this.mtu = settings.datapath.mtu === 0 ? this.#pathMtu() : settings.datapath.mtu;
    // The device has no neighbours: no address of its own, no router solicitations.
    setSetting(`ipv6/conf/${name}/addr_gen_mode`, '1');
    this.#rtnetlink.setLink(device.index, { up: true, mtu: this.mtu });
    this.#addresses = this.#localAddresses();
  }

  /** The device's number among the host's interfaces. */
  get deviceIndex(): number {
    return this.#device.index;
  }

  /** Readable when links or addresses of the host have changed: then call `hostChanged`. */
  get monitorFd(): number {
    return this.#monitor.fd;
  }

  hostChanged(): void {
    this.#monitor.changes();
    const addresses = this.#localAddresses();
    const text = (list: readonly InterfaceAddress[]) => list.map(({ index, prefix }) => `${index} ${showPrefix(prefix)}`).join();
    if (text(addresses) === text(this.#addresses)) return;
    this.#addresses = addresses;
    this.#generation = -1;
  }

  /** When `follow` is due although the SPD has not changed. */
  wakeAt(): number | undefined {
    return this.#holdUntil > 0 && Number.isFinite(this.#holdUntil) ? this.#holdUntil : undefined;
  }

  /** Brings the host up to the SPD, if that has changed. */
  follow(spd: Spd, mono: number): void {
    const changed = spd.generation !== this.#generation;
    if (this.#holdUntil === Number.POSITIVE_INFINITY) this.#holdUntil = mono + HOLD_MS;
    else if (changed && spd.size > 0) this.#holdUntil = Math.min(this.#holdUntil, mono + QUIET_MS);
    const released = this.#holdUntil > 0 && mono >= this.#holdUntil;
    if (!changed && !released) return;
    if (released) this.#holdUntil = 0;
    this.#generation = spd.generation;
    const policies = (direction: 'inbound' | 'outbound' | 'forward') => spd.ordered(direction).map(({ policy }) => policy);
    const inbound = [...policies('inbound'), ...policies('forward')];
    const outbound = policies('outbound');
    const { unmatched } = this.#settings;
    const plan = planOf({
      outbound,
      inbound,
      unmatched,
      filtered: this.#filter !== undefined,
      addresses: this.#addresses.map(({ prefix }) => prefix.address),
      onLink: this.#addresses.map(({ prefix }) => prefix),
      keyPorts: this.#settings.keyPorts,
      device: this.#device,
    });
    const hold = this.#holdUntil > 0;
    for (const { message } of [...this.#keepOut(inbound, outbound, hold), ...this.#agree(plan, hold)]) {
      const consequence = 'policies are not wholly in force on this host';
      this.#report({ name: 'routes-failed', severity: 'error', message: `${message}; ${consequence}` });
    }
    this.#warnOfStrictFilter(plan);
  }

  /** Strict reverse-path filtering (RFC 3704 §2.2) takes an ARP request for a forged one where its answer would be diverted. */
  #warnOfStrictFilter({ routes }: Plan): void {
    if (this.#warned || setting('ipv4/conf/all/rp_filter') !== '1') return;
    const peer = routes.find(
      ({ destination, type }) =>
        type === 'unicast' &&
        destination.length === 32 &&
        this.#addresses.some(({ prefix }) => prefixHolds(prefix, destination.address)),
    );
    if (peer === undefined) return;
    this.#warned = true;
    const message = `net.ipv4.conf.all.rp_filter is 1: ${peer.destination.address}, which is on this host's own link, may get no ARP answers; 2 (loose) mends it`;
    this.#report({ name: 'strict-reverse-path', severity: 'warning', message });
  }

  /** The local address for a packet to `destination` that a policy protects. */
  sourceFor(spd: Spd, destination: IpAddress): IpAddress | undefined {
    const policies = spd.ordered('outbound').map(({ policy }) => policy);
    return (
      sourceFor(
        policies,
        this.#addresses.map(({ prefix }) => prefix.address),
        destination,
      ) ?? this.#rtnetlink.lookup(destination)?.preferredSource
    );
  }

  /** Packets that came in clear and were dropped in the kernel, by name. */
  drops(): Readonly<Record<string, number>> {
    const counts = this.#filter?.counts() ?? new Map<string, number>();
    const total = (name: string) =>
      (counts.get(name) ?? 0) - (this.#countedBefore.get(name) ?? 0) + (this.#countedSince[name] ?? 0);
    return Object.fromEntries(CLEAR_COUNTERS.map((name) => [name, total(name)]));
  }

  /** Undoes everything. The device goes with its descriptor. */
  close(): void {
    const failures = this.#agree(NOTHING);
    attempt(failures, () => this.#filter?.remove(), GONE);
    this.#filter?.close();
    for (const { message } of failures) this.#report({ name: 'routes-left', severity: 'error', message });
    this.#monitor.close();
    this.#rtnetlink.close();
  }

  #openFilter(libc: Libc): PacketFilter | undefined {
    try {
      return new PacketFilter(libc, FILTER_TABLE);
    } catch (error) {
      if (!(error instanceof SystemError) || !(NO_FILTER as readonly string[]).includes(error.code ?? '')) throw error;
      const cost =
        'clear text is refused by routing rules, which do not count it, know no ICMP types, and let in what no policy matches';
      const message = `the kernel has no nf_tables (${error.message}): ${cost}`;
      this.#report({ name: 'no-packet-filter', severity: 'warning', message });
      return undefined;
    }
  }

  /** RFC 4301 §5.2: what must not come in clear. Nothing of a predecessor's goes before `hold` is over. */
  #keepOut(inbound: readonly Policy[], outbound: readonly Policy[], hold: boolean): SystemError[] {
    const filter = this.#filter;
    const waits = this.#leftChains.length > 0 && !hold;
    const policies = [...inbound, ...outbound];
    if (filter === undefined || (sameList(policies, this.#keptOut) && !waits)) return [];
    const { keyPorts, unmatched } = this.#settings;
    const rules = arrivalRules({ inbound, outbound, keyPorts, unmatched, device: this.#device.name });
    const failures: SystemError[] = [];
    attempt(failures, () => {
      if (rules.length > 0 || hold) filter.put(this.#chain, rules, CLEAR_COUNTERS, hold ? [] : this.#leftChains);
      else this.#removeTable(filter);
      if (!hold) this.#leftChains = [];
      this.#keptOut = policies;
    });
    return failures;
  }

  #removeTable(filter: PacketFilter): void {
    this.#countedSince = this.drops();
    filter.remove();
    this.#countedBefore = new Map();
  }

  /** The difference between the plan and what the kernel has of ours; `hold`: nothing is taken away yet. Returns what could not be done. */
  #agree(plan: Plan, hold = false): SystemError[] {
    const failures: SystemError[] = [];
    for (const family of this.#families) {
      const routes = difference(plan.routes.filter(of(family)), this.#ownRoutes(family), routeKey);
      const rules = difference(
        plan.rules.filter((rule) => rule.family === family),
        this.#ownRules(family),
        ruleKey,
      );
      for (const route of hold ? [] : routes.extra) attempt(failures, () => this.#rtnetlink.deleteRoute(route), GONE);
      for (const route of routes.missing) attempt(failures, () => this.#rtnetlink.addRoute(route), ['EEXIST']);
      // The host's own addresses can be looked up at every moment.
      if (!plan.localMoved[family] && !hold) attempt(failures, () => this.#lookUpLocalFirst(family), ['EEXIST', 'EAFNOSUPPORT']);
      for (const rule of rules.missing) attempt(failures, () => this.#rtnetlink.addRule(rule), ['EEXIST']);
      if (plan.localMoved[family]) attempt(failures, () => this.#rtnetlink.deleteRule(localFirst(family)), GONE);
      for (const rule of hold ? [] : rules.extra) attempt(failures, () => this.#rtnetlink.deleteRule(rule), GONE);
    }
    return failures;
  }

  #hasRules(family: Family): boolean {
    try {
      return this.#rtnetlink.rules(family).length > 0;
    } catch (error) {
      if (error instanceof SystemError && NO_FAMILY.includes(error.code ?? '')) return false;
      throw error;
    }
  }

  #lookUpLocalFirst(family: Family): void {
    if (!this.#rtnetlink.rules(family).some(({ priority, table }) => priority === 0 && table === TABLE_LOCAL)) {
      this.#rtnetlink.addRule(localFirst(family));
    }
  }

  #ownRules(family: Family): Rule[] {
    return this.#rtnetlink.rules(family).filter(({ protocol, priority }) => protocol === PROTOCOL && isOurs(priority));
  }

  #ownRoutes(family: Family): Route[] {
    return this.#rtnetlink.routes(family, TABLE);
  }

  /** Other hosts may send to them: global, usable, not the device's. */
  #localAddresses(): InterfaceAddress[] {
    return this.#rtnetlink
      .addresses()
      .filter(({ index, scope, flags }) => index !== this.#device.index && scope === GLOBAL_SCOPE && (flags & UNUSABLE) === 0);
  }

  /** The smallest of the host's links, less what protection adds. */
  #pathMtu(): number {
    const links = this.#rtnetlink
      .links()
      .filter(({ up, loopback, kind }) => up && !loopback && kind !== 'tun' && kind !== 'dummy');
    const least = Math.min(USUAL_MTU, ...links.map(({ mtu }) => mtu).filter((mtu) => mtu >= LEAST_MTU));
    return deviceMtu(least);
  }
}

function sameList<T>(a: readonly T[], b: readonly T[] | undefined): boolean {
  return a.length === b?.length && a.every((value, i) => value === b[i]);
}

/** Does it, and keeps why it could not be done, unless that is harmless. */
function attempt(failures: SystemError[], change: () => void, harmless: readonly string[] = []): void {
  try {
    change();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    if (!harmless.includes(error.code ?? '')) failures.push(error);
  }
}

function isOurs(priority: number): boolean {
  return (
    (priority >= PRIORITY.inboundPass && priority <= PRIORITY.local) ||
    (priority >= PRIORITY.outboundPass && priority <= PRIORITY.end)
  );
}

/** The kernel's own first rule (RTPROT_KERNEL). */
function localFirst(family: Family): Rule {
  return { family, priority: 0, table: TABLE_LOCAL, protocol: 2 };
}

function of(family: Family): (route: Route) => boolean {
  return ({ destination }) => destination.address.family === family;
}

function difference<T>(wanted: readonly T[], there: readonly T[], keyOf: (value: T) => string): { missing: T[]; extra: T[] } {
  const wantedKeys = new Set(wanted.map(keyOf));
  const thereKeys = new Set(there.map(keyOf));
  return {
    missing: wanted.filter((value) => !thereKeys.has(keyOf(value))),
    extra: there.filter((value) => !wantedKeys.has(keyOf(value))),
  };
}

/** A setting of the kernel's network; false where it has none of that name. */
function setSetting(name: string, value: string): boolean {
  try {
    writeFileSync(`/proc/sys/net/${name}`, value);
    return true;
  } catch (error) {
    if (['ENOENT', 'EROFS', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

function setting(name: string): string | undefined {
  const path = `/proc/sys/net/${name}`;
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}
