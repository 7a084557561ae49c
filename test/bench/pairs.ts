/** What is compared, on the same hosts one after the other: the same addresses, tunnel mode, and for ESP the same policy. */
import { join } from 'node:path';
import { Charon } from '../interop/lab/charon.ts';
import type { Lab, Namespace } from '../interop/lab/namespaces.ts';
import { must, waitUntil } from '../interop/lab/process.ts';
import { charonSide, type Suite, tanukiSide } from '../interop/lab/suites.ts';
import { Tanuki, type TanukiScenario } from '../interop/lab/tanuki.ts';
import { pin } from './machine.ts';

/** IKE is AES-128-GCM and X25519 for all. */
function suite(name: string, esp: Suite['policy']): Suite {
  const remote = { encryption: 'aes128_gcm_16', prf: 'hmac_sha2_256', group: 'x25519' };
  return { name, remote, policy: esp, ike: 'aes128gcm16-prfsha256-x25519', esp: 'aes128gcm16' };
}

const AES_128_GCM = suite('AES-128-GCM-16', { encryption: 'aes128_gcm_16' });

const IN_UDP = { suite: AES_128_GCM, outer: 'v4' } as const;

type Pair = { readonly suite: Suite; readonly inUdp: boolean; readonly spin: number };

const tanuki = (esp: Suite): Pair => ({ suite: esp, inUdp: true, spin: 0 });

/** Tanuki by its suite, in UDP or (`raw`) as protocol 50; and with `spin`, in microseconds. */
const TANUKI = {
  tanuki: tanuki(AES_128_GCM),
  'tanuki-raw': { ...tanuki(AES_128_GCM), inUdp: false },
  'tanuki-spin': { ...tanuki(AES_128_GCM), spin: 300 },
  'tanuki-aes256gcm': tanuki(suite('AES-256-GCM-16', { encryption: 'aes256_gcm_16' })),
  'tanuki-chacha20': tanuki(suite('ChaCha20-Poly1305', { encryption: 'chacha20_poly1305' })),
  'tanuki-cbc': tanuki(suite('AES-128-CBC, SHA2-256', { encryption: 'aes128_cbc', integrity: 'hmac_sha2_256' })),
} as const;

export type PeerName = 'charon' | 'wireguard-go' | keyof typeof TANUKI;

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
  const stop = await startBoth(lab, peer, round);
  const pids = { a: await daemons(lab.a), b: await daemons(lab.b) };
  await Promise.all([...pids.a.map((pid) => pin(pid, 0)), ...pids.b.map((pid) => pin(pid, 1))]);
  const device = async (host: Namespace, old: readonly string[]) => {
    const found = (await devices(host)).filter((name) => !old.includes(name));
    if (found.length !== 1) throw new Error(`expected one new device in ${host.name}, found ${found.join(', ') || 'none'}`);
    return found[0]!;
  };
  return { pids, device: { a: await device(lab.a, before.a), b: await device(lab.b, before.b) }, stop };
}

function startBoth(lab: Lab, peer: PeerName, round: number): Promise<() => Promise<void>> {
  if (peer === 'charon') return startCharons(lab, round);
  if (peer === 'wireguard-go') return startWireguards(lab);
  return startTanukis(lab, TANUKI[peer], `${peer}-${round}`);
}

/** Debian's, one device a side; its keys are made here. */
async function startWireguards(lab: Lab): Promise<() => Promise<void>> {
  const ends = [lab.a, lab.b].map((host, i) => ({ host, name: `bwg${process.pid % 100_000}${'ab'[i]}` }));
  const keys = await Promise.all(
    ends.map(async () => {
      const secret = (await must(['wg', 'genkey'])).trim();
      return { secret, known: (await must(['sh', '-c', `echo ${secret} | wg pubkey`])).trim() };
    }),
  );
  const programs = ends.map(({ host, name }) => host.spawn(['wireguard-go', '-f', name]));
  for (const [i, { host, name }] of ends.entries()) {
    const other = ends[1 - i]!.host;
    await waitUntil(async () => (await devices(host)).includes(name), 5, `the device ${name}`);
    const set = `echo ${keys[i]!.secret} | wg set ${name} listen-port 51820 private-key /dev/stdin peer ${keys[1 - i]!.known}`;
    await host.must(['sh', '-c', `${set} endpoint ${other.addresses.outer.v4}:51820 allowed-ips ${other.addresses.net.v4}`]);
    await host.ip(`link set ${name} up`);
    await host.ip(`route add ${other.addresses.net.v4} dev ${name} src ${host.addresses.inner.v4}`);
  }
  await lab.a.must(['ping', '-n', '-c', '1', '-W', '5', '-I', lab.a.addresses.inner.v4, lab.b.addresses.inner.v4]);
  return async () => {
    for (const program of programs) await program.stop(2);
  };
}

async function startCharons(lab: Lab, round: number): Promise<() => Promise<void>> {
  const left = await new Charon(lab.a, join(lab.dir, `left-${round}`)).start([charonSide(IN_UDP, 'a')]);
  const right = await new Charon(lab.b, join(lab.dir, `right-${round}`)).start([charonSide(IN_UDP, 'b')]);
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

async function startTanukis(lab: Lab, pair: Pair, label: string): Promise<() => Promise<void>> {
  const side = (of: 'a' | 'b') => ({
    ...withEncapsulation(tanukiSide({ suite: pair.suite, outer: 'v4' }, of), pair.inUdp),
    spin: pair.spin,
  });
  const left = await new Tanuki(lab.a, join(lab.dir, `${label}-left`)).start(side('a'));
  const right = await new Tanuki(lab.b, join(lab.dir, `${label}-right`)).start(side('b'));
  await left.initiate('net4');
  await waitUntil(async () => (await right.children()).length > 0, 5, 'the child at the responder');
  const [child] = await left.children();
  if (child?.encapsulated !== pair.inUdp) {
    throw new Error(`expected ESP ${pair.inUdp ? 'in UDP' : 'as protocol 50'}, found ${JSON.stringify(child)}`);
  }
  return async () => {
    await left.stop();
    await right.stop();
  };
}

function withEncapsulation(scenario: TanukiScenario, forceEncapsulation: boolean): TanukiScenario {
  return { ...scenario, logLevel: 'info', remotes: scenario.remotes.map((remote) => ({ ...remote, forceEncapsulation })) };
}

async function daemons(host: Namespace): Promise<number[]> {
  return (await must(['ip', 'netns', 'pids', host.name])).split('\n').filter(Boolean).map(Number);
}

async function devices(host: Namespace): Promise<string[]> {
  const links = JSON.parse(await must(['ip', '-n', host.name, '-j', 'link', 'show'])) as { ifname: string }[];
  return links.map(({ ifname }) => ifname);
}
