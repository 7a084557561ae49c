import { describe, expect, test } from 'vitest';
import { TYPE } from '../../../kinkd/message.ts';
import type { Payload } from '../../../kinkd/payloads.ts';
import { checkRules, refuseOuter } from '../../../kinkd/rules.ts';
import { NONE } from '../../../src/bytes/bytes.ts';

const AP_REQ: Payload = { type: 'AP_REQ', EPOCH: 1, apReq: NONE };
const AP_REP: Payload = { type: 'AP_REP', EPOCH: 1, apRep: NONE };
const ENCRYPT: Payload = { type: 'ENCRYPT', ciphertext: NONE };
const ISAKMP: Payload = { type: 'ISAKMP', first: 1, version: 0x10, chain: NONE };
const KRB_ERROR: Payload = { type: 'KRB_ERROR', krbError: NONE };
const ERROR: Payload = { type: 'ERROR', code: 1 };
const TGT_REQ: Payload = { type: 'TGT_REQ', principal: 'kink/a@B' };
const TGT_REP: Payload = { type: 'TGT_REP', ticket: NONE };
const STRANGE: Payload = { type: 'unknown', number: 200, body: NONE };

describe('what each message may hold (RFC 4430 §6)', () => {
  test.each([
    ['CREATE', [AP_REQ, ENCRYPT], [ISAKMP]],
    ['CREATE', [AP_REQ, ISAKMP, ISAKMP], []],
    ['DELETE', [AP_REQ, ENCRYPT], [ISAKMP]],
    ['STATUS', [AP_REQ], []],
    ['STATUS', [AP_REQ, ENCRYPT], [ISAKMP]],
    ['ACK', [AP_REQ], []],
    ['GETTGT', [TGT_REQ], []],
    ['REPLY', [AP_REP], []],
    ['REPLY', [AP_REP, ENCRYPT], [ERROR, ISAKMP]],
    ['REPLY', [AP_REP, ENCRYPT], [KRB_ERROR]],
    ['REPLY', [KRB_ERROR], []],
    ['REPLY', [KRB_ERROR, ERROR], []],
    ['REPLY', [ERROR], []],
    ['REPLY', [TGT_REP], []],
    ['CREATE', [AP_REQ, STRANGE, ENCRYPT], [ISAKMP]],
  ] as const)('%s %#', (type, outer, inner) => {
    expect(() => checkRules(TYPE[type], outer, inner)).not.toThrow();
  });

  test.each([
    ['CREATE', [AP_REQ], [], 'CREATE: expected ISAKMP, found { AP_REQ }'],
    ['CREATE', [AP_REQ, ISAKMP, ERROR], [], 'CREATE: expected no ERROR, found { AP_REQ, ISAKMP, ERROR }'],
    ['CREATE', [AP_REQ, AP_REQ, ISAKMP], [], 'CREATE: expected one AP_REQ'],
    ['CREATE', [ENCRYPT], [AP_REQ, ISAKMP], 'CREATE: AP_REQ inside of ENCRYPT'],
    ['CREATE', [AP_REQ, ENCRYPT], [ENCRYPT], 'CREATE: ENCRYPT inside of ENCRYPT'],
    ['ACK', [AP_REQ, ISAKMP], [], 'ACK: expected no ISAKMP'],
    ['REPLY', [], [], 'REPLY with an error: expected ERROR, found {  }'],
    ['REPLY', [AP_REP, KRB_ERROR, ISAKMP], [], 'expected no ISAKMP'],
    ['REPLY', [TGT_REP, AP_REP], [], 'REPLY with a TGT: expected no AP_REP'],
  ] as const)('%s is refused %#', (type, outer, inner, message) => {
    expect(() => checkRules(TYPE[type], outer, inner)).toThrow(message);
    expect(() => checkRules(TYPE[type], outer, inner)).toThrow(expect.objectContaining({ notify: 'KINK_PROTOERR' }));
  });

  test('a type of message that nobody has assigned', () => {
    expect(() => checkRules(99, [AP_REQ], [])).toThrow('message type 99 is none of RFC 4430 §4');
  });

  test('another Quick Mode version names its error (§4.2.6)', () => {
    const newer: Payload = { ...ISAKMP, version: 0x21 };
    expect(() => checkRules(TYPE.CREATE, [AP_REQ, newer], [])).toThrow(expect.objectContaining({ notify: 'KINK_BADQMVERS' }));
    expect(() => checkRules(TYPE.CREATE, [AP_REQ, newer], [])).toThrow('Quick Mode 2.1');
  });
});

describe('before the key is known', () => {
  test('a command needs one AP_REQ and Cksum', () => {
    for (const type of ['CREATE', 'DELETE', 'STATUS', 'ACK'] as const) {
      expect(refuseOuter(TYPE[type], [AP_REQ], true)).toBeUndefined();
      expect(refuseOuter(TYPE[type], [AP_REQ], false)).toBe(`${type} without Cksum`);
      expect(refuseOuter(TYPE[type], [ISAKMP], true)).toMatch('expected one');
    }
  });

  test('GETTGT and errors have no key', () => {
    expect(refuseOuter(TYPE.GETTGT, [TGT_REQ], false)).toBeUndefined();
    expect(refuseOuter(TYPE.GETTGT, [], false)).toMatch('expected one');
    expect(refuseOuter(TYPE.REPLY, [ERROR], false)).toBeUndefined();
    expect(refuseOuter(TYPE.REPLY, [AP_REP], false)).toBe('REPLY with AP_REP but without Cksum');
    expect(refuseOuter(42, [], false)).toMatch('none of RFC 4430');
  });
});
