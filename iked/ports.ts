/** What goes into the iked machine and what comes out of it: the closed unions its shell, the simulator and the tests are written against. */

import type { Secret } from '../src/bytes/secret.ts';
import type { Config } from '../src/config/config.ts';
import type { LocalAddress } from '../src/config/expand.ts';
import type { Path } from '../src/net/address.ts';
import type { SadbMessage } from '../src/pfkey/message.ts';
import type { IkedEvent } from './events.ts';

/** Everything one configuration generation consists of. The shell reads the key files; the machine opens none. */
export interface IkedSettings {
  readonly config: Config;
  /** Pre-shared keys by remote name. They are the machine's from then on: it wipes those that the next generation does not hold. */
  readonly psks: ReadonlyMap<string, Secret>;
  /** Contents of the files that `my_id` and `peers_id` name (`keyid file`), by path. */
  readonly identityFiles?: ReadonlyMap<string, Uint8Array>;
}

export type IkedInput =
  /** Time has passed. */
  | { readonly kind: 'tick' }
  /**
   * One IKE message. `bytes` starts with the IKE header: the shell takes the non-ESP marker off where `path.encapsulated`, and puts it on
   * when it sends (RFC 3948 §2.2). `path.local` is the address and port the datagram was sent to, never unspecified.
   */
  | { readonly kind: 'datagram'; readonly path: Path; readonly bytes: Uint8Array }
  /** One message from the datapath: a reply of ours, ACQUIRE, EXPIRE. */
  | { readonly kind: 'pfkey'; readonly message: SadbMessage }
  /** The PF_KEY connection came up (also after an overrun or a restart of the datapath: the machine registers and resynchronises by DUMP), or was lost. */
  | { readonly kind: 'pfkey-link'; readonly up: boolean }
  /** The datapath takes IKE messages for the encapsulation port again. */
  | { readonly kind: 'encap-link' }
  /** A new generation is to be checked. Answered by `configuration` with `prepared` or `rejected`; nothing changes yet. */
  | { readonly kind: 'prepare'; readonly generation: number; readonly settings: IkedSettings }
  /** The generation prepared before takes effect. Answered by `configuration` with `committed`. */
  | { readonly kind: 'commit'; readonly generation: number }
  /** The generation prepared before is dropped. */
  | { readonly kind: 'abort'; readonly generation: number }
  /** The host's own addresses, at start and whenever they change. */
  | { readonly kind: 'addresses'; readonly addresses: readonly LocalAddress[] }
  /** spmd's answer to the `selector-of` ask with this id: a selector's name, or undefined where it knows no such policy or is away. */
  | { readonly kind: 'answer'; readonly id: number; readonly selector: string | undefined }
  /** What an operator asks for over control.sock. Answered by `reply` with the same id, at once or when the outcome is known. */
  | { readonly kind: 'command'; readonly id: number; readonly command: IkedCommand };

export type IkedOutput =
  | { readonly kind: 'send'; readonly path: Path; readonly bytes: Uint8Array }
  /** One octet 0xff on the encapsulation port, without a marker (RFC 3948 §2.3). */
  | { readonly kind: 'keepalive'; readonly path: Path }
  | { readonly kind: 'pfkey'; readonly message: SadbMessage }
  | { readonly kind: 'configuration'; readonly generation: number; readonly state: 'prepared' | 'committed' }
  | { readonly kind: 'configuration'; readonly generation: number; readonly state: 'rejected'; readonly reason: string }
  /** `SLID policyId` on spmif. */
  | { readonly kind: 'ask'; readonly id: number; readonly question: { readonly about: 'selector-of'; readonly policyId: number } }
  /** A command on spmif whose outcome the machine does not wait for: POLICY ADD, POLICY DELETE. */
  | { readonly kind: 'spmd'; readonly command: string }
  | { readonly kind: 'event'; readonly event: IkedEvent }
  | { readonly kind: 'reply'; readonly id: number; readonly ok: true; readonly result: unknown }
  | { readonly kind: 'reply'; readonly id: number; readonly ok: false; readonly error: string };

export type IkedCommand =
  /** `IkedStatus` at once. */
  | { readonly verb: 'status' }
  /** Name of a selector, a policy or a remote. Replies when the child SA is up or the negotiation failed. */
  | { readonly verb: 'initiate'; readonly name: string }
  /** Name of a selector or a policy (its child SAs), of a remote or an IKE SA's short name (the IKE SA and all its children). */
  | { readonly verb: 'terminate'; readonly name: string }
  /** The same names. `child`: every child SA it names; `ike`: the IKE SAs it names or that carry them. Replies when it has begun. */
  | { readonly verb: 'rekey'; readonly name: string; readonly what: 'ike' | 'child' }
  /** Closes every IKE SA with a DELETE, before the daemon ends. Replies when the peers have answered or after 2 s. */
  | { readonly verb: 'shutdown' };

/** The result of `status`: plain JSON. Times in milliseconds; `undefined` members are absent. */
export interface IkedStatus {
  readonly generation: number;
  readonly datapath: 'up' | 'down';
  readonly ikeSas: readonly IkeSaStatus[];
  /** The last failure of each remote or selector, newest first, kept until the same thing succeeds. */
  readonly failures: readonly { readonly subject: string; readonly at: number; readonly why: string }[];
  readonly counters: Readonly<Record<string, number>>;
}

export interface IkeSaStatus {
  /** `v2:SPIi/SPIr`, as in events. */
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

export interface ChildSaStatus {
  readonly selector: string;
  readonly policy: string;
  readonly state: string;
  readonly protocol: 'esp' | 'ah';
  readonly mode: 'transport' | 'tunnel';
  /** Hexadecimal, eight digits. */
  readonly spiIn: string;
  readonly spiOut: string;
  readonly reqid: number;
  readonly suite: string;
  readonly extendedSequence: boolean;
  readonly encapsulated: boolean;
  readonly localSelectors: readonly string[];
  readonly peerSelectors: readonly string[];
  readonly ageMs: number;
  readonly rekeyInMs: number | undefined;
  readonly expiresInMs: number | undefined;
}
