/** The table of notify types, and what the operator is told. */

import { describe, expect, test } from 'vitest';
import {
  checkNotifyData,
  explainNotify,
  findError,
  findNotify,
  isErrorNotify,
  NOTIFY,
  type NotifyName,
  type NotifyRow,
  notify,
  notifyDetail,
  notifyName,
  notifyNumber,
} from '../../../../iked/ikev2/notify.ts';
import { PROTOCOL } from '../../../../iked/ikev2/payloads.ts';
import { utf8 } from '../../../../src/bytes/bytes.ts';
import { WireError } from '../../../../src/errors.ts';

const rows = Object.entries(NOTIFY) as [NotifyName, NotifyRow][];

describe('the table', () => {
  test('has each number once, and errors below 16384', () => {
    expect(new Set(rows.map(([, row]) => row.number)).size).toBe(rows.length);
    expect(rows.filter(([, row]) => isErrorNotify(row.number)).map(([name]) => name)).toContain('CHILD_SA_NOT_FOUND');
    expect(isErrorNotify(NOTIFY.INITIAL_CONTACT.number)).toBe(false);
  });

  test('has every type of RFC 7296 §3.10.1 under its number', () => {
    const listed = [
      1,
      4,
      5,
      7,
      9,
      11,
      14,
      17,
      24,
      34,
      35,
      36,
      37,
      38,
      39,
      43,
      44,
      ...Array.from({ length: 12 }, (_, i) => 16384 + i),
    ];
    for (const number of listed) expect(notifyName(number)).toMatch(/^[A-Z]/);
    expect(notifyName(14)).toBe('NO_PROPOSAL_CHOSEN');
    expect(notifyName(16393)).toBe('REKEY_SA');
    expect(notifyName(2)).toBe('2');
  });

  test.each(rows.filter(([, row]) => isErrorNotify(row.number)))('%s tells the operator where to look', (name, row) => {
    expect(row.causes.length).toBeGreaterThan(0);
    const text = explainNotify(notify(name), 'aes_gcm_16-256');
    expect(text).toContain(name);
    expect(text).toContain(row.rfc);
    expect(text).toContain('we had sent aes_gcm_16-256');
    for (const cause of row.causes) expect(text).toContain(cause);
  });
});

test('an explanation names the notify, what it means, what was sent, and the possible causes', () => {
  expect(explainNotify(notify('INVALID_KE_PAYLOAD', Uint8Array.of(0, 19)), 'group x25519')).toBe(
    'the peer sent INVALID_KE_PAYLOAD (ecp256) (RFC 7296 §1.3): it says that it wants another key exchange group than the one that was sent; ' +
      'we had sent group x25519. Possible causes: its first choice of group differs from ours; the exchange is repeated with its own',
  );
});

test('an unknown notify is named by number, with its text where it has one', () => {
  const strange = { ...notify('INVALID_SYNTAX', utf8('no licence')), notify: 9000 };
  expect(explainNotify(strange)).toBe('the peer sent notify 9000, an error that is unknown here ("no licence")');
  expect(explainNotify({ ...strange, notify: 40_000, data: Uint8Array.of(1, 10, 200) })).toBe(
    'the peer sent notify 40000, a status that is unknown here',
  );
});

test('data of a size that the type cannot have are refused where they are used, and never printed', () => {
  expect(notifyNumber(notify('INVALID_KE_PAYLOAD', Uint8Array.of(0, 31)))).toBe(31);
  expect(notifyNumber(notify('SET_WINDOW_SIZE', Uint8Array.of(0, 0, 1, 0)))).toBe(256);
  expect(() => notifyNumber(notify('INVALID_KE_PAYLOAD', Uint8Array.of(31)))).toThrow(
    new WireError('INVALID_KE_PAYLOAD carries 1 octets of data, expected 2'),
  );
  expect(() => notifyNumber(notify('COOKIE', new Uint8Array(64)))).toThrow(WireError);
  expect(() => checkNotifyData(NOTIFY.COOKIE.number, new Uint8Array(65))).toThrow(
    'COOKIE carries 65 octets of data, expected 1 to 64',
  );
  expect(() => checkNotifyData(NOTIFY.COOKIE.number, new Uint8Array(0))).toThrow(WireError);
  expect(() => checkNotifyData(NOTIFY.INITIAL_CONTACT.number, new Uint8Array(3))).not.toThrow();
  expect(() => checkNotifyData(9999, new Uint8Array(3))).not.toThrow();
  expect(notifyDetail(notify('INVALID_KE_PAYLOAD', Uint8Array.of(31)))).toBe('');
});

test('details people can read', () => {
  expect(notifyDetail(notify('UNSUPPORTED_CRITICAL_PAYLOAD', Uint8Array.of(53)))).toBe('payload type SKF');
  expect(notifyDetail(notify('INVALID_KE_PAYLOAD', Uint8Array.of(4, 0)))).toBe('group 1024');
  expect(notifyDetail(notify('REKEY_SA', undefined, { protocol: PROTOCOL.ESP, spi: Uint8Array.of(1, 2, 3, 4) }))).toBe(
    'ESP 01020304',
  );
});

test('finding: by name, and the first error', () => {
  const payloads = [notify('COOKIE'), notify('TS_UNACCEPTABLE'), notify('NO_PROPOSAL_CHOSEN')];
  expect(findNotify(payloads, 'NO_PROPOSAL_CHOSEN')).toBe(payloads[2]);
  expect(findNotify(payloads, 'REKEY_SA')).toBeUndefined();
  expect(findError(payloads)).toBe(payloads[1]);
  expect(findError(payloads.slice(0, 1))).toBeUndefined();
});
