/** `selector` sections to one `SelectorConfig` a direction, and what is odd about the set of them. */

import { answerTo, hasTypes } from '../net/message-types.ts';
import { hasPorts, isIcmp, PROTOCOL } from '../net/transport.ts';
import { settle } from './blocks.ts';
import { differ, type PolicyCompiler, resolve } from './compile-policy.ts';
import type { AddressSpec, PolicyConfig, SelectorConfig } from './config.ts';
import { type Diagnostics, quoted, type Span, showPosition } from './diagnostics.ts';
import type { Placed } from './kinds.ts';
import { SELECTOR } from './schema.ts';
import type { Named, Sections } from './sections.ts';

/** All selectors in the order of the file, `both` written out as its two. */
export function compileSelectors(sections: Sections, policies: PolicyCompiler, report: Diagnostics): readonly SelectorConfig[] {
  const found: SelectorConfig[] = [];
  const places = new Map<string, Span>();
  for (const section of sections.selectors.values()) {
    for (const selector of compileSelector(section, sections, policies, report)) {
      if (selector.name !== section.name && sections.selectors.has(selector.name)) {
        report.error(
          section.at,
          `the inbound half of ${quoted(section.name)} has the name of another selector, ${quoted(selector.name)}`,
          'rename one of them',
        );
      }
      places.set(selector.name, section.at);
      found.push(selector);
    }
  }
  compareAll(found, places, report);
  return found;
}

function compileSelector(
  section: Named<typeof SELECTOR.words>,
  sections: Sections,
  policies: PolicyCompiler,
  report: Diagnostics,
): SelectorConfig[] {
  const { name, at: place, block } = section;
  const { values, at, written } = settle(SELECTOR, place, block);
  for (const word of ['direction', 'src', 'dst', 'policy_index'] as const) {
    if (!written(word)) {
      const hint =
        word === 'direction'
          ? 'write direction both; (or outbound, inbound)'
          : word === 'policy_index'
            ? 'write policy_index NAME;'
            : `write ${word} ADDRESS;`;
      report.error(place, `the selector ${quoted(name)} has no ${quoted(word)}`, hint);
    }
  }
  const source = firstOf(values.src, report);
  const destination = firstOf(values.dst, report);
  if (source !== undefined && destination !== undefined && differ(source, destination)) {
    report.error(at('dst'), 'source and destination are of different families', 'one selector is for IPv4 or for IPv6');
  }
  for (const [word, spec] of [
    ['src', source],
    ['dst', destination],
  ] as const) {
    if (spec?.kind === 'fqdn') {
      report.warning(
        at(word),
        `the selector ${quoted(name)} has no effect yet: names are not resolved`,
        'write a numeric address',
      );
    }
  }
  const { protocol, first, second } = values.upper_layer_protocol;
  const numbered = hasTypes(protocol);
  const ports = { source: source?.port ?? 0, destination: destination?.port ?? 0 };
  if ((ports.source !== 0 || ports.destination !== 0) && !hasPorts(protocol)) {
    const word = ports.source !== 0 ? 'src' : 'dst';
    report.error(
      at(word),
      'a port needs a protocol that has ports',
      'write upper_layer_protocol tcp; or udp, sctp, dccp, udplite',
    );
  }
  if (first !== undefined && !numbered) {
    report.warning(
      at('upper_layer_protocol'),
      'numbers behind the protocol have an effect for ICMP and the Mobility Header only',
      'a port is written behind its address: src ADDRESS port N;',
    );
  } else if (second !== undefined && protocol === PROTOCOL.mobility) {
    report.warning(at('upper_layer_protocol'), 'the Mobility Header has a type and no code', 'take the second number out');
  } else if (first === 0) {
    report.warning(
      at('upper_layer_protocol'),
      'type 0 stands for any type, here as in PF_KEY',
      'leave it out to say the same clearly',
    );
  }
  const policySection =
    values.policy_index === undefined
      ? undefined
      : resolve(values.policy_index.value, sections.policies, 'policy', values.policy_index.at, report);
  if (policySection !== undefined) policies.used.policies.add(policySection.name);
  if (policySection === undefined || source === undefined || destination === undefined || values.direction === undefined)
    return [];
  const policy: PolicyConfig = policies.policy(policySection);
  if (policy.action === 'protect' && policy.mode === 'beet') {
    for (const [word, spec] of [
      ['src', source],
      ['dst', destination],
    ] as const) {
      if (!isOneAddress(spec))
        report.error(
          at(word),
          `the policy ${quoted(policy.name)} is in BEET mode, which is between one inner address at each end`,
          'write a numeric address without a prefix length',
        );
    }
  }
  const outbound: SelectorConfig = {
    name,
    order: values.order,
    direction: values.direction === 'inbound' ? 'inbound' : 'outbound',
    source: { ...source, port: 0 },
    destination: { ...destination, port: 0 },
    protocol,
    sourcePort: numbered ? (first ?? 0) : ports.source,
    destinationPort: isIcmp(protocol) ? (second ?? 0) : numbered ? 0 : ports.destination,
    reqid: values.reqid,
    policy,
  };
  return values.direction === 'both' ? [outbound, { ...mirrored(outbound), name: `${name}.in` }] : [outbound];
}

function isOneAddress(spec: AddressSpec): boolean {
  if (spec.kind !== 'literal') return false;
  return spec.prefixLength === (spec.address.includes(':') ? 128 : 32);
}

/** The same traffic the other way: addresses and ports change places; a message type becomes that of its answer (RFC 4877 §6.1). */
function mirrored(selector: SelectorConfig): SelectorConfig {
  const { protocol, sourcePort, destinationPort } = selector;
  return {
    ...selector,
    direction: selector.direction === 'inbound' ? 'outbound' : 'inbound',
    source: selector.destination,
    destination: selector.source,
    sourcePort: hasPorts(protocol) ? destinationPort : answerTo(protocol, sourcePort),
    destinationPort: hasPorts(protocol) ? sourcePort : destinationPort,
  };
}

function firstOf(list: readonly Placed<AddressSpec>[] | undefined, report: Diagnostics): AddressSpec | undefined {
  const [first, another] = list ?? [];
  if (another !== undefined)
    report.warning(
      another.at,
      'only the first address of the list counts',
      'write a selector for each, or one prefix that holds them',
    );
  return first?.value;
}

/** What two selectors have in common if they are for the same packets. */
function keyOf({ direction, source, destination, protocol, sourcePort, destinationPort }: SelectorConfig): string {
  return JSON.stringify([direction, source, destination, protocol, sourcePort, destinationPort]);
}

/** Selectors that never match because an earlier one is for the same packets, and protected traffic without its way back. */
function compareAll(selectors: readonly SelectorConfig[], places: ReadonlyMap<string, Span>, report: Diagnostics): void {
  const byKey = new Map<string, SelectorConfig>();
  for (const selector of selectors) {
    const key = keyOf(selector);
    const before = byKey.get(key);
    const place = places.get(selector.name)!;
    if (before === undefined) byKey.set(key, selector);
    else if (before.order > selector.order)
      report.warning(
        places.get(before.name)!,
        `the selector ${quoted(before.name)} never matches: ${quoted(selector.name)} is for the same packets and of lower order`,
        'take one of them out',
      );
    else
      report.warning(
        place,
        `the selector ${quoted(selector.name)} never matches: ${quoted(before.name)}, at ${showPosition(places.get(before.name)!)}, is for the same packets`,
        'take one of them out',
      );
  }
  for (const selector of selectors) {
    if (selector.policy.action !== 'protect' || byKey.has(keyOf(mirrored(selector)))) continue;
    const missing = selector.direction === 'outbound' ? 'inbound' : 'outbound';
    report.warning(
      places.get(selector.name)!,
      `the selector ${quoted(selector.name)} has no ${missing} counterpart, so its traffic is protected in one direction only`,
      'write direction both; and leave the other selector out',
    );
  }
}
