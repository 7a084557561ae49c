/** What the datapath is asked, of pairs that do not live long enough to see the answer. */

import { expect, test } from 'vitest';
import { Secret } from '../../../src/bytes/secret.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { Asks } from '../../../src/keying/asks.ts';
import type { SaPair } from '../../../src/keying/sa-pair.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { readSadb, type SadbMessage, writeSadb } from '../../../src/pfkey/message.ts';

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
  return { agreed, parameters, pending: 0, outboundState: 'none', spiIn: 0x1001 } as unknown as SaPair;
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
