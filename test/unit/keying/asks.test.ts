/** What the datapath is asked, of pairs that do not live long enough to see the answer. */

import { expect, test } from 'vitest';
import { Secret } from '../../../src/bytes/secret.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { Asks } from '../../../src/keying/asks.ts';
import type { SaPair } from '../../../src/keying/sa-pair.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { readSadb, type SadbMessage, sadbError, writeSadb } from '../../../src/pfkey/message.ts';
import { ERRNO, IPSEC_MODE, SADB_SASTATE, SADB_SATYPE } from '../../../src/pfkey/registry.ts';

const NOW = { mono: 0, wall: 0 };
const NOTHING = { seconds: 0, bytes: 0, packets: 0 };

/** Of a pair, what installing and uninstalling look at. */
function pair(): SaPair {
  const keys = () => ({ encr: new Secret(new Uint8Array(20).fill(7)), integ: undefined });
  const agreed = { inbound: keys(), outbound: keys() };
  const parameters = (direction: 'inbound' | 'outbound'): SaParameters => ({
    spi: direction === 'inbound' ? 0x1001 : 0x2002,
    protocol: 'esp',
    mode: 'tunnel',
    source: IpAddress.parse('192.0.2.1')!,
    destination: IpAddress.parse('192.0.2.2')!,
    suite: { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
    encrKey: agreed[direction].encr,
    integKey: undefined,
    extendedSequence: false,
    replayWindow: 64,
    reqid: 1,
    encapsulation: undefined,
    lifetime: { soft: NOTHING, hard: NOTHING },
    selectors: { source: [], destination: [] },
  });
  const allParameters = (direction: 'inbound' | 'outbound') => [parameters(direction)];
  const sas = [agreed];
  return { agreed, sas, allParameters, pending: 0, outboundState: 'none', spiIn: 0x1001 } as unknown as SaPair;
}

test('a pair that goes before the messages that install it are written installs no key of zeros', () => {
  const messages: SadbMessage[] = [];
  const asks = new Asks(1, ({ message }) => messages.push(message));
  asks.hear({ kind: 'connected' }, NOW);
  const child = pair();
  asks.install(child, true, NOW);
  asks.uninstall(child, 0, NOW);
  const written = messages.map((message) => readSadb(writeSadb(message)));
  const installed = written.filter(({ type }) => type === 'ADD' || type === 'UPDATE');
  expect(installed.map(({ keyEncrypt }) => keyEncrypt?.key.reveal()[0])).toEqual([7, 7]);
  expect(child.agreed.inbound.encr.reveal()[0]).toBe(0);
});

test('SAs of either direction that are about to go are deleted by the name that they have by then', () => {
  const messages: SadbMessage[] = [];
  const asks = new Asks(1, ({ message }) => messages.push(message));
  asks.hear({ kind: 'connected' }, NOW);
  const [here, ...places] = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4'].map((text) => IpAddress.parse(text)!);
  const ends = (outbound: boolean, there: IpAddress) =>
    outbound ? { source: here!, destination: there } : { source: there, destination: here! };
  for (const outbound of [true, false]) {
    asks.remove({ spi: outbound ? 0x1001 : 0x2002, protocol: 'esp', ...ends(outbound, places[0]!) }, 5000, NOW);
    for (const i of [0, 1]) asks.relocate(ends(outbound, places[i]!), ends(outbound, places[i + 1]!));
  }
  asks.passTime({ mono: 5000, wall: 5000 });
  const deleted = messages.filter(({ type }) => type === 'DELETE');
  expect(deleted.map(({ destination }) => `${destination!.address}`)).toEqual(['192.0.2.4', '192.0.2.1']);
  expect(deleted.map(({ source }) => `${source!.address}`)).toEqual(['192.0.2.1', '192.0.2.4']);
});

test('the keys in a message are forgotten once the datapath has answered', () => {
  const messages: SadbMessage[] = [];
  const asks = new Asks(1, ({ message }) => messages.push(message));
  asks.hear({ kind: 'connected' }, NOW);
  asks.install(pair(), false, NOW);
  const update = messages.find(({ type }) => type === 'UPDATE')!;
  asks.hear({ kind: 'message', message: { ...update, keyEncrypt: undefined } }, NOW);
  expect(update.keyEncrypt?.key.reveal()[0]).toBe(0);
});

const PATH = {
  local: { address: IpAddress.parse('192.0.2.1')!, port: 500 },
  remote: { address: IpAddress.parse('192.0.2.2')!, port: 500 },
  encapsulated: false,
};

/** Asks for the SPIs of a bundle; `answer` is the datapath's to each GETSPI. */
function bundle(asker: { closed: boolean }, answer: (message: SadbMessage) => SadbMessage) {
  const messages: SadbMessage[] = [];
  const asks = new Asks<{ closed: boolean }, SaPair>(1, ({ message }) => messages.push(message));
  asks.hear({ kind: 'connected' }, NOW);
  const heard = asks.spi(asker, 'request', { protocols: ['esp', 'ipcomp', 'ah'], mode: 'tunnel', reqid: 1, path: PATH }, NOW);
  for (let i = 0; i < messages.length; i++) {
    const message = messages[i]!;
    if (message.type === 'GETSPI') heard.push(...asks.hear({ kind: 'message', message: answer(message) }, NOW));
  }
  const shown = (type: SadbMessage['type']) =>
    messages.filter((message) => message.type === type).map(({ satype, sa }) => [satype, sa?.spi]);
  return { asks, heard, shown, messages };
}

const GIVEN = new Map([
  [SADB_SATYPE.ESP, 0x1000],
  [SADB_SATYPE.AH, 0x1000],
  [SADB_SATYPE.IPCOMP, 0x100],
]) as ReadonlyMap<number, number>;
const give = (message: SadbMessage): SadbMessage => ({
  ...message,
  spirange: undefined,
  sa: { spi: GIVEN.get(message.satype)!, replay: 0, state: SADB_SASTATE.LARVAL, auth: 0, encrypt: 0, flags: 0 },
});

test('the SPIs of a bundle are asked for one after the other, a CPI within its range, and only the innermost is a tunnel', () => {
  const { asks, heard, messages } = bundle({ closed: false }, give);
  const asked = messages.filter(({ type }) => type === 'GETSPI');
  expect(asked.map(({ satype, sa2, spirange }) => [satype, sa2?.mode, spirange?.min, spirange?.max])).toEqual([
    [SADB_SATYPE.ESP, IPSEC_MODE.TRANSPORT, 0x100, 0x0fffffff],
    [SADB_SATYPE.IPCOMP, IPSEC_MODE.TUNNEL, 0x100, 0xefff],
    [SADB_SATYPE.AH, IPSEC_MODE.TRANSPORT, 0x100, 0x0fffffff],
  ]);
  expect(heard).toMatchObject([{ kind: 'spi', role: 'request', spi: 0x1000 }]);
  expect([...asks.spisWith(0x1000)]).toEqual([
    ['esp', 0x1000],
    ['ipcomp', 0x100],
    ['ah', 0x1000],
  ]);
});

test('they go back together, also where one of them is not to be had, or nobody waits any more', () => {
  const ALL = [
    [SADB_SATYPE.ESP, 0x1000],
    [SADB_SATYPE.IPCOMP, 0x100],
    [SADB_SATYPE.AH, 0x1000],
  ];
  const whole = bundle({ closed: false }, give);
  whole.asks.release(0x1000, NOW);
  expect(whole.shown('DELETE')).toEqual(ALL);
  expect([...whole.asks.spisWith(0x1000)]).toEqual([]);
  const refused = bundle({ closed: false }, (message) =>
    message.satype === SADB_SATYPE.AH ? sadbError(message, ERRNO.ENOMEM) : give(message),
  );
  expect(refused.heard).toMatchObject([{ kind: 'spi', spi: undefined }]);
  expect(refused.shown('DELETE')).toEqual(ALL.slice(0, 2));
  const gone = bundle({ closed: true }, give);
  expect([gone.heard, gone.shown('GETSPI').length, gone.shown('DELETE')]).toEqual([[], 1, ALL.slice(0, 1)]);
});
