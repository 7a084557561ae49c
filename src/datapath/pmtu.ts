/**
 * Path MTUs and what follows from them for each SA (RFC 4301 §8.2): what the path to the other end carries in one piece, learned from ICMP and
 * forgotten again, and the longest packet of an SA that fits.
 */

import type { SaParameters } from '../ipsec/sa.ts';
import type { Instant } from '../machine.ts';
import { IPV4, IPV6 } from '../net/ip-packet.ts';
import { PSEUDO_HEADER_MOST } from './beet.ts';
import { Deadlines } from './deadlines.ts';
import { NO_LIMIT, type Sa } from './sa.ts';
import { OUTER, type OuterHeaderPolicy, outerHeaderOf } from './tunnel.ts';

/** RFC 1191 §6.3: after ten minutes a longer packet is tried again. */
export const PMTU_LIFETIME = 600_000;
/** RFC 8200 §5: no IPv6 link carries less, so no error may say less. */
export const IPV6_LEAST_MTU = 1280;
/** Paths remembered at once; the oldest makes room. */
const MOST_PATHS = 1024;

const COPIED: OuterHeaderPolicy = { df: 'copy', dscp: 'copy' };

const UDP_HEADER = 8;
const ESP_HEADER = 8;
const ESP_TRAILER = 2;

interface PathMtu {
  readonly mtu: number;
  /** The path carries less than may be believed: routers are left to fragment. */
  readonly belowFloor: boolean;
}

export class PathMtus {
  readonly #policy: OuterHeaderPolicy;
  readonly #floor: number;
  readonly #clamps: boolean;
  /** By both ends, which outlive an SA that is rekeyed. */
  readonly #paths = new Map<string, PathMtu>();
  readonly #deadlines = new Deadlines<string>();

  /** `clamps`: whether TCP's MSS follows. */
  constructor(policy: OuterHeaderPolicy = COPIED, floor = 0, clamps = true) {
    this.#policy = policy;
    this.#floor = floor;
    this.#clamps = clamps;
  }

  /** Bounded: one string and one object a path. */
  get size(): number {
    return this.#paths.size;
  }

  /** What the path between these ends carries, `NO_LIMIT` where nothing is known. */
  mtuOf(ends: Pick<SaParameters, 'source' | 'destination'>): number {
    return this.#paths.get(nameOf(ends))?.mtu ?? NO_LIMIT;
  }

  /** Somebody on the path says how much it carries. Only less than what is known counts, and not less than the floor. True where that changes something. */
  learn(ends: Pick<SaParameters, 'source' | 'destination'>, reported: number, now: Instant): boolean {
    const floor = ends.source.family === 6 ? Math.max(IPV6_LEAST_MTU, this.#floor) : this.#floor;
    const mtu = Math.max(reported, floor);
    const name = nameOf(ends);
    const known = this.#paths.get(name);
    const belowFloor = reported < floor;
    if (known !== undefined && (mtu > known.mtu || (mtu === known.mtu && (known.belowFloor || !belowFloor)))) return false;
    if (known === undefined && this.#paths.size === MOST_PATHS) this.#forget(this.#paths.keys().next().value!);
    this.#paths.set(name, { mtu, belowFloor });
    this.#deadlines.set(name, now.mono + PMTU_LIFETIME);
    return true;
  }

  /** Forgets what is too old. True where there was such. */
  expire(now: Instant): boolean {
    const before = this.#paths.size;
    for (let name = this.#deadlines.take(now.mono); name !== undefined; name = this.#deadlines.take(now.mono))
      this.#paths.delete(name);
    return this.#paths.size < before;
  }

  get nextExpiry(): number {
    return this.#deadlines.next;
  }

  /** Gives an SA what its packets need to know: whenever it is new, has moved, or its path has changed. */
  apply(sa: Sa): void {
    const known = this.#paths.size === 0 ? undefined : this.#knownOf(sa.parameters);
    const { mask, bits } = outerHeaderOf(this.#policy, sa.parameters);
    sa.outerMask = known?.belowFloor === true ? mask & ~OUTER.dontFragment : mask;
    sa.outerBits = known?.belowFloor === true ? bits & ~OUTER.dontFragment : bits;
    const leftToRouters = this.#policy.df === 'clear' && sa.parameters.source.family === 4;
    sa.longest = known === undefined || leftToRouters ? NO_LIMIT : longestInner(sa, known.mtu);
    sa.longestSegment = this.#clamps ? sa.longest : NO_LIMIT;
  }

  /** An inbound SA shares the path of the outbound one: what comes through it tells the host how long its own segments may be. */
  #knownOf({ source, destination }: SaParameters): PathMtu | undefined {
    return (
      this.#paths.get(nameOf({ source, destination })) ?? this.#paths.get(nameOf({ source: destination, destination: source }))
    );
  }

  #forget(name: string): void {
    this.#paths.delete(name);
    this.#deadlines.delete(name);
  }
}

/**
 * The longest IP packet that the SA carries in one piece on a path of `mtu` octets: in tunnel mode all of it is inside, in transport mode its header
 * stays outside, in BEET mode it is left out.
 */
export function longestInner({ parameters, tunnel, inner, ivBytes, icvBytes, align }: Sa, mtu: number): number {
  const outer = parameters.source.family === 4 ? IPV4.bytes : IPV6.bytes;
  const udp = parameters.encapsulation === undefined ? 0 : UDP_HEADER;
  const text = mtu - outer - udp - ESP_HEADER - ivBytes - icvBytes;
  const payload = text - (text % align) - ESP_TRAILER;
  if (inner !== undefined) return payload + (inner.source.family === 6 ? IPV6.bytes : IPV4.bytes - PSEUDO_HEADER_MOST);
  return tunnel ? payload : payload + outer;
}

function nameOf({ source, destination }: Pick<SaParameters, 'source' | 'destination'>): string {
  return `${source} ${destination}`;
}
