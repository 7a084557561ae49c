/** The anti-replay window (RFC 6479) with extended sequence numbers (RFC 4303 §2.2.1, appendix A). */

const WORD_BITS = 32;
const TWO_32 = 0x1_0000_0000;
const NO_WORDS = new Uint32Array(0);

/**
 * The window of one inbound SA. Numbers are whole 64-bit sequence numbers as doubles, exact to 2^53, beyond which an SA cannot live; `>>>` takes
 * their low 32 bits. `size` is rounded up to whole words; at least one word more is kept, so that the window moves a word at a time, and their
 * number is a power of two, so that places are found by a mask.
 */
export class ReplayWindow {
  /** The highest sequence number authenticated so far; 0: none. */
  top = 0;
  readonly size: number;
  /** None until the first packet: an outbound SA has a window, too. */
  #words: Uint32Array = NO_WORDS;
  readonly #mask: number;

  /** `size` in packets; 0 checks nothing. */
  constructor(size: number) {
    const words = Math.ceil(size / WORD_BITS);
    this.size = words * WORD_BITS;
    this.#mask = 2 ** Math.ceil(Math.log2(words + 1)) - 1;
  }

  /** RFC 4303 appendix A2.2: the whole number that `low`, the 32 bits of a packet, stand for, given where the window is. */
  extend(low: number): number {
    const topLow = this.top >>> 0;
    const topHigh = (this.top - topLow) / TWO_32;
    // Without a window half the number space is as good a guess as any.
    const width = this.size === 0 ? TWO_32 / 2 : this.size;
    if (topLow >= width - 1) return low >= topLow - width + 1 ? topHigh * TWO_32 + low : (topHigh + 1) * TWO_32 + low;
    return low >= topLow - width + 1 + TWO_32 && topHigh > 0 ? (topHigh - 1) * TWO_32 + low : topHigh * TWO_32 + low;
  }

  /** Whether a packet with this number may be new. Changes nothing: the packet is not authenticated yet. */
  fresh(sequence: number): boolean {
    if (sequence === 0) return false;
    if (this.size === 0 || sequence > this.top) return true;
    if (sequence + this.size <= this.top) return false;
    const low = sequence >>> 0;
    return (this.#words[(low >>> 5) & this.#mask]! & (1 << (low & 31))) === 0;
  }

  /** Notes an authenticated packet: moves the window on if it is the highest. */
  accept(sequence: number): void {
    if (sequence > this.top) {
      if (this.size > 0) this.#advance(sequence);
      this.top = sequence;
    }
    if (this.size === 0) return;
    const low = sequence >>> 0;
    const at = (low >>> 5) & this.#mask;
    this.#words[at] = this.#words[at]! | (1 << (low & 31));
  }

  /** Clears the words between the old top's and the new one's. */
  #advance(sequence: number): void {
    if (this.#words === NO_WORDS) this.#words = new Uint32Array(this.#mask + 1);
    const words = this.#words;
    const from = Math.floor(this.top / WORD_BITS);
    const steps = Math.min(Math.floor(sequence / WORD_BITS) - from, words.length);
    const first = ((this.top >>> 0) >>> 5) + 1;
    for (let i = 0; i < steps; i++) words[(first + i) & this.#mask] = 0;
  }
}
