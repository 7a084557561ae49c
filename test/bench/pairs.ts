/** The two pairs that are compared, on the same hosts one after the other: the same policy, the same cipher, ESP in UDP, tunnel mode. */
import { join } from 'node:path';
import { Charon } from '../interop/lab/charon.ts';
import type { Lab, Namespace } from '../interop/lab/namespaces.ts';
import { must, waitUntil } from '../interop/lab/process.ts';
import { charonSide, type Pair, type Suite, tanukiSide } from '../interop/lab/suites.ts';
import { Tanuki, type TanukiScenario } from '../interop/lab/tanuki.ts';
import { pin } from './machine.ts';

export type PeerName = 'charon' | 'tanuki';

/** AES-128-GCM with a 16-octet ICV for ESP and IKE, X25519. */
const SUITE: Suite = {
  name: 'AES-128-GCM-16',
  remote: { encryption: 'aes128_gcm_16', prf: 'hmac_sha2_256', group: 'x25519' },
  policy: { encryption: 'aes128_gcm_16' },
  ike: 'aes128gcm16-prfsha256-x25519',
  esp: 'aes128gcm16',
};
const PAIR: Pair = { suite: SUITE, outer: 'v4' };

/** Both ends of one tunnel, established. */
export type RunningPair = {
  /** Processes of each side's daemons. */
  readonly pids: { readonly a: readonly number[]; readonly b: readonly number[] };
  /** The device that carries the inner packets. */
  readonly device: { readonly a: string; readonly b: string };
  /** Ends both sides; what they say about their end is thrown. */
  readonly stop: () => Promise<void>;
};

/** Starts both sides, side A on processor 0 and B on 1 with all their threads, and negotiates the child. What fails leaves nothing running. */
export async function startPair(lab: Lab, peer: PeerName, round: number): Promise<RunningPair> {
  try {
    return await start(lab, peer, round);
  } catch (error) {
    await Promise.all([lab.a.endPrograms(), lab.b.endPrograms()]);
    throw error;
  }
}

async function start(lab: Lab, peer: PeerName, round: number): Promise<RunningPair> {
  const before = { a: await devices(lab.a), b: await devices(lab.b) };
  const stop = await (peer === 'charon' ? startCharons(lab, round) : startTanukis(lab, round));
  const pids = { a: await daemons(lab.a), b: await daemons(lab.b) };
  await Promise.all([...pids.a.map((pid) => pin(pid, 0)), ...pids.b.map((pid) => pin(pid, 1))]);
  const device = async (host: Namespace, old: readonly string[]) => {
    const found = (await devices(host)).filter((name) => !old.includes(name));
    if (found.length !== 1) throw new Error(`expected one new device in ${host.name}, found ${found.join(', ') || 'none'}`);
    return found[0]!;
  };
  return { pids, device: { a: await device(lab.a, before.a), b: await device(lab.b, before.b) }, stop };
}

async function startCharons(lab: Lab, round: number): Promise<() => Promise<void>> {
  const left = await new Charon(lab.a, join(lab.dir, `left-${round}`)).start([charonSide(PAIR, 'a')]);
  const right = await new Charon(lab.b, join(lab.dir, `right-${round}`)).start([charonSide(PAIR, 'b')]);
  await left.initiate('net4');
  await waitUntil(async () => (await right.children()).length === 1, 5, 'the child at the responder');
  const [child] = await left.children();
  if (child?.suite !== 'AES_GCM_16-128' || !child.encap)
    throw new Error(`expected AES-128-GCM-16 in UDP, found ${JSON.stringify(child)}`);
  return async () => {
    await left.stop();
    await right.stop();
  };
}

async function startTanukis(lab: Lab, round: number): Promise<() => Promise<void>> {
  const left = await new Tanuki(lab.a, join(lab.dir, `tanuki-left-${round}`)).start(inUdp(tanukiSide(PAIR, 'a')));
  const right = await new Tanuki(lab.b, join(lab.dir, `tanuki-right-${round}`)).start(inUdp(tanukiSide(PAIR, 'b')));
  await left.initiate('net4');
  await waitUntil(async () => (await right.children()).length > 0, 5, 'the child at the responder');
  const [child] = await left.children();
  if (child?.encapsulated !== true) throw new Error(`expected ESP in UDP, found ${JSON.stringify(child)}`);
  return async () => {
    await left.stop();
    await right.stop();
  };
}

function inUdp(scenario: TanukiScenario): TanukiScenario {
  return { ...scenario, logLevel: 'info', remotes: scenario.remotes.map((remote) => ({ ...remote, forceEncapsulation: true })) };
}

async function daemons(host: Namespace): Promise<number[]> {
  return (await must(['ip', 'netns', 'pids', host.name])).split('\n').filter(Boolean).map(Number);
}

async function devices(host: Namespace): Promise<string[]> {
  const links = JSON.parse(await must(['ip', '-n', host.name, '-j', 'link', 'show'])) as { ifname: string }[];
  return links.map(({ ifname }) => ifname);
}
