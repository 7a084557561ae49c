/** From the compiled configuration to the SPD entries it means on this host (RFC 4301 §4.4.1). */

import type { AddressSpec, Config, PolicyConfig, SelectorConfig } from '../src/config/config.ts';
import { expandEndpoints, expandPrefixes, type LocalAddress } from '../src/config/expand.ts';
import type { KmAddress, Policy, PolicyDirection, PolicySelector, Template } from '../src/ipsec/policy.ts';
import { showPolicySelector } from '../src/ipsec/policy.ts';
import { BUNDLE } from '../src/ipsec/sa.ts';
import { type Endpoint, type Family, IpAddress } from '../src/net/address.ts';
import { bitsOf, everything, firstAddress, type Prefix } from '../src/net/prefix.ts';
import { IKE_BYPASS, UNMATCHED } from './priorities.ts';

/** One SPD entry that should be there. */
export interface TableEntry {
  /** Direction and selector: what makes an entry one and the same for the datapath. */
  readonly key: string;
  /** Name of the selector in the policy file; undefined for what spmd adds by itself. */
  readonly selector: string | undefined;
  /** `id` is 0. */
  readonly policy: Policy;
  /** Seconds after which the datapath removes it by itself; 0: never. */
  readonly seconds: number;
  /** Where key management talks, after a movement that told it. */
  readonly kmAddress?: KmAddress | undefined;
  /** Made by POLICY ADD, not by the policy file. */
  readonly dynamic: boolean;
}

/** A selector for which nothing can be installed, and why. */
export interface Problem {
  readonly selector: string;
  readonly reason: string;
}

const UDP = 17;
const IKE_PORT = 500;
const KINK_PORT = 910;
const FAMILIES: readonly Family[] = [4, 6];

export function keyOf(direction: PolicyDirection, selector: PolicySelector): string {
  return `${direction} ${showPolicySelector(selector)}`;
}

export function samePolicy(a: Policy, b: Policy): boolean {
  return (
    a.action === b.action && a.priority === b.priority && a.direction === b.direction && templatesText(a) === templatesText(b)
  );
}

function templatesText({ templates }: Policy): string {
  return templates
    .map(({ protocol, mode, level, reqid, endpoints }) =>
      [protocol, mode, level, reqid, endpoints?.source.toString() ?? '', endpoints?.destination.toString() ?? ''].join(' '),
    )
    .join(', ');
}

/** Selectors in the order in which packets meet them: by `order`, then as the file has them. */
export function inOrder(selectors: readonly SelectorConfig[]): SelectorConfig[] {
  return [...selectors].sort((a, b) => a.order - b.order);
}

/** All entries that the configuration means, first match first. `priorities` is by name of the selector. */
export function entriesOf(
  config: Config,
  local: readonly LocalAddress[],
  priorities: ReadonlyMap<string, number>,
): { entries: TableEntry[]; problems: Problem[] } {
  const entries = new Map<string, TableEntry>();
  const problems: Problem[] = [];
  const add = (entry: TableEntry) => {
    const other = entries.get(entry.key);
    if (other === undefined) entries.set(entry.key, entry);
    else if (entry.selector !== undefined) {
      const reason = `${entry.key} is what ${other.selector ?? 'an entry for IKE'} says already, and the first of them decides`;
      problems.push({ selector: entry.selector, reason });
    }
  };
  for (const entry of ikeBypass(config, local)) add(entry);
  for (const selector of inOrder(config.selectors)) {
    const { policies, reason } = policiesOf(selector, config, local, priorities.get(selector.name)!);
    for (const policy of policies)
      add({ key: keyOf(policy.direction, policy.selector), selector: selector.name, policy, seconds: 0, dynamic: false });
    if (reason !== undefined) problems.push({ selector: selector.name, reason });
  }
  if (config.unmatched === 'discard') for (const entry of discardUnmatched()) add(entry);
  return { entries: [...entries.values()], problems };
}

/** Whether a policy is generated at negotiation time, by POLICY ADD: a tunnel whose peer may come from anywhere (`IP_RW`, `IP_ANY`). */
export function isRoadWarrior(policy: PolicyConfig): boolean {
  const { mode, peersSaAddress } = policy;
  return (
    mode === 'tunnel' &&
    peersSaAddress?.kind === 'macro' &&
    (peersSaAddress.macro === 'IP_RW' || peersSaAddress.macro === 'IP_ANY')
  );
}

function policiesOf(
  selector: SelectorConfig,
  config: Config,
  local: readonly LocalAddress[],
  priority: number,
): { policies: Policy[]; reason?: string } {
  const { policy, direction, source, destination } = selector;
  if (!policy.install || (policy.action === 'protect' && isRoadWarrior(policy))) return { policies: [] };
  for (const spec of [source, destination]) {
    if (spec.kind === 'fqdn')
      return { policies: [], reason: `the address ${spec.name} is a name, and names are not resolved yet; write an address` };
  }
  let templates: readonly Template[] = [];
  if (policy.action === 'protect') {
    const endpoints = policy.mode !== 'transport' ? endpointsOf(policy, config, local) : undefined;
    if (typeof endpoints === 'string') return { policies: [], reason: endpoints };
    templates = templatesOf(selector, endpoints);
    if (templates.length === 0)
      return { policies: [], reason: `policy ${policy.name} names no SA: it needs an ipsec_index with an sa_index` };
  }
  const policies = FAMILIES.flatMap((family) =>
    prefixesOf(source, local, family).flatMap((from) =>
      prefixesOf(destination, local, family).map(
        (to): Policy => ({
          id: 0,
          selector: selectorFor(selector, from, to),
          direction,
          action: policy.action,
          priority,
          templates,
        }),
      ),
    ),
  );
  if (policies.length > 0) return { policies };
  return { policies, reason: `${describe(source)} and ${describe(destination)} have no address family in common on this host` };
}

export function selectorFor(
  { protocol, sourcePort, destinationPort }: SelectorConfig,
  source: Prefix,
  destination: Prefix,
): PolicySelector {
  return { source: network(source), destination: network(destination), protocol, sourcePort, destinationPort };
}

/** The SAs that the first alternative asks for; only the outermost of a bundle is a tunnel. `endpoints` as seen from this end. */
export function templatesOf(
  { direction, reqid, policy }: SelectorConfig,
  endpoints: { readonly mine: IpAddress; readonly peers: IpAddress } | undefined,
): Template[] {
  const protocols = BUNDLE.filter((protocol) => policy.ipsec[0]?.sas.some((sa) => sa.protocol === protocol));
  return protocols.map((protocol, i): Template => {
    const tunnel = i === 0 && endpoints !== undefined;
    return {
      protocol,
      mode: tunnel ? policy.mode : 'transport',
      level: policy.level === 'use' ? 'use' : 'unique',
      reqid,
      endpoints: !tunnel
        ? undefined
        : direction === 'outbound'
          ? { source: endpoints.mine, destination: endpoints.peers }
          : { source: endpoints.peers, destination: endpoints.mine },
    };
  });
}

/** The tunnel's ends, or why there are none on this host. */
function endpointsOf(
  policy: PolicyConfig,
  config: Config,
  local: readonly LocalAddress[],
): { mine: IpAddress; peers: IpAddress } | string {
  const remote = config.remotes.find(({ name }) => name === policy.remote);
  const peersSpec = policy.peersSaAddress ?? remote?.[remote.acceptableKmp[0] ?? 'ikev2']?.peersIpaddr[0];
  if (peersSpec === undefined) return `policy ${policy.name} is a tunnel: it needs peers_sa_ipaddr`;
  const peers = tunnelEnds(peersSpec, local).find((address) => !address.isUnspecified);
  if (peers === undefined)
    return `policy ${policy.name}: peers_sa_ipaddr ${describe(peersSpec)} is no address that a tunnel can end at`;
  const mySpec: AddressSpec = policy.mySaAddress ?? {
    kind: 'macro',
    macro: 'MY_IP',
    interface: undefined,
    prefixLength: 0,
    port: 0,
  };
  const candidates = tunnelEnds(mySpec, local).filter((address) => address.family === peers.family);
  const mine =
    mySpec.kind === 'literal'
      ? candidates[0]
      : (candidates.find((address) => address.isLinkLocal === peers.isLinkLocal && address.isLoopback === peers.isLoopback) ??
        candidates[0]);
  if (mine === undefined)
    return `policy ${policy.name}: my_sa_ipaddr ${describe(mySpec)} is no address of this host in the family of ${peers}`;
  return { mine, peers };
}

function tunnelEnds(spec: AddressSpec, local: readonly LocalAddress[]): IpAddress[] {
  return FAMILIES.flatMap((family) => expandPrefixes(spec, local, family)).map(({ address }) => address);
}

function prefixesOf(spec: AddressSpec, local: readonly LocalAddress[], family: Family): Prefix[] {
  return expandPrefixes(spec, local, family);
}

/** With its host bits cleared, as the datapath compares it. */
function network(prefix: Prefix): Prefix {
  return { address: firstAddress(prefix), length: prefix.length };
}

/**
 * `interface { application_bypass on }`: IKE's and KINK's own datagrams never go through a policy of their own making. Only those of this
 * host's addresses: what it forwards for others from such a port is traffic like any other.
 */
function ikeBypass({ interface: host }: Config, local: readonly LocalAddress[]): TableEntry[] {
  if (!host.applicationBypass) return [];
  const listening = [
    ...listeners(host.ike, IKE_PORT, local),
    ...listeners(host.ike, host.datapath.encapPort, local, true),
    ...listeners(host.kink, KINK_PORT, local),
  ];
  return listening.flatMap(({ address, port }) => {
    // No selector has a zone, and a policy that is read back is known by its selector.
    const mine = { address: IpAddress.of(address.bytes), length: bitsOf(address.family) };
    const any = everything(address.family);
    return [
      own(
        'outbound',
        { source: mine, destination: any, protocol: UDP, sourcePort: port, destinationPort: 0 },
        'bypass',
        IKE_BYPASS,
      ),
      own(
        'inbound',
        { source: any, destination: mine, protocol: UDP, sourcePort: 0, destinationPort: port },
        'bypass',
        IKE_BYPASS,
      ),
    ];
  });
}

/** Local addresses and ports that specifications mean; `always`: the port given, whatever they say. An unspecified address is each of the host's. */
function listeners(specs: readonly AddressSpec[], port: number, local: readonly LocalAddress[], always = false): Endpoint[] {
  return specs.flatMap((spec) =>
    expandEndpoints(spec, local).flatMap((endpoint) => {
      const addresses = endpoint.address.isUnspecified
        ? local.map(({ address }) => address).filter(({ family }) => family === endpoint.address.family)
        : [endpoint.address];
      return addresses.map((address) => ({ address, port: always || endpoint.port === 0 ? port : endpoint.port }));
    }),
  );
}

function discardUnmatched(): TableEntry[] {
  return FAMILIES.flatMap((family) => {
    const selector = {
      source: everything(family),
      destination: everything(family),
      protocol: 0,
      sourcePort: 0,
      destinationPort: 0,
    };
    return [own('outbound', selector, 'discard', UNMATCHED), own('inbound', selector, 'discard', UNMATCHED)];
  });
}

function own(direction: PolicyDirection, selector: PolicySelector, action: 'bypass' | 'discard', priority: number): TableEntry {
  const policy: Policy = { id: 0, selector, direction, action, priority, templates: [] };
  return { key: keyOf(direction, selector), selector: undefined, policy, seconds: 0, dynamic: false };
}

/** An address specification as the file has it. */
export function describe(spec: AddressSpec): string {
  if (spec.kind === 'fqdn') return spec.name;
  if (spec.kind === 'literal') return spec.address;
  return spec.interface === undefined ? spec.macro : `${spec.macro}%${spec.interface}`;
}
