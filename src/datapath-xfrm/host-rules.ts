/** What a host needs beside its policies where the kernel has ESP: what stays in clear so that it remains a host on its link, and routes into its tunnels. */

import { DHCP, FAMILIES, LINK_LOCAL, ON_LINK, PRIORITY, PROTOCOL, routeKey, TABLE } from '../datapath-process/plan.ts';
import { SystemError } from '../errors.ts';
import type { Policy, PolicyDirection, PolicySelector } from '../ipsec/policy.ts';
import type { Family, IpAddress } from '../net/address.ts';
import { everything, firstAddress, type Prefix, parsePrefix, prefixHolds } from '../net/prefix.ts';
import type { Libc } from '../runtime/native/index.ts';
import type { Route, Rule } from '../runtime/netlink/route.ts';
import { HostMonitor, Rtnetlink } from '../runtime/netlink/rtnetlink.ts';
import type { KernelPolicy } from './policy-table.ts';

const UDP = 17;
const ICMPV6 = 58;
/** Router solicitation to redirect, RFC 4861 §4. */
const DISCOVERY = [133, 134, 135, 136, 137];
const LOOPBACK: Readonly<Record<Family, Prefix>> = { 4: parsePrefix('127.0.0.0/8')!, 6: parsePrefix('::1')! };
const GLOBAL_SCOPE = 0;
/** IFA_F_DEPRECATED, IFA_F_TENTATIVE, IFA_F_DADFAILED. */
const UNUSABLE = 0x20 | 0x40 | 0x08;
const GONE = ['ENOENT', 'ESRCH', 'ENODEV', 'EEXIST', 'EAFNOSUPPORT'];

/** Before all other policies: neighbour discovery, which no SA can come before; where the rest is discarded, all that a host needs on its link. */
export function bypasses(unmatched: 'bypass' | 'discard'): Policy[] {
  const discovery = DISCOVERY.flatMap((type) => both({ ...any(6), protocol: ICMPV6, sourcePort: type }));
  if (unmatched === 'bypass') return discovery;
  const onLink = FAMILIES.flatMap((family) => {
    const [client, server] = DHCP[family];
    const dhcp = { ...any(family), protocol: UDP };
    return [
      ...both({ ...any(family), source: LOOPBACK[family], destination: LOOPBACK[family] }),
      ...ON_LINK[family].flatMap((destination) => both({ ...any(family), destination })),
      bypass('outbound', { ...dhcp, sourcePort: client, destinationPort: server }),
      bypass('inbound', { ...dhcp, sourcePort: server, destinationPort: client }),
    ];
  });
  return [...discovery, ...onLink, bypass('inbound', { ...any(6), source: LINK_LOCAL })];
}

function any(family: Family): PolicySelector {
  return { source: everything(family), destination: everything(family), protocol: 0, sourcePort: 0, destinationPort: 0 };
}

function both(selector: PolicySelector): Policy[] {
  return [bypass('outbound', selector), bypass('inbound', selector)];
}

function bypass(direction: PolicyDirection, selector: PolicySelector): Policy {
  return { id: 0, selector, direction, action: 'bypass', priority: 0, templates: [] };
}

/**
 * Routes to what is behind tunnels: packets leave by the interface that leads to the peer, with a source that the policy is about. The kernel asks
 * its routes before its policies, and a host may have none.
 */
export class TunnelRoutes {
  readonly #rtnetlink: Rtnetlink;
  readonly #monitor: HostMonitor;
  /** Of the policies that the routes were made for; -1: look again. */
  #generation = -1;

  constructor(libc: Libc) {
    this.#rtnetlink = new Rtnetlink(libc);
    this.#monitor = new HostMonitor(libc, ['LINK', 'IPV4_IFADDR', 'IPV6_IFADDR']);
  }

  /** Readable when links or addresses of the host have changed: then call `hostChanged`. */
  get monitorFd(): number {
    return this.#monitor.fd;
  }

  hostChanged(): void {
    this.#monitor.changes();
    this.#generation = -1;
  }

  /** Returns what could not be done. */
  follow(generation: number, policies: () => readonly KernelPolicy[]): SystemError[] {
    if (generation === this.#generation) return [];
    this.#generation = generation;
    return this.#agree(this.#routesOf(policies()));
  }

  close(): SystemError[] {
    const failures = this.#agree([]);
    this.#monitor.close();
    this.#rtnetlink.close();
    return failures;
  }

  #routesOf(policies: readonly KernelPolicy[]): Route[] {
    const addresses = this.#rtnetlink
      .addresses()
      .filter(({ scope, flags }) => scope === GLOBAL_SCOPE && (flags & UNUSABLE) === 0)
      .map(({ prefix }) => prefix.address);
    const routes = new Map<string, Route>();
    for (const { policy, templates } of policies) {
      const peer = templates[0]?.endpoints?.destination;
      const { source, destination } = policy.selector;
      if (policy.direction !== 'outbound' || policy.action !== 'protect' || peer === undefined || peer.isUnspecified) continue;
      const way = this.#wayTo(peer);
      if (way?.index === undefined) continue;
      const { family } = destination.address;
      const preferredSource =
        source.length === 0 ? undefined : addresses.find((address) => address.family === family && prefixHolds(source, address));
      const route: Route = {
        destination: { address: firstAddress(destination), length: destination.length },
        table: TABLE,
        protocol: PROTOCOL,
        type: 'unicast',
        index: way.index,
        metric: 1024,
        ...(way.gateway === undefined || way.gateway.family !== family ? {} : { gateway: way.gateway }),
        ...(preferredSource === undefined ? {} : { preferredSource }),
      };
      const key = `${route.destination.address}/${route.destination.length}`;
      if (!routes.has(key)) routes.set(key, route);
    }
    return [...routes.values()];
  }

  #wayTo(peer: IpAddress): Route | undefined {
    try {
      return this.#rtnetlink.lookup(peer);
    } catch (error) {
      if (error instanceof SystemError) return undefined;
      throw error;
    }
  }

  #agree(wanted: readonly Route[]): SystemError[] {
    const failures: SystemError[] = [];
    const attempt = (action: () => void) => {
      try {
        action();
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        if (!GONE.includes(error.code ?? '')) failures.push(error);
      }
    };
    for (const family of FAMILIES) {
      const rule: Rule = { family, priority: PRIORITY.outbound, table: TABLE, protocol: PROTOCOL };
      const routes = wanted.filter(({ destination }) => destination.address.family === family);
      attempt(() => {
        const there = this.#rtnetlink.routes(family, TABLE);
        const keys = new Set(routes.map(keyOf));
        for (const route of there) if (!keys.has(keyOf(route))) attempt(() => this.#rtnetlink.deleteRoute(route));
        const present = new Set(there.map(keyOf));
        for (const route of routes) if (!present.has(keyOf(route))) attempt(() => this.#rtnetlink.addRoute(route));
        const rules = this.#rtnetlink.rules(family).filter(({ protocol }) => protocol === PROTOCOL);
        const isOurs = ({ table, priority, from, to }: Rule) =>
          table === TABLE && priority === PRIORITY.outbound && from === undefined && to === undefined;
        for (const other of rules) if (routes.length === 0 || !isOurs(other)) attempt(() => this.#rtnetlink.deleteRule(other));
        if (routes.length > 0 && !rules.some(isOurs)) attempt(() => this.#rtnetlink.addRule(rule));
      });
    }
    return failures;
  }
}

function keyOf(route: Route): string {
  return `${routeKey(route)} ${route.gateway ?? ''}`;
}
