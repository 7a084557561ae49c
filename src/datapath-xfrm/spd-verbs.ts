/** PF_KEY's verbs on the kernel's SPD (the SPD extensions of KAME and Linux), one function a verb. */

import type { RecentMovements } from '../datapath/recent-movements.ts';
import { answer, echo, MOST_TEMPLATES, series } from '../datapath/verbs.ts';
import type { Policy, Template } from '../ipsec/policy.ts';
import type { Instant } from '../machine.ts';
import { refusal } from '../pfkey/convert.ts';
import { directionOf, policySeconds, selectorOf, spdToPolicy } from '../pfkey/convert-policy.ts';
import type { SadbMessage } from '../pfkey/message.ts';
import { ERRNO, IPSEC_MANUAL_REQID_MAX, type SadbType } from '../pfkey/registry.ts';
import type { VerbResult } from '../pfkey/server.ts';
import { type KernelPolicy, type PolicyTable, policyMessage } from './policy-table.ts';

export type Verb = (message: SadbMessage, now: Instant) => VerbResult;
export type VerbTable = { readonly [Type in SadbType]?: Verb };

export function spdVerbs(policies: PolicyTable, movements: RecentMovements): VerbTable {
  let nextReqid = IPSEC_MANUAL_REQID_MAX + 1;

  function add(message: SadbMessage, now: Instant, replace: boolean): VerbResult {
    const policy = withReqids(spdToPolicy(message), () => nextReqid++);
    if (policy.templates.length > MOST_TEMPLATES)
      throw refusal(`a policy asks for ${MOST_TEMPLATES} SAs at most, not ${policy.templates.length}`);
    if (!replace && policies.bySelector(policy.direction, policy.selector) !== undefined)
      throw refusal('there is such a policy already', ERRNO.EEXIST);
    const entry = policies.put(policy, policySeconds(message), message.kmAddress, now);
    for (const { reqid, endpoints } of policy.templates) if (endpoints !== undefined) movements.settled(reqid, endpoints);
    return { broadcast: [answer(message, policyMessage(message.type, entry))] };
  }

  function bySelector(message: SadbMessage): KernelPolicy {
    const entry = policies.bySelector(directionOf(message.policy!.direction), selectorOf(message));
    if (entry === undefined) throw refusal('there is no such policy', ERRNO.ENOENT);
    return entry;
  }

  function byId({ policy }: SadbMessage): KernelPolicy {
    const entry = policies.byId(policy!.id);
    if (entry === undefined) throw refusal(`there is no policy ${policy!.id}`, ERRNO.ENOENT);
    return entry;
  }

  function remove(message: SadbMessage, entry: KernelPolicy): VerbResult {
    policies.remove(entry);
    return { broadcast: [answer(message, policyMessage(message.type, entry))] };
  }

  function flush(message: SadbMessage): VerbResult {
    const { all } = policies;
    for (const entry of all) policies.remove(entry);
    return echo(message, all.length > 0);
  }

  const shown = (message: SadbMessage, entries: readonly KernelPolicy[]) =>
    entries.map((entry) => policyMessage(message.type, entry));
  return {
    X_SPDADD: (message, now) => add(message, now, false),
    X_SPDSETIDX: (message, now) => add(message, now, false),
    X_SPDUPDATE: (message, now) => add(message, now, true),
    X_SPDDELETE: (message) => remove(message, bySelector(message)),
    X_SPDDELETE2: (message) => remove(message, byId(message)),
    X_SPDGET: (message) => ({ reply: shown(message, [byId(message)]).map((found) => answer(message, found)) }),
    X_SPDDUMP: (message) => series(message, shown(message, policies.all)),
    X_SPDFLUSH: flush,
  };
}

/** A unique template without a reqid gets one; level "default" is "require"; a reqid makes "require" unique. */
function withReqids(policy: Policy, nextReqid: () => number): Policy {
  const templates = policy.templates.map((template): Template => {
    const level = template.level === 'default' ? 'require' : template.level;
    if (level === 'unique' && template.reqid === 0) return { ...template, level, reqid: nextReqid() };
    return { ...template, level: level === 'require' && template.reqid !== 0 ? 'unique' : level };
  });
  return { ...policy, templates };
}
