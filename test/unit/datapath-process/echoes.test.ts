/** Pings of the packet worker: answers recognised, others left alone, deadlines kept. */
import { expect, test } from 'vitest';
import { echoReplyTo } from '../../../src/datapath-process/echo.ts';
import { Echoes } from '../../../src/datapath-process/echoes.ts';
import { IpAddress } from '../../../src/net/address.ts';

const source = IpAddress.parse('10.1.0.1')!;
const destination = IpAddress.parse('10.2.0.1')!;

test('an answer is matched with its question and its time', () => {
  const echoes = new Echoes(65_535);
  const first = echoes.begin(1, source, destination, 1, 1000, 100);
  const second = echoes.begin(2, source, destination, 1, 1000, 150);
  expect(echoes.take(echoReplyTo(second, [destination])!, 170)).toEqual({
    id: 2,
    result: { answered: true, source: '10.1.0.1', rttMs: 20 },
  });
  expect(echoes.take(echoReplyTo(second, [destination])!, 180)).toBeUndefined();
  expect(echoes.take(echoReplyTo(first, [destination])!, 180)?.id).toBe(1);
  expect(echoes.isWaiting).toBe(false);
});

test('what is no answer to a question of ours is for the device', () => {
  const echoes = new Echoes(0);
  const request = echoes.begin(1, source, destination, 1, 1000, 0);
  const elsewhere = new Echoes(500).begin(1, source, destination, 1, 1000, 0);
  expect(echoes.take(request, 1)).toBeUndefined();
  expect(echoes.take(echoReplyTo(elsewhere, [destination])!, 1)).toBeUndefined();
  expect(echoes.take(Uint8Array.of(0x45), 1)).toBeUndefined();
  expect(echoes.isWaiting).toBe(true);
});

test('no answer in time is an answer too', () => {
  const echoes = new Echoes(0);
  echoes.begin(1, source, destination, 1, 1000, 0);
  echoes.begin(2, source, destination, 1, 3000, 0);
  expect(echoes.wakeAt()).toBe(1000);
  expect(echoes.expire(999)).toEqual([]);
  expect(echoes.expire(1000)).toMatchObject([{ id: 1, result: { answered: false, source: '10.1.0.1' } }]);
  expect(echoes.wakeAt()).toBe(3000);
});

test('only so many are under way', () => {
  const echoes = new Echoes(0);
  for (let id = 0; id < 256; id++) echoes.begin(id, source, destination, 1, 1000, 0);
  expect(echoes.isFull).toBe(true);
});
