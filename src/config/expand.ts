/** Address specifications against the addresses that this host has: macros become literals (`reference`: racoon2's MY_IP and its kin). */

import { type Endpoint, type Family, IpAddress } from '../net/address.ts';
import { bitsOf, type Prefix } from '../net/prefix.ts';
import type { AddressMacro, AddressSpec } from './config.ts';

/** One address of the host and the interface that has it. */
export interface LocalAddress {
  readonly address: IpAddress;
  readonly interface: string;
}

const SELECTED: Record<Exclude<AddressMacro, 'IP_ANY' | 'IP_RW'>, (address: IpAddress) => boolean> = {
  MY_IP: () => true,
  MY_IPV4: (address) => address.family === 4,
  MY_IPV6: (address) => address.family === 6,
  MY_IPV6_GLOBAL: (address) =>
    address.family === 6 && !address.isLinkLocal && !address.isLoopback && !address.isMulticast && !address.isUnspecified,
  MY_IPV6_LINKLOCAL: (address) => address.family === 6 && address.isLinkLocal,
  MY_HOA: () => true,
};

/** The endpoints that a specification means on this host. `IP_ANY` and `IP_RW` are the unspecified addresses; a name means none here. */
export function expandEndpoints(spec: AddressSpec, local: readonly LocalAddress[]): Endpoint[] {
  return addressesOf(spec, local).map((address) => ({ address, port: spec.port }));
}

/** The prefixes that a specification means, of one family where it is given. */
export function expandPrefixes(spec: AddressSpec, local: readonly LocalAddress[], family?: Family): Prefix[] {
  if (spec.kind === 'fqdn') return [];
  return addressesOf(spec, local)
    .filter((address) => family === undefined || address.family === family)
    .map((address) => ({
      address,
      length: spec.kind === 'literal' ? spec.prefixLength : spec.macro.startsWith('IP_') ? 0 : bitsOf(address.family),
    }));
}

function addressesOf(spec: AddressSpec, local: readonly LocalAddress[]): IpAddress[] {
  if (spec.kind === 'fqdn') return [];
  if (spec.kind === 'literal') {
    const address = IpAddress.parse(spec.address);
    return address === undefined ? [] : [address];
  }
  if (spec.macro === 'IP_ANY' || spec.macro === 'IP_RW') return [IpAddress.unspecified(4), IpAddress.unspecified(6)];
  const selected = SELECTED[spec.macro];
  return local
    .filter((own) => selected(own.address) && (spec.interface === undefined || spec.interface === own.interface))
    .map((own) => own.address);
}
