/**
 * What is decided about a packet before anything is done to it or counted (RFC 4301 §5.1 steps 2 and 3, §5.2 steps 3b and 4). The packet path
 * keeps the outcome for the flow; `explain.ts` tells it of packets that were never sent. Nothing here changes anything.
 */

import type { Template } from '../ipsec/policy.ts';
import type { IpPacket } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';
import { DROP } from './drops.ts';
import { couldHold, holds } from './matcher.ts';
import type { Sa } from './sa.ts';
import type { Sad } from './sad.ts';
import type { Spd, SpdEntry } from './spd.ts';

/** The two databases (RFC 4301 §4.4). */
export interface Databases {
  readonly spd: Spd;
  readonly sad: Sad;
}

/** What was decided about an outbound flow. */
export interface OutboundDecision {
  readonly entry: SpdEntry | undefined;
  sa: Sa | undefined;
  /** Where it is not one SA of ESP: all that the packet goes through, innermost first. */
  bundle: readonly Sa[] | undefined;
  /** The entry's when the SAs were chosen. */
  stamp: number;
}

/** Whether an inbound flow may come through an SA, and by which entry. */
export interface InboundDecision {
  readonly entry: SpdEntry | undefined;
}

/** The SAs of a bundle that are there, innermost first, and the templates that have none: those that must, and those of level `use`. */
export interface FoundBundle {
  readonly sas: readonly Sa[];
  readonly missing: readonly Template[];
  readonly optional: readonly Template[];
}

/** RFC 4301 §5.1 steps 2 and 3: the first policy that matches, and the SAs that it asks for. `without`: SAs that do not count. */
export function decideOutbound({ spd, sad }: Databases, packet: IpPacket, without?: ReadonlySet<Sa>): OutboundDecision {
  const decision: OutboundDecision = { entry: spd.match('outbound', packet), sa: undefined, bundle: undefined, stamp: 0 };
  chooseSas(decision, sad, packet, without);
  return decision;
}

/** Step 3 by itself, anew where SAs of the policy have changed. */
export function chooseSas(decision: OutboundDecision, sad: Sad, packet: IpPacket, without?: ReadonlySet<Sa>): void {
  const { entry } = decision;
  if (entry === undefined) return;
  decision.stamp = entry.stamp;
  if (entry.template === undefined) return;
  if (!entry.isBundle) {
    decision.sa = sad.outbound(entry.template, packet, undefined, without);
    return;
  }
  const { sas, missing } = findBundle(sad, entry, packet, without);
  decision.bundle = missing.length === 0 && sas.length > 0 ? sas : undefined;
}

/**
 * RFC 4301 §4.4.2: every SA that a template requires; what is only used where it is there is told apart, and the packet goes without. In a tunnel the
 * next SA is one between the tunnel's ends.
 */
export function findBundle(sad: Sad, { policy }: SpdEntry, packet: IpPacket, without?: ReadonlySet<Sa>): FoundBundle {
  const sas: Sa[] = [];
  const missing: Template[] = [];
  const optional: Template[] = [];
  let endpoints: Template['endpoints'];
  for (const template of policy.templates) {
    const outer = sas.findLast(({ tunnel }) => tunnel);
    const sa = sad.outbound(template, packet, outer, without);
    if (sa !== undefined) sas.push(sa);
    else (isOptional(sad, template) ? optional : missing).push({ ...template, endpoints: template.endpoints ?? endpoints });
    if (template.mode === 'tunnel') endpoints = template.endpoints;
  }
  return { sas, missing, optional };
}

/** Whether a packet goes without the template's SA where there is none. Who had one that is on hold waits: it never left in clear. */
export function isOptional(sad: Sad, template: Template): boolean {
  return template.level === 'use' && sad.heldOutbound(template) === undefined;
}

/** Whether the SA may carry `packets` more: its hard limits, and the sequence number that never wraps (RFC 4303 §3.3.3). */
export function isUsable(sa: Sa, packets: number): boolean {
  return !isSpent(sa) && sa.sequence + packets <= sa.lastSequence;
}

/** Whether a hard limit is reached. */
export function isSpent(sa: Sa): boolean {
  return sa.packets >= sa.hardPackets || sa.bytes >= sa.hardBytes;
}

/**
 * Whether ESP in transport mode can carry the packet, whose IP header is followed by `nextHeader` (RFC 4303 §3.1.1, §3.3.4): no fragment, and only what
 * the kernel's own IP header can stand in for; destination options travel inside ESP.
 */
export function isForTransport(packet: IpPacket, nextHeader: number): boolean {
  if (packet.fragment) return false;
  return !packet.extended || (packet.family === 6 && nextHeader === PROTOCOL.destinationOptions);
}

/**
 * RFC 4301 §5.2 step 4: a packet that came through these SAs, outermost first, fits the selectors of the innermost, and an inbound policy that asks for
 * them and no others (reqid, mode, endpoints) is about it. The first such policy.
 */
export function admits(spd: Spd, sas: readonly Sa[], packet: IpPacket): SpdEntry | undefined {
  if (!holds(sas.at(-1)!.parameters.selectors, packet)) return undefined;
  return spd.matchFor(sas, 'inbound', packet) ?? spd.matchFor(sas, 'forward', packet);
}

/**
 * RFC 4301 §7: whether it takes the whole packet to decide about an outbound fragment, since a policy before this one may be about its ports or they say which
 * SA it asks for; or to send it, since transport mode carries whole packets (RFC 4303 §3.3.4).
 */
export function needsWhole({ spd }: Databases, fragment: IpPacket, { entry, sa, bundle }: OutboundDecision): boolean {
  if (spd.couldMatch('outbound', fragment) !== entry) return true;
  if (entry?.policy.action !== 'protect') return false;
  const first = bundle === undefined ? sa : bundle[0];
  return first === undefined || !first.tunnel;
}

/** RFC 4301 §7.3: whether the whole packet of a fragment that came through the SA may be one that is admitted, though the fragment by itself is not. */
export function couldAdmit(spd: Spd, sa: Sa, fragment: IpPacket): boolean {
  if (!couldHold(sa.parameters.selectors, fragment)) return false;
  return (spd.couldMatch('inbound', fragment, [sa]) ?? spd.couldMatch('forward', fragment, [sa])) !== undefined;
}

/** RFC 4301 §5.2 step 3b: the policy about what came in clear. */
export function aboutClear(spd: Spd, packet: IpPacket): SpdEntry | undefined {
  return spd.match('inbound', packet) ?? spd.match('forward', packet);
}

/** What it says: `DROP.none`, or why the packet may not pass. */
export function clearVerdict(entry: SpdEntry | undefined, unmatched: 'bypass' | 'discard'): number {
  if (entry === undefined) return unmatched === 'discard' ? DROP.unmatched : DROP.none;
  if (entry.policy.action === 'discard') return DROP.discard;
  return entry.policy.action === 'protect' && entry.template?.level !== 'use' ? DROP.clearText : DROP.none;
}
