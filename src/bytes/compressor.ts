/** What compresses: one string of octets at a time, within bounds. */

/** DEFLATE without a wrapper (RFC 2394). */
export interface Compressor {
  deflate(bytes: Uint8Array): Uint8Array;
  /** Undefined where it is not DEFLATE, or more than `most` octets would come of it. */
  inflate(bytes: Uint8Array, most: number): Uint8Array | undefined;
}
