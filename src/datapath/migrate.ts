/**
 * X_MIGRATE: a policy's tunnel ends elsewhere, and every SA of the pair with it, alive (draft-sugimoto-mip6-pfkey-migrate). Everything is found and
 * checked before anything moves. Where Linux does otherwise, `strict` does as Linux.
 */

import { type Ends, sameEnds, showPolicySelector, type Template } from '../ipsec/policy.ts';
import type { SaProtocol, Spi } from '../ipsec/sa.ts';
import type { Instant } from '../machine.ts';
import type { IpAddress } from '../net/address.ts';
import { refusal, satypeOf } from '../pfkey/convert.ts';
import { type Migrate, type Movement, migrateToSadb, readMigrate } from '../pfkey/convert-migrate.ts';
import { type SadbMessage, sadb } from '../pfkey/message.ts';
import { ERRNO } from '../pfkey/registry.ts';
import type { VerbResult } from '../pfkey/server.ts';
import { larvalOf } from './acquire.ts';
import type { Core } from './core.ts';
import type { Datapath } from './datapath.ts';
import type { MigratePlan } from './migrate-plan.ts';
import type { Larval, Sa } from './sa.ts';
import type { SpdEntry } from './spd.ts';

/** The verb. Who asked gets a bare header with its own seq and pid, and everybody the notification; of Linux only the latter comes. */
export function migrate(engine: Datapath, message: SadbMessage, now: Instant, strict: boolean): VerbResult {
  const request = readMigrate(message);
  const plan = planOf(engine.core, request, strict);
  const moved = [
    ...plan.sas.map(({ sa: { spi, parameters }, to }) => renaming(spi, parameters, to)),
    ...plan.larvals.map(({ larval, to }) => renaming(larval.spi, larval, to)),
  ];
  engine.migrate(plan, request.kmAddress, now);
  const { seq, pid, satype } = message;
  const broadcast = [notificationOf(request, plan.entry, strict)];
  return strict ? { broadcast, moved } : { reply: [sadb('X_MIGRATE', { seq, pid, satype })], broadcast, moved };
}

function renaming(spi: Spi, { protocol, destination }: Pick<Larval, 'protocol' | 'destination'>, to: Ends) {
  return { satype: satypeOf(protocol), spi, from: destination, to: to.destination };
}

/** Seq and pid are 0: it answers nobody. Linux forgets the ports and the number of the policy. */
function notificationOf(request: Migrate, { policy }: SpdEntry, strict: boolean): SadbMessage {
  if (!strict) return migrateToSadb({ ...request, policyId: policy.id, priority: policy.priority });
  const message = migrateToSadb({ ...request, policyId: 0, priority: 0 });
  const { protocol } = request.selector;
  return {
    ...message,
    source: { ...message.source!, protocol, port: 0 },
    destination: { ...message.destination!, protocol, port: 0 },
  };
}

function planOf(core: Core, { selector, direction, movements }: Migrate, strict: boolean): MigratePlan {
  const entry = core.spd.bySelector(direction, selector);
  if (entry === undefined) throw refusal(`there is no ${direction} policy ${showPolicySelector(selector)}`, ERRNO.ENOENT);
  const templates = entry.policy.templates.map((template) => moved(template, movements));
  const firstOf = (sa: Pair) => movements.find((movement) => isOfPair(sa, movement));
  const larvals = [...core.sad.larvals].flatMap((larval) => {
    const movement = firstOf(larval);
    return movement === undefined ? [] : [{ larval, to: movement.new }];
  });
  const all = [...core.sad.all].flatMap((sa) => {
    const movement = firstOf(sa.parameters);
    return movement === undefined ? [] : [{ sa, to: movement.new, movement }];
  });
  const sas = strict ? all.filter(({ sa, movement }) => isNewest(sa, movement, core.sad.all)) : all;
  for (const movement of movements) {
    if (entry.policy.templates.some((template) => asksFor(template, movement, movement.old))) continue;
    // Whoever keeps the policies was quicker and has put the new ends already: its SAs must not be left behind.
    const late = [...sas, ...larvals].some(({ to }) => to === movement.new);
    if (!strict && late && entry.policy.templates.some((template) => asksFor(template, movement, movement.new))) continue;
    const { source, destination } = movement.old;
    throw refusal(`the policy asks for no ${movement.mode} SA from ${source} to ${destination} of this reqid`, ERRNO.ENODATA);
  }
  if (strict) refuseLarvals(core, movements, larvals.length);
  refuseTaken(core, sas, larvals);
  return { entry, movements, templates, sas, larvals };
}

/** A larval SA of the pair, or an open ACQUIRE, makes Linux fail. */
function refuseLarvals({ acquires }: Core, movements: readonly Movement[], larvals: number): void {
  const open = acquires.pending.some((pending) => movements.some((movement) => isOfPair(larvalOf(pending), movement)));
  if (larvals > 0 || open) throw refusal('an SA of the pair is larval', ERRNO.ENODATA);
}

/** Linux finds one SA of a pair, the one that came last. */
function isNewest(sa: Sa, movement: Movement, all: Iterable<Sa>): boolean {
  for (const other of all) if (other.serial > sa.serial && isOfPair(other.parameters, movement)) return false;
  return true;
}

/** No SA may get the name (destination, protocol, SPI) of another, one that stays or one that moves too. */
function refuseTaken({ sad }: Core, sas: MigratePlan['sas'], larvals: MigratePlan['larvals']): void {
  const leaving = new Set<Sa | Larval>([...sas.map(({ sa }) => sa), ...larvals.map(({ larval }) => larval)]);
  const taken = new Set<string>();
  const take = (spi: Spi, protocol: SaProtocol, destination: IpAddress) => {
    const there = sad.find(spi, protocol, destination) ?? sad.larval(spi, protocol, destination);
    const name = `${protocol} ${spi} ${destination}`;
    if (taken.has(name) || (there !== undefined && !leaving.has(there)))
      throw refusal(`there is an SA ${spi.toString(16)} to ${destination} already`, ERRNO.EEXIST);
    taken.add(name);
  };
  for (const { sa, to } of sas) take(sa.spi, sa.parameters.protocol, to.destination);
  for (const { larval, to } of larvals) take(larval.spi, larval.protocol, to.destination);
}

/** Whether a template asks for SAs of the movement's kind between `ends`. An end that the policy leaves open fits all; a transport template has none. */
function asksFor({ protocol, mode, reqid, endpoints }: Template, movement: Movement, ends: Ends): boolean {
  if (protocol !== movement.protocol || mode !== movement.mode) return false;
  if (movement.reqid !== 0 && reqid !== movement.reqid) return false;
  if (endpoints === undefined) return true;
  const is = (wanted: IpAddress, address: IpAddress) => wanted.isUnspecified || wanted.equals(address);
  return is(endpoints.source, ends.source) && is(endpoints.destination, ends.destination);
}

function moved(template: Template, movements: readonly Movement[]): Template {
  const movement = movements.find((candidate) => asksFor(template, candidate, candidate.old));
  const { endpoints } = template;
  if (movement === undefined || endpoints === undefined) return template;
  const to = (end: keyof Ends) => (endpoints[end].isUnspecified ? endpoints[end] : movement.new[end]);
  return { ...template, endpoints: { source: to('source'), destination: to('destination') } };
}

type Pair = Pick<Larval, 'protocol' | 'mode' | 'reqid' | 'source' | 'destination'>;

function isOfPair(sa: Pair, movement: Movement): boolean {
  return (
    sa.protocol === movement.protocol &&
    sa.mode === movement.mode &&
    (movement.reqid === 0 || sa.reqid === movement.reqid) &&
    sameEnds(sa, movement.old)
  );
}
