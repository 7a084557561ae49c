/** Why packets are dropped: the named reasons and their counters (RFC 4301 §5, RFC 4303 §3.4 ask for an auditable event each). */

/** One number a reason; the order is that of `status`. */
export const DROP = {
  /** Not dropped. */
  none: 0,
  /** Shorter than its headers say, or not IP. */
  malformed: 1,
  /** A policy says discard. */
  discard: 2,
  /** No policy matches, and what none matches is discarded. */
  unmatched: 3,
  /** Outbound: a policy protects it and there is no SA; it is held if there is room (`held`) and lost otherwise. */
  noOutboundSa: 4,
  /** Outbound: too many packets wait for SAs. */
  holdFull: 5,
  /** Outbound: it waited for an SA that did not come in time. */
  acquireTimeout: 6,
  /** Outbound: it waited for an SA that the key daemon refused to make. */
  acquireFailed: 7,
  /** Outbound: the SA's sequence numbers or lifetime are used up. */
  saExhausted: 8,
  /** Outbound: transport mode cannot carry this packet (a fragment, IPv4 options, IPv6 extension headers before ESP). */
  notForTransport: 9,
  /** Outbound: longer than the path takes, and it must not be fragmented. */
  tooBig: 10,
  /** Outbound: a segmentation request that cannot be carried out. */
  badFrame: 11,
  /** The policy asks for a protocol that this engine does not have. */
  unsupported: 12,
  /** The cipher failed. */
  cipherFailed: 13,
  /** Inbound: shorter than ESP's header and trailer. */
  truncated: 14,
  /** Inbound: a fragment of an outer packet. */
  outerFragment: 15,
  /** Inbound: no SA has this SPI and destination. */
  noSa: 16,
  /** Inbound: its sequence number was seen, or lies before the window. */
  replayed: 17,
  /** Inbound: the ICV is wrong. */
  badIcv: 18,
  /** Inbound: the pad length or padding is wrong (RFC 4303 §2.4). */
  badPadding: 19,
  /** Inbound: the next header does not fit the SA's mode. */
  badNextHeader: 20,
  /** Inbound: the inner packet is malformed. */
  badInner: 21,
  /** Inbound: a dummy packet (next header 59, RFC 4303 §2.6), which is no fault. */
  dummy: 22,
  /** Inbound: congestion was marked outside and the inner packet cannot say so (RFC 6040 §4.2). */
  ecn: 23,
  /** Inbound: the inner packet is none that its SA and policy admit (RFC 4301 §5.2). */
  policyMismatch: 24,
  /** Inbound: came in clear, and a policy demands protection. */
  clearText: 25,
  /** Inbound: UDP-encapsulated and the SA is not, or the reverse. */
  encapsulationMismatch: 26,
  /** More came of a batch than there is room for. */
  noRoom: 27,
} as const;

export type DropName = keyof typeof DROP;

const NAMES = Object.keys(DROP) as DropName[];

/** The counters. Counting is one addition. */
export class Drops {
  readonly counts = new Float64Array(NAMES.length);

  count(reason: number): void {
    this.counts[reason] = this.counts[reason]! + 1;
  }

  of(name: DropName): number {
    return this.counts[DROP[name]]!;
  }

  get total(): number {
    let sum = 0;
    for (const count of this.counts) sum += count;
    return sum;
  }

  /** The reasons that have occurred, with how often. */
  toJSON(): Record<string, number> {
    return Object.fromEntries(NAMES.map((name) => [name, this.of(name)] as const).filter(([, count]) => count > 0));
  }
}

export function dropName(reason: number): DropName {
  return NAMES[reason] ?? 'none';
}
