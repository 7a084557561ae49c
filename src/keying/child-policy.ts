/** One child SA that a remote may have: an outbound selector and its policy, as the traffic selectors of both ends (RFC 4301 §4.4.1, RFC 7296 §2.9). */

import type { AddressSpec, Config, PolicyConfig, SelectorConfig } from '../config/config.ts';
import { expandPrefixes, type LocalAddress } from '../config/expand.ts';
import { BUNDLE, type SaProtocol } from '../ipsec/sa.ts';
import { ANY_PORT, selectorOf, showSelector, type TrafficSelector } from '../ipsec/selector.ts';
import { answerTo, hasTypes } from '../net/message-types.ts';
import { PROTOCOL } from '../net/transport.ts';

export interface ChildPolicy {
  /** The outbound selector's name. */
  readonly name: string;
  readonly remote: string;
  readonly policy: PolicyConfig;
  readonly reqid: number;
  /** Traffic of this end and of the peer's, by RFC 7296 §2.9: what we offer, and the most we grant. */
  readonly local: readonly TrafficSelector[];
  readonly peer: readonly TrafficSelector[];
  readonly fingerprint: string;
}

/** What a packet goes through under a policy, innermost first: the SAs of its first `ipsec`, since the SPD names those; other alternatives are not offered. */
export function protocolsOf({ ipsec: [first] }: PolicyConfig): readonly SaProtocol[] {
  const protocols = BUNDLE.filter((protocol) => first?.sas.some((sa) => sa.protocol === protocol));
  return protocols.length === 0 ? ['esp'] : protocols;
}

/** The one of them that a pair is known by: the innermost that has keys. */
export function protocolOf(policy: PolicyConfig): 'esp' | 'ah' {
  return protocolsOf(policy).includes('esp') ? 'esp' : 'ah';
}

/** The child SAs of a configuration, by selector, policy and remote. */
export class ChildPolicies {
  readonly all: readonly ChildPolicy[];
  readonly #byName: ReadonlyMap<string, ChildPolicy>;

  /** `local` are the host's addresses, which the `MY_` macros stand for. */
  constructor({ selectors }: Config, local: readonly LocalAddress[]) {
    this.all = selectors.flatMap((selector) => childPolicy(selector, local) ?? []);
    this.#byName = new Map(this.all.map((child) => [child.name, child]));
  }

  /** By the name of an outbound selector, or of the inbound half of one written for both directions. */
  child(selector: string): ChildPolicy | undefined {
    return this.#byName.get(selector) ?? (selector.endsWith('.in') ? this.#byName.get(selector.slice(0, -3)) : undefined);
  }

  /** By the name of a selector, a policy or a remote. */
  named(name: string): readonly ChildPolicy[] {
    const one = this.child(name);
    if (one !== undefined) return [one];
    return this.all.filter((child) => child.policy.name === name || child.remote === name);
  }
}

function childPolicy(selector: SelectorConfig, ours: readonly LocalAddress[]): ChildPolicy | undefined {
  const { policy, source, destination, protocol } = selector;
  if (selector.direction !== 'outbound' || policy.action !== 'protect' || policy.remote === undefined) return undefined;
  const local = trafficSelectors(source, destination, protocol, localPorts(selector), ours);
  const peer = trafficSelectors(destination, source, protocol, peerPorts(selector), ours);
  return {
    name: selector.name,
    remote: policy.remote,
    policy,
    reqid: selector.reqid,
    local,
    peer,
    fingerprint: `${JSON.stringify(selector)} ${[...local, ...peer].map(showSelector).join(' ')}`,
  };
}

interface Ports {
  readonly startPort: number;
  readonly endPort: number;
}

/** RFC 7296 §3.13.1 and RFC 4301 §4.4.1.1: what this end sends; ICMP type and code, and the MH type, are packed into one port. */
function localPorts({ protocol, sourcePort, destinationPort }: SelectorConfig): Ports {
  if (sourcePort === 0) return ANY_PORT;
  return hasTypes(protocol) ? typePorts(protocol, sourcePort, destinationPort) : { startPort: sourcePort, endPort: sourcePort };
}

/** What the peer sends: where it answers with a type of its own that one alone (RFC 4877 §6.1), else any. */
function peerPorts({ protocol, sourcePort, destinationPort }: SelectorConfig): Ports {
  if (!hasTypes(protocol)) return destinationPort === 0 ? ANY_PORT : { startPort: destinationPort, endPort: destinationPort };
  const answer = answerTo(protocol, sourcePort);
  return answer === sourcePort ? ANY_PORT : typePorts(protocol, answer, 0);
}

function typePorts(protocol: number, type: number, code: number): Ports {
  const high = type << 8;
  if (protocol === PROTOCOL.mobility) return { startPort: high, endPort: high };
  return code === 0 ? { startPort: high, endPort: high | 255 } : { startPort: high | code, endPort: high | code };
}

/** What a specification selects, in the families that the other side has too: a `MY_` macro each address of ours, `IP_ANY` and `IP_RW` everything. */
function trafficSelectors(
  spec: AddressSpec,
  other: AddressSpec,
  protocol: number,
  ports: Ports,
  ours: readonly LocalAddress[],
): TrafficSelector[] {
  const families = new Set(expandPrefixes(other, ours).map(({ address }) => address.family));
  return expandPrefixes(spec, ours)
    .filter(({ address }) => families.has(address.family))
    .map((prefix) => selectorOf(prefix, protocol, ports));
}
