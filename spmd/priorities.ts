/** Numbers that put SPD entries into the order of the policy file, and leave those of unchanged entries as they are over a reload. */

/** All entries of spmd have priorities in this range: by it a restarted spmd knows its own. The first byte is "T". */
export const OWN_FIRST = 0x54000000;
export const OWN_LAST = 0x54ffffff;
/** Entries that let IKE itself pass come before every selector. */
export const IKE_BYPASS = 0x54000010;
/** `default { policy { action discard } }` comes behind every selector. */
export const UNMATCHED = 0x54fffff0;

const FIRST = 0x54010000;
const LAST = 0x54ff0000;
const STEP = 0x100;

export function isOwn(priority: number): boolean {
  return priority >= OWN_FIRST && priority <= OWN_LAST;
}

/** Entries made by POLICY ADD have the odd number behind their selector's even one. */
export function isDynamic(priority: number): boolean {
  return isOwn(priority) && (priority & 1) === 1;
}

/**
 * An even number for each name, rising in the order given. A name that had a number keeps it where the order allows: as many as possible
 * stay, the rest is placed between them; if there is no room left, all are numbered anew.
 */
export function assignPriorities(names: readonly string[], before: ReadonlyMap<string, number>): Map<string, number> {
  const kept = longestRising(names.flatMap((name, at) => (before.has(name) ? [{ at, number: before.get(name)! }] : [])));
  const numbers = new Map<string, number>();
  let from = 0;
  let low = FIRST - STEP;
  for (const { at, number } of [...kept, { at: names.length, number: undefined }]) {
    const count = at - from;
    const high = number ?? Math.min(LAST, low + STEP * (count + 1));
    const step = Math.floor((high - low) / (count + 1) / 2) * 2;
    if (count > 0 && step < 2) return fresh(names);
    for (let i = 0; i < count; i++) numbers.set(names[from + i]!, low + step * (i + 1));
    if (number !== undefined) numbers.set(names[at]!, number);
    low = high;
    from = at + 1;
  }
  return numbers;
}

function fresh(names: readonly string[]): Map<string, number> {
  const step = Math.min(STEP, Math.max(2, Math.floor((LAST - FIRST) / (names.length + 1) / 2) * 2));
  return new Map(names.map((name, i) => [name, FIRST + step * i]));
}

interface Numbered {
  readonly at: number;
  readonly number: number;
}

/** The longest subsequence whose numbers rise. */
function longestRising(items: readonly Numbered[]): Numbered[] {
  /** `tails[n]`: the index of the smallest last item of a rising run of n + 1. */
  const tails: number[] = [];
  const previous: number[] = [];
  for (const [i, { number }] of items.entries()) {
    let low = 0;
    let high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (items[tails[middle]!]!.number < number) low = middle + 1;
      else high = middle;
    }
    previous[i] = low === 0 ? -1 : tails[low - 1]!;
    tails[low] = i;
  }
  const run: Numbered[] = [];
  for (let i = tails.at(-1) ?? -1; i >= 0; i = previous[i]!) run.unshift(items[i]!);
  return run;
}
