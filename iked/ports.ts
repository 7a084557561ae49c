/** What goes into the iked machine and what comes out of it: the closed unions its shell, the simulator and the tests are written against. */

import type { Secret } from '../src/bytes/secret.ts';
import type { Config } from '../src/config/config.ts';
import type { KeyInput, KeyOutput } from '../src/keying/ports.ts';
import type { ChildSaStatus, KeyStatus } from '../src/keying/status.ts';
import type { Path } from '../src/net/address.ts';
import type { IkedEvent } from './events.ts';

/** Everything one configuration generation consists of. The shell reads the key files; the machine opens none. */
export interface IkedSettings {
  readonly config: Config;
  /** Pre-shared keys of the `ikev2` blocks by remote name. They are the machine's from then on: it wipes those that the next generation does not hold. */
  readonly psks: ReadonlyMap<string, Secret>;
  /** The same for the `ikev1` blocks. */
  readonly psksV1?: ReadonlyMap<string, Secret>;
  /** Contents of the files that `my_id` and `peers_id` name (`keyid file`), by path. */
  readonly identityFiles?: ReadonlyMap<string, Uint8Array>;
}

export type IkedInput =
  | KeyInput<IkedSettings>
  /** The datapath takes IKE messages for the encapsulation port again. */
  | { readonly kind: 'encap-link' };

export type IkedOutput =
  | KeyOutput<IkedEvent>
  /** One octet 0xff on the encapsulation port, without a marker (RFC 3948 §2.3). */
  | { readonly kind: 'keepalive'; readonly path: Path };

/** The result of `status`. */
export interface IkedStatus extends KeyStatus {
  readonly ikeSas: readonly IkeSaStatus[];
}

export interface IkeSaStatus {
  /** `v2:SPIi/SPIr` of an IKE SA, `v1:CKY-I/CKY-R` of an ISAKMP SA, as in events. */
  readonly name: string;
  readonly remote: string | undefined;
  readonly state: string;
  readonly role: 'initiator' | 'responder';
  readonly local: string;
  readonly peer: string;
  readonly encapsulated: boolean;
  readonly nat: 'none' | 'here' | 'there' | 'both' | 'forced';
  readonly myId: string | undefined;
  readonly peerId: string | undefined;
  /** `AES_GCM_16_256 PRF_HMAC_SHA2_256 X25519`. */
  readonly suite: string | undefined;
  readonly ageMs: number;
  readonly rekeyInMs: number | undefined;
  readonly children: readonly ChildSaStatus[];
}
