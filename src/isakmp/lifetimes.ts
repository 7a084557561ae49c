/** Lifetimes of phase 2 and what two sides agree on (RFC 2407 §4.5, §4.5.4). */

import type { Lifetime } from '../ipsec/lifetime.ts';
import type { Life } from './attributes.ts';

/** How far a peer's lifetimes and PFS group may differ from ours. Algorithms, key lengths and the encapsulation mode never may. */
export type ProposalCheck = 'obey' | 'strict' | 'claim' | 'exact';

/** What a lifetime that nobody names is, RFC 2407 §4.5. */
export const DEFAULT_SECONDS = 28_800;

export function lifeOf({ seconds, bytes }: Lifetime): Life {
  return {
    ...(seconds > 0 ? { seconds: Math.max(1, Math.floor(seconds)) } : {}),
    ...(bytes > 0 ? { kilobytes: Math.max(1, Math.floor(bytes / 1024)) } : {}),
  };
}

/** The lifetimes that hold, 0 being no limit; or which of them the check refuses. */
export function agreedLifetime(
  check: ProposalCheck,
  ours: Lifetime,
  { seconds: theirSeconds = DEFAULT_SECONDS, kilobytes: theirKilobytes = 0 }: Life,
): { seconds: number; bytes: number; shortened: boolean } | string {
  const life = lifeOf(ours);
  const own = { seconds: life.seconds ?? 0, kilobytes: life.kilobytes ?? 0 };
  const told = `a lifetime of ${theirSeconds} s${theirKilobytes === 0 ? '' : ` and ${theirKilobytes} KiB`}, ours is ${own.seconds || 'not limited'}${own.seconds ? ' s' : ''}${own.kilobytes === 0 ? '' : ` and ${own.kilobytes} KiB`} (proposal_check ${check})`;
  switch (check) {
    case 'obey':
      return { seconds: theirSeconds, bytes: theirKilobytes * 1024, shortened: false };
    case 'exact':
      if (theirSeconds !== (own.seconds || DEFAULT_SECONDS) || theirKilobytes !== own.kilobytes) return told;
      return { seconds: theirSeconds, bytes: theirKilobytes * 1024, shortened: false };
    case 'strict':
      if ((own.seconds !== 0 && theirSeconds > own.seconds) || (own.kilobytes !== 0 && theirKilobytes > own.kilobytes))
        return told;
  }
  const seconds = shorter(own.seconds, theirSeconds);
  const kilobytes = shorter(own.kilobytes, theirKilobytes);
  const shortened = seconds < theirSeconds || (theirKilobytes !== 0 && kilobytes < theirKilobytes);
  return { seconds, bytes: kilobytes * 1024, shortened };
}

/** The smaller of two limits, 0 being none. */
export function shorter(a: number, b: number): number {
  return a === 0 || b === 0 ? Math.max(a, b) : Math.min(a, b);
}
