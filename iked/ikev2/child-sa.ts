/** One child SA: what it is negotiated from, what was agreed, and its two SAs as the datapath is told of them (RFC 7296 §2.17, RFC 4301 §4.4.2). */

import { readU32be, u32be } from '../../src/bytes/bytes.ts';
import type { Ikev2Config, IpsecConfig, Limit } from '../../src/config/config.ts';
import { ENCR, ESN, INTEG, KE, type KeName, suiteText } from '../../src/crypto/transforms.ts';
import { Fault } from '../../src/errors.ts';
import { type Lifetime, softOf } from '../../src/ipsec/lifetime.ts';
import type { Proposal, Transform } from '../../src/ipsec/proposal.ts';
import type { Mode, SaParameters } from '../../src/ipsec/sa.ts';
import type { TrafficSelector } from '../../src/ipsec/selector.ts';
import type { Path } from '../../src/net/address.ts';
import type { ChildPolicy } from '../peers.ts';
import type { Nonces } from './collisions.ts';
import type { IkeSa } from './ike-sa.ts';
import { type ChildKeys, type ChildSuite, childSuiteOf } from './keys.ts';

export type ChildState =
  /** Its SAs are on their way into the datapath. */
  | 'installing'
  | 'installed'
  /** Another child took its place; it is to be deleted by whoever made that one. */
  | 'replaced'
  /** Our DELETE for it waits or is under way. */
  | 'deleting'
  | 'gone';

/** What two ends agreed on, before it is installed. `inbound` and `outbound` are ours: the one place where _i and _r become directions. */
export interface Agreement {
  readonly policy: ChildPolicy;
  readonly mode: Mode;
  readonly proposal: Proposal;
  readonly ipsec: IpsecConfig;
  readonly spiIn: number;
  readonly spiOut: number;
  readonly local: readonly TrafficSelector[];
  readonly peer: readonly TrafficSelector[];
  readonly inbound: ChildKeys;
  readonly outbound: ChildKeys;
  /** Whether we sent the request that made it. */
  readonly initiator: boolean;
  /** The nonces of the exchange that made it. */
  readonly nonces: Nonces;
}

export class ChildSa {
  readonly agreed: Agreement;
  readonly path: Path;
  readonly encapsulated: boolean;
  readonly since: number;
  readonly algorithms: ChildSuite;
  readonly lifetime: { readonly soft: Lifetime; readonly hard: Lifetime };
  /** Moves with an IKE SA rekey (RFC 7296 §2.8). */
  ike: IkeSa;
  state: ChildState = 'installing';
  /** PF_KEY requests that its installation waits for. */
  pending = 0;
  /** The child it was made to replace. */
  replaces: ChildSa | undefined;
  /** The child that replaces it, made by an exchange of the peer's, and that exchange's nonces (§2.8.1). */
  successor: { readonly child: ChildSa; readonly Ni: Uint8Array; readonly Nr: Uint8Array } | undefined;
  /** Our own rekey of it waits, is prepared or is under way. */
  rekeying = false;
  /** `held`: the outbound SA is not installed yet, since the peer may not be ready to receive on it (§2.8). */
  outboundState: 'held' | 'installed' | 'none' = 'none';
  /** When the held outbound SA is installed in any case, `mono`. */
  outboundAt: number | undefined;
  /** Another child carries its traffic: its end interrupts nothing. */
  superseded = false;
  /** The IKE SA whose response waits for its installation. */
  heldBy: IkeSa | undefined;
  /** Packets that its inbound SA had authenticated when liveness was looked at last. */
  packetsSeen = 0;
  /** Whether `child-sa-up` was reported of it, so that its end is too. */
  announced = false;

  constructor(agreed: Agreement, ike: IkeSa, encapsulated: boolean, since: number, chance: number) {
    this.agreed = agreed;
    this.algorithms = childSuiteOf(agreed.proposal);
    this.ike = ike;
    this.path = ike.path;
    this.encapsulated = encapsulated;
    this.since = since;
    const { lifetimeTime, lifetimeBytes, lifetimePackets } = agreed.ipsec;
    const hard = { seconds: finite(lifetimeTime) / 1000, bytes: finite(lifetimeBytes), packets: finite(lifetimePackets) };
    this.lifetime = { hard, soft: softOf(hard, chance) };
  }

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

  get suite(): string {
    const { encr, keyBits, integ } = this.algorithms;
    return suiteText(encr, keyBits, integ);
  }

  get extendedSequence(): boolean {
    return this.algorithms.extendedSequence;
  }

  /** One direction as the datapath is told of it. */
  parameters(direction: 'inbound' | 'outbound'): SaParameters {
    const { agreed, path, lifetime } = this;
    const inbound = direction === 'inbound';
    const keys = inbound ? agreed.inbound : agreed.outbound;
    const [source, destination] = inbound ? [path.remote, path.local] : [path.local, path.remote];
    const [from, to] = inbound ? [agreed.peer, agreed.local] : [agreed.local, agreed.peer];
    return {
      spi: inbound ? agreed.spiIn : agreed.spiOut,
      protocol: 'esp',
      mode: agreed.mode,
      source: source.address,
      destination: destination.address,
      suite: this.algorithms,
      encrKey: keys.encr,
      integKey: keys.integ,
      extendedSequence: this.extendedSequence,
      replayWindow: agreed.ipsec.replayWindow,
      reqid: agreed.policy.reqid,
      encapsulation: this.encapsulated ? { source, destination } : undefined,
      lifetime,
      selectors: { source: from, destination: to },
    };
  }
}

/** The `ipsec` alternatives whose every SA this build can negotiate, with their ESP section. */
function espOf(ipsec: IpsecConfig) {
  const [only, ...more] = ipsec.sas;
  return only?.protocol === 'esp' && more.length === 0 ? only : undefined;
}

/** How a KE transform is to appear in a child's proposals. */
export type PerfectForwardSecrecy = 'never' | 'required' | 'allowed';

/**
 * What we offer or accept for a child, best first, and the `ipsec` section behind each proposal. An AEAD and a cipher with separate
 * integrity need proposals of their own (RFC 7296 §2.7). `spi` is ours, 4 octets, or empty where proposals are only compared.
 */
export function childProposals(
  policy: ChildPolicy,
  ikev2: Ikev2Config,
  spi: Uint8Array,
  pfs: PerfectForwardSecrecy,
  first?: KeName,
): { readonly proposals: readonly Proposal[]; readonly ipsecs: readonly IpsecConfig[] } {
  const proposals: Proposal[] = [];
  const ipsecs: IpsecConfig[] = [];
  const groups = keTransforms(ikev2, pfs, first);
  for (const ipsec of policy.policy.ipsec) {
    const esp = espOf(ipsec);
    if (esp === undefined) continue;
    const esn: Transform[] = (ipsec.extendedSequence ? [ESN.esn, ESN.no_esn] : [ESN.no_esn]).map(({ ikev2: id }) => ({
      type: 'ESN',
      id,
    }));
    const integ = esp.auth.map((name): Transform => ({ type: 'INTEG', id: name === 'none' ? 0 : INTEG[name].ikev2 }));
    const add = (ciphers: typeof esp.encr, integrity: readonly Transform[]) => {
      if (ciphers.length === 0) return;
      const encr = ciphers.map(({ name, keyBits }) => encrTransform(name, keyBits));
      proposals.push({
        number: proposals.length + 1,
        protocol: 'esp',
        spi,
        transforms: [...encr, ...integrity, ...groups, ...esn],
      });
      ipsecs.push(ipsec);
    };
    const combined = (cipher: (typeof esp.encr)[number]) => ENCR[cipher.name].icv > 0;
    const separate = () =>
      add(
        esp.encr.filter((cipher) => !combined(cipher)),
        integ,
      );
    const firstCombined = esp.encr[0] !== undefined && combined(esp.encr[0]);
    if (!firstCombined) separate();
    add(esp.encr.filter(combined), []);
    if (firstCombined) separate();
  }
  return { proposals, ipsecs };
}

/** RFC 7296 §3.3.5: the Key Length attribute is there where the algorithm has a choice, and nowhere else. */
export function encrTransform(name: keyof typeof ENCR, keyBits: number): Transform {
  const row = ENCR[name];
  return row.keyLength ? { type: 'ENCR', id: row.ikev2, keyBits } : { type: 'ENCR', id: row.ikev2 };
}

function keTransforms(ikev2: Ikev2Config, pfs: PerfectForwardSecrecy, first: KeName | undefined): Transform[] {
  if (pfs === 'never') return [];
  const names =
    first !== undefined && ikev2.ke.includes(first) ? [first, ...ikev2.ke.filter((name) => name !== first)] : ikev2.ke;
  const groups = names.map((name): Transform => ({ type: 'KE', id: KE[name].ikev2 }));
  return pfs === 'required' ? groups : [...groups, { type: 'KE', id: 0 }];
}

/** The `ipsec` section that a choice came from: the first whose proposal holds every chosen transform. */
export function ipsecOf(chosen: Proposal, { proposals, ipsecs }: ReturnType<typeof childProposals>): IpsecConfig {
  const holds = (proposal: Proposal) =>
    chosen.transforms.every(
      (transform) =>
        transform.id === 0 ||
        proposal.transforms.some(
          (own) => own.type === transform.type && own.id === transform.id && own.keyBits === transform.keyBits,
        ),
    );
  const at = proposals.findIndex(holds);
  const ipsec = ipsecs[at];
  if (ipsec === undefined) throw new Fault('a chosen ESP proposal is none of ours');
  return ipsec;
}

export function spiBytes(spi: number): Uint8Array {
  return u32be(spi);
}

export function spiOf(bytes: Uint8Array): number {
  return bytes.length === 4 ? readU32be(bytes) : 0;
}

export function showSpi(spi: number): string {
  return spi.toString(16).padStart(8, '0');
}

function finite(limit: Limit): number {
  return limit === 'infinite' ? 0 : limit;
}
