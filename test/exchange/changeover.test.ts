/**
 * A key daemon that is killed and started anew negotiates anew, and a peer may forget the old SAs the moment it hears of that (RFC 7296 §2.4 INITIAL_CONTACT,
 * RFC 2407 §4.6.3.3, RFC 4430 §3.7). Whole hosts under a stream of packets: none is lost, and each of the two means against it is needed.
 */

import { expect, test } from 'vitest';
import type { Datapath } from '../../src/datapath/datapath.ts';
import { DROP } from '../../src/datapath/drops.ts';
import { isStateOnly } from '../../src/pfkey/rules.ts';
import type { Verbs } from '../../src/pfkey/server.ts';
import type { IkedMachine, KinkdMachine } from '../sim/node.ts';
import { FLIGHT_MS, MovingHosts } from '../support/moving-hosts.ts';

type Kmp = 'ikev2' | 'ikev1' | 'kink';

/** What Tanuki as the peer does beyond the RFCs is to wait this long before it sends on new SAs. Milliseconds. */
const WAITED_MS = 1_000;

/**
 * A peer that forgets at once, as strongSwan does: when its key daemon says that the other end begins anew, every SA goes out of its datapath, and for the
 * daemon the time is over for which it would have gone on with them.
 */
function forgetful(engine: () => Datapath) {
  return <M extends IkedMachine | KinkdMachine>(machine: M): M => {
    let ahead = 0;
    const later = ({ mono, wall }: { mono: number; wall: number }) => ({ mono: mono + ahead, wall });
    const altered: IkedMachine = {
      handle: (input, now) => {
        const outputs = [...(machine as IkedMachine).handle(input, later(now))];
        const forgets = outputs.some((output) => output.kind === 'event' && /begins anew|new epoch/.test(output.event.message));
        if (forgets) engine().removeAll([...engine().core.sad.all], []);
        if (forgets || (ahead > 0 && ahead < WAITED_MS)) ahead = WAITED_MS;
        return outputs;
      },
      wakeAt: () => {
        const at = machine.wakeAt();
        return at === undefined ? undefined : at - ahead;
      },
    };
    return altered as unknown as M;
  };
}

/** A datapath that does not hold SAs, as a kernel. */
const withoutHold = ({ engine, verbs }: { engine: Datapath; verbs: Verbs }) => ({
  engine,
  verbs: {
    handle: (message, now) => (isStateOnly(message) ? {} : verbs.handle(message, now)),
    supported: () => verbs.supported(),
    registered: () => verbs.registered?.(),
  } as Verbs,
});

/** One that drops what comes before its SA. */
const withoutEarly = ({ engine, verbs }: { engine: Datapath; verbs: Verbs }) => {
  engine.core.early.refusal = () => DROP.noSa;
  return { engine, verbs };
};

/** A stream both ways, a packet a millisecond, while the mobile node's key daemon is killed and started anew: what was lost of it, by who sent it. */
function changeover(kmp: Kmp, datapath?: (found: { engine: Datapath; verbs: Verbs }) => { engine: Datapath; verbs: Verbs }) {
  const forget = forgetful(() => hosts.ha.engine!);
  const hosts: MovingHosts = new MovingHosts({
    kmp,
    alterations: datapath === undefined ? {} : { datapath },
    alterationsOfHa: { iked: forget, kinkd: forget },
  }).established();
  const { mn, ha } = hosts;
  const before = hosts.keys(mn);
  const daemon = kmp === 'kink' ? mn.kinkd : mn.iked;
  const sent = { mn: [] as number[], ha: [] as number[] };
  for (let ms = 0; ms < 4_000; ms++) {
    if (ms === 200) daemon.kill();
    if (ms === 300) daemon.start();
    sent.mn.push(hosts.send(mn));
    // What a peer without SAs does with its own packets meanwhile is not at issue.
    if (hosts.sas(ha).length > 1) sent.ha.push(hosts.send(ha));
    hosts.run(1);
  }
  hosts.run(20_000 + FLIGHT_MS);
  const lost = (ids: readonly number[]) => ids.filter((id) => !hosts.arrived.has(id)).length;
  return { hosts, before, lost: { mn: lost(sent.mn), ha: lost(sent.ha) }, sent };
}

test.each(['ikev2', 'ikev1', 'kink'] as const)('%s: no packet is lost, and one new pair is there in the end', (kmp) => {
  const { hosts, before, lost, sent } = changeover(kmp);
  const { mn, ha } = hosts;
  expect(hosts.named('sa-adopted', mn)).toHaveLength(1);
  expect(lost).toEqual({ mn: 0, ha: 0 });
  expect(sent.mn.length).toBe(4_000);
  expect(sent.ha.length).toBeGreaterThan(3_800);
  expect(hosts.keys(mn)).toEqual(hosts.keys(ha));
  expect(hosts.keys(mn)).toHaveLength(2);
  for (const key of hosts.keys(mn)) expect(before).not.toContain(key);
  expect([hosts.pairs(mn), hosts.pairs(ha)]).toEqual([1, 1]);
  for (const node of [mn, ha]) expect(node.engine!.status()).toMatchObject({ held: 0, larvals: [] });
  expect(hosts.breaches).toEqual([]);
});

test.each(['ikev2', 'ikev1', 'kink'] as const)('%s: without the hold, packets to the peer are lost', (kmp) => {
  expect(changeover(kmp, withoutHold).lost.mn).toBeGreaterThan(5);
});

test('without a place for what comes early, packets of the peer are lost', () => {
  expect(changeover('ikev2', withoutEarly).lost.ha).toBeGreaterThan(0);
});

test('a peer that does not answer: the old SAs serve again after the hold, and nothing is lost', () => {
  const hosts = new MovingHosts({ kmp: 'ikev2' }).established();
  const { mn, ha } = hosts;
  // IKE alone does not come through, from the first IKE_AUTH on.
  let messages = 0;
  hosts.network.passes = (datagram) => datagram.kind !== 'udp' || datagram.to.port !== 500 || ++messages <= 2;
  const sent: number[] = [];
  for (let ms = 0; ms < 6_000; ms += 2) {
    if (ms === 200) mn.iked.kill();
    if (ms === 300) mn.iked.start();
    sent.push(hosts.send(mn), hosts.send(ha));
    hosts.run(2);
  }
  expect(messages).toBeGreaterThan(2);
  hosts.run(100);
  expect(sent.filter((id) => !hosts.arrived.has(id))).toEqual([]);
  expect(mn.engine!.status()).toMatchObject({ held: 0 });
});
