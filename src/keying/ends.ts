/** The two ends of a negotiation or of a pair: what the policy file says of a peer's address and of ours, with what a packet asks for. */

import type { AddressSpec } from '../config/config.ts';
import { expandEndpoints, type LocalAddress } from '../config/expand.ts';
import { IpAddress, type Path } from '../net/address.ts';
import { bitsOf, prefixHolds } from '../net/prefix.ts';
import type { ChildPolicy } from './child-policy.ts';

/** Two addresses, seen from here. */
export interface PairEnds {
  readonly local: IpAddress;
  readonly remote: IpAddress;
}

/** The same path between other addresses; ports and encapsulation stay. */
export function between(path: Path, { local, remote }: PairEnds): Path {
  return { ...path, local: { ...path.local, address: local }, remote: { ...path.remote, address: remote } };
}

export function endsOf(local: { readonly address: IpAddress }, remote: { readonly address: IpAddress }): PairEnds {
  return { local: local.address, remote: remote.address };
}

export function sameEnds(a: PairEnds, b: PairEnds): boolean {
  return a.local.equals(b.local) && a.remote.equals(b.remote);
}

/** What a peer may be reached at or come from: its `peers_ipaddr`, else the tunnel ends and hosts that its policies name. */
export function peerAddresses(peersIpaddr: readonly AddressSpec[], children: readonly ChildPolicy[]): readonly AddressSpec[] {
  if (peersIpaddr.length > 0) return peersIpaddr;
  return children.flatMap(({ policy, peer: [first] }): AddressSpec[] => {
    if (policy.peersSaAddress !== undefined) return [policy.peersSaAddress];
    if (first === undefined || !first.start.equals(first.end)) return [];
    return [{ kind: 'literal', address: first.start.toString(), prefixLength: bitsOf(first.start.family), port: 0 }];
  });
}

export function isAnybody(spec: AddressSpec): boolean {
  return spec.kind === 'macro' && (spec.macro === 'IP_ANY' || spec.macro === 'IP_RW');
}

/** Whether a literal specification is this address, or a prefix that holds it. */
export function namesAddress(spec: AddressSpec, address: IpAddress): boolean {
  if (spec.kind !== 'literal') return false;
  const known = IpAddress.parse(spec.address);
  return known !== undefined && (known.equals(address) || prefixHolds({ address: known, length: spec.prefixLength }, address));
}

export function literals(specs: readonly (AddressSpec | undefined)[]): IpAddress[] {
  return specs.flatMap((spec) => (spec?.kind === 'literal' ? (IpAddress.parse(spec.address) ?? []) : []));
}

/** Where a child's peer is reached, or undefined where the policy does not say and no packet (`asked`) does. */
export function remoteAddress(
  peersIpaddr: readonly AddressSpec[],
  child: ChildPolicy | undefined,
  asked: IpAddress | undefined,
): IpAddress | undefined {
  const literal = literals(peersIpaddr)[0] ?? literals([child?.policy.peersSaAddress])[0];
  const only = child?.peer.length === 1 && child.peer[0]!.start.equals(child.peer[0]!.end) ? child.peer[0]!.start : undefined;
  const address = literal ?? asked ?? (child?.policy.mode === 'transport' ? only : undefined);
  return address === undefined || address.isUnspecified || address.isMulticast ? undefined : address;
}

/** The address of ours that a child is negotiated from, or undefined where none of the family is known. `listen`: where the daemon does. */
export function localAddress(
  remote: IpAddress,
  child: ChildPolicy | undefined,
  asked: IpAddress | undefined,
  local: readonly LocalAddress[],
  listen: readonly AddressSpec[],
): IpAddress | undefined {
  const usable = (address: IpAddress | undefined) =>
    address !== undefined && address.family === remote.family && !address.isUnspecified;
  const mine = child?.policy.mySaAddress;
  const said = [...literals([mine]), ...(mine === undefined ? literals(listen) : [])].find(usable);
  if (said !== undefined) return said;
  const addresses = local.map(({ address }) => address);
  const meant = (mine === undefined ? addresses : expandEndpoints(mine, local).map(({ address }) => address)).filter(usable);
  const listening = listen.flatMap((spec) => expandEndpoints(spec, local)).map(({ address }) => address);
  const own = meant.filter((address) => listening.some((one) => one.isUnspecified || one.equals(address)));
  if (asked !== undefined && usable(asked) && (own.length === 0 || own.some((one) => one.equals(asked)))) return asked;
  const only = child?.policy.mode === 'transport' && child.local.length === 1 ? child.local[0]! : undefined;
  if (only?.start.equals(only.end) && usable(only.start)) return only.start;
  const candidates = own.length > 0 ? own : meant;
  // As spmd chooses the tunnel's end.
  const alike = (address: IpAddress) => address.isLoopback === remote.isLoopback && address.isLinkLocal === remote.isLinkLocal;
  return candidates.find(alike) ?? candidates[0] ?? literals(listen).find(usable);
}

/** The port that we negotiate from at an address of ours, given where the daemon listens. */
export function listeningPort(address: IpAddress, listen: readonly AddressSpec[], otherwise: number): number {
  const own = listen.filter((spec) => spec.port !== 0);
  const exact = own.find((spec) => spec.kind === 'literal' && IpAddress.parse(spec.address)?.equals(address));
  return (exact ?? own[0])?.port ?? otherwise;
}
