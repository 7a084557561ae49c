/** Proposals and transforms (RFC 7296 §2.7, §3.3): what one side offers, and the choice of the other. */

import { NONE } from '../bytes/bytes.ts';

/** Transform types, RFC 7296 §3.3.2; KE was D-H, ESN is "Sequence Numbers". */
export const TRANSFORM_TYPE = { ENCR: 1, PRF: 2, INTEG: 3, KE: 4, ESN: 5 } as const;
export type TransformType = keyof typeof TRANSFORM_TYPE;

/** One algorithm on offer. `id` is IKEv2's number (`src/crypto/transforms.ts`), `keyBits` the Key Length attribute where there is one. */
export interface Transform {
  /** A name, or the number of a type that we do not know. */
  readonly type: TransformType | number;
  readonly id: number;
  readonly keyBits?: number;
  /** Attributes other than Key Length, as received. A transform that has any is not acceptable to us (RFC 7296 §3.3.6). */
  readonly otherAttributes?: readonly { readonly type: number; readonly value: Uint8Array }[];
}

export type ProposalProtocol = 'ike' | 'ah' | 'esp';

/** IKEv2's security protocol identifiers, RFC 7296 §3.3.1. */
export const PROTOCOL_ID = { ike: 1, ah: 2, esp: 3 } as const;

/** One numbered choice: one transform of each type is to be taken from it. */
export interface Proposal {
  readonly number: number;
  readonly protocol: ProposalProtocol;
  /** Empty for the first IKE SA, 8 octets for an IKE SA rekey, 4 for ESP and AH. */
  readonly spi: Uint8Array;
  readonly transforms: readonly Transform[];
}

function sameTransform(a: Transform, b: Transform): boolean {
  return a.type === b.type && a.id === b.id && a.keyBits === b.keyBits && !a.otherAttributes && !b.otherAttributes;
}

function typesOf(proposal: Proposal): (TransformType | number)[] {
  return [...new Set(proposal.transforms.map((transform) => transform.type))];
}

/**
 * Types whose absence means the same as the one transform with this id: no KE is NONE, no INTEG is NONE (0), no ESN transform is
 * "no extended sequence numbers" (RFC 7296 §3.3.3, §3.3.6).
 */
const ABSENT_MEANS_ZERO: readonly (TransformType | number)[] = ['INTEG', 'KE', 'ESN'];

/**
 * The first of our proposals that one of theirs satisfies, with exactly one transform of each type (ours decide the preference), under
 * their number and with their SPI; or undefined. Where our proposal holds a type and theirs does not, 0 (NONE) must be among ours, and
 * the reverse.
 */
export function choose(ours: readonly Proposal[], theirs: readonly Proposal[]): Proposal | undefined {
  for (const mine of ours) {
    for (const offer of theirs) {
      const transforms = mine.protocol === offer.protocol ? common(mine, offer) : undefined;
      if (transforms !== undefined) return { number: offer.number, protocol: offer.protocol, spi: offer.spi, transforms };
    }
  }
  return undefined;
}

function common(mine: Proposal, offer: Proposal): Transform[] | undefined {
  const chosen: Transform[] = [];
  for (const type of new Set([...typesOf(mine), ...typesOf(offer)])) {
    const my = mine.transforms.filter((transform) => transform.type === type);
    const their = offer.transforms.filter((transform) => transform.type === type);
    const both = my.find((transform) => their.some((other) => sameTransform(transform, other)));
    if (both !== undefined) chosen.push(both);
    else if (!ABSENT_MEANS_ZERO.includes(type)) return undefined;
    else if (my.length > 0 && their.length > 0) return undefined;
    else if (![...my, ...their].some((transform) => transform.id === 0)) return undefined;
  }
  return chosen;
}

/** The one transform of a type in a chosen proposal, or undefined where it has none or NONE (0 for INTEG and KE). */
export function transformOf(proposal: Proposal, type: TransformType): Transform | undefined {
  return proposal.transforms.find((transform) => transform.type === type);
}

/** A proposal without an SPI of its own. */
export function withoutSpi(proposal: Proposal): Proposal {
  return { ...proposal, spi: NONE };
}
