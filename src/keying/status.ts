/** What `status` shows of a key daemon: plain JSON. Times in milliseconds; `undefined` members are absent. */

import { showSelector } from '../ipsec/selector.ts';
import { type SaPair, showSpi } from './sa-pair.ts';

export interface KeyStatus {
  readonly generation: number;
  readonly datapath: 'up' | 'down';
  /** The last failure of each remote or selector, newest first, kept until the same thing succeeds. */
  readonly failures: readonly { readonly subject: string; readonly at: number; readonly why: string }[];
  readonly counters: Readonly<Record<string, number>>;
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

export function childSaStatus(child: SaPair, mono: number): ChildSaStatus {
  const { agreed, lifetime } = child;
  const left = (seconds: number) => (seconds === 0 ? undefined : Math.max(0, Math.round(child.since + seconds * 1000 - mono)));
  return {
    selector: child.policy.name,
    policy: child.policy.policy.name,
    state: child.state,
    protocol: 'esp',
    mode: agreed.mode,
    spiIn: showSpi(child.spiIn),
    spiOut: showSpi(child.spiOut),
    reqid: child.policy.reqid,
    suite: child.suite,
    extendedSequence: child.extendedSequence,
    encapsulated: child.encapsulated,
    localSelectors: agreed.local.map(showSelector),
    peerSelectors: agreed.peer.map(showSelector),
    ageMs: mono - child.since,
    rekeyInMs: left(lifetime.soft.seconds),
    expiresInMs: left(lifetime.hard.seconds),
  };
}
