/** One child SA: what it is negotiated from, what was agreed, and its two SAs as the datapath is told of them (RFC 7296 §2.17, RFC 4301 §4.4.2). */

import { readU32be, u32be } from '../../src/bytes/bytes.ts';
import type { Ikev2Config, IpsecConfig } from '../../src/config/config.ts';
import { ENCR, ESN, INTEG, KE, type KeName } from '../../src/crypto/transforms.ts';
import { Fault } from '../../src/errors.ts';
import { PROTOCOL_ID, type Proposal, type Transform } from '../../src/ipsec/proposal.ts';
import { type ChildPolicy, protocolOf } from '../../src/keying/child-policy.ts';
import { type Agreement, SaPair } from '../../src/keying/sa-pair.ts';
import type { Nonces } from './collisions.ts';
import type { IkeSa } from './ike-sa.ts';
import { childSuiteOf } from './keys.ts';

/** What two ends agreed on by IKEv2. */
export interface ChildAgreement extends Agreement {
  readonly proposal: Proposal;
  readonly ipsec: IpsecConfig;
  /** The nonces of the exchange that made it. */
  readonly nonces: Nonces;
}

export class ChildSa extends SaPair<ChildAgreement> {
  readonly version = 2;
  /** Moves with an IKE SA rekey (RFC 7296 §2.8). */
  ike: IkeSa;
  /** The child it was made to replace. */
  replaces: ChildSa | undefined;
  /** The child that replaces it, made by an exchange of the peer's, and that exchange's nonces (§2.8.1). */
  successor: { readonly child: ChildSa; readonly Ni: Uint8Array; readonly Nr: Uint8Array } | undefined;
  /** The IKE SA whose response waits for its installation. */
  heldBy: IkeSa | undefined;

  constructor(agreed: ChildAgreement, ike: IkeSa, encapsulated: boolean, since: number, chance: number) {
    const path = ike.host.pathOfPair(ike, agreed.policy, agreed.mode);
    super(agreed, childSuiteOf(agreed.proposal), path, encapsulated, since, chance);
    this.ike = ike;
  }

  override get owner(): IkeSa {
    return this.ike;
  }
}

/**
 * The one SA of an `ipsec` section, where it can be negotiated under the policy: a proposal of IKEv2 is of one protocol (RFC 7296 §3.3), so
 * that AH and ESP together would be two children, which the RFC has no way to bind.
 */
function saOf(ipsec: IpsecConfig, protocol: 'esp' | 'ah') {
  const [only, ...more] = ipsec.sas;
  return only?.protocol === protocol && more.length === 0 ? only : undefined;
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
  const protocol = protocolOf(policy.policy);
  for (const ipsec of policy.policy.ipsec) {
    const offered = saOf(ipsec, protocol);
    if (offered === undefined) continue;
    const esn: Transform[] = (ipsec.extendedSequence ? [ESN.esn, ESN.no_esn] : [ESN.no_esn]).map(({ ikev2: id }) => ({
      type: 'ESN',
      id,
    }));
    const integ = offered.auth.map((name): Transform => ({ type: 'INTEG', id: name === 'none' ? 0 : INTEG[name].ikev2 }));
    const add = (ciphers: typeof offered.encr, integrity: readonly Transform[]) => {
      if (ciphers.length === 0 && protocol === 'esp') return;
      const encr = ciphers.map(({ name, keyBits }) => encrTransform(name, keyBits));
      proposals.push({
        number: proposals.length + 1,
        protocol,
        spi,
        transforms: [...encr, ...integrity, ...groups, ...esn],
      });
      ipsecs.push(ipsec);
    };
    if (protocol === 'ah') {
      add([], integ);
      continue;
    }
    const combined = (cipher: (typeof offered.encr)[number]) => ENCR[cipher.name].icv > 0;
    const separate = () =>
      add(
        offered.encr.filter((cipher) => !combined(cipher)),
        integ,
      );
    const firstCombined = offered.encr[0] !== undefined && combined(offered.encr[0]);
    if (!firstCombined) separate();
    add(offered.encr.filter(combined), []);
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
  if (ipsec === undefined) throw new Fault('a chosen proposal is none of ours');
  return ipsec;
}

export function spiBytes(spi: number): Uint8Array {
  return u32be(spi);
}

export function spiOf(bytes: Uint8Array): number {
  return bytes.length === 4 ? readU32be(bytes) : 0;
}

/** The number of a child's protocol in Delete and Notify payloads. */
export function protocolId({ protocol }: ChildSa): number {
  return PROTOCOL_ID[protocol];
}
