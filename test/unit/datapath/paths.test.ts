import { expect, test } from 'vitest';
import { Paths } from '../../../src/datapath/paths.ts';
import type { Path } from '../../../src/net/address.ts';
import { ip } from './pair.ts';

function pathTo(address: string, port = 4500, encapsulated = true): Path {
  return { local: { address: ip('192.0.2.1'), port }, remote: { address: ip(address), port }, encapsulated };
}

test('users of the same ends share an id; any difference makes another', () => {
  const paths = new Paths();
  const ids = [
    paths.acquire(pathTo('198.51.100.1')),
    paths.acquire(pathTo('198.51.100.1')),
    paths.acquire(pathTo('198.51.100.2')),
    paths.acquire(pathTo('198.51.100.1', 4501)),
    paths.acquire(pathTo('198.51.100.1', 4500, false)),
  ];
  expect(ids[1]).toBe(ids[0]);
  expect(new Set(ids).size).toBe(4);
});

test('the last user takes the path along, and its id is not given to another', () => {
  const paths = new Paths();
  const id = paths.acquire(pathTo('198.51.100.1'));
  paths.acquire(pathTo('198.51.100.1'));
  paths.release(id);
  expect(paths.get(id)?.remote.address.toString()).toBe('198.51.100.1');
  paths.release(id);
  paths.release(id);
  expect([paths.get(id), paths.size]).toEqual([undefined, 0]);
  expect(paths.acquire(pathTo('198.51.100.3'))).not.toBe(id);
});

test('thousands of ends behind each other\u2019s hashes stay apart, and all of them go', () => {
  const paths = new Paths();
  const all = Array.from({ length: 3000 }, (_, i) =>
    pathTo(i % 2 === 0 ? `198.51.${i >> 8}.${i & 255}` : `2001:db8::${i}`, 4500 + (i % 3)),
  );
  const ids = all.map((path) => paths.acquire(path));
  expect(new Set(ids).size).toBe(3000);
  expect(all.map((path) => paths.acquire(path))).toEqual(ids);
  expect(ids.map((id) => paths.get(id))).toEqual(all);
  for (const id of [...ids, ...ids]) paths.release(id);
  expect(paths.size).toBe(0);
  expect(ids).not.toContain(paths.acquire(all[0]!));
});
