/** Which host the engine gets, and what is said where it is not the one asked for. */
import { expect, test } from 'vitest';
import type { HostEvents } from '../../../src/datapath-process/engine-host.ts';
import { startEngineHost } from '../../../src/datapath-process/hosts.ts';
import { packetMemory } from '../../../src/datapath-process/packet-memory.ts';
import { datapathSettings } from './settings.ts';

const events: HostEvents = { onPfkey: () => {}, onPfkeyClose: () => {}, onIke: () => {}, report: () => {} };

test('a memory device needs nothing, and answers pings to itself in clear', async () => {
  const problems: string[] = [];
  const host = await startEngineHost(datapathSettings({}), events, problems);
  expect(problems).toEqual([]);
  expect((await host.status()).device).toMatchObject({ kind: 'memory', name: 'tanuki0' });
  await expect(host.ping({ address: 'nowhere', source: '', sequence: 1, timeoutMs: 10 })).rejects.toThrow('numeric address');
  await expect(host.ping({ address: 'fd00::1', source: '', sequence: 1, timeoutMs: 10 })).rejects.toThrow('no source address');
  await host.stop();
});

test('where there is no TUN device the host runs without one and says what to do', async () => {
  const problems: string[] = [];
  const host = await startEngineHost(datapathSettings({ device: 'tun', name: 'a-name-that-is-too-long' }), events, problems);
  expect(problems).toHaveLength(1);
  expect(problems[0]).toMatch(/^there is no TUN device: .*device memory/);
  expect((await host.status()).device).toEqual({ kind: 'none', name: '', mtu: 0, offloads: [] });
  await host.stop();
});

test('an encapsulation port that is taken is a problem, and the rest runs', async () => {
  const first: string[] = [];
  const port = 20_000 + (process.pid % 20_000);
  const one = await startEngineHost(datapathSettings({ encapPort: port }, ['127.0.0.1']), events, first);
  const second: string[] = [];
  const two = await startEngineHost(datapathSettings({ encapPort: port }, ['127.0.0.1']), events, second);
  expect(first).toEqual([]);
  expect(second).toHaveLength(1);
  expect(second[0]).toContain(`${port}`);
  await Promise.all([one.stop(), two.stop()]);
});

test('the cipher that was asked for is the one that serves', async () => {
  const problems: string[] = [];
  expect((await packetMemory('noble', 1 << 20, problems)).cipher.name).toBe('noble');
  expect(problems).toEqual([]);
  const { cipher } = await packetMemory('openssl', 1 << 20, problems);
  expect(cipher.name === 'openssl' || problems.length === 1).toBe(true);
});
