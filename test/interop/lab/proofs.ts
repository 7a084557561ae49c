/** What a pair of nodes must do whatever key exchange protocol they speak, each as one function that fails where they do not. */
import { expect } from 'vitest';
import { ClearTextWatch } from './capture.ts';
import type { Charon, CharonChildSa } from './charon.ts';
import type { Family, Lab } from './namespaces.ts';
import { isOf, leftovers, type Node, rekeyOnce } from './nodes.ts';
import { waitUntil } from './process.ts';
import type { Tanuki } from './tanuki.ts';
import { bulk, type Counters, idleCounters, Pinger, type PingResult, ping, startBulk } from './traffic.ts';

/** The only element that fits, or undefined where there is none or more than one. */
export function one<T>(list: readonly T[], fits: (element: T) => boolean): T | undefined {
  const found = list.filter(fits);
  return found.length === 1 ? found[0] : undefined;
}

export type TrafficProof = {
  /** Tanuki is in `a`, charon in `b`. */
  readonly lab: Lab;
  readonly tanuki: Tanuki;
  readonly charon: Charon;
  readonly inner: Family;
  readonly initiator: { initiate(child: string): Promise<void> };
};

/** The child comes up, pings and 8 MiB pass each way without a packet in clear, and both sides have counted the same. */
export async function proveTraffic({ lab, tanuki, charon, inner, initiator }: TrafficProof): Promise<void> {
  const name = inner === 'v4' ? 'net4' : 'net6';
  const from = lab.a.addresses.inner[inner];
  const to = lab.b.addresses.inner[inner];
  const watch = await ClearTextWatch.start(lab.b, 'eth0');
  await initiator.initiate(name);
  const ours = async () => one(await tanuki.children(), ({ selector }) => isOf(selector, name));
  const theirs = async () => one(await charon.children(), (child) => child.name === name);
  await waitUntil(async () => (await ours()) && (await theirs()), 10, `${name} is up on both sides`);

  expect(await ping(lab.a, to, 5, { from })).toMatchObject({ sent: 5, lost: [] });
  expect(await ping(lab.b, from, 5, { from: to })).toMatchObject({ sent: 5, lost: [] });
  expect(await bulk(lab.a, lab.b, { from, to, octets: 8 << 20 })).toMatchObject({ intact: true });
  expect(await bulk(lab.b, lab.a, { from: to, to: from, octets: 8 << 20 })).toMatchObject({ intact: true });

  expect(await watch.stop()).toEqual([]);
  const counted = await idleCounters(counters(ours), counters(theirs));
  expect(counted.one.bytesOut).toBeGreaterThan(8 << 20);
  expect([counted.one.bytesOut, counted.one.packetsOut]).toEqual([counted.other.bytesIn, counted.other.packetsIn]);
  expect([counted.one.bytesIn, counted.one.packetsIn]).toEqual([counted.other.bytesOut, counted.other.packetsOut]);
}

function counters(of: () => Promise<Counters | CharonChildSa | undefined>): () => Promise<Counters> {
  return async () => {
    const found = await of();
    if (!found) throw new Error('expected one installed child SA, found none or several');
    return found;
  };
}

export type RekeyProof = {
  /** `ours` is in `a`, `theirs` in `b`; `net4` is up between them. */
  readonly lab: Lab;
  readonly ours: Node;
  readonly theirs: Node;
  readonly by: readonly Node[];
  readonly rounds: readonly ('child' | 'ike')[];
};

/** Rekeying under ten pings a second and a transfer: no ping is lost, the transfer completes, no SA is left over. */
export async function proveRekeys({ lab, ours, theirs, by, rounds }: RekeyProof): Promise<void> {
  const [from, to] = [lab.a.addresses.inner.v4, lab.b.addresses.inner.v4];
  const pinger = new Pinger(lab.a, to, { from });
  const moving = await startBulk(lab.a, lab.b, { from, to, octets: 10e9, mbitPerSecond: 100 });
  await pinger.answered(3, 10);
  for (const what of rounds) {
    await rekeyOnce(what, by, ours, theirs);
    await pinger.answered(3, 5);
  }
  expect(await moving.finish()).toMatchObject({ intact: true });
  const pings = await pinger.stop();
  expect(pings).toMatchObject({ lost: [], duplicates: 0 } satisfies Partial<PingResult>);
  expect(pings.sent).toBeGreaterThan(3 * rounds.length);
  const clean = { ike: 1, children: 1 };
  expect(await leftovers(ours, theirs)).toEqual({ ours: clean, theirs: clean });
  expect(await ours.ikeSpis()).toEqual(await theirs.ikeSpis());
}

/** Stops the suites and closes the lab in any case; what a suite says about its end is thrown afterwards. */
export async function closeAll(
  lab: { close(): Promise<void> } | undefined,
  ...tanukis: readonly (Tanuki | undefined)[]
): Promise<void> {
  const ends = await Promise.allSettled(tanukis.map((tanuki) => tanuki?.stop()));
  await lab?.close();
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}
