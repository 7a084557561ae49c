/** The engine's state as plain data: SAs, policies with their hits, drops (RFC 4301 §4.4). No keys. */

import { suiteText } from '../crypto/transforms.ts';
import { showPolicySelector } from '../ipsec/policy.ts';
import type { Mode } from '../ipsec/sa.ts';
import { showSelector } from '../ipsec/selector.ts';
import { showEndpoint } from '../net/address.ts';
import { larvalOf } from './acquire.ts';
import type { Core } from './core.ts';
import type { Larval, Sa } from './sa.ts';
import type { Sad } from './sad.ts';
import type { SpdEntry } from './spd.ts';

export interface SaStatus {
  readonly spi: string;
  readonly protocol: string;
  readonly mode: Mode;
  /** `mature`, `dying`, or `on hold`. */
  readonly state: string;
  /** Of an SA that was not used yet: what the policies say. */
  readonly direction: 'inbound' | 'outbound';
  readonly source: string;
  readonly destination: string;
  readonly encapsulation: string | undefined;
  readonly suite: string;
  readonly reqid: number;
  readonly extendedSequence: boolean;
  readonly replayWindow: number;
  readonly selectors: { readonly source: readonly string[]; readonly destination: readonly string[] };
  /** Inner packets and their octets. */
  readonly packets: number;
  readonly bytes: number;
  readonly sequence: number;
  readonly icvBytes: number;
  /** `wall` milliseconds; 0: never. */
  readonly added: number;
  readonly firstUse: number;
  readonly lastUse: number;
  /** `mono` milliseconds; undefined: no limit by time. */
  readonly softAt: number | undefined;
  readonly hardAt: number | undefined;
}

export interface PolicyStatus {
  readonly id: number;
  readonly direction: string;
  readonly selector: string;
  readonly action: string;
  readonly priority: number;
  readonly reqid: number;
  readonly hits: number;
  readonly lastHit: number;
}

export interface LarvalStatus {
  readonly spi: string;
  readonly source: string;
  readonly destination: string;
  readonly reqid: number;
  readonly seq: number;
  readonly expiresAt: number;
}

export interface DatapathStatus {
  readonly sas: readonly SaStatus[];
  readonly larvals: readonly LarvalStatus[];
  readonly policies: readonly PolicyStatus[];
  /** Of all SAs in a direction; packets and octets of those too that are gone. */
  readonly totals: Readonly<Record<'inbound' | 'outbound', Readonly<Record<'sas' | 'packets' | 'bytes', number>>>>;
  readonly drops: Readonly<Record<string, number>>;
  /** Packets that wait for SAs, and fragments that wait for others. */
  readonly held: number;
  readonly fragments: number;
  readonly lostEffects: number;
}

export function statusOf(core: Core): DatapathStatus {
  return {
    sas: [...core.sad.all].map((sa) => saStatus(sa, core)),
    larvals: [...core.sad.larvals, ...core.acquires.pending.map(larvalOf)].map(larvalStatus),
    policies: core.spd.entries().map(policyStatus),
    totals: totalsOf(core.sad),
    drops: core.drops.toJSON(),
    fragments: core.fragments.inbound.held + core.fragments.outbound.held,
    held: core.acquires.held + core.early.held,
    lostEffects: core.effects.lost,
  };
}

function totalsOf({ all, gone }: Sad): DatapathStatus['totals'] {
  const totals = { inbound: { sas: 0, ...gone.inbound }, outbound: { sas: 0, ...gone.outbound } };
  for (const { direction, packets, bytes } of all) {
    const total = totals[direction === 'inbound' ? 'inbound' : 'outbound'];
    total.sas++;
    total.packets += packets;
    total.bytes += bytes;
  }
  return totals;
}

function saStatus(sa: Sa, core: Core): SaStatus {
  const { parameters } = sa;
  const { suite, encapsulation, selectors } = parameters;
  return {
    spi: showSpi(sa.spi),
    protocol: parameters.protocol,
    mode: parameters.mode,
    state: sa.onHold ? 'on hold' : sa.state,
    direction: sa.direction ?? directionOf(sa, core),
    source: parameters.source.toString(),
    destination: parameters.destination.toString(),
    encapsulation: encapsulation && `${showEndpoint(encapsulation.source)} -> ${showEndpoint(encapsulation.destination)}`,
    suite: parameters.protocol === 'ipcomp' ? 'DEFLATE' : suiteText(suite.encr, suite.keyBits, suite.integ),
    reqid: parameters.reqid,
    extendedSequence: sa.extended,
    replayWindow: sa.window.size,
    selectors: { source: selectors.source.map(showSelector), destination: selectors.destination.map(showSelector) },
    packets: sa.packets,
    bytes: sa.bytes,
    sequence: sa.direction === 'inbound' ? sa.window.top : sa.sequence,
    icvBytes: sa.icvBytes,
    added: sa.born.wall,
    firstUse: sa.firstUse,
    lastUse: sa.lastUse,
    softAt: finite(sa.softAt),
    hardAt: finite(sa.hardAt),
  };
}

function directionOf(sa: Sa, { spd }: Core): 'inbound' | 'outbound' {
  const asked = (direction: 'inbound' | 'outbound') => spd.ordered(direction).some((entry) => entry.names(sa));
  return asked('inbound') && !asked('outbound') ? 'inbound' : 'outbound';
}

function larvalStatus(larval: Larval): LarvalStatus {
  return {
    spi: showSpi(larval.spi),
    source: larval.source.toString(),
    destination: larval.destination.toString(),
    reqid: larval.reqid,
    seq: larval.seq,
    expiresAt: larval.expiresAt,
  };
}

function policyStatus({ policy, hits, lastHit }: SpdEntry): PolicyStatus {
  return {
    id: policy.id,
    direction: policy.direction,
    selector: showPolicySelector(policy.selector),
    action: policy.action,
    priority: policy.priority,
    reqid: policy.templates[0]?.reqid ?? 0,
    hits,
    lastHit,
  };
}

/** `c0ffee01`: eight digits, as other tools print it. */
export function showSpi(spi: number): string {
  return spi.toString(16).padStart(8, '0');
}

function finite(at: number): number | undefined {
  return Number.isFinite(at) ? at : undefined;
}
