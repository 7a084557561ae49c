/** What goes into the machine of a key daemon and what comes out of it, whatever its protocol. Each daemon closes these unions with its own members. */

import type { LocalAddress } from '../config/expand.ts';
import type { Event } from '../event.ts';
import type { Path } from '../net/address.ts';
import type { SadbMessage } from '../pfkey/message.ts';
import type { HookOutput } from './hooks.ts';

/** `Settings` is everything that one configuration generation consists of for this daemon. */
export type KeyInput<Settings> =
  /** Time has passed. */
  | { readonly kind: 'tick' }
  /**
   * One message of the protocol. On the encapsulation port `bytes` starts behind the non-ESP marker: the shell takes it off, and puts it on
   * when it sends (RFC 3948 §2.2). `path.local` is the address and port the datagram was sent to, never unspecified.
   */
  | { readonly kind: 'datagram'; readonly path: Path; readonly bytes: Uint8Array }
  /** One message from the datapath: a reply of ours, ACQUIRE, EXPIRE. */
  | { readonly kind: 'pfkey'; readonly message: SadbMessage }
  /** The PF_KEY connection came up (also after an overrun or a restart of the datapath: the machine registers and resynchronises by DUMP), or was lost. */
  | { readonly kind: 'pfkey-link'; readonly up: boolean }
  /** A new generation is to be checked. Answered by `configuration` with `prepared` or `rejected`; nothing changes yet. */
  | { readonly kind: 'prepare'; readonly generation: number; readonly settings: Settings }
  /** The generation prepared before takes effect. Answered by `configuration` with `committed`. */
  | { readonly kind: 'commit'; readonly generation: number }
  /** The generation prepared before is dropped. */
  | { readonly kind: 'abort'; readonly generation: number }
  /** The host's own addresses, at start and whenever they change. */
  | { readonly kind: 'addresses'; readonly addresses: readonly LocalAddress[] }
  /** spmd's answer to the `selector-of` ask with this id: a selector's name, or undefined where it knows no such policy or is away. */
  | { readonly kind: 'answer'; readonly id: number; readonly selector: string | undefined }
  /** What an operator asks for over control.sock. Answered by `reply` with the same id, at once or when the outcome is known. */
  | { readonly kind: 'command'; readonly id: number; readonly command: KeyCommand };

export type KeyOutput<E extends Event = Event> =
  | { readonly kind: 'send'; readonly path: Path; readonly bytes: Uint8Array }
  | { readonly kind: 'pfkey'; readonly message: SadbMessage }
  | { readonly kind: 'configuration'; readonly generation: number; readonly state: 'prepared' | 'committed' }
  | { readonly kind: 'configuration'; readonly generation: number; readonly state: 'rejected'; readonly reason: string }
  | SelectorQuestion
  /** A command on spmif whose outcome the machine does not wait for: POLICY ADD, POLICY DELETE. */
  | { readonly kind: 'spmd'; readonly command: string }
  | { readonly kind: 'event'; readonly event: E }
  /** A script to run, whose outcome the machine does not wait for. */
  | HookOutput
  | Reply;

/** `SLID policyId` on spmif. */
export interface SelectorQuestion {
  readonly kind: 'ask';
  readonly id: number;
  readonly question: { readonly about: 'selector-of'; readonly policyId: number };
}

/** The outcome of a command. */
export type Reply =
  | { readonly kind: 'reply'; readonly id: number; readonly ok: true; readonly result: unknown }
  | { readonly kind: 'reply'; readonly id: number; readonly ok: false; readonly error: string };

export type KeyCommand =
  /** The daemon's status at once. */
  | { readonly verb: 'status' }
  /** Whether the name means anything to this daemon: `Knowledge` at once. */
  | { readonly verb: 'knows'; readonly name: string }
  /** Name of a selector, a policy or a remote. Replies when the child SA is up or the negotiation failed. */
  | { readonly verb: 'initiate'; readonly name: string }
  /** Name of a selector or a policy (its child SAs), of a remote or an IKE SA's short name (the IKE SA and all its children). */
  | { readonly verb: 'terminate'; readonly name: string }
  /** The same names. `child`: every child SA it names; `ike`: the IKE SAs it names or that carry them. Replies when it has begun. */
  | { readonly verb: 'rekey'; readonly name: string; readonly what: 'ike' | 'child' }
  /** Takes leave of every peer, before the daemon ends. Replies when the peers have answered or after 2 s. */
  | { readonly verb: 'shutdown' };

/** A request of control.sock as a command. Throws Error with what was expected. */
export function readKeyCommand({ verb, name, what }: Readonly<Record<string, unknown>>): KeyCommand {
  if (verb === 'status') return { verb };
  if (verb !== 'knows' && verb !== 'initiate' && verb !== 'terminate' && verb !== 'rekey')
    throw new Error(`unknown verb "${verb}"; expected status, knows, initiate, terminate, rekey or events`);
  if (typeof name !== 'string') throw new Error(`${verb}: expected "name": a selector, a policy, a remote or an IKE SA`);
  if (verb !== 'rekey') return { verb, name };
  if (what !== 'ike' && what !== 'child') throw new Error('rekey: expected "what": "ike" or "child"');
  return { verb, name, what };
}
