import { expect, test } from 'vitest';
import { bypasses } from '../../../src/datapath-xfrm/host-rules.ts';
import { probe } from '../../../src/datapath-xfrm/probe.ts';
import { dropsSince, kernelDrops, statusOf } from '../../../src/datapath-xfrm/status.ts';
import { XfrmVerbs } from '../../../src/datapath-xfrm/verbs.ts';
import { SystemError } from '../../../src/errors.ts';
import { showPolicySelector } from '../../../src/ipsec/policy.ts';
import { saIdTo, saToAdd } from '../../../src/pfkey/convert.ts';
import { FakeKernel } from '../../support/fake-kernel.ts';
import { copyOf, NOW, saOf } from '../datapath/pair.ts';

const shown = (unmatched: 'bypass' | 'discard') =>
  bypasses(unmatched).map(({ direction, selector }) => `${direction} ${showPolicySelector(selector)}`);

test('neighbours are found in clear, both ways; where the rest is discarded a host stays one on its link', () => {
  const discovery = [133, 134, 135, 136, 137].flatMap((type) => [
    `outbound ::/0[${type}] -> ::/0 proto 58`,
    `inbound ::/0[${type}] -> ::/0 proto 58`,
  ]);
  expect(shown('bypass')).toEqual(discovery);
  const more = shown('discard').filter((text) => !discovery.includes(text));
  for (const text of ['outbound 127.0.0.0/8 -> 127.0.0.0/8', 'inbound ::1 -> ::1', 'outbound 0.0.0.0/0 -> 224.0.0.0/24'])
    expect(more).toContain(text);
  expect(more).toContain('outbound 0.0.0.0/0[68] -> 0.0.0.0/0[67] proto 17');
  expect(more).toContain('inbound ::/0[547] -> ::/0[546] proto 17');
  expect(bypasses('discard').every(({ priority, action }) => priority === 0 && action === 'bypass')).toBe(true);
  expect(new Set(more).size).toBe(more.length);
});

test('the probe leaves nothing behind, and says what the kernel lacks', () => {
  const kernel = new FakeKernel();
  probe(kernel);
  expect(kernel.installed.size).toBe(0);
  kernel.refusal = new SystemError('add SA: protocol not supported', 'EPROTONOSUPPORT');
  expect(() => probe(kernel)).toThrow(/protocol not supported/);
});

test("the kernel's drops are counted from the start of the process", () => {
  const before = kernelDrops('XfrmInError             \t0\nXfrmInNoStates          \t7\n');
  const now = kernelDrops('XfrmInError             \t0\nXfrmInNoStates          \t9\nnot a counter\n');
  expect(dropsSince(before, now)).toEqual({ XfrmInError: 0, XfrmInNoStates: 2 });
});

test('totals keep what SAs have carried that are gone', () => {
  const kernel = new FakeKernel();
  const verbs = new XfrmVerbs(kernel);
  const sa = saOf();
  verbs.handle(saToAdd(copyOf(sa)), NOW);
  verbs.handle(saToAdd({ ...copyOf(sa), spi: 0x5005 }), NOW);
  for (const one of kernel.installed.values()) one.current = { bytes: 84, packets: 1, added: 1, used: 1 };
  expect(statusOf(verbs).totals.outbound).toEqual({ sas: 2, packets: 2, bytes: 168 });
  verbs.handle(saIdTo('DELETE', { spi: 0x5005, protocol: 'esp', destination: sa.destination }, sa.source), NOW);
  expect(statusOf(verbs).totals.outbound).toEqual({ sas: 1, packets: 2, bytes: 168 });
  expect(statusOf(verbs).sas).toMatchObject([{ spi: 'c0ffee01', state: 'mature', packets: 1 }]);
});
