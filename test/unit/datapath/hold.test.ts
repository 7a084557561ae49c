import { expect, test } from 'vitest';
import { explainOutbound } from '../../../src/datapath/explain.ts';
import { EngineVerbs } from '../../../src/datapath/verbs.ts';
import type { Template } from '../../../src/ipsec/policy.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { saIdTo, saStateTo, saToAdd, saToUpdate } from '../../../src/pfkey/convert.ts';
import { acquireFailed } from '../../../src/pfkey/convert-policy.ts';
import { ERRNO, SADB_SASTATE } from '../../../src/pfkey/registry.ts';
import { checkRequest, HOLD_MS } from '../../../src/pfkey/rules.ts';
import { at, copyOf, NOW, Node, policyOf, saOf, seeded, templateOf, udpPacket, type Wire } from './pair.ts';

const OLD = saOf();
const NEW = saOf({ spi: 0xc0ffee02 });

/** A host whose one SA was used a moment ago. */
function host(template: Partial<Template> = {}, sa: SaParameters = OLD) {
  const node = new Node();
  const verbs = new EngineVerbs(node.engine, { random: seeded(99) });
  node.engine.addPolicy(policyOf({ templates: [templateOf({ reqid: sa.reqid, ...template })] }), NOW);
  verbs.handle(saToAdd(copyOf(sa)), NOW);
  node.protect([udpPacket(new Uint8Array(9))]);
  const state = (to: 'on-hold' | 'mature', now = NOW) => verbs.handle(saStateTo(to, sa, sa.source), now);
  const released = (now = NOW) => {
    const wires: Wire[] = [];
    while (node.engine.hasReleasable) {
      node.engine.releaseHeld(now);
      wires.push(...node.wires());
    }
    return wires;
  };
  const status = () => node.engine.status().sas.find(({ spi }) => spi === 'c0ffee01')!.state;
  return { node, verbs, state, released, status };
}

const spis = (wires: readonly Wire[]) => wires.map(({ bytes }) => Buffer.from(bytes.subarray(0, 4)).toString('hex'));
const packets = (count: number) => Array.from({ length: count }, (_, i) => udpPacket(new Uint8Array(20).fill(i)));

test('packets of an SA on hold wait, and leave in order through the one that is added', () => {
  const { node, verbs, state, released, status } = host();
  expect(state('on-hold').broadcast![0]).toMatchObject({ type: 'UPDATE', sa: { state: SADB_SASTATE.LARVAL } });
  expect(status()).toBe('on hold');
  for (let i = 0; i < 10; i++) expect(node.protect(packets(8))).toEqual([]);
  expect(node.engine.status().held).toBe(80); // more than wait for an SA that never was
  expect(node.engine.drain().map(({ kind }) => kind)).toEqual(['acquire']);
  verbs.handle(saToAdd(copyOf(NEW)), NOW);
  const wires = released();
  expect(new Set(spis(wires))).toEqual(new Set(['c0ffee02']));
  expect(wires.map(({ bytes }) => Buffer.from(bytes).readUInt32BE(4))).toEqual(Array.from({ length: 80 }, (_, i) => i + 1));
  expect(spis(node.protect(packets(1)))).toEqual(['c0ffee02']);
  expect(node.engine.status()).toMatchObject({ held: 0, drops: {} });
});

test('let go, by MATURE or by an UPDATE of everything, it serves at once, and what waits goes', () => {
  for (const letGo of ['state', 'whole'] as const) {
    const { node, verbs, state, released, status } = host();
    state('on-hold');
    node.protect(packets(3));
    if (letGo === 'state') expect(state('mature').broadcast![0]).toMatchObject({ sa: { state: SADB_SASTATE.MATURE } });
    else verbs.handle(saToUpdate(copyOf(OLD)), NOW);
    expect(spis(released())).toEqual(['c0ffee01', 'c0ffee01', 'c0ffee01']);
    expect(status()).toBe('mature');
    expect(spis(node.protect(packets(1)))).toEqual(['c0ffee01']);
    expect(node.engine.wakeAt()).toBeUndefined();
  }
});

test('a hold ends by itself, however often it is asked for', () => {
  const { node, state, released } = host();
  state('on-hold');
  node.protect(packets(3));
  state('on-hold', at(HOLD_MS - 1));
  expect(node.engine.wakeAt()).toBe(at(HOLD_MS).mono);
  node.engine.tick(at(HOLD_MS - 1));
  expect(node.engine.hasReleasable).toBe(false);
  node.engine.tick(at(HOLD_MS));
  expect(spis(released(at(HOLD_MS)))).toEqual(['c0ffee01', 'c0ffee01', 'c0ffee01']);
  expect(node.engine.status()).toMatchObject({ held: 0, larvals: [], drops: {} });
});

test('a key daemon that refuses the ACQUIRE ends it: nothing is lost', () => {
  const { node, verbs, state, released } = host();
  state('on-hold');
  node.protect(packets(3));
  const [acquire] = node.engine.drain();
  verbs.handle(acquireFailed({ seq: (acquire as { seq: number }).seq, protocol: 'esp' }, ERRNO.ETIMEDOUT), NOW);
  expect(spis(released())).toEqual(['c0ffee01', 'c0ffee01', 'c0ffee01']);
  expect(node.engine.drops.total).toBe(0);
});

test('where the policy only uses SAs, what had one does not leave in clear', () => {
  const { node, state, released } = host({ level: 'use' });
  state('on-hold');
  expect(node.protect(packets(2))).toEqual([]);
  expect(node.clears()).toEqual([]);
  expect(explainOutbound(node.engine.core, packets(1)[0]!).fate).toBe('waits');
  state('mature');
  expect(spis(released())).toEqual(['c0ffee01', 'c0ffee01']);
});

test('an SA that ends on hold takes nothing along; its packets wait on for the next', () => {
  const { node, verbs, state, released } = host();
  state('on-hold');
  node.protect(packets(2));
  verbs.handle(saIdTo('DELETE', OLD, OLD.source), NOW);
  node.engine.tick(at(HOLD_MS));
  expect(node.engine.hasReleasable).toBe(false);
  verbs.handle(saToAdd(copyOf(NEW)), NOW);
  expect(spis(released())).toEqual(['c0ffee02', 'c0ffee02']);
});

test('trace says that it is on hold, and does what the packet would', () => {
  const { node, state } = host();
  state('on-hold');
  const told = explainOutbound(node.engine.core, packets(1)[0]!);
  expect(told).toMatchObject({ fate: 'waits', sas: [] });
  expect(told.steps.join('; ')).toMatch(/SA c0ffee01 .* is on hold.*key management is asked for one/);
});

test('what waits is bounded by number and by octets', () => {
  const { node, state } = host();
  state('on-hold');
  for (let i = 0; i < 520; i++) node.protect(packets(8));
  expect(node.engine.status()).toMatchObject({ held: 4096, drops: { holdFull: 64 } });
  const other = host();
  other.state('on-hold');
  for (let i = 0; i < 150; i++) other.node.protect([udpPacket(new Uint8Array(60_000))]);
  const held = other.node.engine.status().held;
  expect(held).toBe(Math.floor((8 * 1024 * 1024) / 60_028));
  expect(other.node.engine.drops.of('holdFull')).toBe(150 - held);
});

test('inbound SAs, unknown ones, other states and the dialect of Linux are refused', () => {
  const { node, verbs, state } = host();
  node.engine.addSa(saOf({ spi: 0x777 }), NOW, 'inbound');
  expect(() => verbs.handle(saStateTo('on-hold', { ...OLD, spi: 0x777 }, OLD.source), NOW)).toThrow(/inbound.*EINVAL/);
  expect(() => verbs.handle(saStateTo('on-hold', { ...OLD, spi: 0x778 }, OLD.source), NOW)).toThrow(/ESRCH/);
  const message = saStateTo('on-hold', OLD, OLD.source);
  expect(checkRequest(message, 'tanuki')).toBeUndefined();
  expect(checkRequest({ ...message, sa: { ...message.sa!, state: SADB_SASTATE.DYING } }, 'tanuki')?.reason).toMatch(/state/);
  expect(checkRequest(message, 'linux-strict')?.errno).toBe(ERRNO.EINVAL);
  state('mature'); // of one that is not on hold: nothing happens
  expect(spis(node.protect(packets(1)))).toEqual(['c0ffee01']);
});
