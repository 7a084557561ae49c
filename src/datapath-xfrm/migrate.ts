/**
 * X_MIGRATE on the kernel's SAD and SPD (draft-sugimoto-mip6-pfkey-migrate): by moving SAs and putting the policy anew, since XFRM_MSG_MIGRATE finds one
 * SA of a pair only, which strands the other of a rekeying, and is not in every kernel.
 */

import { movedTo, type RecentMovements } from '../datapath/recent-movements.ts';
import { type Ends, sameEnds, showPolicySelector, type Template } from '../ipsec/policy.ts';
import type { SaParameters } from '../ipsec/sa.ts';
import type { Instant } from '../machine.ts';
import { refusal, satypeOf } from '../pfkey/convert.ts';
import { type Movement, migrateToSadb, readMigrate } from '../pfkey/convert-migrate.ts';
import { type SadbMessage, sadb } from '../pfkey/message.ts';
import { ERRNO } from '../pfkey/registry.ts';
import type { VerbResult } from '../pfkey/server.ts';
import type { PolicyTable } from './policy-table.ts';
import type { KernelSa, SaTable } from './sa-table.ts';

/** What of the verbs' state moves. */
export interface Movable {
  readonly sas: SaTable;
  readonly policies: PolicyTable;
  readonly movements: RecentMovements;
  /** Gives an SA other ends. */
  moveSa(sa: KernelSa, next: SaParameters): void;
}

/** The verb. Who asked gets a bare header, and everybody the notification. */
export function migrate(verbs: Movable, message: SadbMessage, now: Instant): VerbResult {
  const { sas, policies, movements: recent } = verbs;
  const request = readMigrate(message);
  const { direction, selector, movements } = request;
  const entry = policies.bySelector(direction, selector);
  if (entry === undefined) throw refusal(`there is no ${direction} policy ${showPolicySelector(selector)}`, ERRNO.ENOENT);
  const movementOf = (pair: Pair) => movements.find((movement) => isOfPair(pair, movement));
  const moving = sas.all.flatMap((sa) => {
    const movement = movementOf(sa.parameters);
    return movement === undefined ? [] : [{ sa, to: movement.new }];
  });
  const larvals = sas.larvals.flatMap((larval) => {
    const movement = movementOf(larval);
    return movement === undefined ? [] : [{ larval, to: movement.new }];
  });
  for (const movement of movements) {
    const { templates } = entry.policy;
    if (templates.some((template) => asksFor(template, movement, movement.old))) continue;
    const late = [...moving, ...larvals].some(({ to }) => to === movement.new);
    if (late && templates.some((template) => asksFor(template, movement, movement.new))) continue;
    const { source, destination } = movement.old;
    throw refusal(`the policy asks for no ${movement.mode} SA from ${source} to ${destination} of this reqid`, ERRNO.ENODATA);
  }
  const moved: { satype: number; spi: number; from: Ends['destination']; to: Ends['destination'] }[] = [];
  for (const { sa, to } of moving) {
    const { spi, protocol, destination } = sa.parameters;
    const next = movedTo(sa.parameters, to);
    verbs.moveSa(sa, next);
    moved.push({ satype: satypeOf(protocol), spi, from: destination, to: to.destination });
  }
  for (const { larval, to } of larvals) {
    sas.removeLarval(larval);
    sas.addLarval({ ...larval, ...to, former: larval.destination });
    moved.push({ satype: satypeOf(larval.protocol), spi: larval.spi, from: larval.destination, to: to.destination });
  }
  const templates = entry.policy.templates.map((template) => movedTemplate(template, movements));
  policies.retarget(entry, templates, request.kmAddress);
  for (const movement of movements) {
    recent.note(movement, now);
    policies.follow(movement.reqid);
  }
  const { seq, pid, satype } = message;
  return {
    reply: [sadb('X_MIGRATE', { seq, pid, satype })],
    broadcast: [migrateToSadb({ ...request, policyId: entry.policy.id, priority: entry.policy.priority })],
    moved,
  };
}

type Pair = Pick<Movement, 'protocol' | 'mode' | 'reqid'> & Ends;

function isOfPair(sa: Pair, movement: Movement): boolean {
  return (
    sa.protocol === movement.protocol &&
    sa.mode === movement.mode &&
    (movement.reqid === 0 || sa.reqid === movement.reqid) &&
    sameEnds(sa, movement.old)
  );
}

/** Whether a template asks for SAs of the movement's kind between `ends`. An end that the policy leaves open fits all. */
function asksFor({ protocol, mode, reqid, endpoints }: Template, movement: Movement, ends: Ends): boolean {
  if (protocol !== movement.protocol || mode !== movement.mode) return false;
  if (movement.reqid !== 0 && reqid !== movement.reqid) return false;
  return endpoints === undefined || (['source', 'destination'] as const).every((end) => isOpen(endpoints, ends, end));
}

function isOpen(wanted: Ends, ends: Ends, end: keyof Ends): boolean {
  return wanted[end].isUnspecified || wanted[end].equals(ends[end]);
}

function movedTemplate(template: Template, movements: readonly Movement[]): Template {
  const { endpoints } = template;
  const movement = movements.find((candidate) => asksFor(template, candidate, candidate.old));
  if (movement === undefined || endpoints === undefined) return template;
  const to = (end: keyof Ends) => (endpoints[end].isUnspecified ? endpoints[end] : movement.new[end]);
  return { ...template, endpoints: { source: to('source'), destination: to('destination') } };
}
