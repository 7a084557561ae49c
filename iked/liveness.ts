/**
 * Whether a peer lives: RFC 7296 §2.4, RFC 3706 §5.5. Where there was no sign of life for `dpd_delay` it is asked. Traffic of its children counts as
 * one, so the datapath is asked first whether any came; but not for ever, since that tells of the peer's datapath alone.
 */

import type { Limit } from '../src/config/config.ts';
import type { SaPair } from '../src/keying/sa-pair.ts';
import { MOST_VOUCHED } from '../src/keying/vouching.ts';
import type { Timers } from '../src/machine.ts';

/** Liveness is looked at again after this at the earliest. Milliseconds. */
const PROBE_MS = 1_000;

/** A relation with a peer, of either version, as far as its life is concerned. */
export interface Watched {
  readonly host: { readonly now: { readonly mono: number }; readonly linked: boolean };
  readonly timers: Pick<Timers<'liveness'>, 'at' | 'set'>;
  readonly state: { readonly name: string };
  readonly closed: boolean;
  readonly children: readonly SaPair[];
  readonly dpdDelay: Limit;
  /** The last sign of life: an authentic message, or ESP; `mono`. */
  heard: number;
  /** Checks in a row that ESP made needless. */
  vouched: number;
  /** Children whose counters are being asked for, and whether any has moved. */
  counting: { left: number; moved: boolean } | undefined;
  /** Whether a question could leave now. */
  readonly idle: boolean;
  /** Whether it is being asked, or will be. */
  readonly asking: boolean;
  /** Asks it. */
  probe(): void;
}

/** The time has come. `count` asks the datapath, which ends in `trafficCounted`. */
export function checkLiveness<W extends Watched>(sa: W, count: (child: W['children'][number]) => void): void {
  const { host, timers, dpdDelay } = sa;
  const { mono } = host.now;
  if (dpdDelay === 'infinite' || sa.state.name !== 'established') return;
  const due = sa.heard + dpdDelay;
  timers.set('liveness', Math.max(due, mono + Math.min(dpdDelay, PROBE_MS)));
  if (!host.linked || due > mono || !sa.idle || sa.asking || sa.counting !== undefined) return;
  const children = sa.children.filter((child) => child.pending === 0);
  if (children.length === 0 || sa.vouched >= MOST_VOUCHED) return sa.probe();
  sa.counting = { left: children.length, moved: false };
  for (const child of children) count(child);
}

/** The datapath's answer; undefined: it does not have the SA. */
export function trafficCounted(sa: Watched, child: SaPair, packets: number | undefined): void {
  const { counting, host } = sa;
  if (counting === undefined || sa.closed) return;
  if (packets !== undefined && packets > child.packetsSeen) {
    child.packetsSeen = packets;
    counting.moved = true;
  }
  counting.left -= 1;
  if (counting.left > 0) return;
  sa.counting = undefined;
  if (counting.moved) {
    sa.heard = host.now.mono;
    sa.vouched += 1;
  } else if (sa.state.name === 'established' && host.linked && !sa.asking) sa.probe();
}

/** Silence counts from now: our own way out was broken. */
export function silenceCountsFromNow({ host, timers, dpdDelay }: Watched): void {
  if (dpdDelay !== 'infinite' && timers.at('liveness') !== undefined)
    timers.set('liveness', host.now.mono + Math.min(dpdDelay, PROBE_MS));
}
