/** Each test plants one broken rule in one machine: the invariants must notice, or they would notice nothing in the real runs either. */

import { expect, test, vi } from 'vitest';
import type { IkedOutput } from '../../../iked/iked.ts';
import type { SadbMessage } from '../../../src/pfkey/message.ts';
import { ERRNO } from '../../../src/pfkey/registry.ts';
import type { Verbs } from '../../../src/pfkey/server.ts';
import type { Alterations, IkedMachine } from '../node.ts';
import { simulate } from '../simulate.ts';

/** Seeds tried until the breach shows. */
const SEEDS = [3, 5, 6, 8, 12, 13, 15, 17];
const MINUTES = 5;
/** Milliseconds, for a machine with much else to do. */
vi.setConfig({ testTimeout: 180_000 });

/** The machine with its outputs passed through `change`. */
function outputs(change: (output: IkedOutput) => readonly IkedOutput[]): Alterations {
  return {
    iked: (machine): IkedMachine => ({
      handle: (input, now) => machine.handle(input, now).flatMap(change),
      wakeAt: () => machine.wakeAt(),
    }),
  };
}

/** The datapath with its PF_KEY requests passed through `change`; undefined: answered with success and not carried out. */
function requests(change: (message: SadbMessage) => SadbMessage | undefined): Alterations {
  return {
    datapath: ({ engine, verbs }) => {
      const changed: Verbs = {
        handle(message, now) {
          const request = change(message);
          return request === undefined
            ? { reply: [{ ...message, keyAuth: undefined, keyEncrypt: undefined }] }
            : verbs.handle(request, now);
        },
        supported: () => verbs.supported(),
      };
      return { engine, verbs: changed };
    },
  };
}

function breachesUnder(alterations: Alterations, wanted: RegExp): readonly string[] {
  const all: string[] = [];
  for (const seed of SEEDS) {
    const { breaches } = simulate(seed, { minutes: MINUTES, alterations });
    if (breaches.some((breach) => wanted.test(breach))) return breaches.filter((breach) => wanted.test(breach));
    all.push(...breaches);
  }
  return all;
}

function expectBreach(alterations: Alterations, wanted: RegExp): void {
  expect(breachesUnder(alterations, wanted)).toContainEqual(expect.stringMatching(wanted));
}

test('nothing is broken where nothing was planted', () => {
  expect(SEEDS.slice(0, 2).flatMap((seed) => simulate(seed, { minutes: MINUTES }).breaches)).toEqual([]);
});

test('a replaced child that is not deleted is a stranded SA', () => {
  const change = (message: SadbMessage) => (message.type === 'DELETE' ? undefined : message);
  expectBreach(requests(change), /belongs to no child SA of a key daemon's/);
});

test('a replay window that is switched off lets packets in twice', () => {
  const change = (message: SadbMessage): SadbMessage =>
    message.type === 'UPDATE' && message.sa !== undefined
      ? { ...message, sa: { ...message.sa, replay: 0 }, window: undefined }
      : message;
  expectBreach(requests(change), /was accepted 2 times/);
});

test('a key in an event is found', () => {
  const alterations = outputs((output) => {
    const key = output.kind === 'pfkey' && output.message.type === 'UPDATE' ? output.message.keyEncrypt?.key.reveal() : undefined;
    if (key === undefined) return [output];
    const message = `the key is ${Buffer.from(key).toString('hex')}`;
    return [{ kind: 'event', event: { name: 'child-sa-up', severity: 'info', message } }, output];
  });
  expectBreach(alterations, /secret: .* shows key material/);
});

test('a key in a reply, as Base64 deep in the result, is found', () => {
  let key = '';
  const alterations = outputs((output) => {
    if (output.kind === 'pfkey' && output.message.keyEncrypt !== undefined)
      key = Buffer.from(output.message.keyEncrypt.key.reveal()).toString('base64');
    return output.kind === 'reply' && output.ok
      ? [{ ...output, result: { ...(output.result as object), debug: [{ key }] } }]
      : [output];
  });
  expectBreach(alterations, /secret: .*reply .*debug.* shows key material/);
});

test('a key on the wire is found', () => {
  let key = new Uint8Array(0);
  const alterations = outputs((output) => {
    if (output.kind === 'pfkey' && output.message.keyEncrypt !== undefined) key = output.message.keyEncrypt.key.reveal().slice();
    return output.kind === 'send' ? [{ ...output, bytes: Uint8Array.from([...output.bytes, ...key]) }] : [output];
  });
  expectBreach(alterations, /secret: .*wire holds key material/);
});

test('a policy that lets packets pass in clear is found', () => {
  const change = (message: SadbMessage): SadbMessage =>
    message.type === 'X_SPDUPDATE' && message.policy?.direction === 2 && message.policy.requests.length > 0
      ? { ...message, policy: { ...message.policy, type: 1, requests: [] } }
      : message;
  const alterations = requests(change);
  expectBreach(alterations, /left in clear/);
});

test('keys that differ between the ends are found', () => {
  const change = (message: SadbMessage): SadbMessage => {
    const { keyEncrypt } = message;
    if (message.type !== 'UPDATE' || keyEncrypt === undefined) return message;
    keyEncrypt.key.reveal()[0]! ^= 1;
    return message;
  };
  expectBreach(requests(change), /differ in encryption keys/);
});

test('an SPI that is never completed or given back is a larval SA at rest, or one too many before', () => {
  const change = (message: SadbMessage) => (message.type === 'UPDATE' ? undefined : message);
  expectBreach(requests(change), /larval SA/);
});

test('a child that does not come back after its peer was restarted is missed', () => {
  const alterations: Alterations = {
    datapath: ({ engine, verbs }) => ({
      engine,
      verbs: {
        handle: (message, now) =>
          message.type === 'GETSPI' && now.mono > 120_000 ? { error: ERRNO.ENOMEM } : verbs.handle(message, now),
        supported: () => verbs.supported(),
      },
    }),
  };
  expectBreach(alterations, /has 0 child SAs/);
});

test('an exception that leaves a machine is found', () => {
  const alterations: Alterations = {
    iked: (machine) => ({
      handle(input, now) {
        if (input.kind === 'datagram' && now.mono > 60_000) throw new TypeError('planted');
        return machine.handle(input, now);
      },
      wakeAt: () => machine.wakeAt(),
    }),
  };
  expectBreach(alterations, /threw: TypeError: planted/);
});

test('a deadline that stays in the past is a busy loop', () => {
  const alterations: Alterations = {
    iked: (machine) => ({ handle: (input, now) => machine.handle(input, now), wakeAt: () => 10_000 }),
  };
  expectBreach(alterations, /loops: wakeAt\(\) asks for/);
});

test('a command without an answer is missed', () => {
  const alterations = outputs((output) =>
    output.kind === 'reply' && typeof output === 'object' && !('result' in output && hasIkeSas(output.result)) ? [] : [output],
  );
  expectBreach(alterations, /has not answered the command/);
});

test('a key that serves two SAs is found', () => {
  const alterations = outputs((output) => {
    if (output.kind === 'pfkey') output.message.keyEncrypt?.key.reveal().fill(7);
    return [output];
  });
  expectBreach(alterations, /the encryption key of SA [0-9a-f]{8} is installed again/);
});

test('a key that comes back after a restart of the datapath is found', () => {
  // Of two nodes both have had every key.
  let first: Uint8Array | undefined;
  let starts = 0;
  const alterations: Alterations = {
    datapath: ({ engine, verbs }) => {
      const restarted = ++starts > 2;
      const handle: Verbs['handle'] = (message, now) => {
        const key = message.type === 'ADD' ? message.keyEncrypt?.key.reveal() : undefined;
        if (key !== undefined && restarted) key.set(first!.subarray(0, key.length));
        first ??= key?.slice();
        return verbs.handle(message, now);
      };
      return { engine, verbs: { handle, supported: () => verbs.supported() } };
    },
  };
  const reused = /the encryption key of SA [0-9a-f]{8} is installed again/;
  const { breaches } = simulate(2, { minutes: 10, alterations });
  expect(breaches).toContainEqual(expect.stringMatching(reused));
});

test('a counter that starts again under the same key is found', () => {
  const alterations: Alterations = {
    datapath: ({ engine, verbs }) => ({
      engine,
      verbs: {
        handle(message, now) {
          if (message.type === 'GET') for (const sa of engine.core.sad.all) sa.sequence = 0;
          return verbs.handle(message, now);
        },
        supported: () => verbs.supported(),
      },
    }),
  };
  expectBreach(alterations, /sequence number \d+ leaves under the key of SA [0-9a-f]{8} after \d+ did/);
});

test('an SA that a movement loses is found', () => {
  const alterations: Alterations = {
    datapath: ({ engine, verbs }) => ({
      engine,
      verbs: {
        handle(message, now) {
          const result = verbs.handle(message, now);
          const [sa] = message.type === 'X_MIGRATE' ? engine.core.sad.all : [];
          if (sa !== undefined) engine.removeSa(sa);
          return result;
        },
        supported: () => verbs.supported(),
      },
    }),
  };
  expectBreach(alterations, /X_MIGRATE changed SAs/);
});

test('SAs that stay behind at a former address are found', () => {
  const change = (message: SadbMessage) => (message.type === 'X_MIGRATE' ? undefined : message);
  expectBreach(requests(change), /the nodes are at/);
});

test('a movement that key management is not told of, and that interrupts everything, is found', () => {
  const change = (message: SadbMessage): SadbMessage =>
    message.type === 'X_MIGRATE' ? { ...message, kmAddress: undefined } : message;
  expectBreach(requests(change), /a movement at rest brought up/);
});

function hasIkeSas(result: unknown): boolean {
  return typeof result === 'object' && result !== null && 'ikeSas' in result;
}
