/** Keytab and credential cache files. */

import { describe, expect, test } from 'vitest';
import { readCcache } from '../../../../kinkd/krb5/ccache.ts';
import { Keytab, readKeytab, writeKeytab } from '../../../../kinkd/krb5/keytab.ts';
import { parsePrincipal, ticketGranter } from '../../../../kinkd/krb5/principal.ts';
import { StandInKdc } from '../../../../kinkd/krb5/stand-in-kdc.ts';
import { cat, u16be, u32be, utf8 } from '../../../../src/bytes/bytes.ts';
import { Secret } from '../../../../src/bytes/secret.ts';
import { WireError } from '../../../../src/errors.ts';
import { COUNT, LIMIT } from '../../../support/fuzz.ts';
import { HOSTA, HOSTB, NOON, REALM, testRealm, writeCcache } from '../../../support/kerberos.ts';
import { mutate, numbers } from '../../../support/mutate.ts';
import { seededRandom } from '../../../support/random.ts';

const plain = (keytab: Keytab) => keytab.entries.map(({ key, ...rest }) => ({ ...rest, key: [...key.reveal()] }));

describe('keytab', () => {
  const entries = [
    ...StandInKdc.principalKeys(HOSTA, [20, 18], seededRandom(1), 2),
    ...StandInKdc.principalKeys(HOSTA, [20], seededRandom(2), 300),
    ...StandInKdc.principalKeys(HOSTB, [17], seededRandom(3), 1),
  ];

  test('what is written is read; holes, the end mark and foreign enctypes are passed over', () => {
    const bytes = writeKeytab(entries, NOON);
    expect(plain(readKeytab(bytes))).toEqual(plain(new Keytab(entries)));
    const rc4 = cat(
      u16be(1),
      ...['R', 'x'].map((part) => cat(u16be(1), utf8(part))),
      u32be(1),
      u32be(0),
      Uint8Array.of(1),
      u16be(23),
      u16be(2),
      u16be(7),
    );
    const more = readKeytab(cat(bytes, u32be(-8 >>> 0), new Uint8Array(8), u32be(rc4.length), rc4, u32be(0), utf8('garbage')));
    expect(more.entries.length).toBe(entries.length);
    expect(more.skipped).toBe(1);
  });

  test('keys are found by name, enctype and version, and what is missing is told', () => {
    const keytab = new Keytab(entries);
    const versions = (kvno?: number) => {
      const lookup = keytab.keys(parsePrincipal('kink/hosta', REALM), 20, kvno);
      return 'found' in lookup ? lookup.found.map((entry) => entry.kvno) : lookup.missing;
    };
    expect([versions(), versions(2), versions(300), versions(44), versions(258)]).toEqual([[300, 2], [2], [300], 'version', [2]]);
    expect(keytab.keys(HOSTA, 19)).toEqual({ missing: 'enctype' });
    expect(keytab.keys(ticketGranter(REALM), 20)).toEqual({ missing: 'principal' });
    expect(keytab.principals()).toEqual([HOSTA, HOSTB]);
  });

  test('a key of another length, another version, a cut', () => {
    expect(() => readKeytab(writeKeytab([{ ...entries[0]!, key: new Secret(new Uint8Array(31)) }], NOON))).toThrow(
      'a key of 31 octets for aes256',
    );
    expect(() => readKeytab(Uint8Array.of(5, 1))).toThrow('only 502');
    const bytes = writeKeytab(entries, NOON);
    for (let length = 0; length < bytes.length; length++) {
      try {
        readKeytab(bytes.subarray(0, length));
      } catch (error) {
        expect(error).toBeInstanceOf(WireError);
      }
    }
  });
});

describe('ccache', () => {
  const { credential } = testRealm(20);

  test('what is written is read; configuration entries and foreign enctypes are passed over', () => {
    const configuration = {
      ...credential,
      server: { components: ['krb5_ccache_conf_data', 'pa_type'], realm: 'X-CACHECONF:', nameType: 1 },
    };
    const foreign = { ...credential, key: { etype: 23 as 17, key: new Secret(new Uint8Array(16)) } };
    const { client, credentials, skipped } = readCcache(writeCcache(HOSTA, [configuration, foreign, credential]));
    expect(client).toEqual(HOSTA);
    expect(skipped).toBe(1);
    expect(credentials).toEqual([credential]);
    expect(credentials[0]!.key.key.reveal()).toEqual(credential.key.key.reveal());
  });

  test(`mutations of both files give WireError or a reading (${COUNT})`, LIMIT, () => {
    const random = numbers(11);
    const corpus = [
      writeKeytab(StandInKdc.principalKeys(HOSTA, [20, 17], seededRandom(1)), NOON),
      writeCcache(HOSTA, [credential, credential]),
    ];
    let refused = 0;
    for (let i = 0; i < COUNT; i++) {
      try {
        (i % 2 === 0 ? readKeytab : readCcache)(mutate(corpus[i % 2]!, random));
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        refused += 1;
      }
    }
    expect(refused).toBeGreaterThan(COUNT / 10);
    expect(refused).toBeLessThan(COUNT);
  });
});
