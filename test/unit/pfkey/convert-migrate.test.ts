/** X_MIGRATE's octets as Linux lays them out, and the requests that are refused before any SA is looked for. */

import { describe, expect, test } from 'vitest';
import { fromHex, hex } from '../../../src/bytes/bytes.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { host, parsePrefix } from '../../../src/net/prefix.ts';
import { type Migrate, migrateToSadb, readMigrate } from '../../../src/pfkey/convert-migrate.ts';
import { readSadb, type SadbMessage, writeSadb } from '../../../src/pfkey/message.ts';
import { checkRequest } from '../../../src/pfkey/rules.ts';

const ip = (text: string) => IpAddress.parse(text)!;
const [HoA, HA, A, B] = ['2001:db8:1::1', '2001:db8:1::a', '2001:db8:a::1', '2001:db8:b::1'].map(ip) as [
  IpAddress,
  IpAddress,
  IpAddress,
  IpAddress,
];

/** The tunnel for HoTI (RFC 4877 §4.3): Mobility Header type 1 from the home address. */
const HOTI: Migrate = {
  selector: { source: host(HoA), destination: parsePrefix('::/0')!, protocol: 135, sourcePort: 1, destinationPort: 0 },
  direction: 'outbound',
  movements: [
    { protocol: 'esp', mode: 'tunnel', reqid: 5, old: { source: A, destination: HA }, new: { source: B, destination: HA } },
  ],
  kmAddress: { local: { address: B, port: 0 }, remote: { address: HA, port: 0 } },
  policyId: 0,
  priority: 0,
};

const sin6 = (address: IpAddress, port = '0000') => `0a00${port}00000000${hex(address.bytes)}00000000`;

describe('octets', () => {
  test('base, KMADDRESS, SRC, DST, POLICY with (old, new); the Mobility Header type is the source port', () => {
    const tunnel = (from: IpAddress) => `480032000203000005000000${'00'.repeat(4)}${sin6(from)}${sin6(HA)}`;
    const expected = [
      '0218000328000000', // 40 words, ESP
      '0700000009000000', // seq, pid
      `0800190000000000${sin6(B)}${sin6(HA)}`,
      `05000500878000 00${sin6(HoA, '0001')}00000000`,
      `050006008700 0000${sin6(ip('::'))}00000000`,
      `140012000200020000000000${'00'.repeat(4)}${tunnel(A)}${tunnel(B)}`,
    ]
      .join('')
      .replaceAll(' ', '');
    const octets = writeSadb({ ...migrateToSadb(HOTI), seq: 7, pid: 9 });
    expect(hex(octets)).toBe(expected);
    expect(readMigrate(readSadb(fromHex(expected)!))).toEqual(HOTI);
  });

  test('transport mode has its addresses too, IPv4 takes 48 octets a request, and a pair may change the family', () => {
    const old = { source: ip('192.0.2.1'), destination: ip('192.0.2.2') };
    const movements = [{ protocol: 'esp', mode: 'transport', reqid: 0, old, new: { source: A, destination: HA } }] as const;
    const message = migrateToSadb({ ...HOTI, movements, kmAddress: undefined });
    const octets = writeSadb(message);
    expect(hex(octets)).toContain('3000320001020000'); // 48 octets, ESP, transport, level require
    expect(hex(octets)).toContain('4800320001020000');
    expect(readMigrate(readSadb(octets)).movements).toEqual(movements);
    expect(checkRequest(message, 'tanuki')).toBeUndefined();
  });

  test('extensions come in any order in a request', () => {
    const message = readSadb(writeSadb({ ...migrateToSadb(HOTI), order: [18, 6, 25, 5] }));
    expect(message.order).toEqual([18, 6, 25, 5]);
    expect(readMigrate(message)).toEqual(HOTI);
  });
});

describe('what is refused with EINVAL, in both dialects', () => {
  const message = migrateToSadb(HOTI);
  const policy = message.policy!;
  const [from, to] = policy.requests as [(typeof policy.requests)[0], (typeof policy.requests)[0]];
  const of = (...requests: (typeof from)[]) => ({
    ...message,
    policy: { ...policy, requests },
  });
  const end = (address: IpAddress) => ({ source: { address, port: 0 }, destination: { address: HA, port: 0 } });
  const rows: readonly [string, SadbMessage][] = [
    ['no request', of()],
    ['one request', of(from)],
    [
      'seven pairs',
      of(
        ...Array.from({ length: 7 }, (_, i) => [
          { ...from, reqid: i + 1 },
          { ...to, reqid: i + 1 },
        ]).flat(),
      ),
    ],
    ['protocol', of(from, { ...to, protocol: 51 })],
    ['mode', of(from, { ...to, mode: 1 })],
    ['reqid', of(from, { ...to, reqid: 6 })],
    ['no addresses', of({ ...from, mode: 1, addresses: undefined }, { ...to, mode: 1 })],
    ['new end ::', of(from, { ...to, addresses: end(ip('::')) })],
    ['families of an end', of(from, { ...to, addresses: end(ip('192.0.2.1')) })],
    ['the same twice', of(from, to, from, to)],
    ['direction 0', { ...message, policy: { ...policy, direction: 0 } }],
    ['direction 4', { ...message, policy: { ...policy, direction: 4 } }],
    ['no policy', { ...message, policy: undefined }],
    ['no source', { ...message, source: undefined }],
  ];
  test.each(rows)('%s', (_, request) => {
    expect(checkRequest(request, 'tanuki')?.errno).toBe(22);
    expect(checkRequest(request, 'linux-strict')?.errno).toBe(22);
  });

  test('the level is ignored', () => {
    expect(checkRequest(of({ ...from, level: 1 }, { ...to, level: 3 }), 'linux-strict')).toBeUndefined();
  });
});
