/** Seeded mutations of octet strings, for the fuzz tests: the same seed gives the same mutants everywhere. */

/** A reproducible source of integers from 0 to below `bound` (mulberry32). */
export type Numbers = (bound: number) => number;

export function numbers(seed: number): Numbers {
  let state = seed >>> 0;
  return (bound) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * bound);
  };
}

/** Octets that sit at the edges of fields. */
const EDGES = [0, 1, 3, 4, 7, 8, 0x7f, 0x80, 0xfe, 0xff] as const;

/** A copy with one to four changes: flipped bits, edge values, lengths moved, octets cut, doubled, removed or added. Never longer than twice the original and 64. */
export function mutate(original: Uint8Array, random: Numbers): Uint8Array {
  let bytes: Uint8Array = original.slice();
  for (let i = random(4); i >= 0; i--) bytes = change(bytes, random);
  return bytes;
}

function change(bytes: Uint8Array, random: Numbers): Uint8Array {
  if (bytes.length === 0) return Uint8Array.of(random(256));
  const at = random(bytes.length);
  const length = random(Math.min(16, bytes.length - at)) + 1;
  switch (random(8)) {
    case 0:
    case 1:
      bytes[at]! ^= 1 << random(8);
      return bytes;
    case 2:
      bytes[at] = EDGES[random(EDGES.length)]!;
      return bytes;
    case 3:
      bytes[at] = random(256);
      return bytes;
    case 4:
      bytes[at]! += random(2) === 0 ? 1 : -1;
      return bytes;
    case 5:
      return bytes.slice(0, at);
    case 6:
      return joined(bytes.subarray(0, at), bytes.subarray(at + length));
    default:
      return joined(bytes.subarray(0, at + length), bytes.subarray(at));
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}
