/** setkey's language: what each statement says in PF_KEY, and where a wrong one is wrong. */

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hex } from '../../../src/bytes/bytes.ts';
import { readSetkey } from '../../../src/front-door/setkey-language.ts';
import { showSadb } from '../../../src/front-door/setkey-show.ts';
import { SetkeyError } from '../../../src/front-door/setkey-words.ts';
import { showPolicySelector } from '../../../src/ipsec/policy.ts';
import { addToSa } from '../../../src/pfkey/convert.ts';
import { readMigrate } from '../../../src/pfkey/convert-migrate.ts';
import { spdToPolicy } from '../../../src/pfkey/convert-policy.ts';
import { readSadb, writeSadb } from '../../../src/pfkey/message.ts';
import { checkRequest } from '../../../src/pfkey/rules.ts';

/** Each as it comes out of the wire at the server, which takes it. */
function said(text: string) {
  return readSetkey(text).map(({ message }) => {
    const read = readSadb(writeSadb(message));
    expect(checkRequest(read, 'tanuki')).toBeUndefined();
    return read;
  });
}

function mistake(text: string): string {
  try {
    readSetkey(text);
  } catch (error) {
    if (!(error instanceof SetkeyError)) throw error;
    return `${error.line}:${error.column}: ${error.message}`;
  }
  return 'none';
}

const KEY20 = '0x000102030405060708090a0b0c0d0e0f10111213';

describe('statements', () => {
  test('add with all its options', () => {
    const [message] = said(
      `add -4 192.0.2.1 192.0.2.2 esp 0x1000 -m tunnel -r 64 -u 7 -lh 3600 -ls 3000 -bh 1000000 -bs 900000
         -E rijndael-cbc "sixteen octets!!" -A hmac-sha2-256 0x${'ab'.repeat(32)}; # a comment`,
    );
    const sa = addToSa(message!);
    expect(sa).toMatchObject({
      spi: 0x1000,
      mode: 'tunnel',
      replayWindow: 64,
      reqid: 7,
      suite: { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' },
      lifetime: { soft: { seconds: 3000, bytes: 900_000 }, hard: { seconds: 3600, bytes: 1_000_000 } },
    });
    expect(hex(sa.integKey!.reveal())).toBe('ab'.repeat(32));
  });

  test('an AEAD takes key and salt, null nothing, esp-udp has ports', () => {
    const [gcm, none, udp] = said(`add ::1 ::2 esp 4096 -E aes-gcm-16 ${KEY20};
      add ::1 ::2 esp 4097 -E null "" -A hmac-sha1 ${KEY20};
      add 192.0.2.1 192.0.2.2[61000] esp-udp 4098 -E aes-gcm-16 ${KEY20};`).map((message) => addToSa(message));
    expect(gcm!.suite).toEqual({ encr: 'aes_gcm_16', keyBits: 128, integ: 'none' });
    expect(none!.suite).toEqual({ encr: 'null_enc', keyBits: 0, integ: 'hmac_sha1' });
    expect([udp!.encapsulation!.source.port, udp!.encapsulation!.destination.port]).toEqual([4500, 61000]);
  });

  test('policies of each kind, with ports, types and codes', () => {
    const policies =
      said(`spdadd 10.1.2.3/16[any] 10.2.0.0/16[80] tcp -P out prio 9 ipsec esp/tunnel/192.0.2.1-192.0.2.2/unique:5;
      spdupdate ::1 ::/0 icmp6 128,3 -P in none; spdadd ::1 ::2 mh 5 -P fwd ipsec esp/transport//require;
      spdadd 0.0.0.0/0 0.0.0.0/0 any -P in discard; spddelete ::1 ::2 135 5 -P fwd;`);
    expect(policies.map(({ type }) => type)).toEqual(['X_SPDADD', 'X_SPDUPDATE', 'X_SPDADD', 'X_SPDADD', 'X_SPDDELETE']);
    const read = policies.slice(0, 4).map(spdToPolicy);
    expect(read.map(({ selector, direction, action }) => `${direction} ${showPolicySelector(selector)} ${action}`)).toEqual([
      'outbound 10.1.0.0/16 -> 10.2.0.0/16[80] proto 6 protect',
      'inbound ::1[128] -> ::/0[3] proto 58 bypass',
      'forward ::1[5] -> ::2 proto 135 protect',
      'inbound 0.0.0.0/0 -> 0.0.0.0/0 discard',
    ]);
    expect(read[0]).toMatchObject({ priority: 9, templates: [{ mode: 'tunnel', level: 'unique', reqid: 5 }] });
    expect(policies[4]!.source).toMatchObject({ protocol: 135, port: 5 });
  });

  test('migrate: pairs of requests, and where IKE talks', () => {
    const [tunnel, transport] = said(`migrate ::1 ::/0 mh 1 -P out ipsec
        esp/tunnel/2001:db8::1-2001:db8::a/unique:5 esp/tunnel/2001:db8::2-2001:db8::a/unique:5 -k 2001:db8::2 2001:db8::a[500];
      migrate ::1 ::2 any -P in ipsec esp/transport/::1-::2/require esp/transport/::3-::2/require;`).map(readMigrate);
    expect(tunnel).toMatchObject({ direction: 'outbound', selector: { protocol: 135, sourcePort: 1 } });
    const [movement] = tunnel!.movements;
    expect([`${movement!.old.source}`, `${movement!.new.source}`, movement!.reqid]).toEqual(['2001:db8::1', '2001:db8::2', 5]);
    expect(tunnel!.kmAddress!.remote.port).toBe(500);
    expect(transport!.movements[0]).toMatchObject({ mode: 'transport', reqid: 0 });
    expect(transport!.kmAddress).toBeUndefined();
  });

  test('the short ones', () => {
    const types = said('flush; flush esp; dump ah; dump; spddump; spdflush; get ::1 ::2 esp 9; delete ::1 ::2 ah 0x9;');
    expect(types.map(({ type, satype }) => `${type} ${satype}`)).toEqual([
      'FLUSH 0',
      'FLUSH 3',
      'DUMP 2',
      'DUMP 0',
      'X_SPDDUMP 0',
      'X_SPDFLUSH 0',
      'GET 3',
      'DELETE 2',
    ]);
    expect(readSetkey('\n# nothing\n ;; \n')).toEqual([]);
  });
});

test('the example of docs/commands.md is right', () => {
  const page = readFileSync(new URL('../../../docs/commands.md', import.meta.url), 'utf8');
  const [, example] = /## setkey[\s\S]*?```\n([\s\S]*?)```/.exec(page)!;
  expect(said(example!)).toHaveLength(13);
});

describe('mistakes say where they are, what was expected and what was found', () => {
  test.each([
    ['frobnicate;', '1:1: expected a command (add, get, '],
    ['flush', '1:1: expected ";" behind "flush", found the end of the text'],
    ['\n  flush esp x;', '2:13: expected ";", found "x"'],
    ['dump tcp;', '1:6: expected a protocol (esp, esp-udp, ah, ipcomp), found "tcp"'],
    ['get 192.0.2.1 ::1 esp 5;', '1:15: expected the destination in the family of 192.0.2.1, found "::1"'],
    ['get 192.0.2.1 192.0.2.2 esp;', '1:28: expected an SPI from 1 to 4294967295, found the end of the statement'],
    ['get host 192.0.2.2 esp 1;', '1:5: expected the source, a numeric address, found "host"'],
    ['add ::1 ::2 esp 256;', '1:20: expected -E with an algorithm and a key, found the end of the statement'],
    ['add ::1 ::2 esp 256 -x;', '1:21: expected an option (-m, '],
    ['add ::1 ::2 esp 256 -E aes-cbc 0x0011;', '1:32: expected a key of 16, 24, 32 octets, found "2 octets"'],
    [
      'add ::1 ::2 esp 256 -E aes-cbc secret;',
      '1:32: expected a key as 0x and an even number of digits, or in quotation marks, found "something else"',
    ],
    ['add ::1 ::2 esp 256 -E "a;', '1:24: expected a closing quotation mark in this line, found none'],
    ['spdadd ::1/129 ::2 any -P in none;', '1:8: expected the source with a length up to 128'],
    ['spdadd ::1 ::2 any in none;', '1:20: expected -P and a direction, found "in"'],
    ['spdadd ::1 ::2 any -P in ipsec;', '1:31: expected a request, found the end of the statement'],
    [
      'spdadd ::1 ::2 any -P in ipsec esp/tunnel//require;',
      '1:32: expected a request as PROTOCOL/MODE/SRC-DST/LEVEL with two addresses',
    ],
    ['spdadd ::1 ::2 mh 5,0 -P in none;', '1:19: expected a Mobility Header type without a code, found "5,0"'],
    ['migrate ::1 ::2 any -P in ipsec esp/tunnel/::1-::2/unique:5;', '1:60: expected a request, found the end'],
    [
      'migrate ::1 ::2 any -P in ipsec esp/tunnel/::1-::2/unique:5 esp/tunnel/::1-::2/unique:6;',
      '1:61: expected a request of the same protocol, mode and reqid',
    ],
  ])('%s', (text, expected) => {
    const found = mistake(text);
    expect(found.slice(0, expected.length)).toBe(expected);
  });

  test('a key is never shown', () => {
    expect(mistake('add ::1 ::2 esp 256 -E aes-cbc topsecret;')).not.toContain('topsecret');
    expect(mistake('add ::1 ::2 esp 256 -E aes-cbc "topsecret";')).not.toContain('topsecret');
  });
});

test('any text is statements or a mistake', () => {
  const pieces = fc.constantFrom(
    ...[
      'add',
      'get',
      'spdadd',
      'migrate',
      'flush',
      ';',
      '\n',
      '::1',
      '192.0.2.1[5]',
      '10.0.0.0/8[any]',
      'esp',
      'any',
      'mh',
      '5',
      '-P',
      'in',
      'ipsec',
    ],
    ...[
      'esp/tunnel/::1-::2/unique:5',
      'esp/transport//require',
      '-E',
      'aes-gcm-16',
      KEY20,
      '-k',
      '"',
      '#',
      '0x',
      '-',
      'constructor',
      '__proto__',
      ',',
      '[',
      '/',
    ],
  );
  fc.assert(
    fc.property(
      fc.array(fc.oneof({ weight: 6, arbitrary: pieces }, { weight: 1, arbitrary: fc.string() }), { maxLength: 24 }),
      (parts) => {
        expect(typeof mistake(parts.join(' '))).toBe('string');
      },
    ),
    { numRuns: 2000, seed: 7 },
  );
});

test('what is found is shown as setkey shows it, without keys', () => {
  const [sa, policy] = readSetkey(`add 192.0.2.1[4500] 192.0.2.2 esp-udp 0x1000 -m tunnel -u 7 -E aes-gcm-16 ${KEY20};
    spdadd 10.1.0.0/16 10.2.0.0/16[80] tcp -P out prio 9 ipsec esp/tunnel/192.0.2.1-192.0.2.2/unique:5;`);
  expect(showSadb(sa!.message).split('\n')).toEqual([
    '192.0.2.1[4500] 192.0.2.2[4500]',
    '\tesp-udp mode=tunnel spi=4096(0x00001000) reqid=7(0x00000007)',
    '\tE: aes-gcm-16',
    '\treplay=0 state=mature',
  ]);
  expect(showSadb(policy!.message).split('\n')).toEqual([
    '10.1.0.0/16[any] 10.2.0.0/16[80] 6',
    '\tout prio 9 ipsec',
    '\tesp/tunnel/192.0.2.1-192.0.2.2/unique:5',
    '\tspid=0',
  ]);
});
