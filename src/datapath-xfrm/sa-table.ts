/** The SAs that the kernel runs for us (RFC 4301 §4.4.2): what PF_KEY tells of them and the kernel does not keep; their keys only the kernel has. */

import { NONE } from '../bytes/bytes.ts';
import { Secret } from '../bytes/secret.ts';
import { larvalMessage } from '../datapath/announce.ts';
import type { Larval } from '../datapath/sa.ts';
import type { Lifetime } from '../ipsec/lifetime.ts';
import { innerEnds, type PolicySelector } from '../ipsec/policy.ts';
import type { SaId, SaParameters } from '../ipsec/sa.ts';
import { ANY_PORT, type TrafficSelector, selectorOf as trafficSelectorOf } from '../ipsec/selector.ts';
import type { Instant } from '../machine.ts';
import type { IpAddress } from '../net/address.ts';
import { bitsOf, type Prefix, rangeToPrefixes } from '../net/prefix.ts';
import { hostAddress, saToSadb, satypeOf } from '../pfkey/convert.ts';
import { type SadbLifetime, type SadbMessage, sadb } from '../pfkey/message.ts';
import { SADB_SASTATE, type SadbType } from '../pfkey/registry.ts';
import type { XfrmMapping, XfrmSa, XfrmSaInfo } from '../runtime/netlink/xfrm-sa.ts';

/** The least window that the kernel takes with ESN. */
const LEAST_ESN_WINDOW = 32;
const NO_KEY = new Secret(NONE);

export interface KernelSa {
  parameters: SaParameters;
  /** Inbound where GETSPI began it; else its policies tell. */
  readonly direction: 'inbound' | undefined;
  /** Its place among those that were made. */
  readonly serial: number;
  state: 'mature' | 'dying';
  born: Instant;
  /** By which a daemon that has not heard of a movement still calls it. */
  former: IpAddress | undefined;
  /** `mono` milliseconds. */
  mappingToldAt: number;
  /** Whether a run that crashed made it. */
  adopted: boolean;
}

export class SaTable {
  readonly #sas = new Map<string, KernelSa>();
  readonly #larvals = new Map<string, Larval>();
  #serial = 0;

  get all(): readonly KernelSa[] {
    return [...this.#sas.values()];
  }

  get larvals(): readonly Larval[] {
    return [...this.#larvals.values()];
  }

  add(parameters: SaParameters, direction: KernelSa['direction'], now: Instant): KernelSa {
    const sa: KernelSa = {
      parameters: withoutKeys(parameters),
      direction,
      serial: ++this.#serial,
      state: 'mature',
      born: { mono: now.mono, wall: now.wall },
      former: undefined,
      mappingToldAt: Number.NEGATIVE_INFINITY,
      adopted: false,
    };
    this.#sas.set(nameOf(parameters), sa);
    return sa;
  }

  /** Takes over what a run that crashed has left in the kernel, in the order of its making. False where it is none that we make. */
  adopt(info: XfrmSaInfo, now: Instant): boolean {
    const { current, lifetime } = info;
    const parameters = parametersOf(info);
    if (parameters === undefined) return false;
    const sa = this.add(parameters, info.direction, now);
    const age = Math.max(0, now.wall - 1000 * current.added);
    sa.adopted = true;
    sa.born = { mono: now.mono - age, wall: now.wall - age };
    if (isPast(lifetime.soft, current, age)) sa.state = 'dying';
    return true;
  }

  /** By its name, or the one that it had before it moved. */
  find(id: SaId): KernelSa | undefined {
    const there = this.#sas.get(nameOf(id));
    if (there !== undefined) return there;
    return this.all.find(
      ({ parameters, former }) =>
        parameters.spi === id.spi && parameters.protocol === id.protocol && former?.equals(id.destination),
    );
  }

  /** Gives it other parameters, and another name where they have one. */
  change(sa: KernelSa, parameters: SaParameters): void {
    this.#sas.delete(nameOf(sa.parameters));
    if (!sa.parameters.destination.equals(parameters.destination)) sa.former = sa.parameters.destination;
    sa.parameters = withoutKeys(parameters);
    this.#sas.set(nameOf(parameters), sa);
  }

  remove(sa: KernelSa): void {
    this.#sas.delete(nameOf(sa.parameters));
  }

  addLarval(larval: Larval): void {
    this.#larvals.set(nameOf(larval), larval);
  }

  larval(id: SaId): Larval | undefined {
    return this.#larvals.get(nameOf(id));
  }

  removeLarval(larval: Larval): void {
    this.#larvals.delete(nameOf(larval));
  }

  /** Those whose time is over, which are gone. */
  takeDueLarvals(mono: number): Larval[] {
    const due = this.larvals.filter(({ expiresAt }) => expiresAt <= mono);
    for (const larval of due) this.removeLarval(larval);
    return due;
  }

  get nextLarval(): number | undefined {
    return this.#larvals.size === 0 ? undefined : Math.min(...this.larvals.map(({ expiresAt }) => expiresAt));
  }
}

/** What the kernel tells of an SA: of its selectors, where there were several, nothing. */
function parametersOf(info: XfrmSaInfo): SaParameters | undefined {
  const { spi, protocol, mode, source, destination, suite, encapsulation } = info;
  const { extendedSequence, replayWindow, reqid, tfcPadding, lifetime } = info;
  if (suite === undefined) return undefined;
  return {
    spi,
    protocol,
    mode,
    source,
    destination,
    suite,
    encrKey: NO_KEY,
    integKey: suite.integ === 'none' ? undefined : NO_KEY,
    extendedSequence,
    replayWindow,
    reqid,
    tfcPadding,
    lifetime,
    encapsulation: encapsulation && {
      source: { address: source, port: encapsulation.sourcePort },
      destination: { address: destination, port: encapsulation.destinationPort },
    },
    selectors: negotiated(info.selector),
  };
}

function negotiated(selector: PolicySelector | undefined): SaParameters['selectors'] {
  if (selector === undefined) return { source: [], destination: [] };
  const { source, destination, protocol, sourcePort, destinationPort } = selector;
  const of = (prefix: Prefix, port: number) => [
    trafficSelectorOf(prefix, protocol, port === 0 ? ANY_PORT : { startPort: port, endPort: port }),
  ];
  return { source: of(source, sourcePort), destination: of(destination, destinationPort) };
}

/** What the soft limit was there to tell may have been told to nobody. */
function isPast({ seconds, bytes, packets }: Lifetime, current: XfrmSaInfo['current'], age: number): boolean {
  const reached = (limit: number, value: number) => limit > 0 && value >= limit;
  return reached(1000 * seconds, age) || reached(bytes, current.bytes) || reached(packets, current.packets);
}

/** The SA as the kernel takes it. */
export function kernelForm(parameters: SaParameters, direction?: KernelSa['direction']): XfrmSa {
  const { extendedSequence, replayWindow, selectors, source, mode, protocol, encapsulation } = parameters;
  // IPComp has no sequence numbers (RFC 3173 §3), and is never next to UDP.
  const compresses = protocol === 'ipcomp';
  const window = extendedSequence ? Math.max(LEAST_ESN_WINDOW, replayWindow) : replayWindow;
  return {
    ...parameters,
    extendedSequence: extendedSequence && !compresses,
    replayWindow: compresses ? 0 : window,
    encapsulation: compresses ? undefined : encapsulation,
    seq: 0,
    // Behind a NAT the packets of a transport SA have other addresses than were negotiated.
    selector:
      mode === 'beet'
        ? innerSelector(selectors)
        : mode === 'transport' && encapsulation !== undefined
          ? undefined
          : selectorOf(selectors, source),
    ours: true,
    direction,
  };
}

/** BEET mode: where the kernel takes the inner addresses from. */
function innerSelector(selectors: SaParameters['selectors']): PolicySelector | undefined {
  const ends = innerEnds(selectors);
  const host = (address: IpAddress) => ({ address, length: bitsOf(address.family) });
  return (
    ends && { source: host(ends.source), destination: host(ends.destination), protocol: 0, sourcePort: 0, destinationPort: 0 }
  );
}

/** The one selector that the kernel keeps of an SA; undefined (anything that its policies let through) where several were negotiated. */
function selectorOf({ source, destination }: SaParameters['selectors'], end: IpAddress): PolicySelector | undefined {
  const [from, to] = [source[0], destination[0]];
  if (from === undefined || to === undefined || source.length > 1 || destination.length > 1) return undefined;
  const [sourcePrefix, ...sources] = rangeToPrefixes(from.start, from.end);
  const [destinationPrefix, ...destinations] = rangeToPrefixes(to.start, to.end);
  if (sourcePrefix === undefined || destinationPrefix === undefined || sources.length + destinations.length > 0) return undefined;
  if (from.protocol !== to.protocol) return undefined;
  const [sourcePort, destinationPort] = [portOf(from), portOf(to)];
  if (
    sourcePort === undefined ||
    destinationPort === undefined ||
    sourcePrefix.address.family !== destinationPrefix.address.family
  )
    return undefined;
  // Everything: the kernel then lets both families through.
  if (sourcePrefix.length + destinationPrefix.length + from.protocol === 0 && end.family === sourcePrefix.address.family)
    return undefined;
  return { source: sourcePrefix, destination: destinationPrefix, protocol: from.protocol, sourcePort, destinationPort };
}

/** Packed types (RFC 7296 §3.13.1) are the business of the policy. */
function portOf({ startPort, endPort, protocol }: TrafficSelector): number | undefined {
  if (startPort === 0 && endPort === 0xffff) return 0;
  const hasPorts = protocol === 6 || protocol === 17 || protocol === 33 || protocol === 132 || protocol === 136;
  return hasPorts && startPort === endPort && startPort !== 0 ? startPort : undefined;
}

/** An SA as PF_KEY tells it. `info`: what the kernel says of it now. */
export function saMessage(type: SadbType, sa: KernelSa, info: XfrmSaInfo | undefined, state?: number): SadbMessage {
  const { outbound, inbound } = info?.sequence ?? { outbound: 0, inbound: 0 };
  return saToSadb(type, sa.parameters, {
    state: state ?? (sa.state === 'dying' ? SADB_SASTATE.DYING : SADB_SASTATE.MATURE),
    current: currentOf(sa, info),
    sequenceState: { outbound: outbound + 1, inbound },
    keys: false,
  });
}

function currentOf({ born }: KernelSa, info: XfrmSaInfo | undefined): SadbLifetime {
  const { packets = 0, bytes = 0, added = Math.floor(born.wall / 1000), used = 0 } = info?.current ?? {};
  return { allocations: packets, bytes, addtime: added, usetime: used };
}

/** EXPIRE, RFC 2367 §3.1.8. */
export function expireMessage(sa: KernelSa, info: XfrmSaInfo | undefined, hard: boolean): SadbMessage {
  const message = saMessage('EXPIRE', sa, info, hard ? SADB_SASTATE.DEAD : SADB_SASTATE.DYING);
  return {
    ...message,
    lifetimeHard: hard ? message.lifetimeHard : undefined,
    lifetimeSoft: hard ? undefined : message.lifetimeSoft,
    saSelectors: undefined,
  };
}

/** EXPIRE of what nobody completed: an SPI, or (0) an ACQUIRE. */
export function larvalExpired(larval: Larval): SadbMessage {
  return { ...larvalMessage('EXPIRE', larval, SADB_SASTATE.DEAD), lifetimeSoft: undefined, seq: 0 };
}

export function mappingMessage({ protocol, spi, before, now }: XfrmMapping): SadbMessage {
  return sadb('X_NAT_T_NEW_MAPPING', {
    satype: satypeOf(protocol),
    sa: { spi, replay: 0, state: 0, auth: 0, encrypt: 0, flags: 0 },
    source: hostAddress(before.address),
    nattSourcePort: before.port,
    destination: hostAddress(now.address),
    nattDestinationPort: now.port,
  });
}

function withoutKeys(parameters: SaParameters): SaParameters {
  return { ...parameters, encrKey: NO_KEY, integKey: parameters.integKey && NO_KEY };
}

export function nameOf({ protocol, spi, destination }: SaId): string {
  return `${protocol} ${spi} ${destination}`;
}
