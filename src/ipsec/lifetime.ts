/** Lifetimes of SAs: limits by time, octets and packets, each of which may be absent (RFC 4301 §4.4.2.1). */

/** 0 is "no limit", as in PF_KEY (RFC 2367 §2.3.2). `seconds` counts from the SA's birth. */
export interface Lifetime {
  readonly seconds: number;
  readonly bytes: number;
  readonly packets: number;
}

export const UNLIMITED: Lifetime = { seconds: 0, bytes: 0, packets: 0 };

/**
 * The soft limits for given hard ones: 80 to 90 percent, by `chance` from 0 to 1, so that two ends that began together do not rekey
 * together (RFC 7296 §2.8).
 */
export function softOf(hard: Lifetime, chance: number): Lifetime {
  const share = 0.8 + 0.1 * chance;
  return { seconds: hard.seconds * share, bytes: Math.floor(hard.bytes * share), packets: Math.floor(hard.packets * share) };
}
