/** The choice among the proposals of one number, all of whose protocols are taken together or not at all (RFC 2408 §4.2). */

import type { KeName } from '../crypto/transforms.ts';
import { keText } from '../crypto/transforms.ts';
import { BUNDLE, type SaProtocol } from '../ipsec/sa.ts';
import { protocolName } from './doi.ts';
import {
  encapsulationText,
  IPSEC_PROTOCOL,
  type IpsecTransform,
  ipsecProtocol,
  readSpi,
  readTransform,
  transformText,
  unusableSpi,
} from './ipsec-transforms.ts';
import { agreedLifetime, shorter } from './lifetimes.ts';
import type { Proposal, Transform } from './sa-payload.ts';
import {
  type Alternative,
  type Choice,
  type ChosenSa,
  combinations,
  encapsulationIn,
  fitsEncapsulation,
  type Terms,
} from './terms.ts';

/** What the proposals of one number come to under our terms; else `refuse` hears why not. `side` is ours. */
export function choose<A extends Alternative>(
  terms: Terms<A>,
  proposals: readonly Proposal[],
  side: 'initiator' | 'responder',
  refuse: (why: string) => void,
): Choice<A> | undefined {
  const problem = unusable(proposals);
  if (problem !== undefined) {
    refuse(problem);
    return undefined;
  }
  const named = proposals.map((proposal) => ({ proposal, protocol: ipsecProtocol(proposal.protocol)! }));
  const protocols = named.map(({ protocol }) => protocol);
  const parts = BUNDLE.flatMap((protocol) => named.filter((one) => one.protocol === protocol));
  const lead = parts.find(({ protocol }) => protocol !== 'ipcomp')!;
  const beside = parts.filter((part) => part !== lead);
  // All of a bundle have the group of the one that is looked at first.
  for (const transform of lead.proposal.transforms) {
    const theirs = admit(terms, protocols, lead.proposal, transform, side);
    if (typeof theirs === 'string') {
      refuse(theirs);
      continue;
    }
    const asked = terms.alternatives.filter(
      ({ sas }) => sas.length === parts.length && sas.every((sa) => protocols.includes(sa.protocol)),
    );
    let why =
      asked.length === 0 && beside.length > 0
        ? `${proposals.map(({ protocol }) => protocolName(protocol)).join(' and ')} belong together, which is not what is wanted`
        : undefined;
    for (const alternative of asked) {
      const first = match(terms, alternative, theirs, transform);
      if (first === undefined) continue;
      const others = beside.map(({ proposal, protocol }) => {
        for (const other of proposal.transforms) {
          const admitted = admit(terms, protocols, proposal, other, side);
          if (typeof admitted === 'string' || (protocol !== 'ipcomp' && admitted.group !== theirs.group)) continue;
          const matched = match(terms, alternative, admitted, other);
          if (matched !== undefined && typeof matched !== 'string') return matched;
        }
        return `none of the transforms of ${protocolName(proposal.protocol)} beside it fits`;
      });
      const matches: Match[] = [];
      for (const one of [first, ...others]) {
        if (typeof one === 'string') why ??= one;
        else matches.push(one);
      }
      if (matches.length === parts.length) return choiceOf(terms, alternative, proposals, theirs, matches);
    }
    const text = transformText(theirs);
    refuse(why === undefined ? text : `${text}: ${why}`);
  }
  return undefined;
}

/** Why the proposals of one number cannot be taken together, whatever is in them; or undefined. */
function unusable(proposals: readonly Proposal[]): string | undefined {
  const seen = new Set<SaProtocol>();
  for (const { protocol: number, spi, transforms } of proposals) {
    const protocol = ipsecProtocol(number);
    const name = protocolName(number);
    if (protocol === undefined) return `${name}: it is not supported`;
    if (seen.has(protocol)) return `${name}: twice under one number, whose protocols belong together (RFC 2408 §4.2)`;
    seen.add(protocol);
    const problem = unusableSpi(protocol, spi);
    if (problem !== undefined) return `${name}: ${problem}`;
    if (transforms.length === 0) return `${name}: no transform`;
  }
  return seen.size === 1 && seen.has('ipcomp') ? 'IPCOMP: by itself it protects nothing' : undefined;
}

/** One of the peer's transforms, with the lifetimes that hold for it. */
interface Match {
  readonly transform: Transform;
  readonly theirs: IpsecTransform;
  readonly lifetime: ReturnType<typeof agreedLifetime> & object;
}

/** One transform as an alternative allows it: undefined where its algorithms differ, a string where its lifetimes do. */
function match(terms: Terms, alternative: Alternative, theirs: IpsecTransform, transform: Transform): Match | string | undefined {
  if (!combinations(terms, alternative, theirs.protocol).some((ours) => sameAlgorithms(ours, theirs))) return undefined;
  const unsaid = theirs.protocol === 'ipcomp' && theirs.life.seconds === undefined;
  const lifetime = unsaid ? UNLIMITED : agreedLifetime(terms.check, alternative.lifetime, theirs.life);
  return typeof lifetime === 'string' ? lifetime : { transform, theirs, lifetime };
}

/** Of an association of IPComp that says no lifetime: it has that of the SAs beside it. */
const UNLIMITED = { seconds: 0, bytes: 0, shortened: false };

function choiceOf<A extends Alternative>(
  terms: Terms<A>,
  alternative: A,
  proposals: readonly Proposal[],
  { encapsulation, group }: IpsecTransform,
  matches: readonly Match[],
): Choice<A> {
  const of = (protocol: SaProtocol | undefined) => matches.find(({ theirs }) => theirs.protocol === protocol);
  const limit = (unit: 'seconds' | 'bytes') => matches.map(({ lifetime }) => lifetime[unit]).reduce(shorter);
  return {
    sas: BUNDLE.flatMap((protocol): ChosenSa[] => {
      const proposal = proposals.find((one) => one.protocol === IPSEC_PROTOCOL[protocol]);
      const chosen = of(protocol);
      if (proposal === undefined || chosen === undefined) return [];
      return [{ protocol, suite: chosen.theirs.suite, spi: readSpi(protocol, proposal.spi)! }];
    }),
    mode: terms.mode,
    encapsulated: encapsulation?.udp ?? terms.encapsulated,
    group,
    lifetime: { seconds: limit('seconds'), bytes: limit('bytes'), packets: alternative.lifetime.packets },
    shortened: matches.some(({ lifetime }) => lifetime.shortened),
    alternative,
    proposals: proposals.map((proposal) => ({ ...proposal, transforms: [of(ipsecProtocol(proposal.protocol))!.transform] })),
  };
}

/** What one transform means, where its encapsulation and group are those that we want; else why it will not do. */
function admit(
  terms: Terms,
  protocols: readonly SaProtocol[],
  { protocol: number }: Proposal,
  transform: Transform,
  side: 'initiator' | 'responder',
): IpsecTransform | string {
  const theirs = readTransform(number, transform);
  if (typeof theirs === 'string') return theirs;
  const { protocol } = theirs;
  const wanted = encapsulationIn(
    terms,
    protocol,
    protocols.map((one) => ({ protocol: one })),
  );
  // Who says nothing leaves it to us, but for IPComp, which is in transport mode then (RFC 3173 §4.1).
  const said = theirs.encapsulation ?? (protocol === 'ipcomp' ? { mode: 'transport' as const, udp: false } : wanted);
  if (!fitsEncapsulation(wanted, said, protocol, protocols))
    return `${transformText(theirs)}: ${encapsulationText(wanted)} is wanted`;
  const group = protocol === 'ipcomp' ? undefined : groupProblem(terms, theirs.group, side);
  return group === undefined ? theirs : `${transformText(theirs)}: ${group}`;
}

function sameAlgorithms(a: IpsecTransform, b: IpsecTransform): boolean {
  return (
    a.protocol === b.protocol &&
    a.suite.encr === b.suite.encr &&
    a.suite.keyBits === b.suite.keyBits &&
    a.suite.integ === b.suite.integ
  );
}

/** The PFS group: an answer must have the one offered; an offer is judged as `proposal_check` says. */
function groupProblem({ group, check }: Terms, theirs: KeName | undefined, side: 'initiator' | 'responder'): string | undefined {
  if (group === theirs || (side === 'responder' && (check === 'obey' || (group === undefined && check !== 'exact'))))
    return undefined;
  return group === undefined ? 'no PFS is wanted' : `PFS with ${keText(group)} is wanted`;
}
