/** What a script that hangs on an event is told (`script { EVENT PATH; }`): racoon2's names for events and variables. */

import type { Mode } from '../ipsec/sa.ts';
import type { TrafficSelector } from '../ipsec/selector.ts';
import type { Path } from '../net/address.ts';
import { rangeToPrefixes } from '../net/prefix.ts';

export type HookEvent = 'phase1_up' | 'phase1_down' | 'phase1_rekey' | 'phase2_up' | 'phase2_down' | 'phase2_rekey' | 'migration';

/** Paths by event, as a remote's block names them. */
export type Scripts = Readonly<Record<string, string>>;

export interface HookOutput {
  readonly kind: 'hook';
  readonly event: HookEvent;
  readonly file: string;
  /** Hooks about the same thing are run in order. */
  readonly about: string;
  readonly environment: Readonly<Record<string, string>>;
}

/** What is to be run, where the remote names a script for the event. */
export function hookFor(
  scripts: Scripts | undefined,
  event: HookEvent,
  about: string,
  environment: Readonly<Record<string, string>>,
): HookOutput[] {
  const file = scripts?.[event];
  return file === undefined ? [] : [{ kind: 'hook', event, file, about, environment }];
}

/** LOCAL_ADDR, LOCAL_PORT, REMOTE_ADDR, REMOTE_PORT. */
export function pathEnvironment({ local, remote }: Path): Record<string, string> {
  return {
    LOCAL_ADDR: `${local.address}`,
    LOCAL_PORT: `${local.port}`,
    REMOTE_ADDR: `${remote.address}`,
    REMOTE_PORT: `${remote.port}`,
  };
}

/** What a pair of SAs is about. */
interface PairFacts {
  readonly policy: { readonly name: string };
  readonly agreed: { readonly mode: Mode; readonly local: readonly TrafficSelector[]; readonly peer: readonly TrafficSelector[] };
  readonly path: Path;
}

/** Of a pair of SAs, its first selectors. Ports are 0 where any are meant, and the protocol likewise. */
export function pairEnvironment({ policy, agreed, path }: PairFacts): Record<string, string> {
  const environment: Record<string, string> = {
    LOCAL_ADDR: `${path.local.address}`,
    REMOTE_ADDR: `${path.remote.address}`,
    SELECTOR_INDEX: policy.name,
    IPSEC_MODE: agreed.mode,
  };
  for (const [side, selector] of [
    ['LOCAL', agreed.local[0]],
    ['REMOTE', agreed.peer[0]],
  ] as const) {
    if (selector === undefined) continue;
    const [prefix] = rangeToPrefixes(selector.start, selector.end);
    const anyPort = selector.startPort === 0 && selector.endPort === 65535;
    environment[`${side}_NET_ADDR`] = `${prefix?.address ?? selector.start}`;
    environment[`${side}_NET_PREFIXLEN`] = `${prefix?.length ?? 0}`;
    environment[`${side}_NET_PORT`] = `${anyPort ? 0 : selector.startPort}`;
    environment.UPPER_LAYER_PROTOCOL = `${selector.protocol}`;
  }
  return environment;
}
