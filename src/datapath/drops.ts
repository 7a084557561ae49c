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
  /** Too many packets wait for SAs. */
  holdFull: 4,
  /** Outbound: it waited for an SA that did not come in time. */
  acquireTimeout: 5,
  /** Outbound: it waited for an SA that the key daemon refused to make. */
  acquireFailed: 6,
  /** Outbound: transport mode cannot carry this packet (IPv4 options, IPv6 extension headers before ESP), or AH its headers. */
  notForTransport: 7,
  /** Outbound: a segmentation request that cannot be carried out. */
  badFrame: 8,
  /** The policy asks for a protocol that this engine does not have. */
  unsupported: 9,
  /** The cipher failed. */
  cipherFailed: 10,
  /** Inbound: shorter than ESP's header and trailer, or of another length than AH has. */
  truncated: 11,
  /** Inbound: a fragment of an outer packet. */
  outerFragment: 12,
  /** Inbound: no SA has this SPI and destination. */
  noSa: 13,
  /** Inbound: its sequence number was seen, or lies before the window. */
  replayed: 14,
  /** Inbound: the ICV is wrong. */
  badIcv: 15,
  /** Inbound: the pad length or padding is wrong (RFC 4303 §2.4). */
  badPadding: 16,
  /** Inbound: the next header does not fit the SA's mode. */
  badNextHeader: 17,
  /** Inbound: the inner packet is malformed. */
  badInner: 18,
  /** Inbound: a dummy packet (next header 59, RFC 4303 §2.6), which is no fault. */
  dummy: 19,
  /** Inbound: congestion was marked outside and the inner packet cannot say so (RFC 6040 §4.2). */
  ecn: 20,
  /** Inbound: the inner packet is none that its SA and policy admit (RFC 4301 §5.2). */
  policyMismatch: 21,
  /** Inbound: came in clear, and a policy demands protection. */
  clearText: 22,
  /** More came of a batch than there is room for. */
  noRoom: 23,
  /** Inbound: what IPComp carried is not compressed data, or too much would come of it (RFC 3173 §2.1). */
  badCompression: 24,
  /** Outbound: longer than the path carries in one piece, and not to be fragmented; its sender was told (RFC 4301 §8.2.1). */
  tooBig: 25,
  /** An ICMP error that quotes no packet which was sent a moment ago. */
  forgedIcmp: 26,
  /** A fragment of impossible length or place (RFC 791 §3.2, RFC 8200 §4.5). */
  badFragment: 27,
  /** A first fragment without all of its transport header, or one that begins within it (RFC 1858, RFC 3128, RFC 7112). */
  tinyFragment: 28,
  /** Fragments that overlap, and others of their packet (RFC 5722); or one that came twice. */
  fragmentOverlap: 29,
  /** Fragments whose packet did not become whole in time. */
  reassemblyTimeout: 30,
  /** Fragments that there is no room to keep. */
  reassemblyFull: 31,
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
