/** A pair of IPsec SAs negotiated together, one a direction, as a key daemon keeps it and as the datapath is told of it (RFC 4301 §4.4.2). */

import type { Secret } from '../bytes/secret.ts';
import type { IpsecConfig, Limit } from '../config/config.ts';
import type { EspSuite } from '../crypto/packet-cipher.ts';
import { suiteText } from '../crypto/transforms.ts';
import { type Lifetime, softOf } from '../ipsec/lifetime.ts';
import { BUNDLE, type Mode, modeInBundle, type NamedSa, type SaParameters, type SaProtocol } from '../ipsec/sa.ts';
import type { TrafficSelector } from '../ipsec/selector.ts';
import type { Path } from '../net/address.ts';
import { type ChildPolicy, protocolOf } from './child-policy.ts';
import type { ReportKeyEvent } from './events.ts';
import { type HookEvent, pairEnvironment } from './hooks.ts';

/**
 * A replaced inbound SA stays this long after its deletion was agreed on: packets that left before the peer changed over are still on their
 * way, and its acknowledgement may have overtaken them. Milliseconds.
 */
export const DRAIN_MS = 5_000;

export type PairState =
  /** Its SAs are on their way into the datapath. */
  | 'installing'
  | 'installed'
  /** Another pair took its place; it is to be deleted by whoever made that one. */
  | 'replaced'
  /** Our DELETE for it waits or is under way. */
  | 'deleting'
  | 'gone';

/** Key and salt of one SA, as KEYMAT has them. */
export interface SaKeys {
  readonly encr: Secret;
  readonly integ: Secret | undefined;
}

export interface PairSuite extends EspSuite {
  readonly extendedSequence: boolean;
}

/** One SA of a bundle in both directions. */
export interface BundledSa {
  readonly protocol: SaProtocol;
  readonly suite: EspSuite;
  readonly spiIn: number;
  readonly spiOut: number;
  readonly inbound: SaKeys;
  readonly outbound: SaKeys;
}

/** What two ends agreed on, before it is installed. `inbound` and `outbound` are ours: the one place where _i and _r become directions. */
export interface Agreement {
  readonly policy: ChildPolicy;
  readonly mode: Mode;
  /** Lifetimes and window: of the `ipsec` section that was agreed on, shortened where the peer wants them shorter. */
  readonly ipsec: Pick<IpsecConfig, 'lifetimeTime' | 'lifetimeBytes' | 'lifetimePackets' | 'lifetimeIdle' | 'replayWindow'> &
    Partial<Pick<IpsecConfig, 'tfcPadding'>>;
  readonly spiIn: number;
  readonly spiOut: number;
  readonly local: readonly TrafficSelector[];
  readonly peer: readonly TrafficSelector[];
  readonly inbound: SaKeys;
  readonly outbound: SaKeys;
  /** What else each packet goes through, of a policy that asks for several SAs (RFC 4301 §4.4.2). */
  readonly others?: readonly BundledSa[];
  /** Whether we sent the request that made it. */
  readonly initiator: boolean;
}

/** The peer relation that a pair was negotiated in: an IKE SA, an ISAKMP SA, a KINK principal. */
export interface PairOwner {
  /** The short name that every line of its story carries. */
  readonly name: string;
  readonly path: Path;
  readonly closed: boolean;
  readonly report: ReportKeyEvent;
  /** Runs the script that the remote names for the event. */
  hook(event: HookEvent, environment: Readonly<Record<string, string>>): void;
}

export abstract class SaPair<A extends Agreement = Agreement> {
  readonly agreed: A;
  readonly encapsulated: boolean;
  readonly algorithms: PairSuite;
  readonly since: number;
  readonly lifetime: { readonly soft: Lifetime; readonly hard: Lifetime };
  /** How long it may carry nothing, in milliseconds; 0: for ever. */
  readonly idleMs: number;
  /** All SAs that a packet goes through, innermost first. */
  readonly sas: readonly BundledSa[];
  /** Its outer addresses; they change when an end of the tunnel moves (MIGRATE). */
  path: Path;
  state: PairState = 'installing';
  /** PF_KEY requests that its installation waits for. */
  pending = 0;
  /** Our own rekey of it waits, is prepared or is under way. */
  rekeying = false;
  /** `held`: the outbound SA is not installed yet, since the peer may not be ready to receive on it. */
  outboundState: 'held' | 'installed' | 'none' = 'none';
  /** When the held outbound SA is installed in any case, `mono`. */
  outboundAt: number | undefined;
  /** Another pair carries its traffic: its end interrupts nothing. */
  superseded = false;
  /** Packets that its inbound SA had authenticated when liveness was looked at last. */
  packetsSeen = 0;
  /** Whether `child-sa-up` was reported of it, so that its end is too. */
  announced = false;

  /** `chance` in 0 … 1 spreads the soft lifetimes, so that the two ends do not rekey at once. */
  constructor(agreed: A, algorithms: PairSuite, path: Path, encapsulated: boolean, since: number, chance: number) {
    this.agreed = agreed;
    this.algorithms = algorithms;
    this.path = path;
    this.encapsulated = encapsulated;
    this.since = since;
    const { lifetimeTime, lifetimeBytes, lifetimePackets, lifetimeIdle } = agreed.ipsec;
    this.idleMs = finite(lifetimeIdle);
    const hard = { seconds: finite(lifetimeTime) / 1000, bytes: finite(lifetimeBytes), packets: finite(lifetimePackets) };
    this.lifetime = { hard, soft: softOf(hard, chance) };
    const { spiIn, spiOut, inbound, outbound, others = [] } = agreed;
    const all = [{ protocol: this.protocol, suite: algorithms, spiIn, spiOut, inbound, outbound }, ...others];
    this.sas = BUNDLE.flatMap((protocol) => all.filter((sa) => sa.protocol === protocol));
  }

  abstract get owner(): PairOwner;

  get policy(): ChildPolicy {
    return this.agreed.policy;
  }

  get spiIn(): number {
    return this.agreed.spiIn;
  }

  get spiOut(): number {
    return this.agreed.spiOut;
  }

  /** Whether it carries traffic, or will in a moment. */
  get usable(): boolean {
    return this.state === 'installing' || this.state === 'installed';
  }

  /** Selector and SPIs, for events: `lan (in c1a2b3c4, out d5e6f708)`. */
  get label(): string {
    return `${this.policy.name} (in ${showSpi(this.spiIn)}, out ${showSpi(this.spiOut)})`;
  }

  /** `AES_GCM_16_256`, and of a bundle `IPCOMP DEFLATE + ESP AES_GCM_16_256`. */
  get suite(): string {
    const text = ({ encr, keyBits, integ }: EspSuite) => suiteText(encr, keyBits, integ);
    if (this.sas.length === 1) return text(this.algorithms);
    return this.sas
      .map(({ protocol, suite }) => (protocol === 'ipcomp' ? 'IPCOMP DEFLATE' : `${protocol.toUpperCase()} ${text(suite)}`))
      .join(' + ');
  }

  /** The SAs of one direction by their names. */
  names(direction: 'inbound' | 'outbound'): NamedSa[] {
    return this.sas.map(({ protocol, spiIn, spiOut }) => ({ protocol, spi: direction === 'inbound' ? spiIn : spiOut }));
  }

  /** Whether one of the SAs of a direction has this name. */
  has(direction: 'inbound' | 'outbound', { protocol, spi }: NamedSa): boolean {
    return this.names(direction).some((sa) => sa.protocol === protocol && sa.spi === spi);
  }

  get extendedSequence(): boolean {
    return this.algorithms.extendedSequence;
  }

  /** Says that it is up, or which pair it replaces. */
  announce(replaces?: SaPair): void {
    const { agreed, policy, owner } = this;
    this.announced = true;
    const facts = {
      child: policy.name,
      policy: policy.policy.name,
      mode: agreed.mode,
      suite: this.suite,
      spiIn: showSpi(this.spiIn),
      spiOut: showSpi(this.spiOut),
      reqid: policy.reqid,
    };
    if (replaces === undefined)
      owner.report('child-sa-up', `child SA ${this.label} is up: ${agreed.mode} mode, ${this.suite}`, facts);
    else owner.report('child-sa-rekeyed', `child SA ${this.label} replaces ${replaces.label}: ${this.suite}`, facts);
    owner.hook(replaces === undefined ? 'phase2_up' : 'phase2_rekey', pairEnvironment(this));
  }

  /** Says that it is gone. */
  renounce(why: string): void {
    this.owner.report('child-sa-down', `child SA ${this.label} is gone: ${why}`, {
      child: this.policy.name,
      policy: this.policy.policy.name,
      replaced: this.superseded,
    });
    // Its successor was told of by phase2_rekey.
    if (!this.superseded) this.owner.hook('phase2_down', pairEnvironment(this));
  }

  get protocol(): 'esp' | 'ah' {
    return protocolOf(this.agreed.policy.policy);
  }

  /** The SAs of one direction as the datapath is told of them, innermost first. */
  allParameters(direction: 'inbound' | 'outbound'): SaParameters[] {
    const protocols = this.sas.map(({ protocol }) => protocol);
    return this.sas.map((sa) => this.#parameters(direction, sa, modeInBundle(protocols, sa.protocol, this.agreed.mode)));
  }

  /** One direction of the SA that the pair is known by. */
  parameters(direction: 'inbound' | 'outbound'): SaParameters {
    return this.allParameters(direction).find(({ protocol }) => protocol === this.protocol)!;
  }

  #parameters(direction: 'inbound' | 'outbound', sa: BundledSa, mode: Mode): SaParameters {
    const { agreed, path } = this;
    const { protocol } = sa;
    const inbound = direction === 'inbound';
    const keys = inbound ? sa.inbound : sa.outbound;
    const esp = protocol === 'esp';
    const [source, destination] = inbound ? [path.remote, path.local] : [path.local, path.remote];
    const [from, to] = inbound ? [agreed.peer, agreed.local] : [agreed.local, agreed.peer];
    return {
      spi: inbound ? sa.spiIn : sa.spiOut,
      protocol,
      mode,
      source: source.address,
      destination: destination.address,
      suite: sa.suite,
      encrKey: keys.encr,
      integKey: keys.integ,
      extendedSequence: this.extendedSequence && protocol !== 'ipcomp',
      replayWindow: protocol === 'ipcomp' ? 0 : agreed.ipsec.replayWindow,
      // What comes in is taken with whatever padding it has.
      tfcPadding: inbound || !esp ? undefined : agreed.ipsec.tfcPadding || undefined,
      reqid: agreed.policy.reqid,
      encapsulation: this.encapsulated && esp ? { source, destination } : undefined,
      // An association of IPComp has neither keys nor a count that ends: it goes with the others.
      lifetime: protocol === 'ipcomp' ? UNLIMITED : this.lifetime,
      selectors: { source: from, destination: to },
    };
  }
}

const NO_LIMIT: Lifetime = { seconds: 0, bytes: 0, packets: 0 };
const UNLIMITED = { soft: NO_LIMIT, hard: NO_LIMIT };

export function showSpi(spi: number): string {
  return spi.toString(16).padStart(8, '0');
}

function finite(limit: Limit): number {
  return limit === 'infinite' ? 0 : limit;
}
