/** Which inbound policies mean which rules of the packet filter (RFC 4301 §5.2); that the kernel takes them for what they mean is test/interop/clear-text.test.ts. */
import { expect, test } from 'vitest';
import { hex } from '../../../src/bytes/bytes.ts';
import { type ArrivalsInput, arrivalRules } from '../../../src/datapath-process/clear-text.ts';
import type { Policy } from '../../../src/ipsec/policy.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import type { FilterRule } from '../../../src/runtime/netlink/nftables.ts';

const INPUT: ArrivalsInput = { inbound: [], outbound: [], keyPorts: [500, 4500], device: 'tanuki0', unmatched: 'bypass' };

function policy(changes: Partial<Policy>, selector: Partial<Policy['selector']> = {}): Policy {
  const both = { source: parsePrefix('10.2.0.0/16')!, destination: parsePrefix('10.1.0.0/20')! };
  const template = { protocol: 'esp', mode: 'tunnel', level: 'unique', reqid: 1, endpoints: undefined } as const;
  return {
    id: 1,
    selector: { ...both, protocol: 0, sourcePort: 0, destinationPort: 0, ...selector },
    direction: 'inbound',
    action: 'protect',
    priority: 0,
    templates: [template],
    ...changes,
  };
}

/** The rules behind those that every host gets. */
function own(changes: Partial<ArrivalsInput>): readonly FilterRule[] {
  const fixed = arrivalRules({ ...INPUT, unmatched: 'discard' }).length - 2;
  return arrivalRules({ ...INPUT, ...changes }).slice(fixed);
}

test('nothing forbidden, no rules', () => {
  expect(arrivalRules(INPUT)).toEqual([]);
  expect(arrivalRules({ ...INPUT, inbound: [policy({ action: 'bypass' })] })).toEqual([]);
});

test('entries keep their order; what passes behind the last that forbids needs no rule unless the rest is discarded', () => {
  const inbound = [
    policy({ action: 'bypass' }),
    policy({}),
    policy({ action: 'discard' }),
    policy({ templates: [{ ...policy({}).templates[0]!, level: 'use' }] }),
  ];
  const shown = (rules: readonly FilterRule[]) => rules.map(({ verdict, counter }) => [verdict, counter]);
  const three = [
    ['accept', undefined],
    ['drop', 'clearText'],
    ['drop', 'clearDiscard'],
  ];
  expect(shown(own({ inbound }))).toEqual(three);
  const last = ['drop', 'clearUnmatched'];
  expect(shown(own({ inbound, unmatched: 'discard' }))).toEqual([...three, ['accept', undefined], last, last]);
});

test('where the rest is discarded, what goes through to another host meets the outbound policies first', () => {
  const everything = { source: parsePrefix('0.0.0.0/0')!, destination: parsePrefix('0.0.0.0/0')! };
  const rules = own({
    inbound: [policy({}), policy({ action: 'discard' }, everything), policy({ action: 'bypass' })],
    outbound: [
      policy({ direction: 'outbound' }),
      policy({ direction: 'outbound', action: 'discard' }),
      policy({ direction: 'outbound', action: 'bypass' }),
      policy({ direction: 'outbound', action: 'discard' }, everything),
    ],
  });
  const conditional = ({ matches }: FilterRule) => matches.some(({ field }) => 'destinationType' in field);
  expect(rules.map((rule) => [rule.verdict, rule.counter, conditional(rule)])).toEqual([
    ['drop', 'clearText', false],
    ['accept', undefined, true],
    ['drop', 'clearDiscard', true],
    ['accept', undefined, true],
    ['drop', 'clearDiscard', false],
  ]);
});

test('a prefix is compared by its octets, and by a mask where it ends within one', () => {
  const [rule] = own({ inbound: [policy({})] });
  const [, source, destination] = rule!.matches;
  expect([hex(source!.is!), source!.mask]).toEqual(['0a02', undefined]);
  expect([hex(destination!.is!), hex(destination!.mask!)]).toEqual(['0a010000', 'fffff000']);
});

test('ports without a protocol are those of each protocol that has ports; a type is an octet', () => {
  expect(own({ inbound: [policy({}, { destinationPort: 53 })] })).toHaveLength(5);
  const [echo] = own({ inbound: [policy({}, { protocol: 1, sourcePort: 8 })] });
  expect(echo!.matches.at(-1)).toEqual({ field: { header: 'transport', at: 0, octets: 1 }, is: Uint8Array.of(8) });
});
