/** Request identifiers: one nonzero number for each pair of selectors that are each other's reverse, kept by name over reloads. */

import type { AddressSpec, Config, SelectorConfig } from '../src/config/config.ts';
import { answerTo, hasTypes } from '../src/net/message-types.ts';
import { IPSEC_MANUAL_REQID_MAX } from '../src/pfkey/registry.ts';

/** The selector of the other direction for the same traffic and the same remote; undefined where there is none. */
export function mirrorOf(selector: SelectorConfig, all: readonly SelectorConfig[]): SelectorConfig | undefined {
  return new Mirrors(all).of(selector);
}

/** The same for many selectors: found by what they say, not by asking each of the others. */
class Mirrors {
  readonly #byName = new Map<string, SelectorConfig>();
  readonly #byTraffic = new Map<string, SelectorConfig>();

  constructor(all: readonly SelectorConfig[]) {
    for (const selector of all) {
      const traffic = trafficOf(selector, selector);
      this.#byName.set(selector.name, selector);
      if (!this.#byTraffic.has(traffic)) this.#byTraffic.set(traffic, selector);
    }
  }

  of(selector: SelectorConfig): SelectorConfig | undefined {
    const { name, direction, source, destination, policy } = selector;
    const twin = this.#byName.get(name.endsWith('.in') ? name.slice(0, -'.in'.length) : `${name}.in`);
    if (
      twin !== undefined &&
      twin.direction !== direction &&
      twin.policy.remote === policy.remote &&
      specText(twin.source) === specText(destination)
    )
      return twin;
    return this.#byTraffic.get(
      trafficOf(selector, {
        direction: direction === 'outbound' ? 'inbound' : 'outbound',
        source: destination,
        destination: source,
        ...answering(selector),
      }),
    );
  }
}

/** Reqids by the name of the pair, which is that of its outbound selector. */
export class Reqids {
  readonly #byPair = new Map<string, number>();

  /**
   * The configuration with a reqid in every selector that protects. What the file says wins; then what the pair had before; then what
   * `installed` says that the datapath has for it; then the lowest number that is free.
   */
  allot(config: Config, installed: (selector: SelectorConfig) => number | undefined): Config {
    const { selectors } = config;
    const protecting = selectors.filter(({ policy }) => policy.action === 'protect');
    const mirrors = new Mirrors(protecting);
    const pairOf = new Map(protecting.map((selector) => [selector.name, pairName(selector, mirrors)]));
    const chosen = new Map<string, number>();
    const taken = new Set<number>(protecting.map(({ reqid }) => reqid).filter((reqid) => reqid !== 0));
    for (const { name, reqid } of protecting)
      if (reqid !== 0 && !chosen.has(pairOf.get(name)!)) chosen.set(pairOf.get(name)!, reqid);
    const prefer = (pair: string, reqid: number | undefined) => {
      if (reqid === undefined || reqid === 0 || chosen.has(pair) || taken.has(reqid)) return;
      chosen.set(pair, reqid);
      taken.add(reqid);
    };
    for (const { name } of protecting) prefer(pairOf.get(name)!, this.#byPair.get(pairOf.get(name)!));
    for (const selector of protecting) prefer(pairOf.get(selector.name)!, installed(selector));
    let next = 1;
    for (const { name } of protecting) {
      if (chosen.has(pairOf.get(name)!)) continue;
      while (taken.has(next)) next++;
      prefer(pairOf.get(name)!, next);
    }
    return {
      ...config,
      selectors: selectors.map((selector) =>
        selector.policy.action !== 'protect' || selector.reqid !== 0
          ? selector
          : { ...selector, reqid: chosen.get(pairOf.get(selector.name)!)! },
      ),
    };
  }

  /** The configuration is in force: what it allots is remembered, also for selectors that go and come back. */
  keep({ selectors }: Config): void {
    const protecting = selectors.filter(({ policy }) => policy.action === 'protect');
    const mirrors = new Mirrors(protecting);
    for (const selector of protecting) this.#byPair.set(pairName(selector, mirrors), selector.reqid);
    if (this.#byPair.size <= IPSEC_MANUAL_REQID_MAX) return;
    const live = new Set(protecting.map((selector) => pairName(selector, mirrors)));
    for (const pair of [...this.#byPair.keys()]) if (!live.has(pair)) this.#byPair.delete(pair);
  }
}

function pairName(selector: SelectorConfig, mirrors: Mirrors): string {
  return selector.direction === 'outbound' ? selector.name : (mirrors.of(selector)?.name ?? selector.name);
}

/** What comes back for it: with the ports exchanged, or a message's answer (BA for BU, RFC 4877 §6.1). */
function answering({ protocol, sourcePort, destinationPort }: SelectorConfig) {
  return hasTypes(protocol)
    ? { sourcePort: answerTo(protocol, sourcePort), destinationPort }
    : { sourcePort: destinationPort, destinationPort: sourcePort };
}

/** All that makes it a selector for this traffic and this remote. */
function trafficOf(
  { protocol, policy }: SelectorConfig,
  side: Pick<SelectorConfig, 'direction' | 'source' | 'destination' | 'sourcePort' | 'destinationPort'>,
): string {
  const { direction, source, destination, sourcePort, destinationPort } = side;
  return [direction, policy.remote, protocol, specText(source), sourcePort, specText(destination), destinationPort].join(' ');
}

function specText(spec: AddressSpec): string {
  if (spec.kind === 'literal') return `${spec.address}/${spec.prefixLength}`;
  return spec.kind === 'fqdn' ? `name ${spec.name}` : `macro ${spec.macro} ${spec.interface}`;
}
