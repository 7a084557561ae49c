/** Every message recorded from a real kernel's PF_KEY sockets decodes, and encodes to the same octets. */

import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { fromHex, hex } from '../../../src/bytes/bytes.ts';
import { readSadb, SadbError, writeSadb } from '../../../src/pfkey/message.ts';
import { ERRNO } from '../../../src/pfkey/registry.ts';
import { checkRequest } from '../../../src/pfkey/rules.ts';

const FILE = '../shared/vectors/pfkey/linux-6.1-exchanges.jsonl';

interface Exchange {
  readonly title: string;
  readonly sent: string | null;
  readonly send_errno: number;
  readonly got: readonly { readonly sock: string; readonly hex: string }[];
}

/** What became of one message: its octets again, or the errno of its refusal. */
function outcome(octets: string): string | { errno: number; fatal: boolean } {
  try {
    return hex(writeSadb(readSadb(fromHex(octets)!, 'linux-strict')));
  } catch (error) {
    if (!(error instanceof SadbError)) throw error;
    return { errno: error.errno, fatal: error.fatal };
  }
}

/** The errno in the kernel's answer to a request, 0 where it was carried out. */
function answered({ sent, send_errno, got }: Exchange): number {
  if (send_errno !== 0) return send_errno;
  const refusal = got.find(
    (message) => message.hex.length === 32 && message.hex.slice(2, 4) === sent!.slice(2, 4) && message.hex.slice(4, 6) !== '00',
  );
  return refusal === undefined ? 0 : Number.parseInt(refusal.hex.slice(4, 6), 16);
}

/** Linux 6.1 counts too many words in the header of a policy with requests of both kinds of address; this puts the true number there. */
function trueLength(octets: string): string {
  const words = octets.length / 16;
  return `${octets.slice(0, 8)}${hex(Uint8Array.of(words & 0xff, words >> 8))}${octets.slice(12)}`;
}

describe.skipIf(!existsSync(FILE))(`recordings of Linux 6.1 (skipped where ${FILE} is absent)`, () => {
  const exchanges = existsSync(FILE)
    ? readFileSync(FILE, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Exchange)
    : [];
  const requests = exchanges.filter(({ sent }) => sent !== null);

  test('every message that the kernel sent encodes to the octets it was decoded from', () => {
    let wrongLength = 0;
    let messages = 0;
    for (const { title, got } of exchanges) {
      for (const { hex: octets } of got) {
        messages++;
        if (trueLength(octets) !== octets) {
          wrongLength++;
          expect(outcome(octets), title).toEqual({ errno: ERRNO.EMSGSIZE, fatal: true });
        }
        expect(outcome(trueLength(octets)), title).toBe(trueLength(octets));
      }
    }
    expect({ messages, wrongLength }).toEqual({ messages: 274, wrongLength: 4 });
  });

  test('every request does so too, or is refused with the errno that the kernel answered', () => {
    const refused: string[] = [];
    for (const exchange of requests) {
      const result = outcome(exchange.sent!);
      if (typeof result === 'string') {
        expect(result, exchange.title).toBe(exchange.sent);
        continue;
      }
      refused.push(exchange.title);
      expect(result.errno, exchange.title).toBe(answered(exchange));
    }
    expect(refused).toEqual([
      'add dup ext',
      'short',
      'ver 1',
      'type 25',
      'type 0',
      'bad len',
      'ext len 0',
      'ext too long',
      'ext type 0',
    ]);
  });

  test('the rules refuse what the kernel refused, with its errno; beyond that only what would become a bypass', () => {
    let refused = 0;
    const stricter: string[] = [];
    for (const exchange of requests) {
      if (typeof outcome(exchange.sent!) !== 'string') continue;
      const problem = checkRequest(readSadb(fromHex(exchange.sent!)!, 'linux-strict'), 'linux-strict');
      if (problem === undefined) continue;
      refused++;
      if (answered(exchange) === 0) stricter.push(exchange.title);
      else expect(problem.errno, `${exchange.title}: ${problem.reason}`).toBe(answered(exchange));
    }
    expect(refused).toBeGreaterThan(20);
    expect(stricter).toEqual(['spdadd ipsec with zero reqs']);
  });
});
