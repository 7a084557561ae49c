/** What the two directions of the engine share: the databases, the caches in front of them, counters and lifetimes (RFC 4301 §4.4.2.1). */

import type { Compressor } from '../bytes/compressor.ts';
import type { PacketCipher } from '../crypto/packet-cipher.ts';
import { type Ends, sameEnds } from '../ipsec/policy.ts';
import type { Instant, RandomBytes } from '../machine.ts';
import type { Checksum } from '../net/checksum.ts';
import { HOLD_MS } from '../pfkey/rules.ts';
import { Acquires } from './acquire.ts';
import { Ah, type AhAlignment } from './ah.ts';
import { Beet } from './beet.ts';
import { type InboundDecision, isUsable, type OutboundDecision } from './decisions.ts';
import { Drops } from './drops.ts';
import { Early } from './early.ts';
import { EffectRing } from './effects.ts';
import { Esp } from './esp.ts';
import { FlowCache } from './flow-cache.ts';
import { Fragments } from './fragments.ts';
import { IpHeaders } from './ip-header.ts';
import { Ipcomp } from './ipcomp.ts';
import { Mss } from './mss.ts';
import { PathMtus } from './pmtu.ts';
import { RecentMovements } from './recent-movements.ts';
import type { Sa } from './sa.ts';
import { Sad } from './sad.ts';
import type { Outputs } from './slots.ts';
import { Spd } from './spd.ts';
import { keptClass, type OuterHeaderPolicy } from './tunnel.ts';

/** From this share of its sequence numbers on an SA asks to be rekeyed, whatever its lifetimes say. */
const SOFT_SEQUENCE_SHARE = 0.8;

/** How long after a movement packets to an SA's former end are taken, in milliseconds. */
export const FORMER_ENDS_GRACE = 3000;

export interface CoreOptions {
  readonly arena: Uint8Array;
  readonly checksum: Checksum;
  readonly cipher: PacketCipher;
  readonly random: RandomBytes;
  readonly unmatched: 'bypass' | 'discard';
  readonly larvalLifetime: number;
  readonly heldPackets: number;
  readonly ahAlignment: AhAlignment;
  readonly compressor: Compressor | undefined;
  readonly outerHeader: OuterHeaderPolicy;
  readonly pmtuFloor: number;
  readonly mssClamp: boolean;
  readonly icmpErrors: boolean;
  readonly decapDscp: boolean;
}

export class Core {
  readonly arena: Uint8Array;
  readonly icmpErrors: boolean;
  readonly unmatched: 'bypass' | 'discard';
  readonly outputs: Outputs;
  readonly checksum: Checksum;
  readonly spd = new Spd();
  readonly sad: Sad;
  readonly esp: Esp;
  readonly ah: Ah;
  readonly ipcomp: Ipcomp;
  readonly ipHeaders: IpHeaders;
  readonly beet: Beet;
  readonly mss: Mss;
  /** Bits of the traffic class that packets keep when they leave a tunnel (`keptClass`). */
  readonly keptClass: number;
  readonly drops = new Drops();
  readonly effects = new EffectRing();
  readonly acquires: Acquires;
  readonly early = new Early(this.drops);
  /** Those that wait for the rest of their packets; each direction has its own room. */
  readonly fragments: Readonly<Record<'inbound' | 'outbound', Fragments>>;
  readonly outboundFlows = new FlowCache<OutboundDecision>();
  readonly movements: RecentMovements;
  readonly inboundFlows = new FlowCache<InboundDecision>();
  readonly larvalLifetime: number;

  constructor(options: CoreOptions, outputs: Outputs) {
    this.arena = options.arena;
    this.unmatched = options.unmatched;
    this.icmpErrors = options.icmpErrors;
    this.outputs = outputs;
    this.larvalLifetime = options.larvalLifetime;
    this.movements = new RecentMovements(options.larvalLifetime);
    this.checksum = options.checksum;
    this.mss = new Mss(options.arena, this.checksum);
    this.keptClass = keptClass(options.decapDscp);
    this.sad = new Sad(options.cipher, new PathMtus(options.outerHeader, options.pmtuFloor, options.mssClamp));
    this.esp = new Esp(options.arena, options.cipher, this.sad, options.random);
    this.ah = new Ah(options.arena, options.cipher, this.sad, this.esp.opened, options.ahAlignment);
    this.ipcomp = new Ipcomp(options.arena, options.compressor);
    this.ipHeaders = new IpHeaders(options.arena, this.checksum);
    this.beet = new Beet(options.arena, this.ipHeaders);
    this.fragments = {
      inbound: new Fragments(options.arena, this.checksum, this.drops),
      outbound: new Fragments(options.arena, this.checksum, this.drops),
    };
    this.acquires = new Acquires(this.effects, this.drops, options.larvalLifetime, options.heldPackets);
  }

  /** After a change of the SPD, or of where SAs end: what was cached counts no more, and packets that wait are looked at again. */
  changed(): void {
    this.outboundFlows.invalidate();
    this.inboundFlows.invalidate();
    this.acquires.reviewAll(this.sad, (entry) => this.spd.byId(entry.policy.id) === entry);
  }

  /** After SAs of this reqid have come, gone or changed: the same for flows and packets that may use them, and no others. */
  saChanged(reqid: number): void {
    this.spd.touch(reqid);
    this.acquires.review(this.sad, reqid);
  }

  /** Whether the SA may carry `packets` more; if not, it ends here. */
  usable(sa: Sa, packets: number): boolean {
    if (isUsable(sa, packets)) return true;
    this.expire(sa);
    return false;
  }

  /** Counts what passed, and tells a soft limit once. */
  account(sa: Sa, packets: number, bytes: number, now: Instant): void {
    sa.packets += packets;
    sa.bytes += bytes;
    if (sa.firstUse === 0) sa.firstUse = now.wall;
    sa.lastUse = now.wall;
    if (sa.state !== 'mature') return;
    if (sa.packets >= sa.softPackets || sa.bytes >= sa.softBytes || sa.sequence > SOFT_SEQUENCE_SHARE * sa.lastSequence)
      this.#soften(sa);
  }

  /** RFC 4301 §8.2.1: what an ICMP error said of the path of an SA holds for all SAs on it. */
  learnPathMtu(ends: Ends, mtu: number, now: Instant): void {
    const { pathMtus } = this.sad;
    if (!pathMtus.learn(ends, mtu, now)) return;
    const back: Ends = { source: ends.destination, destination: ends.source };
    for (const sa of this.sad.all) if (sameEnds(sa.parameters, ends) || sameEnds(sa.parameters, back)) pathMtus.apply(sa);
  }

  /** Packets of an outbound SA wait from now on: for another SA, until it is let go, for `HOLD_MS` at most. */
  hold(sa: Sa, now: Instant): void {
    this.sad.hold(sa, now.mono + HOLD_MS);
    this.saChanged(sa.parameters.reqid);
  }

  letGo(sa: Sa): void {
    this.sad.letGo(sa);
    this.saChanged(sa.parameters.reqid);
  }

  /** Hard expiry: the SA is gone. */
  expire(sa: Sa): void {
    this.sad.remove(sa);
    this.effects.push({ kind: 'expire', hard: true, sa });
    this.saChanged(sa.parameters.reqid);
  }

  /** Carries out what is due, as far as there is room to tell it; the rest stays due. */
  tick(now: Instant): void {
    for (;;) {
      const sa = this.effects.isFull ? undefined : this.sad.takeDue(now.mono);
      if (sa === undefined) break;
      if (sa.hardAt <= now.mono) this.expire(sa);
      else this.#soften(sa);
    }
    for (;;) {
      const larval = this.effects.isFull ? undefined : this.sad.takeDueLarval(now.mono);
      if (larval === undefined) break;
      this.early.discard(larval.spi);
      this.effects.push({ kind: 'larval-expired', larval });
    }
    for (let sa = this.sad.takeDueHold(now.mono); sa !== undefined; sa = this.sad.takeDueHold(now.mono))
      this.saChanged(sa.parameters.reqid);
    this.acquires.expire(now);
    this.fragments.inbound.expire(now.mono);
    this.fragments.outbound.expire(now.mono);
    if (this.sad.pathMtus.expire(now)) for (const sa of this.sad.all) this.sad.pathMtus.apply(sa);
    const before = this.spd.generation;
    for (let entry = this.spd.expired(now.mono); entry !== undefined; entry = this.spd.expired(now.mono)) this.spd.remove(entry);
    if (this.spd.generation !== before) this.changed();
  }

  /** When time alone would cause something. */
  wakeAt(): number | undefined {
    const { sad, spd, acquires, fragments } = this;
    const gathering = Math.min(fragments.inbound.nextExpiry, fragments.outbound.nextExpiry);
    const at = Math.min(sad.nextDue, spd.nextExpiry, acquires.nextExpiry, sad.pathMtus.nextExpiry, gathering);
    return at === Number.POSITIVE_INFINITY ? undefined : at;
  }

  /** An SA whose soft limit is reached goes on, but one without serves before it. */
  #soften(sa: Sa): void {
    sa.state = 'dying';
    this.sad.schedule(sa);
    this.effects.push({ kind: 'expire', hard: false, sa });
    this.spd.touch(sa.parameters.reqid);
  }
}
