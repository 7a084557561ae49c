/**
 * What people get wrong: each gives one clear line in the log and in `status`, on both sides. The side that decides names what it expected, what it
 * found and what to change; the other side names the notify, what it had sent and the possible causes.
 */

import { createSocket } from 'node:dgram';
import { chmodSync, chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { ask } from '../../src/front-door/ask.ts';
import { chownTree, type Inside, inside, newKey, type Side, type Site, site, status, until, up } from './nodes.ts';

type Change = (name: 'a' | 'b', said: Side) => Side;
const AS_IS: Change = (_, said) => said;
const IS_ROOT = process.getuid?.() === 0;

let place: Site | undefined;
const running: Inside[] = [];

afterEach(async () => {
  for (const { suite } of running.splice(0)) await suite.stop();
  place?.remove();
  place = undefined;
});

async function nodes(change: Change, prepare: (place: Site) => void = () => {}): Promise<{ a: Inside; b: Inside }> {
  place = site(change);
  prepare(place);
  running.push(await inside(place.b));
  running.push(await inside(place.a));
  return { a: running[1]!, b: running[0]! };
}

/** The line of the log and the problem in `status`, both of which say all of this; the line is there once. */
async function says(node: Inside, what: readonly RegExp[], least: 'notice' | 'warning' = 'warning'): Promise<void> {
  const fits = (text: string) => what.every((pattern) => pattern.test(text));
  await until(`status says ${what.join(' and ')}`, 12_000, async () => (await status(node.files)).problems.some(fits)).catch(
    async (error: Error) => {
      throw new Error(
        `${error.message}\nproblems: ${(await status(node.files)).problems.join('\n')}\nlog: ${node.lines('notice').join('\n')}`,
      );
    },
  );
  await until('the log says so', 5_000, () => node.lines(least).some(fits));
  const lines = node.lines(least).filter(fits);
  expect(lines, node.lines('notice').join('\n')).toHaveLength(1);
}

describe('the two sides do not agree', () => {
  test('another pre-shared key', async () => {
    const { a, b } = await nodes(AS_IS, (s) => newKey(s.b));
    await says(b, [
      /fqdn a\.example/,
      /another pre-shared key than the one of remote peer/,
      /compare the files of pre_shared_key/,
    ]);
    await says(a, [
      /AUTHENTICATION_FAILED \(RFC 7296 §2\.21\.2\)/,
      /we had sent IDi fqdn a\.example and AUTH by shared key/,
      /Possible causes: the pre-shared keys differ/,
    ]);
  });

  test('no algorithm of the IKE SA in common', async () => {
    const { a, b } = await nodes((name, said) => ({
      ...said,
      ikev2: name === 'a' ? 'kmp_enc_alg { aes_cbc,256; }; kmp_hash_alg { hmac_sha2_256; };' : 'kmp_enc_alg { aes_gcm_16,128; };',
    }));
    await says(b, [
      /offered aes_cbc-256 \|/,
      /remote peer accepts aes_gcm_16-128 \|/,
      /make kmp_enc_alg, .* have something in common/,
    ]);
    await says(a, [/NO_PROPOSAL_CHOSEN \(RFC 7296/, /we had sent aes_cbc-256 \|/, /Possible causes: /], 'notice');
  });

  test('no algorithm of the child SA in common', async () => {
    const esp = (text: string) =>
      `sa s { sa_protocol esp; ${text} }; ipsec i { ipsec_sa_lifetime_time 1 hour; sa_index s; }; default { policy { ipsec_index i; }; };`;
    const { a, b } = await nodes((name, said) => ({
      ...said,
      more: esp(
        name === 'a' ? 'esp_enc_alg { aes_gcm_16,256; };' : 'esp_enc_alg { aes128_cbc; }; esp_auth_alg { hmac_sha2_256; };',
      ),
    }));
    await says(
      b,
      [
        /the peer offered esp: aes_gcm_16-256 \| no_esn/,
        /policy net accepts esp: aes_cbc-128 \| hmac_sha2_256/,
        /give esp_enc_alg, .* something in common/,
      ],
      'notice',
    );
    await says(a, [/NO_PROPOSAL_CHOSEN/, /we had sent esp: aes_gcm_16-256 \| no_esn for 10\.1/, /Possible causes: /]);
  });

  test('no traffic in common', async () => {
    const { a, b } = await nodes((name, said) => (name === 'a' ? said : { ...said, innerMine: '7' }));
    await says(
      b,
      [
        /the peer proposed 10\.1\.0\.0-10\.1\.127\.255 to 10\.2\.0\.0-10\.2\.127\.255/,
        /selector net has 10\.1\S+ to 10\.7/,
        /correct src and dst/,
      ],
      'notice',
    );
    await says(a, [/TS_UNACCEPTABLE \(RFC 7296 §2\.9\)/, /for 10\.1\.0\.0-10\.1\.127\.255 to 10\.2/, /Possible causes: /]);
  });

  test('the initiator is not whom the responder expects', async () => {
    const { a, b } = await nodes((name, said) => (name === 'a' ? { ...said, myId: 'stranger.example' } : said));
    await says(b, [
      /the peer says it is fqdn stranger\.example/,
      /remote peer expects fqdn a\.example/,
      /correct peers_id there, or my_id at the peer/,
    ]);
    await says(a, [/AUTHENTICATION_FAILED/, /we had sent IDi fqdn stranger\.example/, /our my_id is not what the peer expects/]);
  });

  test('the responder is not whom the initiator expects', async () => {
    const { a, b } = await nodes((name, said) => (name === 'b' ? { ...said, myId: 'other.example' } : said));
    await says(a, [
      /the peer says it is fqdn other\.example/,
      /remote peer expects fqdn b\.example/,
      /correct peers_id there, or my_id at the peer/,
    ]);
    await says(b, [/AUTHENTICATION_FAILED/, /we had sent IDr fqdn other\.example/, /our my_id is not what the peer expects/]);
  });

  test('the responder knows no peer at that address', async () => {
    const { a, b } = await nodes((name, said) => (name === 'b' ? { ...said, peer: '127.9.9.9' } : said));
    await says(b, [/asked for an IKE SA; no remote has 127\.\S+ in peers_ipaddr: add it there/]);
    await says(a, [/NO_PROPOSAL_CHOSEN/, /the peer has no connection for this pair of addresses/], 'notice');
  });
});

describe('the key file', () => {
  test.each([
    [
      'is missing',
      (s: Site) => rmSync(s.a.key),
      /cannot read \S+node\.psk: no such file; make one \(tanuki keygen \S+node\.psk\)/,
    ],
    [
      'is open to others',
      (s: Site) => chmodSync(s.a.key, 0o644),
      /node\.psk is open to others \(mode 644\): chmod 600 \S+node\.psk/,
    ],
    ['is empty', (s: Site) => writeFileSync(s.a.key, ''), /node\.psk holds no key: make one with tanuki keygen/],
    [
      'is a directory',
      (s: Site) => {
        rmSync(s.a.key);
        mkdirSync(s.a.key, { mode: 0o700 });
      },
      /node\.psk is no regular file/,
    ],
  ])('%s: which remote, which file, what to do; the other side is left alone', async (_, prepare, why) => {
    const { a, b } = await nodes(AS_IS, prepare);
    await until('status says so', 5_000, async () => (await status(a.files)).problems.some((problem) => why.test(problem)));
    const lines = a.lines().filter((line) => why.test(line));
    expect(lines.map((line) => line.split(': ')[0])).toEqual(['iked', 'spmd']); // who found it, and what follows for the generation
    expect(lines[0]).toContain('pre_shared_key of remote peer: ');
    expect(b.lines()).toEqual([]);
  });

  test.runIf(IS_ROOT)('belongs to another user (needs root to set up)', async () => {
    const { a } = await nodes(AS_IS, (s) => chownSync(s.a.key, 65534, 65534));
    await until('status says so', 5_000, async () =>
      (await status(a.files)).problems.some((problem) => /belongs to user 65534, not to 0: chown 0 \S+node\.psk/.test(problem)),
    );
  });
});

describe('the system', () => {
  test('a port in use: which, and what to do; not repeated with each packet that cannot leave', async () => {
    const occupant = createSocket('udp4');
    let address = '';
    const change: Change = (name, said) => {
      if (name === 'a') address = said.me;
      return said;
    };
    place = site(change);
    await new Promise<void>((resolve) => occupant.bind(10500, address, resolve));
    try {
      const a = await inside(place.a);
      running.push(a);
      await says(a, [/UDP 127\.\S+\[10500\] is in use by another program; stop it \(then: tanuki reload\)/]);
      expect(a.lines().filter((line) => line.includes('send-failed'))).toEqual([]);
    } finally {
      await new Promise<void>((resolve) => occupant.close(() => resolve()));
    }
    await ask('spmd', place.a.runDir, 'reload');
    await until(
      'the problem is gone with the program',
      5_000,
      async () => !(await status(place!.a)).problems.some((problem) => problem.includes('10500] is in use')),
    );
  });

  test('a missing privilege: no TUN device without it, and what to do', async () => {
    place = site((_, said) => ({ ...said, datapath: 'device tun;' }));
    if (IS_ROOT) chownTree(place.directory, 65534);
    const node = up(place.a, [], IS_ROOT ? 65534 : undefined);
    const why = /(no|cannot)[^\n]*TUN device[^\n]*(privilege|CAP_NET_ADMIN|root)[^\n]*device memory/;
    try {
      await until('the log says so', 15_000, () => why.test(node.text.stderr)).catch((error: Error) => {
        throw new Error(`${error.message}\n${node.text.stderr}`);
      });
      await until('status says so', 5_000, async () => (await status(place!.a)).problems.some((problem) => why.test(problem)));
      expect(node.text.stderr.split('\n').filter((line) => why.test(line))).toHaveLength(1);
    } finally {
      await node.stop();
    }
  }, 30_000);

  test('nobody there: what was tried, how often, and what to look at; it is tried again', async () => {
    place = site((_, said) => ({ ...said, ikev2: 'max_retry_to_send 2; interval_to_send 1 sec;' }));
    const a = await inside(place.a);
    running.push(a);
    await says(a, [/no answer from peer at 127\.\S+\[10500\] to \d transmissions of IKE_SA_INIT/, /is the peer up, is UDP port/]);
    expect(a.events.some(({ event }) => event.name === 'retry-scheduled')).toBe(true);
  });
});
