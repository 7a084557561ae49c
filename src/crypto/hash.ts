/** Digests: SHA-1 (NAT detection, RFC 7296 §2.23) and SHA-2 (RFC 6234). */

import { defaultEngine, type Engine, type HashName } from './engine.ts';

/** Octets of each digest. */
export const DIGEST_BYTES: Readonly<Record<HashName, number>> = { md5: 16, sha1: 20, sha2_256: 32, sha2_384: 48, sha2_512: 64 };

/** The digest of the concatenation of `data`. */
export function digest(hash: HashName, data: Uint8Array | readonly Uint8Array[], engine: Engine = defaultEngine): Uint8Array {
  return data instanceof Uint8Array ? engine.hash(hash, data) : engine.hash(hash, ...data);
}

/** SHA-1 of the concatenation of `data`: no more than a check sum wherever this project uses it. */
export function sha1(...data: readonly Uint8Array[]): Uint8Array {
  return defaultEngine.hash('sha1', ...data);
}
