/** What an operator asks for over control.sock: status, initiate, terminate, rekey, shutdown. */

import { never } from '../src/errors.ts';
import type { ChildPolicy } from '../src/keying/child-policy.ts';
import type { KeyHost } from '../src/keying/host.ts';
import type { KeyCommand } from '../src/keying/ports.ts';
import { childSaStatus, knowledge } from '../src/keying/status.ts';
import type { Instant } from '../src/machine.ts';
import { showEndpoint } from '../src/net/address.ts';
import { showIdentity } from './auth/identity.ts';
import type { Owner } from './host.ts';
import type { IkedStatus, IkeSaStatus } from './ports.ts';
import { deleteChildren, end, type KeyChild, type KeySa, rekeyChild, rekey as rekeySa, saOf } from './versions.ts';

/** What commands need of the machine. */
export type Admin = Owner & KeyHost & { readonly counters: ReadonlyMap<string, number> };

export function perform(iked: Admin, id: number, command: KeyCommand): void {
  switch (command.verb) {
    case 'status':
      return reply(iked, id, status(iked));
    case 'knows':
      return reply(iked, id, knowledge(iked, command.name));
    case 'initiate':
      return initiate(iked, id, command.name);
    case 'terminate':
      return terminate(iked, id, command.name);
    case 'rekey':
      return rekey(iked, id, command.name, command.what);
    case 'shutdown':
      return shutdown(iked, id);
    default:
      return never(command);
  }
}

function reply(iked: Admin, id: number, result: unknown): void {
  iked.emit({ kind: 'reply', id, ok: true, result });
}

function refuse(iked: Admin, id: number, error: string): void {
  iked.emit({ kind: 'reply', id, ok: false, error });
}

function unknown(iked: Admin, name: string): string {
  const known = [...iked.peers.names, ...iked.peers.served.flatMap((child) => [child.name, child.policy.name])];
  if (iked.generation === 0) return 'no configuration is in force yet: ask again in a moment, or see tanuki status';
  return `there is no selector, policy, remote or IKE SA ${name}; known: ${[...new Set(known)].join(', ') || 'none'}`;
}

function initiate(iked: Admin, id: number, name: string): void {
  const children = iked.peers.childrenNamed(name);
  if (children.length === 0) return refuse(iked, id, unknown(iked, name));
  if (!iked.asks.up) return refuse(iked, id, 'the datapath is not connected: no SA can be installed');
  const up = (policy: ChildPolicy) => iked.table.children().find((child) => child.policy.name === policy.name && child.usable);
  const missing = children.filter((policy) => up(policy) === undefined);
  const there = children.flatMap((policy) => up(policy)?.label ?? []);
  if (missing.length === 0) return reply(iked, id, { up: there });
  iked.replies.awaitChildren(id, missing.length, there);
  for (const policy of missing) {
    iked.wanted.resume(policy.name);
    iked.wanted.demand(policy, { command: id }, false);
  }
}

/** The IKE SAs that a name means: a remote's, or one by its short name. */
function ikeSasNamed(iked: Admin, name: string): KeySa[] {
  return iked.table.all().filter((sa) => sa.name === name || sa.peer?.name === name);
}

function childrenNamed(iked: Admin, name: string): KeyChild[] {
  return iked.table.children().filter((child) => child.policy.name === name || child.policy.policy.name === name);
}

function terminate(iked: Admin, id: number, name: string): void {
  const sas = ikeSasNamed(iked, name);
  const children = sas.length > 0 ? [] : childrenNamed(iked, name);
  const policies = iked.peers.childrenNamed(name);
  if (sas.length === 0 && children.length === 0 && policies.length === 0) return refuse(iked, id, unknown(iked, name));
  for (const policy of policies) iked.wanted.stop(policy.name);
  for (const sa of sas) endAll(iked, sa, 'terminated by command');
  for (const child of children) {
    iked.wanted.stop(child.policy.name);
    if (child.state !== 'deleting') deleteChildren(saOf(child), [child]);
  }
  reply(iked, id, { ikeSas: sas.length, childSas: children.length + sas.reduce((sum, sa) => sum + sa.children.length, 0) });
}

function endAll(iked: Admin, sa: KeySa, why: string): void {
  for (const child of sa.children) iked.wanted.stop(child.policy.name);
  end(sa, why, { urgent: true });
}

function rekey(iked: Admin, id: number, name: string, what: 'ike' | 'child'): void {
  const sas = ikeSasNamed(iked, name).filter((sa) => sa.state.name === 'established');
  const children = (sas.length > 0 ? sas.flatMap((sa): readonly KeyChild[] => sa.children) : childrenNamed(iked, name)).filter(
    (child) => child.usable && !child.superseded,
  );
  if (sas.length === 0 && children.length === 0) return refuse(iked, id, `nothing of ${name} is up that could be rekeyed`);
  if (what === 'child') {
    return reply(iked, id, { childSas: children.filter(rekeyChild).length });
  }
  const carriers = new Set(sas.length > 0 ? sas : children.map(saOf));
  for (const sa of carriers) rekeySa(sa);
  reply(iked, id, { ikeSas: carriers.size });
}

function shutdown(iked: Admin, id: number): void {
  const sas = new Set(iked.table.all().filter((sa) => sa.authenticated));
  if (sas.size === 0) return reply(iked, id, {});
  iked.replies.awaitEnd(id, sas);
  for (const sa of iked.table.all()) endAll(iked, sa, 'this daemon ends');
}

export function status(iked: Admin): IkedStatus {
  return {
    generation: iked.generation,
    datapath: iked.asks.up ? 'up' : 'down',
    ikeSas: iked.table.all().map((sa) => ikeSaStatus(sa, iked.now)),
    failures: [...iked.failures.all].map(([subject, { at, why }]) => ({ subject, at, why })).reverse(),
    counters: Object.fromEntries(iked.counters),
  };
}

function ikeSaStatus(sa: KeySa, { mono }: Instant): IkeSaStatus {
  const rekeyAt = sa.timers.at('rekey');
  return {
    name: sa.name,
    remote: sa.peer?.name,
    state: sa.state.name,
    role: sa.originalInitiator ? 'initiator' : 'responder',
    local: showEndpoint(sa.path.local),
    peer: showEndpoint(sa.path.remote),
    encapsulated: sa.path.encapsulated,
    nat: sa.nat,
    myId: sa.myId === undefined ? undefined : showIdentity(sa.myId),
    peerId: sa.peerId === undefined ? undefined : showIdentity(sa.peerId),
    suite: sa.suiteText,
    ageMs: mono - sa.since,
    rekeyInMs: rekeyAt === undefined ? undefined : Math.max(0, rekeyAt - mono),
    children: sa.children.map((child) => childSaStatus(child, mono)),
  };
}
