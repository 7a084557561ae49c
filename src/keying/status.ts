/** What `status` shows of a key daemon: plain JSON. Times in milliseconds; `undefined` members are absent. */

import type { Mode } from '../ipsec/sa.ts';
import { showSelector } from '../ipsec/selector.ts';
import type { ChildPolicy } from './child-policy.ts';
import type { KeyHost } from './host.ts';
import { type SaPair, showSpi } from './sa-pair.ts';

export interface KeyStatus {
  readonly generation: number;
  readonly datapath: 'up' | 'down';
  /** The last failure of each remote or selector, newest first, kept until the same thing succeeds. */
  readonly failures: readonly { readonly subject: string; readonly at: number; readonly why: string }[];
  readonly counters: Readonly<Record<string, number>>;
}

/** What one daemon has to do with the name of a selector, policy, remote or peer relation. */
export interface Knowledge {
  /** Selectors that it would begin to negotiate for, or waits for its peer to. */
  readonly serves: number;
  /** Pairs of SAs that it has. */
  readonly holds: number;
}

export function knowledge(host: Pick<KeyHost, 'policies' | 'beginner' | 'pairs'>, name: string): Knowledge {
  const means = (policy: ChildPolicy) => [policy.name, policy.policy.name, policy.remote].includes(name);
  return {
    serves: host.policies.all.filter((policy) => means(policy) && host.beginner(policy) !== 'other').length,
    holds: host.pairs().filter((pair) => means(pair.policy) || pair.owner.name === name).length,
  };
}

export interface ChildSaStatus {
  readonly selector: string;
  readonly policy: string;
  readonly state: string;
  readonly protocol: 'esp' | 'ah';
  readonly mode: Mode;
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
    protocol: child.protocol,
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
