/** Session keys and messages for tests of kinkd's codecs. */

import type { EncryptionKey } from '../../kinkd/krb5/enctypes.ts';
import { Secret } from '../../src/bytes/secret.ts';

/** A session key of AES-256 and HMAC-SHA1, what MIT's KDC gives by default. */
export function sessionKey(octet = 1): EncryptionKey {
  return { etype: 18, key: new Secret(new Uint8Array(32).fill(octet)) };
}
