/** Which rules and routes policies mean on a host (RFC 4301 §5.1, §5.2). */
import { expect, test } from 'vitest';
import { MARK, type PlanInput, PRIORITY, planOf, ruleKey, sourceFor, TABLE } from '../../../src/datapath-process/plan.ts';
import type { Policy, PolicyAction, PolicyDirection, PolicyLevel } from '../../../src/ipsec/policy.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { parsePrefix, showPrefix } from '../../../src/net/prefix.ts';
import type { Rule } from '../../../src/runtime/netlink/route.ts';

const device = { name: 'tanuki0', index: 7 };
const address = (text: string) => IpAddress.parse(text)!;

interface Words {
  readonly action?: PolicyAction;
  readonly direction?: PolicyDirection;
  readonly protocol?: number;
  readonly ports?: readonly [number, number];
  readonly level?: PolicyLevel;
}

function policy(source: string, destination: string, words: Words = {}): Policy {
  const { action = 'protect', direction = 'outbound', protocol = 0, ports = [0, 0], level = 'unique' } = words;
  return {
    id: 1,
    selector: {
      source: parsePrefix(source)!,
      destination: parsePrefix(destination)!,
      protocol,
      sourcePort: ports[0],
      destinationPort: ports[1],
    },
    direction,
    action,
    priority: 0,
    templates: action === 'protect' ? [{ protocol: 'esp', mode: 'tunnel', level, reqid: 1, endpoints: undefined }] : [],
  };
}

function input(changes: Partial<PlanInput>): PlanInput {
  return {
    outbound: [],
    inbound: [],
    addresses: [],
    onLink: [],
    keyPorts: [500, 4500],
    device,
    unmatched: 'bypass',
    filtered: false,
    ...changes,
  };
}

/** The rules that policies made, without those that every host gets. */
function own(rules: readonly Rule[]): string[] {
  const fixed: readonly number[] = [PRIORITY.outboundPass, PRIORITY.inboundPass, PRIORITY.end, PRIORITY.local];
  return rules.filter(({ priority }) => !fixed.includes(priority)).map(ruleKey);
}

test('no policies, nothing on the host', () => {
  expect(planOf(input({}))).toEqual({ rules: [], routes: [], localMoved: { 4: false, 6: false } });
});

test('what is only bypassed needs nothing', () => {
  const only = policy('10.1.0.0/16', '10.2.0.0/16', { action: 'bypass' });
  expect(planOf(input({ outbound: [only], inbound: [only] })).rules).toEqual([]);
});

test('a protected prefix is diverted; the suite, its ports, DHCP and the link itself are not', () => {
  const { rules, routes, localMoved } = planOf(input({ outbound: [policy('10.1.0.0/16', '10.2.0.0/16')] }));
  expect(own(rules)).toEqual([`4 ${PRIORITY.outbound} ${TABLE}   10.1.0.0/16 10.2.0.0/16    `]);
  const passed = rules.filter(({ priority }) => priority === PRIORITY.outboundPass);
  expect(passed.every(({ action, target }) => action === 'goto' && target === PRIORITY.end)).toBe(true);
  expect(passed.some(({ mark }) => mark === MARK)).toBe(true);
  expect(passed.flatMap(({ sourcePorts }) => sourcePorts?.[0] ?? [])).toEqual([500, 4500, 68]);
  expect(passed.flatMap(({ to }) => (to === undefined ? [] : showPrefix(to)))).toEqual(['224.0.0.0/24', '255.255.255.255']);
  expect(routes.map(({ destination, type, index }) => [showPrefix(destination), type, index])).toEqual([
    ['10.2.0.0/16', 'unicast', 7],
    ['0.0.0.0/0', 'unreachable', undefined],
  ]);
  expect(localMoved).toEqual({ 4: false, 6: false });
});

test('a host inside the source prefix asks by its inner address', () => {
  const outbound = [policy('10.1.0.0/16', '10.2.0.0/16'), policy('fd01::/64', 'fd02::/64')];
  const addresses = [address('192.0.2.1'), address('10.1.0.1'), address('fd01::1')];
  const { rules, routes } = planOf(input({ outbound, addresses }));
  expect(own(rules)).toEqual([
    `4 ${PRIORITY.outbound} ${TABLE}   10.1.0.0/16 10.2.0.0/16    `,
    `4 ${PRIORITY.outbound} ${TABLE}   0.0.0.0 10.2.0.0/16 lo   `,
    `6 ${PRIORITY.outbound} ${TABLE}   fd01::/64 fd02::/64    `,
    `6 ${PRIORITY.outbound} ${TABLE}    fd02::/64 lo   `,
  ]);
  expect(routes.map(({ preferredSource }) => `${preferredSource}`)).toEqual(['10.1.0.1', 'undefined', 'fd01::1', 'undefined']);
  expect(`${sourceFor(outbound, addresses, address('10.2.0.9'))}`).toBe('10.1.0.1');
  expect(sourceFor(outbound, addresses, address('10.3.0.9'))).toBeUndefined();
});

test('the order of bypass and protect is kept, and neighbours of one kind share a priority', () => {
  const outbound = [
    policy('10.1.0.0/16', '10.2.1.0/24', { action: 'bypass' }),
    policy('10.1.0.0/16', '10.2.0.0/16'),
    policy('10.1.0.0/16', '10.3.0.0/16', { action: 'discard' }),
    policy('10.1.0.0/16', '10.9.0.0/16', { action: 'bypass' }),
  ];
  const rules = planOf(input({ outbound })).rules.filter(
    ({ priority }) => priority >= PRIORITY.outbound && priority < PRIORITY.end,
  );
  expect(rules.map(({ priority, action, table }) => [priority - PRIORITY.outbound, action ?? table])).toEqual([
    [0, 'goto'],
    [1, TABLE],
    [1, TABLE],
  ]);
});

test('ports are left to the engine when diverting, so that fragments are diverted too; when passing they must fit', () => {
  const tcp = { protocol: 6, ports: [0, 22] as const };
  const outbound = [
    policy('10.1.0.0/16', '10.2.0.0/16', { ...tcp, action: 'bypass' }),
    policy('10.1.0.0/16', '10.2.0.0/16', tcp),
  ];
  const [pass, divert] = planOf(input({ outbound })).rules.filter(({ ipProtocol }) => ipProtocol === 6);
  expect([pass!.destinationPorts, divert!.destinationPorts]).toEqual([[22, 22], undefined]);
});

test('a bypass of an ICMP type cannot be said in rules: the engine does it', () => {
  const icmp = { protocol: 1, ports: [8, 0] as const, action: 'bypass' as const };
  const outbound = [policy('10.1.0.0/16', '10.2.0.0/16', icmp), policy('10.1.0.0/16', '10.2.0.0/16')];
  expect(planOf(input({ outbound })).rules.some(({ ipProtocol }) => ipProtocol === 1)).toBe(false);
});

test('clear text that must be protected goes nowhere, before local addresses are looked up (§5.2)', () => {
  const inbound = [policy('10.2.0.0/16', '10.1.0.0/16', { direction: 'inbound' })];
  const { rules, localMoved } = planOf(input({ inbound }));
  const refusal = rules.find(({ action }) => action === 'blackhole')!;
  expect([showPrefix(refusal.from!), showPrefix(refusal.to!), refusal.ipProtocol]).toEqual([
    '10.2.0.0/16',
    '10.1.0.0/16',
    undefined,
  ]);
  expect(refusal.priority).toBeLessThan(PRIORITY.local);
  const passed = rules.filter(({ priority }) => priority === PRIORITY.inboundPass);
  expect(passed.flatMap(({ inputInterface }) => inputInterface ?? [])).toEqual(['lo', 'tanuki0']);
  expect(passed.flatMap(({ destinationPorts }) => destinationPorts?.[0] ?? [])).toEqual([500, 4500, 68]);
  expect(localMoved).toEqual({ 4: true, 6: false });
});

test('a policy of level use lets clear text in', () => {
  const inbound = [policy('10.2.0.0/16', '10.1.0.0/16', { direction: 'inbound', level: 'use' })];
  expect(planOf(input({ inbound })).rules).toEqual([]);
});

test('neighbours are refused protocol by protocol, so that ARP is answered', () => {
  const inbound = [policy('192.0.2.2', '192.0.2.1', { direction: 'inbound' })];
  const { rules } = planOf(input({ inbound, onLink: [parsePrefix('192.0.2.1/24')!] }));
  const refused = rules.filter(({ action }) => action === 'blackhole').map(({ ipProtocol }) => ipProtocol);
  expect(refused).toEqual(expect.arrayContaining([1, 6, 17]));
  expect(refused).not.toContain(undefined);
  expect(refused).not.toContain(50);
});

test('IPv6 neighbours may ask for each other', () => {
  const inbound = [policy('2001:db8::2', '2001:db8::1', { direction: 'inbound' })];
  const passed = planOf(input({ inbound })).rules.filter(({ priority }) => priority === PRIORITY.inboundPass);
  expect(passed.some(({ ipProtocol }) => ipProtocol === 58)).toBe(true);
  expect(passed.some(({ from }) => from !== undefined && showPrefix(from) === 'fe80::/10')).toBe(true);
});

test('everything to everywhere is a default route into the device, and one rule a family behind what came out of it', () => {
  const { rules, routes } = planOf(input({ outbound: [policy('0.0.0.0/0', '0.0.0.0/0', { action: 'discard' })] }));
  expect(own(rules)).toEqual([
    `4 ${PRIORITY.outboundLast} goto ${PRIORITY.end}    tanuki0   `,
    `4 ${PRIORITY.everythingElse} ${TABLE}        `,
  ]);
  expect(routes.map(({ type, metric }) => [type, metric])).toEqual([
    ['unicast', 1024],
    ['unreachable', 0x7fff_ffff],
  ]);
});

test('where the packet filter keeps clear text out, no rule does, and local addresses are looked up first', () => {
  const inbound = [policy('10.2.0.0/16', '10.1.0.0/16', { direction: 'inbound' })];
  const plan = planOf(input({ inbound, filtered: true }));
  expect([plan.rules, plan.localMoved]).toEqual([[], { 4: false, 6: false }]);
});

test('where what no policy matches is discarded, it goes into the device behind all that is bypassed, but not again what came out of it', () => {
  const outbound = [policy('10.1.0.0/16', '10.2.0.0/16', { action: 'bypass' })];
  const { rules, routes } = planOf(input({ outbound, unmatched: 'discard' }));
  const v4 = rules.filter(({ family, priority }) => family === 4 && priority >= PRIORITY.outbound && priority < PRIORITY.end);
  expect(v4.map(({ priority, action, inputInterface }) => [priority, action, inputInterface])).toEqual([
    [PRIORITY.outbound, 'goto', undefined],
    [PRIORITY.outboundLast, 'goto', 'tanuki0'],
    [PRIORITY.everythingElse, undefined, undefined],
  ]);
  expect(routes.map(({ destination, type }) => [showPrefix(destination), type])).toEqual([
    ['0.0.0.0/0', 'unicast'],
    ['0.0.0.0/0', 'unreachable'],
    ['::/0', 'unicast'],
    ['::/0', 'unreachable'],
  ]);
});
