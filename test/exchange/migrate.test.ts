/**
 * Movements told by X_MIGRATE against everything that may be under way: the races that Mobile IPv6 and its use of PF_KEY are known for
 * (draft-sugimoto-mip6-pfkey-migrate §5, RFC 4877 §5, §9), with each protocol. Real spmd, key daemons and datapaths of two hosts on virtual time.
 */

import { describe, expect, test } from 'vitest';
import { ERRNO } from '../../src/pfkey/registry.ts';
import { AGENT, COA, FLIGHT_MS, HOME, MovingHosts, SECOND } from '../support/moving-hosts.ts';

const [home, coa, second, agent] = [HOME, COA, SECOND, AGENT].map(String);
/** What was begun from the old address and never answered is given up after this. Milliseconds. */
const NEGOTIATION_MS = 45_000;
const PROTOCOLS = ['ikev2', 'ikev1', 'kink'] as const;

/** Everything of both hosts is between the home agent and `address`, in one pair that carries traffic; nothing is left elsewhere. */
function expectAllAt(hosts: MovingHosts, address: string): void {
  const { mn, ha, breaches } = hosts;
  expect(hosts.places(mn)).toEqual([`${address} ${agent}`]);
  expect(hosts.places(ha)).toEqual([`${agent} ${address}`]);
  expect(hosts.keys(mn)).toEqual(hosts.keys(ha));
  expect([hosts.sas(mn).length, hosts.pairs(mn), hosts.pairs(ha)]).toEqual([2, 1, 1]);
  hosts.expectTraffic();
  expect(breaches).toEqual([]);
}

/** A new pair is negotiated where the hosts are, and takes the place of the old one. */
function expectRekeyed(hosts: MovingHosts): void {
  const { mn, ha } = hosts;
  const before = hosts.keys(mn);
  hosts.rekey(mn);
  hosts.until('a new pair in the place of the old one', () =>
    [mn, ha].every((node) => hosts.sas(node).length === 2 && hosts.keys(node).every((key) => !before.includes(key))),
  );
}

describe.each(PROTOCOLS)('%s', (kmp) => {
  test('a movement moves SAs and key management with their keys, and what is negotiated later comes from there', () => {
    const hosts = new MovingHosts({ kmp }).established();
    const before = hosts.keys(hosts.mn);
    hosts.moved(HOME, COA);
    hosts.run(100);
    expect(hosts.keys(hosts.mn)).toEqual(before);
    expectAllAt(hosts, coa!);
    expectRekeyed(hosts);
    expectAllAt(hosts, coa!);
  });

  test.each([2, 8, 14, 20, 26, 32, 38, 44, 50, 56, 62])(
    'race 1: a movement between ACQUIRE and the installation of the SAs, %i ms after the packet',
    (delay) => {
      const hosts = new MovingHosts({ kmp });
      const { mn, ha } = hosts;
      hosts.send(mn);
      hosts.run(delay);
      hosts.moved(HOME, COA);
      hosts.until('one pair at both ends', () =>
        [mn, ha].every((node) => hosts.pairs(node) === 1 && hosts.sas(node).length === 2),
      );
      hosts.run(NEGOTIATION_MS);
      expectAllAt(hosts, coa!);
    },
  );

  test.each([1, 8, 15, 22, 29, 36, 60, 500, 2_500])(
    'race 2: a movement %i ms after a rekey began, with two pairs side by side',
    (delay) => {
      const hosts = new MovingHosts({ kmp }).established();
      const { mn, ha } = hosts;
      const before = hosts.keys(mn);
      hosts.rekey(mn);
      hosts.run(delay);
      hosts.moved(HOME, COA);
      hosts.run(50);
      // The new pair and the old one, whichever are there.
      for (const node of [mn, ha])
        expect(hosts.sas(node).flatMap(({ source, destination }) => [source, destination])).not.toContain(home);
      hosts.until('the new pair alone', () =>
        [mn, ha].every((node) => hosts.sas(node).length === 2 && hosts.keys(node).every((key) => !before.includes(key))),
      );
      hosts.run(12_000);
      expectAllAt(hosts, coa!);
    },
  );

  test('race 3: the binding update comes before the X_MIGRATE of the home agent, which sends to the old address until then', () => {
    const hosts = new MovingHosts({ kmp }).established();
    const { mn, ha } = hosts;
    const before = hosts.keys(mn);
    mn.move(COA, 0);
    hosts.migrate(mn, [HOME, AGENT], [COA, AGENT]);
    hosts.run(50);
    const [there, back] = [hosts.send(mn), hosts.send(ha)];
    hosts.run(400);
    expect([hosts.arrived.has(there), hosts.arrived.has(back)]).toEqual([true, false]);
    hosts.migrate(ha, [AGENT, HOME], [AGENT, COA]);
    hosts.run(50);
    expect(hosts.keys(mn)).toEqual(before);
    expectAllAt(hosts, coa!);
  });

  test('race 4: HoT to the old address, the mobile node having moved alone, is taken by its SPI for a time', () => {
    const hosts = new MovingHosts({ kmp }).established();
    const { mn, ha } = hosts;
    mn.move(COA, 60_000);
    hosts.migrate(mn, [HOME, AGENT], [COA, AGENT]);
    hosts.run(20);
    hosts.expectTraffic();
    hosts.run(5_000);
    const late = hosts.send(ha);
    hosts.run(20);
    expect(hosts.arrived.has(late)).toBe(false);
    hosts.migrate(ha, [AGENT, HOME], [AGENT, COA]);
    hosts.run(20);
    expectAllAt(hosts, coa!);
  });

  test('race 4: HoTI from the old address, the home agent having moved alone, is taken by its SPI', () => {
    const hosts = new MovingHosts({ kmp }).established();
    const { mn, ha } = hosts;
    mn.move(COA, 60_000);
    hosts.migrate(ha, [AGENT, HOME], [AGENT, COA]);
    hosts.run(20);
    const HoTI = hosts.send(mn);
    hosts.run(20);
    expect(hosts.arrived.has(HoTI)).toBe(true);
    hosts.migrate(mn, [HOME, AGENT], [COA, AGENT]);
    hosts.run(20);
    expectAllAt(hosts, coa!);
  });

  test('race 5: a request from the new address comes before the X_MIGRATE of the home agent', () => {
    const hosts = new MovingHosts({ kmp }).established();
    const { mn, ha } = hosts;
    const before = hosts.keys(mn);
    mn.move(COA, 0);
    hosts.migrate(mn, [HOME, AGENT], [COA, AGENT]);
    hosts.run(5);
    hosts.rekey(mn);
    hosts.run(200);
    hosts.migrate(ha, [AGENT, HOME], [AGENT, COA]);
    hosts.until('the new pair alone', () =>
      [mn, ha].every((node) => hosts.sas(node).length === 2 && hosts.keys(node).every((key) => !before.includes(key))),
    );
    hosts.run(12_000);
    expectAllAt(hosts, coa!);
  });

  test('race 6: two quick movements; the second is refused where it does not chain, and the daemon ends where the node is', () => {
    const hosts = new MovingHosts({ kmp }).established();
    const { mn, ha } = hosts;
    const before = hosts.keys(mn);
    mn.move(COA, 0);
    hosts.migrate(mn, [HOME, AGENT], [COA, AGENT]);
    hosts.migrate(ha, [AGENT, HOME], [AGENT, COA]);
    mn.move(SECOND, 0);
    const unchained = [...hosts.migrate(mn, [HOME, AGENT], [SECOND, AGENT])];
    hosts.run(20);
    expect(unchained.map((seq) => hosts.errno(mn, seq))).toEqual([ERRNO.ENODATA, ERRNO.ENODATA]);
    expect(hosts.places(mn)).toEqual([`${coa} ${agent}`]);
    hosts.migrate(mn, [COA, AGENT], [SECOND, AGENT]);
    hosts.migrate(ha, [AGENT, COA], [AGENT, SECOND]);
    hosts.run(50);
    expect(hosts.keys(mn)).toEqual(before);
    expectAllAt(hosts, second!);
    expectRekeyed(hosts);
    expectAllAt(hosts, second!);
  });

  test('race 7: back home', () => {
    const hosts = new MovingHosts({ kmp }).established();
    const before = hosts.keys(hosts.mn);
    hosts.moved(HOME, COA);
    hosts.run(2_000);
    expectAllAt(hosts, coa!);
    hosts.moved(COA, HOME);
    hosts.run(50);
    expect(hosts.keys(hosts.mn)).toEqual(before);
    expectAllAt(hosts, home!);
    expectRekeyed(hosts);
    expectAllAt(hosts, home!);
  });

  test('race 7: SAs in transport mode stay as they are where X_MIGRATE tells a KMADDRESS only', () => {
    const hosts = new MovingHosts({ kmp, transport: true }).established();
    const { mn, ha } = hosts;
    const before = hosts.sas(mn);
    // The home address goes along with the node; key management talks from the care-of address.
    mn.move(COA, 600_000);
    for (const [direction, km] of [
      ['outbound', true],
      ['inbound', true],
    ] as const) {
      hosts.ask(mn, direction, [HOME, AGENT], [HOME, AGENT], { km, kmTo: [COA, AGENT] });
      hosts.ask(ha, direction, [AGENT, HOME], [AGENT, HOME], { km, kmTo: [AGENT, COA] });
    }
    hosts.run(50);
    expect(hosts.sas(mn)).toEqual(before);
    const relation = (node: typeof mn) =>
      node.status()!.relations.map(({ local, peer }) => `${local.split('[')[0]} ${peer.split('[')[0]}`);
    expect([relation(mn), relation(ha)]).toEqual([[`${coa} ${agent}`], [`${agent} ${coa}`]]);
    expectRekeyed(hosts);
    expect(hosts.sas(mn).map(({ source, destination }) => [source, destination].sort().join(' '))).toEqual([
      `${home} ${agent}`,
      `${home} ${agent}`,
    ]);
    hosts.expectTraffic();
    expect(hosts.breaches).toEqual([]);
  });

  test('race 8: an X_MIGRATE that is lost with the connection is found in the dump after it', () => {
    const hosts = new MovingHosts({ kmp }).established();
    const before = hosts.keys(hosts.mn);
    const { port } = hosts.mn[kmp === 'kink' ? 'kinkd' : 'iked'];
    port.deaf = true;
    hosts.moved(HOME, COA);
    hosts.run(50);
    expect(hosts.places(hosts.mn)).toEqual([`${home} ${agent}`, `${coa} ${agent}`].sort());
    port.deaf = false;
    port.drop();
    port.connect();
    hosts.run(100);
    expect(hosts.keys(hosts.mn)).toEqual(before);
    expectAllAt(hosts, coa!);
    expectRekeyed(hosts);
    expectAllAt(hosts, coa!);
  });

  test('race 9: the mobility daemon hears of its own X_MIGRATE with seq 0 and pid 0, and does not begin again', () => {
    let requests = 0;
    const hosts = new MovingHosts({
      kmp,
      alterations: {
        datapath: ({ engine, verbs }) => ({
          engine,
          verbs: {
            ...verbs,
            handle(message, now) {
              if (message.type === 'X_MIGRATE') requests++;
              return verbs.handle(message, now);
            },
            supported: () => verbs.supported(),
          },
        }),
      },
    }).established();
    const { mn, ha } = hosts;
    mn.move(COA, 0);
    for (const node of [mn, ha]) node.bind({ kind: 'binding', node: mn.name, sequence: 1, former: [HOME, COA], to: COA });
    hosts.run(10_000);
    expect(requests).toBe(4);
    expect(
      hosts
        .heard(mn)
        .filter(({ type }) => type === 'X_MIGRATE')
        .map(({ seq, pid }) => [seq, pid]),
    ).toEqual([
      [0, 0],
      [0, 0],
    ]);
    expectAllAt(hosts, coa!);
  });

  test('race 10: the same X_MIGRATE comes twice, by a bridge from the kernel and by PF_KEY', () => {
    const hosts = new MovingHosts({ kmp }).established();
    const { mn, ha } = hosts;
    const before = hosts.keys(mn);
    mn.move(COA, 0);
    const first = [...hosts.migrate(mn, [HOME, AGENT], [COA, AGENT])];
    const again = [...hosts.migrate(mn, [HOME, AGENT], [COA, AGENT])];
    for (let i = 0; i < 2; i++) hosts.migrate(ha, [AGENT, HOME], [AGENT, COA]);
    hosts.run(50);
    expect([...first, ...again].map((seq) => hosts.errno(mn, seq))).toEqual([0, 0, ERRNO.ENODATA, ERRNO.ENODATA]);
    expect(hosts.keys(mn)).toEqual(before);
    for (const node of [mn, ha]) expect(hosts.named('tunnel-moved', node)).toHaveLength(1);
    expectAllAt(hosts, coa!);
  });

  test('nothing is authenticated anew by a movement, also where requests are under way', () => {
    const hosts = new MovingHosts({ kmp }).established();
    const count = () => hosts.named('ike-sa-up').length;
    const before = count();
    hosts.rekey(hosts.ha);
    hosts.run(FLIGHT_MS / 2);
    hosts.moved(HOME, COA);
    hosts.run(30_000);
    expect(count()).toBe(before);
    expectAllAt(hosts, coa!);
  });
});
