/** Who gets what from a PF_KEY server: echoes, registrations, keys, promiscuous copies, and the bounds of its queues. */

import { describe, expect, test } from 'vitest';
import { cat } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import { UNLIMITED } from '../../../src/ipsec/lifetime.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { saToAdd, saToGetspi, saToSadb } from '../../../src/pfkey/convert.ts';
import { readSadb, SadbFramer, type SadbMessage, sadb, writeSadb } from '../../../src/pfkey/message.ts';
import { ERRNO, OPT_IN_ALL, OPT_IN_KEYS, OPT_IN_KMADDRESS } from '../../../src/pfkey/registry.ts';
import { PfkeyServer, type PfkeyServerOptions, type VerbResult, type Verbs } from '../../../src/pfkey/server.ts';

const NOW = { mono: 0, wall: 0 };

const SA: SaParameters = {
  spi: 0x1234,
  protocol: 'esp',
  mode: 'tunnel',
  source: IpAddress.parse('192.0.2.1')!,
  destination: IpAddress.parse('192.0.2.2')!,
  suite: { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
  encrKey: new Secret(new Uint8Array(20).fill(7)),
  integKey: undefined,
  extendedSequence: true,
  replayWindow: 1024,
  reqid: 5,
  encapsulation: undefined,
  lifetime: { soft: UNLIMITED, hard: UNLIMITED },
  selectors: { source: [], destination: [] },
};

/** Echoes what changes something to all, and everything else to the one that asked. */
class Echo implements Verbs {
  dump: readonly SadbMessage[] = [];
  moved: NonNullable<VerbResult['moved']> = [];
  handle(message: SadbMessage): VerbResult {
    if (message.type === 'GETSPI') {
      return { reply: [{ ...message, sa: { spi: SA.spi, replay: 0, state: 0, auth: 0, encrypt: 0, flags: 0 } }] };
    }
    if (message.type === 'DUMP') return { reply: this.dump };
    if (message.type === 'X_SPDDUMP') return { moved: this.moved };
    if (message.type === 'FLUSH') return { reply: [message], broadcast: [message] };
    if (message.type === 'X_SPDFLUSH') return { error: ERRNO.EBUSY };
    return message.type === 'GET' ? { reply: [message] } : { broadcast: [message] };
  }
  supported() {
    return { auth: [{ id: 5, ivBytes: 0, minBits: 256, maxBits: 256 }], encrypt: [] };
  }
}

class Rig {
  readonly verbs = new Echo();
  readonly server: PfkeyServer;
  readonly got = new Map<number, SadbMessage[]>();
  readonly closed: number[] = [];

  constructor(options: PfkeyServerOptions = {}, clients = 3) {
    this.server = new PfkeyServer(this.verbs, options);
    for (let client = 1; client <= clients; client++) this.put({ kind: 'connect', client, mayReadKeys: client === 3 });
  }

  put(input: Parameters<PfkeyServer['handle']>[0]): void {
    for (const output of this.server.handle(input, NOW)) {
      if (output.kind === 'send') this.got.set(output.client, [...(this.got.get(output.client) ?? []), readSadb(output.bytes)]);
      if (output.kind === 'close') this.closed.push(output.client);
    }
  }

  say(client: number, message: SadbMessage): void {
    this.put({ kind: 'bytes', client, bytes: writeSadb(message) });
  }

  take(client: number): SadbMessage[] {
    const messages = this.got.get(client) ?? [];
    this.got.delete(client);
    return messages;
  }

  types(client: number): string[] {
    return this.take(client).map(({ type, errno }) => (errno === 0 ? type : `${type} ${errno}`));
  }
}

describe('echoes', () => {
  test('what changes the SAD or SPD goes to all, GET to the one that asked, a FLUSH twice to it', () => {
    const rig = new Rig();
    rig.say(1, saToAdd(SA));
    expect([rig.types(1), rig.types(2)]).toEqual([['ADD'], ['ADD']]);
    rig.say(1, { ...saToAdd(SA), type: 'GET' });
    expect([rig.types(1), rig.types(2)]).toEqual([['GET'], []]);
    rig.say(1, sadb('FLUSH'));
    expect([rig.types(1), rig.types(2)]).toEqual([['FLUSH', 'FLUSH'], ['FLUSH']]);
  });

  test('a refusal is the header with an errno, to the one that asked', () => {
    const rig = new Rig();
    rig.say(2, sadb('X_SPDFLUSH', { seq: 77, pid: 4 }));
    rig.say(2, sadb('EXPIRE'));
    rig.say(2, sadb('ADD', { satype: 3 }));
    rig.say(2, sadb('X_SPDDUMP', { reserved: 1 }));
    expect(rig.take(2)).toMatchObject([
      { type: 'X_SPDFLUSH', errno: ERRNO.EBUSY, seq: 77, pid: 4, order: [] },
      { type: 'EXPIRE', errno: ERRNO.EOPNOTSUPP },
      { type: 'ADD', errno: ERRNO.EINVAL },
      { type: 'X_SPDDUMP', errno: ERRNO.EINVAL },
    ]);
    expect(rig.types(1)).toEqual([]);
  });

  test('an observer may look and not touch', () => {
    const rig = new Rig();
    rig.put({ kind: 'connect', client: 9, observer: true });
    rig.say(9, saToAdd(SA));
    rig.say(9, { ...saToAdd(SA), type: 'GET' });
    expect(rig.types(9)).toEqual([`ADD ${ERRNO.EACCES}`, 'GET']);
  });
});

describe('registration', () => {
  test('ACQUIRE and EXPIRE go to those who registered for anything', () => {
    const rig = new Rig();
    rig.say(1, sadb('REGISTER', { satype: 3 }));
    rig.say(2, sadb('REGISTER', { satype: 0 }));
    expect([rig.types(1), rig.types(2)]).toEqual([['REGISTER', 'REGISTER'], ['REGISTER']]);
    rig.put({ kind: 'notify', message: sadb('ACQUIRE', { satype: 2 }) });
    expect([rig.types(1), rig.types(2), rig.types(3)]).toEqual([['ACQUIRE'], [], []]);
  });

  test('algorithms are told; a second time for the same type is EEXIST, type 10 EINVAL', () => {
    const rig = new Rig();
    rig.say(1, sadb('REGISTER', { satype: 3, optIn: OPT_IN_ALL }));
    rig.say(1, sadb('REGISTER', { satype: 3 }));
    rig.say(1, sadb('REGISTER', { satype: 10 }));
    const [first, second, third] = rig.take(1);
    expect(first).toMatchObject({ supportedAuth: [{ id: 5 }], optIn: OPT_IN_ALL });
    expect([second!.errno, third!.errno]).toEqual([ERRNO.EEXIST, ERRNO.EINVAL]);
  });

  test('private extensions reach only those who asked for them', () => {
    const rig = new Rig();
    rig.say(1, sadb('REGISTER', { satype: 3, optIn: OPT_IN_ALL }));
    rig.say(2, sadb('REGISTER', { satype: 3 }));
    rig.take(1);
    rig.take(2);
    rig.put({ kind: 'notify', message: sadb('ACQUIRE', { satype: 3, packet: Uint8Array.of(1, 2, 3) }) });
    expect([rig.take(1)[0]!.packet, rig.take(2)[0]!.packet]).toEqual([Uint8Array.of(1, 2, 3), undefined]);
  });

  test('KMADDRESS in an ACQUIRE reaches only those who asked for it; in a MIGRATE it reaches all', () => {
    const rig = new Rig();
    rig.say(1, sadb('REGISTER', { satype: 3, optIn: OPT_IN_KMADDRESS }));
    rig.say(2, sadb('REGISTER', { satype: 3 }));
    rig.take(1);
    rig.take(2);
    const kmAddress = { local: { address: SA.source, port: 0 }, remote: { address: SA.destination, port: 0 } };
    rig.put({ kind: 'notify', message: sadb('ACQUIRE', { satype: 3, kmAddress }) });
    rig.put({ kind: 'notify', message: sadb('X_MIGRATE', { satype: 3, kmAddress }) });
    const told = (client: number) => rig.take(client).map((message) => message.kmAddress);
    expect([told(1), told(2), told(3)]).toEqual([[kmAddress, kmAddress], [undefined, kmAddress], [kmAddress]]);
  });
});

describe('keys', () => {
  const seen = (rig: Rig, client: number) => rig.take(client).map(({ keyEncrypt }) => keyEncrypt !== undefined);

  test('stay with the owner of an SA that moved', () => {
    const rig = new Rig();
    rig.say(1, saToAdd(SA));
    const to = IpAddress.parse('198.51.100.7')!;
    rig.verbs.moved = [{ satype: 3, spi: SA.spi, from: SA.destination, to }];
    rig.say(2, sadb('X_SPDDUMP'));
    rig.verbs.dump = [saToSadb('DUMP', { ...SA, destination: to })];
    for (const client of [1, 2]) {
      rig.take(client);
      rig.say(client, sadb('DUMP'));
    }
    expect([seen(rig, 1), seen(rig, 2)]).toEqual([[true], [false]]);
  });

  test('go to who made the SA, and to who may and asked', () => {
    const rig = new Rig();
    rig.say(2, sadb('REGISTER', { satype: 3, optIn: OPT_IN_KEYS }));
    rig.say(3, sadb('REGISTER', { satype: 3, optIn: OPT_IN_KEYS }));
    expect([rig.take(2)[0]!.optIn, rig.take(3)[0]!.optIn]).toEqual([0, OPT_IN_KEYS]);
    rig.say(1, saToAdd(SA));
    expect([seen(rig, 1), seen(rig, 2), seen(rig, 3)]).toEqual([[true], [false], [true]]);
    rig.verbs.dump = [saToSadb('DUMP', SA)];
    rig.say(1, sadb('DUMP'));
    rig.say(2, sadb('DUMP'));
    expect([seen(rig, 1), seen(rig, 2)]).toEqual([[true], [false]]);
  });

  test('a successor of the owner does not get them', () => {
    const rig = new Rig();
    rig.say(1, saToGetspi(SA, { min: 256, max: 1000 }));
    rig.say(1, { ...saToAdd(SA), type: 'UPDATE' });
    rig.put({ kind: 'disconnect', client: 1 });
    rig.put({ kind: 'connect', client: 1 });
    rig.take(1);
    rig.say(1, { ...saToAdd(SA), type: 'GET' });
    expect(seen(rig, 1)).toEqual([false]);
  });
});

describe('PROMISC', () => {
  test('shows each request, and two copies of each echo', () => {
    const rig = new Rig();
    rig.say(2, sadb('X_PROMISC', { satype: 1 }));
    for (const client of [1, 2, 3]) rig.take(client);
    rig.say(1, saToAdd(SA));
    rig.say(1, sadb('EXPIRE'));
    const copies = rig.take(2);
    expect(copies.map(({ type, errno }) => `${type} ${errno}`)).toEqual(['ADD 0', 'ADD 0', 'ADD 0', 'EXPIRE 0', 'EXPIRE 95']);
    expect(copies.every(({ keyEncrypt }) => keyEncrypt === undefined)).toBe(true);
    rig.say(2, sadb('X_PROMISC', { satype: 0 }));
    rig.take(2);
    rig.say(1, saToAdd(SA));
    expect(rig.types(2)).toEqual(['ADD']);
  });
});

describe('streams and queues', () => {
  test('messages are taken however they are cut', () => {
    const bytes = [...writeSadb(saToAdd(SA)), ...writeSadb(sadb('FLUSH')), ...writeSadb(sadb('X_SPDFLUSH'))];
    const framer = new SadbFramer();
    const messages = bytes.flatMap((octet) => framer.push(Uint8Array.of(octet)));
    expect(messages.map((message) => readSadb(message).type)).toEqual(['ADD', 'FLUSH', 'X_SPDFLUSH']);
    expect(framer.pending).toBe(0);
  });

  test('a header that cannot be framed is answered where it can be, and closes the connection', () => {
    const rig = new Rig();
    const wrong = writeSadb(sadb('FLUSH', { seq: 3 }));
    wrong[4] = 1;
    rig.put({ kind: 'bytes', client: 1, bytes: cat(writeSadb(sadb('X_SPDFLUSH')), wrong) });
    expect([rig.take(1), rig.closed]).toMatchObject([
      [{ type: 'X_SPDFLUSH' }, { type: 'FLUSH', errno: ERRNO.EMSGSIZE, seq: 3 }],
      [1],
    ]);
    rig.put({ kind: 'bytes', client: 2, bytes: new Uint8Array(16).fill(0xee) });
    expect([rig.types(2), rig.closed]).toEqual([[], [1, 2]]);
    rig.say(3, sadb('FLUSH'));
    expect(rig.server.size).toBe(1);
  });

  test('a client that does not read is closed at the limit; the others notice nothing', () => {
    const rig = new Rig({ inFlight: 1, queueLimit: 2000 });
    rig.put({ kind: 'disconnect', client: 3 });
    for (let n = 0; n < 100 && rig.closed.length === 0; n++) {
      rig.say(1, { ...saToAdd(SA), seq: n });
      rig.put({ kind: 'sent', client: 1, octets: 100_000 });
    }
    expect(rig.closed).toEqual([2]);
    const before = rig.take(1).length;
    expect(before).toBeGreaterThan(5);
    rig.say(1, saToAdd(SA));
    expect(rig.types(1)).toEqual(['ADD']);
  });

  test('expiries of one SA that wait are folded into the last', () => {
    const rig = new Rig({ inFlight: 1, queueLimit: 2000 });
    rig.say(1, sadb('REGISTER', { satype: 3 }));
    const expire = (state: number) => {
      const { sa, source, destination } = saToAdd(SA);
      return sadb('EXPIRE', { satype: 3, sa: { ...sa!, state }, source, destination });
    };
    for (let n = 0; n < 1000; n++) rig.put({ kind: 'notify', message: expire(2) });
    rig.put({ kind: 'notify', message: expire(3) });
    rig.take(1);
    rig.put({ kind: 'sent', client: 1, octets: 1_000_000 });
    expect(rig.take(1)).toMatchObject([{ type: 'EXPIRE', sa: { state: 3 } }]);
    expect(rig.closed).toEqual([]);
  });

  test('a dump may be longer than the queue, and only one runs at a time', () => {
    const rig = new Rig({ inFlight: 500, queueLimit: 1000 });
    rig.verbs.dump = Array.from({ length: 50 }, (_, i) => saToSadb('DUMP', SA, { seq: 49 - i }));
    rig.say(1, sadb('DUMP'));
    rig.say(1, sadb('DUMP'));
    const messages: SadbMessage[] = [];
    for (let batch = rig.take(1); batch.length > 0; batch = rig.take(1)) {
      messages.push(...batch);
      rig.put({ kind: 'sent', client: 1, octets: 1_000_000 });
    }
    expect(messages.filter(({ errno }) => errno === 0).map(({ seq }) => seq)).toEqual(
      Array.from({ length: 50 }, (_, i) => 49 - i),
    );
    expect(messages.filter(({ errno }) => errno !== 0)).toMatchObject([{ type: 'DUMP', errno: ERRNO.EBUSY }]);
    expect(rig.closed).toEqual([]);
  });
});
