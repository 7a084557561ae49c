/**
 * RFC 4301 read by brute force: an SPD and an SAD as lists, walked from front to back for each packet, addresses as BigInt, packets taken apart here.
 * It shares no code with the engine, so that both may be held against each other. Sections are those of RFC 4301 unless another is named.
 */

/** §4.4.1.1. A closed interval of addresses of one family. */
export interface Range {
  readonly version: 4 | 6;
  readonly from: bigint;
  readonly to: bigint;
}

export interface Wanted {
  readonly protocol: 'esp' | 'ah';
  readonly mode: 'tunnel' | 'transport' | 'beet';
  readonly optional: boolean;
  /** 0: any SA. */
  readonly reqid: number;
  /** Bound to the SAs of its reqid wherever they end. */
  readonly unique: boolean;
  readonly ends: readonly [from: bigint, to: bigint] | undefined;
}

/** §4.4.1: one entry. `protocol`, `from` and `to` (ports, or ICMP type and code, or Mobility Header type) undefined: ANY. */
export interface SpdRule {
  readonly name: number;
  readonly direction: 'out' | 'in' | 'forward';
  readonly priority: number;
  readonly source: Range;
  readonly destination: Range;
  readonly protocol: number | undefined;
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
  readonly action: 'protect' | 'bypass' | 'discard';
  /** Innermost first. */
  readonly wanted: readonly Wanted[];
}

/** RFC 7296 §3.13.1: one selector of an SA, for the source or the destination. `ports` of ICMP are type * 256 + code. */
export interface SaSelector {
  readonly addresses: Range;
  readonly protocol: number | undefined;
  readonly ports: readonly [number, number];
}

/** §4.4.2.1. */
export interface SadRule {
  readonly spi: number;
  readonly direction: 'out' | 'in';
  readonly protocol: 'esp' | 'ah';
  readonly mode: 'tunnel' | 'transport' | 'beet';
  readonly reqid: number;
  readonly version: 4 | 6;
  readonly source: bigint;
  readonly destination: bigint;
  readonly sources: readonly SaSelector[];
  readonly destinations: readonly SaSelector[];
  /** Later ones were made later. */
  readonly age: number;
  /** Its soft limit was reached. */
  readonly dying: boolean;
  /** Packets that it may carry still. */
  left: number;
}

export interface Read {
  readonly version: 4 | 6;
  readonly source: bigint;
  readonly destination: bigint;
  readonly protocol: number;
  readonly isFragment: boolean;
  /** Of a fragment: where its payload belongs, and whether more follow. */
  readonly offset: number;
  readonly more: boolean;
  readonly payload: Uint8Array;
  /** Octets of headers that count for the length of a whole packet. */
  readonly before: number;
  /** IPv4 options; extension headers of IPv6 in order. */
  readonly hasOptions: boolean;
  readonly headers: readonly number[];
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
}

export type Reading =
  | { readonly fate: 'clear' | 'delivered' | 'needs SA'; readonly rule: number | undefined; readonly spis: readonly number[] }
  | { readonly fate: 'protected'; readonly rule: number; readonly spis: readonly number[] }
  | { readonly fate: 'dropped'; readonly why: string; readonly rule: number | undefined; readonly spis: readonly number[] };

/** Takes an IP packet apart; undefined where it is none. */
export function readPacket(octets: Uint8Array): Read | undefined {
  const number = (at: number, count: number) => {
    let value = 0n;
    for (let i = 0; i < count; i++) value = value * 256n + BigInt(octets[at + i]!);
    return value;
  };
  if (octets.length < 20) return undefined;
  const version = Math.floor(octets[0]! / 16);
  if (version === 4) {
    const headerBytes = (octets[0]! % 16) * 4;
    const total = Number(number(2, 2));
    if (headerBytes < 20 || total < headerBytes || total > octets.length) return undefined;
    const isFragment = octets[6]! % 64 !== 0 || octets[7] !== 0;
    const transport = octets.subarray(headerBytes, total);
    return {
      version,
      source: number(12, 4),
      destination: number(16, 4),
      protocol: octets[9]!,
      isFragment,
      offset: 8 * (256 * (octets[6]! % 32) + octets[7]!),
      more: (octets[6]! & 0x20) !== 0,
      payload: transport,
      before: headerBytes,
      hasOptions: headerBytes > 20,
      headers: [],
      ...portsOf(octets[9]!, isFragment, transport),
    };
  }
  if (version !== 6 || octets.length < 40) return undefined;
  const total = 40 + Number(number(4, 2));
  if (total > octets.length) return undefined;
  const headers: number[] = [];
  let protocol = octets[6]!;
  let at = 40;
  let isFragment = false;
  let offset = 0;
  let more = false;
  while (!isFragment && [0, 43, 44, 60].includes(protocol)) {
    if (at + 8 > total) return undefined;
    const length = protocol === 44 ? 8 : (octets[at + 1]! + 1) * 8;
    if (at + length > total) return undefined;
    if (protocol === 44) {
      offset = 8 * (octets[at + 2]! * 32 + Math.floor(octets[at + 3]! / 8));
      more = octets[at + 3]! % 2 === 1;
      isFragment = offset > 0 || more;
    }
    headers.push(protocol);
    protocol = octets[at]!;
    at += length;
  }
  const ports = portsOf(protocol, isFragment, octets.subarray(at, total));
  return {
    version,
    source: number(8, 16),
    destination: number(24, 16),
    protocol,
    isFragment,
    offset,
    more,
    payload: octets.subarray(at, total),
    before: at - 48,
    hasOptions: false,
    headers,
    ...ports,
  };
}

/** §4.4.1.1: ports, ICMP type and code, Mobility Header type. What a fragment has of them is of no use to the others (§7). */
function portsOf(protocol: number, isFragment: boolean, transport: Uint8Array) {
  const none = { sourcePort: undefined, destinationPort: undefined };
  if (isFragment) return none;
  if ([6, 17, 33, 132, 136].includes(protocol) && transport.length >= 4)
    return { sourcePort: transport[0]! * 256 + transport[1]!, destinationPort: transport[2]! * 256 + transport[3]! };
  if ([1, 58].includes(protocol) && transport.length >= 2) return { sourcePort: transport[0]!, destinationPort: transport[1]! };
  if (protocol === 135 && transport.length >= 3) return { sourcePort: transport[2]!, destinationPort: undefined };
  return none;
}

export class Rfc4301 {
  readonly #rules: readonly SpdRule[];
  readonly #sas: readonly SadRule[];
  readonly #unmatched: 'bypass' | 'discard';

  /** Rules of the same priority are in the order in which they were added. */
  constructor(rules: readonly SpdRule[], sas: readonly SadRule[], unmatched: 'bypass' | 'discard') {
    this.#rules = [...rules].sort((a, b) => a.priority - b.priority);
    this.#sas = sas;
    this.#unmatched = unmatched;
  }

  /** §5.1. */
  outbound(octets: Uint8Array): Reading {
    const packet = readPacket(octets);
    if (packet === undefined) return { fate: 'dropped', why: 'malformed', rule: undefined, spis: [] };
    const rule = this.#rules.find((one) => one.direction === 'out' && selects(one, packet));
    const isFirst = rule === this.#rules.find((one) => one.direction === 'out' && mayHold(one, packet));
    if (packet.isFragment && !isFirst) return kept(packet, []);
    if (rule === undefined) return this.#noRule('clear');
    const { name } = rule;
    if (rule.action === 'discard') return { fate: 'dropped', why: 'discard', rule: name, spis: [] };
    if (rule.action === 'bypass') return { fate: 'clear', rule: name, spis: [] };
    const chosen: SadRule[] = [];
    let isMissing = false;
    for (const wanted of rule.wanted) {
      const sa = this.#outboundSa(wanted, packet, chosen.filter(({ mode }) => mode === 'tunnel').pop());
      if (sa !== undefined) chosen.push(sa);
      else if (!wanted.optional) isMissing = true;
    }
    // Which SA carries the whole its ports may say; and transport and BEET mode are for whole packets (RFC 4303 §3.3.4).
    if (packet.isFragment && (isMissing || chosen[0]?.mode !== 'tunnel')) return kept(packet, []);
    if (isMissing) return { fate: 'needs SA', rule: name, spis: [] };
    if (chosen.length === 0) return { fate: 'clear', rule: name, spis: [] };
    const spis = chosen.map(({ spi }) => spi);
    if (!isCarriable(chosen, rule, packet)) return { fate: 'dropped', why: 'notForTransport', rule: name, spis };
    for (const sa of chosen) sa.left--;
    return { fate: 'protected', rule: name, spis };
  }

  /** §5.2 steps 3b: it came without protection. */
  inboundClear(octets: Uint8Array): Reading {
    const packet = readPacket(octets);
    if (packet === undefined) return { fate: 'dropped', why: 'malformed', rule: undefined, spis: [] };
    const of = (direction: SpdRule['direction']) =>
      this.#rules.find((one) => one.direction === direction && selects(one, packet));
    const rule = of('in') ?? of('forward');
    if (rule === undefined) return this.#noRule('delivered');
    if (rule.action === 'discard') return { fate: 'dropped', why: 'discard', rule: rule.name, spis: [] };
    const demands = rule.action === 'protect' && !rule.wanted[0]!.optional;
    if (demands) return { fate: 'dropped', why: 'clearText', rule: rule.name, spis: [] };
    return { fate: 'delivered', rule: rule.name, spis: [] };
  }

  /** §5.2 steps 3a and 4: `inner` came under these SPIs, outermost first. */
  inboundThrough(spis: readonly number[], inner: Uint8Array): Reading {
    const sas: SadRule[] = [];
    for (const spi of spis) {
      const sa = this.#sas.find((one) => one.direction === 'in' && one.spi === spi);
      if (sa === undefined || sa.left <= 0) return { fate: 'dropped', why: 'noSa', rule: undefined, spis };
      sas.push(sa);
    }
    const packet = readPacket(inner);
    if (packet === undefined) return { fate: 'dropped', why: 'badInner', rule: undefined, spis };
    for (const sa of sas) sa.left--;
    const fits = fitsSa(sas[sas.length - 1]!, packet);
    for (const direction of fits ? (['in', 'forward'] as const) : [])
      for (const rule of this.#rules)
        if (rule.direction === direction && asksFor(rule, [...sas].reverse()) && selects(rule, packet))
          return { fate: 'delivered', rule: rule.name, spis };
    const [sa, ...others] = sas;
    const isAlone = others.length === 0 && sa!.mode !== 'transport' && sa!.protocol === 'esp';
    const mayBe = (rule: SpdRule) => rule.direction !== 'out' && asksFor(rule, sas) && mayHold(rule, packet);
    if (packet.isFragment && isAlone && mayFitSa(sa!, packet) && this.#rules.some(mayBe)) return kept(packet, spis);
    return { fate: 'dropped', why: 'policyMismatch', rule: undefined, spis };
  }

  #noRule(passes: 'clear' | 'delivered'): Reading {
    if (this.#unmatched === 'discard') return { fate: 'dropped', why: 'unmatched', rule: undefined, spis: [] };
    return { fate: passes, rule: undefined, spis: [] };
  }

  /** §4.4.2: the SA that the rule's parameters name and whose selectors hold the packet; the youngest whose soft limit is not reached (RFC 7296 §2.8). */
  #outboundSa(wanted: Wanted, packet: Read, tunnel: SadRule | undefined): SadRule | undefined {
    const fitting = this.#sas.filter((sa) => {
      if (sa.direction !== 'out' || sa.left <= 0 || !isLike(wanted, sa)) return false;
      if (tunnel !== undefined)
        return sa.mode === 'tunnel' || (sa.source === tunnel.source && sa.destination === tunnel.destination);
      if (!fitsSa(sa, packet)) return false;
      return (
        sa.mode !== 'transport' ||
        (sa.version === packet.version && sa.source === packet.source && sa.destination === packet.destination)
      );
    });
    const inOrder = fitting.sort((a, b) => Number(a.dying) - Number(b.dying) || b.age - a.age);
    return inOrder[0];
  }
}

/** §7: a fragment waits for its packet to be whole; RFC 791 §3.2, RFC 1858, RFC 3128, RFC 7112 and RFC 8200 §4.5 say which do not. */
function kept({ version, protocol, offset, more, payload, before }: Read, spis: readonly number[]): Reading {
  const refused = (why: string): Reading => ({ fate: 'dropped', why, rule: undefined, spis });
  if (payload.length === 0 || (more && payload.length % 8 > 0) || before + offset + payload.length > 65_535)
    return refused('badFragment');
  let next = protocol;
  let at = 0;
  while (version === 6 && offset === 0 && [0, 43, 60].includes(next) && at + 8 <= payload.length) {
    next = payload[at]!;
    at += 8 * (payload[at + 1]! + 1);
  }
  const needed = { 1: 8, 6: 20, 17: 8, 33: 12, 58: 8, 132: 12, 135: 8, 136: 8, 0: 8, 43: 8, 60: 8 }[next] ?? 0;
  if (offset === 0 ? at + needed > payload.length : version === 6 && [0, 43, 60].includes(next) ? false : offset < needed)
    return refused('tinyFragment');
  return { fate: 'needs SA', rule: undefined, spis };
}

/** Whether the whole of a fragment might be what the rule is about: ports are not known, nor is a protocol behind extension headers. */
function mayHold(rule: SpdRule, packet: Read): boolean {
  const isOpen = packet.version === 6 && packet.isFragment && [0, 43, 60].includes(packet.protocol);
  const protocol = rule.protocol === undefined || rule.protocol === packet.protocol || isOpen;
  return (
    protocol && holds(rule.source, packet.version, packet.source) && holds(rule.destination, packet.version, packet.destination)
  );
}

function mayFitSa(sa: SadRule, packet: Read): boolean {
  const isOpen = packet.version === 6 && [0, 43, 60].includes(packet.protocol);
  const has = (selectors: readonly SaSelector[], address: bigint) =>
    selectors.length === 0 ||
    selectors.some(
      (one) =>
        holds(one.addresses, packet.version, address) &&
        (one.protocol === undefined || one.protocol === packet.protocol || isOpen),
    );
  return has(sa.sources, packet.source) && has(sa.destinations, packet.destination);
}

/** §4.4.1.1. A port is compared only where the rule has one; a packet that has none then does not match. */
function selects(rule: SpdRule, packet: Read): boolean {
  if (!holds(rule.source, packet.version, packet.source)) return false;
  if (!holds(rule.destination, packet.version, packet.destination)) return false;
  if (rule.protocol !== undefined && rule.protocol !== packet.protocol) return false;
  if (rule.sourcePort !== undefined && rule.sourcePort !== packet.sourcePort) return false;
  return rule.destinationPort === undefined || rule.destinationPort === packet.destinationPort;
}

function holds({ version, from, to }: Range, of: number, address: bigint): boolean {
  return version === of && from <= address && address <= to;
}

/** Any of the sources with any of the destinations; an SA without selectors takes what its rule does. */
function fitsSa(sa: SadRule, packet: Read): boolean {
  const { version, protocol, sourcePort, destinationPort } = packet;
  const isTyped = [1, 58, 135].includes(protocol);
  // RFC 7296 §3.13.1: the type and code of a message are its sender's port.
  const sent = sourcePort === undefined || !isTyped ? sourcePort : sourcePort * 256 + (destinationPort ?? 0);
  const isIn = (port: number | undefined, [low, high]: readonly [number, number]) =>
    port === undefined ? low === 0 && high === 65535 : low <= port && port <= high;
  const has = (selectors: readonly SaSelector[], address: bigint, fits: (one: SaSelector) => boolean) =>
    selectors.length === 0 ||
    selectors.some(
      (one) => holds(one.addresses, version, address) && (one.protocol === undefined || one.protocol === protocol) && fits(one),
    );
  return (
    has(sa.sources, packet.source, ({ ports }) => isIn(sent, ports)) &&
    has(sa.destinations, packet.destination, ({ ports }) => isTyped || isIn(destinationPort, ports))
  );
}

function isLike(wanted: Wanted, sa: SadRule): boolean {
  if (wanted.protocol !== sa.protocol || wanted.mode !== sa.mode) return false;
  if (wanted.reqid !== 0 && wanted.reqid !== sa.reqid) return false;
  if (wanted.mode === 'transport' || wanted.ends === undefined || (wanted.unique && wanted.reqid !== 0)) return true;
  return wanted.ends[0] === sa.source && wanted.ends[1] === sa.destination;
}

/** §5.2 step 4: all that the rule wants, in its order, what is optional may be left out, and nothing else. `sas` are innermost first. */
function asksFor(rule: SpdRule, sas: readonly SadRule[]): boolean {
  if (rule.action !== 'protect') return false;
  const fits = (wanted: readonly Wanted[], left: readonly SadRule[]): boolean => {
    const [first, ...more] = wanted;
    if (first === undefined) return left.length === 0;
    if (left[0] !== undefined && isLike(first, left[0])) return fits(more, left.slice(1));
    return first.optional && fits(more, left);
  };
  return fits(rule.wanted, sas);
}

/**
 * RFC 4303 §3.1.1, RFC 4302 §3.1.1: transport mode is for whole packets. docs/packet.md: ESP alone in transport mode carries no IPv4 options and, of
 * IPv6's extension headers, only destination options. BEET mode carries all of them. AH and bundles carry all that is in order but a fragment header.
 */
function isCarriable(sas: readonly SadRule[], rule: SpdRule, packet: Read): boolean {
  if (sas[0]!.mode === 'tunnel') return true;
  if (packet.isFragment) return false;
  if (sas[0]!.mode === 'beet') return true;
  const isEspAlone = rule.wanted.length === 1 && sas[0]!.protocol === 'esp';
  if (isEspAlone) return !packet.hasOptions && (packet.headers[0] ?? 60) === 60;
  return !packet.headers.includes(44);
}
