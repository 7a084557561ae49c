/** What spmd tells about itself: status of its policies and daemons, and what a reload did. */

import { type Policy, showPolicySelector } from '../src/ipsec/policy.ts';
import type { Generations } from './generations.ts';
import type { Installer } from './installer.ts';
import { type Problem, samePolicy, type TableEntry } from './policy-table.ts';
import type { PolicyStatus, SpmdStatus } from './ports.ts';

export interface StatusParts {
  readonly generations: Generations;
  readonly installer: Installer;
  readonly policies: readonly PolicyStatus[];
  readonly problems: readonly Problem[];
  readonly rejection: string | undefined;
  readonly datapathProblem: string | undefined;
  readonly unconfirmedSeconds: number | undefined;
}

export function statusOf(parts: StatusParts): SpmdStatus {
  const { generations, installer, policies, problems, rejection, datapathProblem, unconfirmedSeconds } = parts;
  const daemons = [...generations.subscribers.values()];
  const refused = [...installer.installed].filter(([, { state }]) => state === 'refused');
  return {
    generation: generations.active?.generation,
    datapath: installer.synchronised,
    policies,
    daemons: daemons.map(({ daemon, generation, state }) => ({ name: daemon, generation, state })),
    unconfirmedSeconds,
    problems: [
      ...(installer.synchronised ? [] : ['the datapath is not connected: no policy can be installed until it is']),
      ...(datapathProblem === undefined ? [] : [`the datapath did not take its settings: ${datapathProblem}`]),
      ...(rejection === undefined ? [] : [rejection]),
      ...problems.map(({ selector, reason }) => `selector ${selector} is not installed: ${reason}`),
      ...refused.map(([key, { reason }]) => `the datapath refused the policy ${key}: ${reason}`),
      ...daemons.flatMap(({ daemon, state, reason }) =>
        state === 'rejected' ? [`${daemon} cannot work with this configuration: ${reason}`] : [],
      ),
    ],
  };
}

export function policyStatus({ key, selector, policy, dynamic }: TableEntry, installer: Installer): PolicyStatus {
  const there = installer.installed.get(key);
  return {
    id: there?.policy.id ?? 0,
    name: selector ?? '',
    direction: policy.direction,
    selector: showPolicySelector(policy.selector),
    action: policy.action,
    priority: policy.priority,
    reqid: policy.templates[0]?.reqid ?? 0,
    state: there?.state ?? 'waiting',
    generated: dynamic,
  };
}

/** `2 policies added, 0 changed, 0 removed, 6 left alone`. */
export function summaryOf(
  before: ReadonlyMap<string, { readonly policy: Policy }>,
  after: ReadonlyMap<string, TableEntry>,
): string {
  const added = [...after.keys()].filter((key) => !before.has(key)).length;
  const removed = [...before.keys()].filter((key) => !after.has(key)).length;
  const changed = [...after].filter(
    ([key, { policy }]) => before.has(key) && !samePolicy(before.get(key)!.policy, policy),
  ).length;
  return `${added} policies added, ${changed} changed, ${removed} removed, ${after.size - added - changed} left alone`;
}

/** What STAT tells on spmif. */
export function statLines(
  { active, subscribers }: Generations,
  { synchronised, installed }: Installer,
  generated: number,
): string[] {
  return [
    `generation ${active?.generation ?? 'none'}`,
    `datapath ${synchronised ? 'connected' : 'not connected'}`,
    `policies ${[...installed.values()].filter(({ state }) => state === 'installed').length}`,
    `generated ${generated}`,
    `daemons ${subscribers.size}`,
  ];
}
