/** How children and IKE SAs end, and what follows: what is taken out of the datapath, who is told, what is tried again (RFC 7296 §1.4.1, §2.4). */

import { DRAIN_MS } from '../../src/keying/sa-pair.ts';
import { sameIdentity } from '../auth/identity.ts';
import type { KeyChild } from '../versions.ts';
import type { ChildSa } from './child-sa.ts';
import type { IkeSa, Task } from './ike-sa.ts';

/** The outbound SA of a rekeyed child that was held back is installed now: the peer is ready to receive on it (RFC 7296 §2.8). */
export function activate(child: ChildSa): void {
  child.outboundAt = undefined;
  if (child.outboundState !== 'held') return;
  child.ike.host.installOutbound(child);
}

/** Takes a child out of everything. `wanted`: its traffic is likely to go on, so it may be negotiated anew. */
export function dropChild(child: ChildSa, why: string, wanted: boolean): void {
  const { ike } = child;
  const announced = child.announced;
  child.superseded ||= ike.host.table.children().some((other) => serves(other, child));
  ike.host.uninstall(child, child.superseded ? DRAIN_MS : 0);
  ike.remove(child);
  if (!announced) return;
  child.renounce(why);
  if (!child.superseded) ike.host.childGone(child, why, wanted);
}

/** Whether another child does the same work for the same peer (one selector may serve many, `IP_RW`), and is not about to go with the same IKE SA. */
function serves(other: KeyChild, child: ChildSa): boolean {
  const { peerId } = child.ike;
  const { owner } = other;
  const samePeer = peerId === undefined || owner.peerId === undefined || sameIdentity(peerId, owner.peerId);
  if (other === child || other.policy.name !== child.policy.name || !samePeer) return false;
  return other.usable && (owner !== child.ike || !child.ike.ending);
}

/** Closes an IKE SA at once, with all its children and without a message. */
export function closeIkeSa(sa: IkeSa, why: string, failed: boolean): void {
  if (sa.closed) return;
  const { host } = sa;
  const announced = sa.authenticated && sa.state.name !== 'rekeyed';
  sa.ending = true;
  for (const child of [...sa.children]) dropChild(child, `its IKE SA is gone: ${why}`, failed);
  host.table.forget(sa);
  sa.dispose(why);
  if (announced) {
    sa.report('ike-sa-down', `IKE SA with ${sa.peerName} is gone: ${why}`, { failed });
    sa.hook('phase1_down');
  }
  host.closed(sa, why, failed && announced);
}

/** How long an IKE SA that the peer has forgotten keeps its children beside the new ones. Milliseconds. */
const RETIRED_MS = 700;

/** The peer has begun anew: nothing more is said in this SA, and it is closed as soon as its successor's children carry the traffic. */
export function retire(sa: IkeSa, why: string): void {
  if (sa.closed || sa.state.name === 'rekeyed') return;
  sa.report('ike-sa-down', `IKE SA with ${sa.peerName} is gone: ${why}`, { failed: false });
  sa.hook('phase1_down');
  for (const name of ['rekey', 'expire', 'liveness', 'grace', 'yield'] as const) sa.timers.clear(name);
  sa.state = { name: 'rekeyed' };
  sa.dropTasks(why);
  sa.timers.set('linger', sa.host.now.mono + RETIRED_MS);
}

/** An IKE SA that was never established: one clear line, and those who waited are told. */
export function failIkeSa(sa: IkeSa, why: string): void {
  if (sa.closed) return;
  sa.report('ike-sa-failed', `no IKE SA with ${sa.peerName}: ${why}`);
  sa.host.table.forget(sa);
  sa.dispose(why);
  sa.host.closed(sa, why, true);
}

/** Why nothing comes of an IKE SA whose peer keeps silent, and where to look. */
function noAnswer({ state, window, peerName, path }: IkeSa): string {
  const silence = `no answer from ${peerName} to ${window.outstanding?.tries ?? 0} transmissions`;
  const port = `UDP port ${path.remote.port}`;
  if (state.name === 'awaiting-ike-sa-init')
    return (
      state.init.refusal ??
      `${silence} of IKE_SA_INIT: is the peer up, is ${port} open between us, and does the peer accept our address?`
    );
  const hint = path.encapsulated
    ? `is ${port} open between us?`
    : 'the peer answered IKE_SA_INIT; is something between us dropping fragments?';
  return `${silence} of IKE_AUTH: ${hint}`;
}

/** Transmissions without an answer after which `status` names a silent peer; the log waits for the retry limit. */
const TRIES_UNTIL_SAID = 3;

/** A request of an IKE SA that is not up yet was sent again. */
export function noteSilence(sa: IkeSa): void {
  const tries = sa.window.outstanding?.tries ?? 0;
  if (!sa.authenticated && sa.peer !== undefined && tries >= TRIES_UNTIL_SAID) sa.host.remember(sa.peer.name, noAnswer(sa));
}

/** A request was not answered within the retry limit. */
export function peerSilent(sa: IkeSa): void {
  const { state, window, current } = sa;
  const tries = window.outstanding?.tries ?? 0;
  const silence = `no answer from ${sa.peerName} to ${tries} transmissions`;
  if (state.name === 'closed') return;
  if (state.name === 'closing' || current?.task.kind === 'delete-ike')
    return closeIkeSa(sa, current?.task.kind === 'delete-ike' ? current.task.why : silence, false);
  if (!sa.authenticated) return failIkeSa(sa, noAnswer(sa));
  sa.report('peer-silent', `${silence}: its IKE SA and child SAs are given up`);
  closeIkeSa(sa, silence, true);
}

/** A child cannot be asked for, or the peer refused it. The IKE SA stays, unless it was to begin with this child. */
export function abandonChild(sa: IkeSa, task: Task, why: string): void {
  if (task.kind === 'rekey-child') {
    task.child.rekeying = false;
    sa.report('child-sa-failed', `child SA ${task.child.label} was not rekeyed: ${why}`, { child: task.child.policy.name });
    return;
  }
  if (task.kind !== 'ike-auth' && task.kind !== 'create-child') return;
  sa.report('child-sa-failed', `no child SA for ${task.demand.policy.name}: ${why}`, {
    child: task.demand.policy.name,
    policy: task.demand.policy.policy.name,
  });
  sa.host.failed(task.demand, why);
  if (!sa.authenticated) failIkeSa(sa, why);
}
