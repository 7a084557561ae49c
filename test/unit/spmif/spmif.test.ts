import { describe, expect, test } from 'vitest';
import { cat, fromUtf8, utf8 } from '../../../src/bytes/bytes.ts';
import type { Config } from '../../../src/config/config.ts';
import { type ClientOutput, SpmifClient } from '../../../src/spmif/client.ts';
import { loginDigest } from '../../../src/spmif/protocol.ts';
import { readRequest } from '../../../src/spmif/request.ts';
import { type ServerOutput, SpmifServer } from '../../../src/spmif/server.ts';

const random = (length: number) => new Uint8Array(length).fill(0xab);

/** One client and one server, joined without a wire; every request is handed to `serve`. */
function joined(
  serve: (server: SpmifServer, request: Extract<ServerOutput, { kind: 'request' }>) => ServerOutput[],
  passwords: { server?: Uint8Array; client?: Uint8Array } = {},
) {
  const server = new SpmifServer(random, passwords.server);
  const client = new SpmifClient(passwords.client);
  const seen: ClientOutput[] = [];
  const closed: string[] = [];
  const fromServer = (outputs: readonly ServerOutput[]): void => {
    for (const output of outputs) {
      if (output.kind === 'send') fromClient(client.put(output.bytes));
      else if (output.kind === 'request') fromServer(serve(server, output));
      else closed.push(output.why);
    }
  };
  const fromClient = (outputs: readonly ClientOutput[]): void => {
    for (const output of outputs) {
      if (output.kind === 'send') fromServer(server.received(1, output.bytes));
      else seen.push(output);
    }
  };
  fromServer(server.connected(1));
  return {
    server,
    seen,
    closed,
    command: (tag: number, text: string) => fromClient([client.command(tag, text)]),
    push: fromServer,
  };
}

describe('spmif', () => {
  test('a command gets its reply, of one line or several', () => {
    const { seen, command } = joined((server, { client, ticket, request }) =>
      request.verb === 'slid'
        ? server.reply(client, ticket, 250, `net-${request.policyId}`)
        : server.reply(client, ticket, 250, 'a 1', 'b 2'),
    );
    command(7, 'slid 49');
    command(8, 'POLICY DUMP');
    expect(seen).toEqual([
      { kind: 'ready' },
      { kind: 'reply', tag: 7, reply: { code: 250, lines: ['net-49'] } },
      { kind: 'reply', tag: 8, reply: { code: 250, lines: ['a 1', 'b 2'] } },
    ]);
  });

  test('pipelined commands are answered in order, whatever is known first', () => {
    const later: (() => ServerOutput[])[] = [];
    const { seen, command, push } = joined((server, { client, ticket, request }) => {
      if (request.verb !== 'slid') return server.reply(client, ticket, 250, 'second');
      later.push(() => server.reply(client, ticket, 250, 'first'));
      return [];
    });
    command(1, 'SLID 8');
    command(2, 'STAT');
    expect(seen).toEqual([{ kind: 'ready' }]);
    push(later[0]!());
    expect(seen.slice(1)).toEqual([
      { kind: 'reply', tag: 1, reply: { code: 250, lines: ['first'] } },
      { kind: 'reply', tag: 2, reply: { code: 250, lines: ['second'] } },
    ]);
  });

  test('a generation is prepared and committed by notification', () => {
    const config = { remotes: [], unmatched: 'bypass' } as unknown as Config;
    const { server, seen, push } = joined(() => []);
    push(server.prepare(1, 3, config));
    push(server.commit(1, 3));
    push(server.abort(1, 4));
    expect(seen.slice(1)).toEqual([
      { kind: 'notification', notification: { kind: 'prepare', generation: 3, config } },
      { kind: 'notification', notification: { kind: 'commit', generation: 3 } },
      { kind: 'notification', notification: { kind: 'abort', generation: 4 } },
    ]);
  });

  test('with a password nothing is done before LOGIN, and one wrong attempt is the last', () => {
    const password = utf8('secret\n');
    const right = joined((server, { client, ticket }) => server.reply(client, ticket, 250, 'ok'), {
      server: password,
      client: password,
    });
    right.command(1, 'STAT');
    expect(right.seen.map(({ kind }) => kind)).toEqual(['ready', 'reply']);

    const wrong = joined(() => [], { server: password, client: utf8('guess') });
    expect(wrong.seen).toEqual([{ kind: 'broken', why: expect.stringContaining('refused the password') }]);

    const server = new SpmifServer(random, password);
    const challenge = fromUtf8((server.connected(1)[0] as { bytes: Uint8Array }).bytes).slice(4, 44);
    const say = (text: string) =>
      server
        .received(1, utf8(`${text}\r\n`))
        .map((output) => (output.kind === 'send' ? fromUtf8(output.bytes).trim() : output.kind))
        .join();
    expect(say('SLID 1')).toBe('550 need login');
    expect(say('LOGIN 00')).toMatch(/^550 wrong/);
    expect(say(`LOGIN ${loginDigest(challenge, password)}`)).toMatch(/^550/);
  });

  test('who came through the door that only we can open needs no LOGIN; another does', () => {
    const server = new SpmifServer(random, utf8('secret\n'));
    server.connected(1, true);
    const kinds = (text: string) => server.received(1, utf8(`${text}\r\n`)).map(({ kind }) => kind);
    expect(kinds('STAT')).toEqual(['request']);
    server.connected(2);
    expect(server.received(2, utf8('STAT\r\n')).map(({ kind }) => kind)).toEqual(['send']);
  });

  test('the digest is racoon2’s: SHA-1 over challenge and upper-case hexadecimal password', () => {
    expect(loginDigest('AB', utf8('k'))).toBe('63C224277189405552A14C69F1AFED5A488C786E');
  });

  test('lines are put together from any pieces and cut from any chunk', () => {
    const server = new SpmifServer(random);
    server.connected(1);
    const stream = utf8('SLID 1\r\nSLID 2\nPOLICY DUMP\r\n');
    const verbs = [...stream]
      .flatMap((octet) => server.received(1, Uint8Array.of(octet)))
      .map((output) => (output.kind === 'request' ? output.request.verb : output.kind));
    expect(verbs).toEqual(['slid', 'slid', 'policy-dump']);
    expect(server.received(1, cat(stream, stream))).toHaveLength(6);
  });

  test('a line that never ends closes the connection', () => {
    const server = new SpmifServer(random);
    server.connected(1);
    expect(server.received(1, new Uint8Array(70_000).fill(0x41)).map(({ kind }) => kind)).toEqual(['send', 'close']);
  });

  test.each([
    ['policy add net 60 tunnel 10.1.0.0/24 10.2.0.0/24 192.0.2.1 192.0.2.2', 'policy-add'],
    ['POLICY ADD net 0 TRANSPORT 192.0.2.1 192.0.2.2', 'policy-add'],
    ['POLICY DELETE net', 'policy-delete'],
    ['FQDN QUERY 192.0.2.1', 'fqdn-query'],
    ['CONFIG SUBSCRIBE iked', 'config-subscribe'],
    ['CONFIG REJECTED 4 cannot read the key: no such file', 'config-rejected'],
  ])('%s', (text, verb) => {
    expect(readRequest(text)).toMatchObject({ verb });
  });

  test.each([
    ['SLID x', 500],
    ['POLICY ADD net 60 TUNNEL 10.1.0.0/24 10.2.0.0/24', 500],
    ['POLICY ADD net 60 TUNNEL 10.1.0.0/33 10.2.0.0/24 192.0.2.1 192.0.2.2', 500],
    ['HELLO', 502],
    ['POLICY', 502],
  ])('%s is refused with %i', (text, code) => {
    expect(readRequest(text)).toMatchObject({ code });
  });

  test('the reason of a rejection keeps its words', () => {
    expect(readRequest('CONFIG REJECTED 4 cannot read  the key')).toEqual({
      verb: 'config-rejected',
      generation: 4,
      reason: 'cannot read  the key',
    });
  });
});
