/** Which host the engine gets, and what is said where it is not the one asked for. */
import { expect, test, vi } from 'vitest';
import type { HostEvents } from '../../../src/datapath-process/engine-host.ts';
import { startEngineHost } from '../../../src/datapath-process/hosts.ts';
import { packetMemory } from '../../../src/datapath-process/packet-memory.ts';
import type { Event } from '../../../src/event.ts';
import { IpAddress, type Path } from '../../../src/net/address.ts';
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

test('the encapsulation port is served at other addresses while the host runs', async () => {
  const port = 20_000 + ((process.pid + 7) % 20_000);
  const problems: string[] = [];
  const got: string[] = [];
  const local: string[] = [];
  const hears = { ...events, onIke: ({ local: at }: Path) => local.push(`${at.address}`) };
  const one = await startEngineHost(datapathSettings({ encapPort: port }, ['127.0.0.1']), hears, problems);
  const sends = { ...events, report: ({ message }: Event) => got.push(message) };
  const two = await startEngineHost(datapathSettings({ encapPort: port }, ['127.0.0.9']), sends, problems);
  expect([...problems, ...(await one.serveAt(['127.0.0.1', '127.0.0.2']))]).toEqual([]);
  const end = (address: string) => ({ address: IpAddress.parse(address)!, port });
  for (const to of ['127.0.0.1', '127.0.0.2'])
    two.sendIke({ local: end('127.0.0.10'), remote: end(to), encapsulated: true }, Uint8Array.of(1, 2, 3));
  await vi.waitFor(() => expect(local).toEqual(['127.0.0.1', '127.0.0.2']));
  expect(got).toEqual([]);
  two.sendIke({ local: end('192.0.2.77'), remote: end('127.0.0.1'), encapsulated: true }, Uint8Array.of(1));
  await vi.waitFor(() => expect(got).toHaveLength(1));
  expect(got[0]).toContain('192.0.2.77');
  await Promise.all([one.stop(), two.stop()]);
});

test('the cipher that was asked for is the one that serves', async () => {
  const problems: string[] = [];
  expect((await packetMemory('noble', 1 << 20, problems)).cipher.name).toBe('noble');
  expect(problems).toEqual([]);
  const { cipher } = await packetMemory('openssl', 1 << 20, problems);
  expect(cipher.name === 'openssl' || problems.length === 1).toBe(true);
});
