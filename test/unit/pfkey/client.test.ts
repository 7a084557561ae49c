/** The client's end of PF_KEY: matching, dumps, timeouts, and what happens at each connect. */

import { describe, expect, test } from 'vitest';
import { PfkeyClient, type PfkeyClientOptions, type PfkeyClientOutput, REQUEST_TIMEOUT } from '../../../src/pfkey/client.ts';
import { type SadbMessage, sadb, sadbError } from '../../../src/pfkey/message.ts';
import { ERRNO, OPT_IN_ALL } from '../../../src/pfkey/registry.ts';

const PID = 7;
const at = (mono: number) => ({ mono, wall: mono });

/** A client whose sent messages are collected. */
function client(options: Partial<PfkeyClientOptions> = {}) {
  const machine = new PfkeyClient<string>({ pid: PID, dumps: [], ...options });
  const sent: SadbMessage[] = [];
  const put = (input: Parameters<typeof machine.handle>[0], mono = 0) => {
    const outputs = machine.handle(input, at(mono));
    for (const output of outputs) if (output.kind === 'send') sent.push(output.message);
    return outputs.filter((output): output is Exclude<PfkeyClientOutput<string>, { kind: 'send' }> => output.kind !== 'send');
  };
  const request = (tag: string, message: SadbMessage, mono = 0) => put({ kind: 'request', tag, message }, mono);
  const receive = (message: SadbMessage, mono = 0) => put({ kind: 'message', message }, mono);
  return { machine, sent, put, request, receive };
}

describe('requests', () => {
  test('are numbered, and answered by verb, seq and pid', () => {
    const { put, request, receive, sent } = client();
    put({ kind: 'connected' });
    request('a', sadb('X_SPDFLUSH'));
    request('b', sadb('X_SPDGET'));
    expect(sent).toMatchObject([
      { seq: 1, pid: PID },
      { seq: 2, pid: PID },
    ]);
    expect(receive(sadb('X_SPDGET', { seq: 2, pid: PID + 1 }))).toMatchObject([{ kind: 'notification' }]);
    expect(receive(sadb('X_SPDGET', { seq: 1, pid: PID }))).toEqual([]);
    expect(receive(sadb('X_SPDGET', { seq: 2, pid: PID }))).toMatchObject([{ kind: 'answer', tag: 'b', errno: 0 }]);
    expect(receive(sadbError(sent[0]!, ERRNO.EBUSY))).toMatchObject([
      { kind: 'answer', tag: 'a', errno: ERRNO.EBUSY, reply: [] },
    ]);
    expect(receive(sadb('X_SPDFLUSH', { seq: 1, pid: PID }))).toEqual([]);
  });

  test('keep the seq of an ACQUIRE; a negative ACQUIRE has no answer and is done at once', () => {
    const { put, request, sent } = client();
    put({ kind: 'connected' });
    request('spi', sadb('GETSPI', { seq: 4711 }));
    expect(sent[0]!.seq).toBe(4711);
    expect(request('no', sadb('ACQUIRE', { seq: 4711, errno: 2 }))).toMatchObject([{ kind: 'answer', tag: 'no', errno: 0 }]);
  });

  test('end with ETIMEDOUT after their time, with ECONNREFUSED without a connection', () => {
    const { machine, put, request } = client();
    expect(request('early', sadb('X_SPDFLUSH'))).toMatchObject([{ tag: 'early', errno: ERRNO.ECONNREFUSED }]);
    put({ kind: 'connected' }, 100);
    request('slow', sadb('X_SPDFLUSH'), 100);
    expect(machine.wakeAt()).toBe(100 + REQUEST_TIMEOUT);
    expect(put({ kind: 'tick' }, 99 + REQUEST_TIMEOUT)).toEqual([]);
    expect(put({ kind: 'tick' }, 100 + REQUEST_TIMEOUT)).toMatchObject([{ tag: 'slow', errno: ERRNO.ETIMEDOUT }]);
    request('lost', sadb('X_SPDFLUSH'), 200);
    expect(put({ kind: 'disconnected' }, 201)).toMatchObject([{ tag: 'lost', errno: ERRNO.ECONNREFUSED }]);
    expect(machine.wakeAt()).toBeUndefined();
  });
});

describe('dumps', () => {
  test('are gathered up to the message with seq 0; an empty one is no error', () => {
    const { put, request, receive } = client();
    put({ kind: 'connected' });
    request('all', sadb('DUMP'));
    for (const seq of [1, 2]) expect(receive(sadb('DUMP', { seq, pid: PID }))).toEqual([]);
    const [answer] = receive(sadb('DUMP', { seq: 0, pid: PID }));
    expect(answer).toMatchObject({ tag: 'all', errno: 0, reply: [{ seq: 1 }, { seq: 2 }, { seq: 0 }] });
    request('none', sadb('DUMP'));
    expect(receive(sadb('DUMP', { errno: ERRNO.ENOENT, pid: PID }))).toMatchObject([{ tag: 'none', errno: 0, reply: [] }]);
  });

  test('of one verb run one after the other', () => {
    const { put, request, receive, sent } = client();
    put({ kind: 'connected' });
    request('first', sadb('DUMP'));
    request('second', sadb('DUMP'));
    request('other', sadb('X_SPDDUMP'));
    expect(sent.map(({ type }) => type)).toEqual(['DUMP', 'X_SPDDUMP']);
    expect(receive(sadb('DUMP', { pid: PID }))).toMatchObject([{ tag: 'first' }]);
    expect(sent.map(({ type }) => type)).toEqual(['DUMP', 'X_SPDDUMP', 'DUMP']);
  });
});

describe('at each connect', () => {
  const registered = { register: [2, 3], optIn: OPT_IN_ALL, dumps: ['sas', 'policies'] as const };

  test('it registers, dumps and says what there is; so also after an overrun', () => {
    const { put, receive, sent } = client(registered);
    for (const round of [1, 2]) {
      sent.length = 0;
      put({ kind: 'disconnected' });
      put({ kind: 'connected' });
      expect(sent.map(({ type, satype, optIn }) => [type, satype, optIn])).toEqual([
        ['REGISTER', 2, OPT_IN_ALL],
        ['REGISTER', 3, OPT_IN_ALL],
        ['DUMP', 0, undefined],
        ['X_SPDDUMP', 0, undefined],
      ]);
      for (const message of sent.slice(0, 2)) expect(receive(message)).toEqual([]);
      expect(receive(sadb('DUMP', { pid: PID, satype: round }))).toEqual([]);
      const [output] = receive(sadb('X_SPDDUMP', { pid: PID, errno: ERRNO.ENOENT }));
      expect(output).toMatchObject({
        kind: 'synchronised',
        sas: [{ satype: round }],
        policies: [],
        registered: [{ satype: 2 }, { satype: 3 }],
      });
    }
  });

  test('what is not granted is said', () => {
    const { put, receive, sent } = client(registered);
    put({ kind: 'connected' });
    expect(receive(sadbError(sent[0]!, ERRNO.EACCES))).toMatchObject([
      { kind: 'failed', reason: 'REGISTER was answered with errno 13' },
    ]);
  });

  test('ACQUIRE and what others do are notifications', () => {
    const { put, receive } = client();
    expect(receive(sadb('ACQUIRE'))).toEqual([]);
    put({ kind: 'connected' });
    expect(receive(sadb('ACQUIRE', { pid: 0 }))).toMatchObject([{ kind: 'notification', message: { type: 'ACQUIRE' } }]);
    expect(receive(sadb('X_SPDADD', { pid: 99 }))).toMatchObject([{ kind: 'notification', message: { type: 'X_SPDADD' } }]);
  });

  test('movements while the dumps are under way are told after them, for a dump may show what was before', () => {
    const { put, receive } = client({ dumps: ['sas', 'policies'] });
    put({ kind: 'connected' });
    expect(receive(sadb('DUMP', { errno: ERRNO.ENOENT, pid: PID }))).toEqual([]);
    expect(receive(sadb('X_MIGRATE', { seq: 9, pid: PID + 1 }))).toEqual([]);
    expect(receive(sadb('X_SPDDUMP', { errno: ERRNO.ENOENT, pid: PID }))).toMatchObject([
      { kind: 'synchronised' },
      { kind: 'notification', message: { type: 'X_MIGRATE', seq: 9 } },
    ]);
    expect(receive(sadb('X_MIGRATE', { seq: 10, pid: PID + 1 }))).toMatchObject([{ kind: 'notification' }]);
  });

  test('there is an end to what is kept meanwhile', () => {
    const { put, receive } = client({ dumps: ['sas'] });
    put({ kind: 'connected' });
    const outputs = Array.from({ length: 1025 }, () => receive(sadb('X_MIGRATE', { pid: PID + 1 }))).flat();
    expect(outputs).toMatchObject([{ kind: 'failed' }]);
  });
});
