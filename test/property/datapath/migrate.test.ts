/** Whatever sequence of X_MIGRATEs comes, accepted or refused: no SA is lost, none is two, and SPIs, keys, counters, lifetimes and windows stay. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hex } from '../../../src/bytes/bytes.ts';
import { EngineVerbs } from '../../../src/datapath/verbs.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { saIdTo, saToAdd, saToGetspi } from '../../../src/pfkey/convert.ts';
import { migrateToSadb } from '../../../src/pfkey/convert-migrate.ts';
import { policyToSpdAdd } from '../../../src/pfkey/convert-policy.ts';
import { SadbError } from '../../../src/pfkey/message.ts';
import { ip, NOW, Node, policyOf, saOf, seeded, selectorOf, templateOf, udpPacket } from '../../unit/datapath/pair.ts';

const PLACES = ['192.0.2.1', '192.0.2.2', '198.51.100.1', '203.0.113.1', '2001:db8::1', '2001:db8::2'].map(ip);

const ends = fc
  .tuple(fc.nat(PLACES.length - 1), fc.nat(PLACES.length - 1))
  .map(([a, b]) => ({ source: PLACES[a]!, destination: PLACES[b]! }))
  .filter(({ source, destination }) => source.family === destination.family && source !== destination);

const step = fc.record({
  direction: fc.constantFrom('outbound', 'inbound'),
  reqid: fc.constantFrom(0, 1, 1, 1, 2),
  pairs: fc.oneof(
    { weight: 4, arbitrary: fc.tuple(fc.record({ old: ends, new: ends })) },
    { weight: 1, arbitrary: fc.array(fc.record({ old: ends, new: ends }), { minLength: 2, maxLength: 3 }) },
  ),
  /** Mostly from where the policy's tunnel is. */
  follows: fc.integer({ min: 0, max: 9 }).map((n) => n < 8),
  packets: fc.nat(3),
});

function stateOf(node: Node) {
  return [...node.engine.core.sad.all]
    .toSorted((a, b) => a.serial - b.serial)
    .map((sa) => ({
      spi: sa.spi,
      serial: sa.serial,
      key: hex(sa.parameters.encrKey.reveal()),
      handles: [sa.sealHandle, sa.openHandle],
      iv: [sa.ivHigh, sa.ivLow],
      counters: [sa.sequence, sa.packets, sa.bytes, sa.firstUse],
      window: sa.window,
      top: sa.window.top,
      life: [sa.state, sa.softAt, sa.hardAt, sa.born.mono],
      reqid: sa.parameters.reqid,
      ports: [sa.parameters.encapsulation?.source.port, sa.parameters.encapsulation?.destination.port],
    }));
}

test('no sequence of movements loses, doubles or changes an SA', () => {
  let accepted = 0;
  let refused = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), fc.boolean(), (steps, strict) => {
      const node = new Node();
      const verbs = new EngineVerbs(node.engine, { random: seeded(5), dialect: strict ? 'linux-strict' : 'tanuki' });
      const first = { source: PLACES[0]!, destination: PLACES[1]! };
      const back = { source: PLACES[1]!, destination: PLACES[0]! };
      for (const [direction, endpoints] of [['outbound', first] as const, ['inbound', back] as const])
        verbs.handle(policyToSpdAdd(policyOf({ direction, templates: [templateOf({ endpoints })] })), NOW);
      const encapsulation = {
        source: { address: first.source, port: 4500 },
        destination: { address: first.destination, port: 61000 },
      };
      const sas: readonly Partial<SaParameters>[] = [
        { spi: 0x100, ...first },
        { spi: 0x200, ...first, encapsulation },
        { spi: 0x300, ...first, reqid: 2 },
        { spi: 0x400, ...back },
        { spi: 0x100, ...back, source: PLACES[2]! },
      ];
      for (const sa of sas) verbs.handle(saToAdd(saOf(sa)), NOW);
      const larval = strict
        ? undefined
        : verbs.handle(saToGetspi(saOf(back), { min: 0x1000, max: 0x2000 }), NOW).reply![0]!.sa!.spi;
      let before = stateOf(node);
      for (const { direction, reqid, pairs, follows, packets } of steps) {
        const at = node.engine.core.spd.bySelector(direction, selectorOf())!.template!.endpoints!;
        const movements = pairs.map((pair, i) => ({
          protocol: 'esp' as const,
          mode: 'tunnel' as const,
          reqid,
          old: follows && i === 0 ? at : pair.old,
          new: pair.new,
        }));
        try {
          verbs.handle(migrateToSadb({ selector: selectorOf(), direction, movements }), NOW);
          accepted++;
        } catch (error) {
          if (!(error instanceof SadbError)) throw error;
          refused++;
        }
        expect(stateOf(node)).toEqual(before);
        // Each is found under its present name, and each path leads between its present ends.
        for (const sa of node.engine.core.sad.all) {
          const { source, destination, protocol, spi } = sa.parameters;
          expect(node.engine.core.sad.find(spi, protocol, destination)).toBe(sa);
          expect(verbs.handle(saIdTo('GET', { spi, protocol, destination }, source), NOW).reply).toHaveLength(1);
          const path = node.engine.path(sa.path)!;
          expect([path.local.address, path.remote.address]).toEqual([source, destination]);
        }
        if (larval !== undefined) expect([...node.engine.core.sad.larvals].map(({ spi }) => spi)).toEqual([larval]);
        for (let i = 0; i < packets; i++) node.protect([udpPacket(new Uint8Array(9))]);
        const sent = stateOf(node);
        const total = (states: typeof sent) => states.reduce((sum, { counters }) => sum + counters[0]!, 0);
        expect(total(sent) - total(before)).toBeLessThanOrEqual(packets);
        before = sent;
      }
    }),
    { numRuns: 40, seed: 20_240_601 },
  );
  expect(accepted).toBeGreaterThan(50);
  expect(refused).toBeGreaterThan(50);
});
