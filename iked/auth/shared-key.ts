/** Authentication by a pre-shared key: whether AUTH is right, and ours (RFC 7296 §2.15). */

import { equal } from '../../src/bytes/bytes.ts';
import type { Secret } from '../../src/bytes/secret.ts';
import type { Prf } from '../../src/crypto/prf.ts';
import { AuthError } from '../../src/errors.ts';
import { nameOf } from '../../src/wire/registry.ts';
import { sharedKeyAuth } from '../ikev2/keys.ts';
import type { PayloadOf } from '../ikev2/payloads.ts';
import { AUTH_METHOD } from '../ikev2/payloads.ts';
import type { Peer } from '../peers.ts';

/** Our AUTH payload. Throws AuthError where the remote has no key. */
export function sharedKeyPayload(prf: Prf, peer: Peer, octets: Uint8Array): PayloadOf<'AUTH'> {
  return { type: 'AUTH', method: AUTH_METHOD.SHARED_KEY, data: sharedKeyAuth(prf, keyOf(peer), octets) };
}

/** Throws AuthError, in words for our own operator only, unless the peer's AUTH is of an allowed method and right. */
export function checkAuth(prf: Prf, peer: Peer, octets: Uint8Array, auth: PayloadOf<'AUTH'>, who: string): void {
  if (auth.method !== AUTH_METHOD.SHARED_KEY || !peer.ikev2.authMethods.includes('psk')) {
    const method = nameOf(AUTH_METHOD, auth.method);
    throw new AuthError(
      `${who} authenticates by ${method}; remote ${peer.name} accepts ${peer.ikev2.authMethods.join(', ')}: correct kmp_auth_method on one side`,
    );
  }
  if (equal(sharedKeyAuth(prf, keyOf(peer), octets), auth.data)) return;
  throw new AuthError(
    `the AUTH of ${who} was made with another pre-shared key than the one of remote ${peer.name}: compare the files of pre_shared_key on both sides`,
  );
}

function keyOf({ name, psk }: Peer): Secret {
  if (psk === undefined) throw new AuthError(`remote ${name} has no pre_shared_key: name a key file there`);
  return psk;
}
