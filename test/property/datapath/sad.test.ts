import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Sa } from '../../../src/datapath/sa.ts';
import { Sad } from '../../../src/datapath/sad.ts';
import type { Template } from '../../../src/ipsec/policy.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { selectorOf as everythingIn } from '../../../src/ipsec/selector.ts';
import { IpPacket } from '../../../src/net/ip-packet.ts';
import { host } from '../../../src/net/prefix.ts';
import { ip, NOW, saOf, templateOf, udpPacket } from '../../unit/datapath/pair.ts';

const NO_CIPHER = {
  name: 'none',
  supports: () => true,
  create: () => 0,
  destroy: () => {},
  seal: () => true,
  open: () => true,
};
const END = ['192.0.2.1', '192.0.2.2', '2001:db8::7'].map(ip);
const INNER = ['10.0.0.1', '10.0.0.2'].map(ip);
/** Between which packets go: behind tunnels, and the ends themselves. */
const HOSTS = [...INNER, ...END.slice(0, 2)];
const end = fc.nat({ max: END.length - 1 });
const reqid = fc.nat({ max: 2 });
const mode = fc.constantFrom('tunnel' as const, 'transport' as const);

const change = fc.record({
  what: fc.constantFrom('add', 'add', 'add', 'remove', 'soften', 'move', 'replace'),
  which: fc.nat(),
  reqid,
  mode,
  source: end,
  destination: end,
  direction: fc.constantFrom(undefined, 'outbound' as const, 'inbound' as const),
  selects: fc.option(fc.nat({ max: 1 })),
});
const question = fc.record({
  reqid,
  mode,
  level: fc.constantFrom('unique' as const, 'require' as const, 'require' as const),
  ends: fc.option(fc.record({ source: fc.option(end), destination: fc.option(end) })),
  source: fc.nat({ max: 3 }),
  destination: fc.nat({ max: 3 }),
});

/** RFC 4301 §4.4.2 read literally, over all SAs in the order in which they came. */
function literally(sas: readonly Sa[], { reqid, mode, level, endpoints }: Template, packet: IpPacket): Sa | undefined {
  const [from, to] = [packet.sourceAddress(), packet.destinationAddress()];
  const fits = sas.filter(({ parameters: p, direction }) => {
    if (direction === 'inbound' || p.mode !== mode || (reqid !== 0 && p.reqid !== reqid)) return false;
    if (mode === 'transport') return p.source.equals(from) && p.destination.equals(to);
    const named = endpoints !== undefined && !(level === 'unique' && reqid !== 0);
    const at = (wanted: (typeof END)[number], is: (typeof END)[number]) => wanted.isUnspecified || wanted.equals(is);
    if (named && !(at(endpoints.source, p.source) && at(endpoints.destination, p.destination))) return false;
    return p.selectors.destination.length === 0 || p.selectors.destination.some(({ start }) => start.equals(to));
  });
  const youngest = (of: readonly Sa[]) => of.toSorted((a, b) => b.serial - a.serial)[0];
  return youngest(fits.filter(({ state }) => state === 'mature')) ?? youngest(fits);
}

test('the SA for a packet is the one that a walk through all finds, while SAs come, go, move, soften and are replaced', () => {
  fc.assert(
    fc.property(
      fc.array(change, { minLength: 10, maxLength: 60 }),
      fc.array(question, { minLength: 40, maxLength: 40 }),
      (changes, questions) => {
        const sad = new Sad(NO_CIPHER);
        let spi = 0x1000;
        for (const { what, which, reqid, mode, source, destination, direction, selects } of changes) {
          const ends = { source: END[source]!, destination: END[destination]! };
          const all = [...sad.all];
          const sa = all[which % Math.max(1, all.length)];
          const changed: Partial<SaParameters> = {
            ...ends,
            reqid,
            mode,
            selectors: {
              source: [],
              destination: selects === null || mode === 'transport' ? [] : [everythingIn(host(INNER[selects]!))],
            },
          };
          if (what === 'add') sad.add(saOf({ ...changed, spi: spi++ }), direction, { high: 0, low: 0 }, NOW);
          else if (sa === undefined) continue;
          else if (what === 'remove') sad.remove(sa);
          else if (what === 'soften') sa.state = 'dying';
          else if (what === 'move') sad.move([{ sa, to: ends }], 0);
          else sad.replace(sa, { ...sa.parameters, reqid }, NOW);
        }
        for (const { reqid, mode, level, ends, source, destination } of questions) {
          const any = ip('0.0.0.0');
          const endpoints =
            ends === null
              ? undefined
              : { source: END[ends.source ?? -1] ?? any, destination: END[ends.destination ?? -1] ?? any };
          const template = templateOf({ reqid, mode, level, endpoints });
          const bytes = udpPacket(new Uint8Array(4), { source: `${HOSTS[source]}`, destination: `${HOSTS[destination]}` });
          const packet = new IpPacket(bytes);
          expect(packet.read(0, bytes.length)).toBe(true);
          expect(sad.outbound(template, packet)).toBe(literally([...sad.all], template, packet));
        }
        for (const sa of [...sad.all]) {
          expect(sad.find(sa.spi, 'esp', sa.destination)).toBe(sa);
          sad.remove(sa);
        }
        expect([sad.size, sad.paths.size, sad.nextDue]).toEqual([0, 0, Number.POSITIVE_INFINITY]);
      },
    ),
  );
});
