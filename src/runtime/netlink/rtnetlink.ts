/**
 * Links, addresses, routes and rules of the host: list, set, delete, and hear of changes (rtnetlink(7)). Every request is
 * acknowledged by the kernel.
 */

import type { Family, IpAddress } from '../../net/address.ts';
import { host, type Prefix, showPrefix } from '../../net/prefix.ts';
import type { Libc } from '../native/libc.ts';
import { NetlinkSocket } from '../native/netlink.ts';
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from './codec.ts';
import {
  decodeAddress,
  decodeLink,
  decodeRoute,
  decodeRule,
  encodeAddress,
  encodeLink,
  encodeListing,
  encodeRoute,
  encodeRule,
  type InterfaceAddress,
  type Link,
  type Route,
  RTM,
  RTNLGRP,
  type Rule,
} from './route.ts';

const NETLINK_ROUTE = 0;

/**
 * All methods throw SystemError whose `code` is the errno's name: EEXIST (adding), ESRCH, ENODEV or ENOENT (deleting), EPERM
 * without CAP_NET_ADMIN.
 */
export class Rtnetlink {
  readonly #socket: NetlinkSocket;

  constructor(libc: Libc) {
    this.#socket = new NetlinkSocket(libc, NETLINK_ROUTE);
  }

  links(): Link[] {
    return this.#socket.dump(RTM.GETLINK, encodeListing(16, 0), 'list links').map(({ body }) => decodeLink(body));
  }

  /** The link of that name, or undefined. */
  link(name: string): Link | undefined {
    return this.links().find((link) => link.name === name);
  }

  /** Changes what is given: link state, and MTU in octets. */
  setLink(index: number, change: { readonly up?: boolean; readonly mtu?: number }): void {
    const words = [
      change.up === undefined ? '' : change.up ? ' up' : ' down',
      change.mtu === undefined ? '' : ` mtu ${change.mtu}`,
    ];
    this.#socket.request(RTM.NEWLINK, 0, encodeLink(index, change), `set link ${index}${words.join('')}`);
  }

  deleteLink(index: number): void {
    this.#socket.request(RTM.DELLINK, 0, encodeLink(index), `delete link ${index}`);
  }

  addresses(family: Family | 0 = 0): InterfaceAddress[] {
    return present(
      this.#socket.dump(RTM.GETADDR, encodeListing(8, family), 'list addresses').map(({ body }) => decodeAddress(body)),
    );
  }

  addAddress(index: number, prefix: Prefix): void {
    const what = `add address ${showPrefix(prefix)} to link ${index}`;
    this.#socket.request(RTM.NEWADDR, NLM_F_CREATE | NLM_F_EXCL, encodeAddress(index, prefix), what);
  }

  deleteAddress(index: number, prefix: Prefix): void {
    this.#socket.request(RTM.DELADDR, 0, encodeAddress(index, prefix), `delete address ${showPrefix(prefix)} from link ${index}`);
  }

  /** Of all tables, or of one. */
  routes(family: Family | 0 = 0, table?: number): Route[] {
    const all = present(
      this.#socket.dump(RTM.GETROUTE, encodeListing(12, family), 'list routes').map(({ body }) => decodeRoute(body)),
    );
    return table === undefined ? all : all.filter((route) => route.table === table);
  }

  /** `replace`: take the place of a route to the same destination instead of failing with EEXIST. */
  addRoute(route: Route, replace = false): void {
    const flags = NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL);
    this.#socket.request(RTM.NEWROUTE, flags, encodeRoute(route), `add route ${showRoute(route)}`);
  }

  deleteRoute(route: Route): void {
    this.#socket.request(RTM.DELROUTE, 0, encodeRoute(route), `delete route ${showRoute(route)}`);
  }

  /** How the host would send to `destination` now (with `mark`): interface, gateway, and the source address it would take. */
  lookup(destination: IpAddress, mark?: number): Route | undefined {
    const query = encodeRoute({ destination: host(destination), table: 0, type: 'unicast', protocol: 0 }, mark);
    query.fill(0, 5, 8);
    const answers = this.#socket.request(RTM.GETROUTE, 0, query, `look up the route to ${destination}`);
    return present(answers.map(({ body }) => decodeRoute(body)))[0];
  }

  rules(family: Family | 0 = 0): Rule[] {
    return present(this.#socket.dump(RTM.GETRULE, encodeListing(12, family), 'list rules').map(({ body }) => decodeRule(body)));
  }

  addRule(rule: Rule): void {
    this.#socket.request(RTM.NEWRULE, NLM_F_CREATE | NLM_F_EXCL, encodeRule(rule), `add rule ${showRule(rule)}`);
  }

  deleteRule(rule: Rule): void {
    this.#socket.request(RTM.DELRULE, 0, encodeRule(rule), `delete rule ${showRule(rule)}`);
  }

  close(): void {
    this.#socket.close();
  }
}

/** One change told by the kernel. */
export type HostChange =
  | { readonly kind: 'link'; readonly gone: boolean; readonly link: Link }
  | { readonly kind: 'address'; readonly gone: boolean; readonly address: InterfaceAddress }
  | { readonly kind: 'route'; readonly gone: boolean; readonly route: Route }
  | { readonly kind: 'rule'; readonly gone: boolean; readonly rule: Rule };

/** Hears of changes. Put `fd` in a poll set, or ask `changes` now and then: it never waits. */
export class HostMonitor {
  readonly #socket: NetlinkSocket;

  constructor(
    libc: Libc,
    groups: readonly (keyof typeof RTNLGRP)[] = ['LINK', 'IPV4_IFADDR', 'IPV6_IFADDR', 'IPV4_ROUTE', 'IPV6_ROUTE'],
  ) {
    const numbers = groups.map((group) => RTNLGRP[group]);
    this.#socket = new NetlinkSocket(libc, NETLINK_ROUTE, numbers);
  }

  get fd(): number {
    return this.#socket.fd;
  }

  /** What changed since the last call, in order. `lost`: the kernel dropped some, list everything anew. */
  changes(): { readonly changes: readonly HostChange[]; readonly lost: boolean } {
    const { messages, lost } = this.#socket.notifications();
    return { changes: present(messages.map(({ type, body }) => toChange(type, body))), lost };
  }

  close(): void {
    this.#socket.close();
  }
}

function toChange(type: number, body: Uint8Array): HostChange | undefined {
  switch (type) {
    case RTM.NEWLINK:
    case RTM.DELLINK:
      return { kind: 'link', gone: type === RTM.DELLINK, link: decodeLink(body) };
    case RTM.NEWADDR:
    case RTM.DELADDR: {
      const address = decodeAddress(body);
      return address && { kind: 'address', gone: type === RTM.DELADDR, address };
    }
    case RTM.NEWROUTE:
    case RTM.DELROUTE: {
      const route = decodeRoute(body);
      return route && { kind: 'route', gone: type === RTM.DELROUTE, route };
    }
    case RTM.NEWRULE:
    case RTM.DELRULE: {
      const rule = decodeRule(body);
      return rule && { kind: 'rule', gone: type === RTM.DELRULE, rule };
    }
    default:
      return undefined;
  }
}

function present<T>(values: readonly (T | undefined)[]): T[] {
  return values.filter((value) => value !== undefined);
}

function showRoute(route: Route): string {
  const parts = [`${route.type === 'unicast' ? '' : `${route.type} `}${showPrefix(route.destination)}`];
  if (route.gateway !== undefined) parts.push(`via ${route.gateway}`);
  if (route.index !== undefined) parts.push(`over link ${route.index}`);
  return `${parts.join(' ')} in table ${route.table}`;
}

function showRule(rule: Rule): string {
  const parts = [`${rule.priority}:`, `IPv${rule.family}`];
  if (rule.mark !== undefined) parts.push(`mark 0x${rule.mark.toString(16)}`);
  if (rule.from !== undefined) parts.push(`from ${showPrefix(rule.from)}`);
  if (rule.to !== undefined) parts.push(`to ${showPrefix(rule.to)}`);
  return `${parts.join(' ')} ${rule.action === undefined ? `look up table ${rule.table}` : rule.action}`;
}
