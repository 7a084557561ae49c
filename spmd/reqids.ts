/** Request identifiers: one nonzero number for each pair of selectors that are each other's reverse, kept by name over reloads. */

import type { AddressSpec, Config, SelectorConfig } from '../src/config/config.ts';
import { answerTo, hasTypes } from '../src/net/message-types.ts';
import { IPSEC_MANUAL_REQID_MAX } from '../src/pfkey/registry.ts';

/** The selector of the other direction for the same traffic and the same remote; undefined where there is none. */
export function mirrorOf(selector: SelectorConfig, all: readonly SelectorConfig[]): SelectorConfig | undefined {
  const candidates = all.filter(
    (other) => other.direction !== selector.direction && other.policy.remote === selector.policy.remote,
  );
  const twin = selector.name.endsWith('.in') ? selector.name.slice(0, -'.in'.length) : `${selector.name}.in`;
  return (
    candidates.find(({ name, source }) => name === twin && sameSpec(source, selector.destination)) ??
    candidates.find((other) => isReverse(selector, other))
  );
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
    const pairOf = new Map(protecting.map((selector) => [selector.name, this.#pairName(selector, protecting)]));
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
    for (const selector of protecting) this.#byPair.set(this.#pairName(selector, protecting), selector.reqid);
    if (this.#byPair.size <= IPSEC_MANUAL_REQID_MAX) return;
    const live = new Set(protecting.map((selector) => this.#pairName(selector, protecting)));
    for (const pair of [...this.#byPair.keys()]) if (!live.has(pair)) this.#byPair.delete(pair);
  }

  #pairName(selector: SelectorConfig, all: readonly SelectorConfig[]): string {
    if (selector.direction === 'outbound') return selector.name;
    return mirrorOf(selector, all)?.name ?? selector.name;
  }
}

/** Whether one is for what comes back for the other: with the ports exchanged, or a message's answer (BA for BU, RFC 4877 §6.1). */
function isReverse(a: SelectorConfig, b: SelectorConfig): boolean {
  const ports = hasTypes(a.protocol)
    ? b.sourcePort === answerTo(a.protocol, a.sourcePort) && a.destinationPort === b.destinationPort
    : a.sourcePort === b.destinationPort && a.destinationPort === b.sourcePort;
  return ports && a.protocol === b.protocol && sameSpec(a.source, b.destination) && sameSpec(a.destination, b.source);
}

function sameSpec(a: AddressSpec, b: AddressSpec): boolean {
  if (a.kind === 'literal') return b.kind === 'literal' && a.address === b.address && a.prefixLength === b.prefixLength;
  if (a.kind === 'fqdn') return b.kind === 'fqdn' && a.name === b.name;
  return b.kind === 'macro' && a.macro === b.macro && a.interface === b.interface;
}
