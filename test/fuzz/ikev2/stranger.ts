/** A peer made by hand: it can do every step of IKEv2 rightly, so that a test can do any one of them wrongly. Nothing of it knows a state machine. */

import type { IkedOutput } from '../../../iked/iked.ts';
import {
  cipherOfSuite,
  type IkeKeys,
  type IkeSuite,
  ikeKeys,
  sealKeys,
  sharedKeyAuth,
  signedOctets,
  skeyseed,
} from '../../../iked/ikev2/keys.ts';
import { EXCHANGE, find, type OpenedMessage, openMessage, readMessage, writeMessage } from '../../../iked/ikev2/message.ts';
import { ID_TYPE, type Payload, payloadBody } from '../../../iked/ikev2/payloads.ts';
import { cat, u16be, u32be, utf8 } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import { generate, type KeyShare } from '../../../src/crypto/dh.ts';
import { prfOf } from '../../../src/crypto/prf.ts';
import { selectorOf } from '../../../src/ipsec/selector.ts';
import { IpAddress, type Path } from '../../../src/net/address.ts';
import type { IkeNode } from '../../support/ike-pair.ts';
import { seededRandom } from '../../support/random.ts';

const SUITE: IkeSuite = { encr: 'aes_gcm_16', keyBits: 128, integ: 'none', prf: 'hmac_sha2_256', ke: 'x25519' };
const SK = 46;
const HEADER = 28;

/** ESP's proposal that the pair of `ike-pair.ts` accepts. */
export function espProposal(spi: number): Payload {
  return {
    type: 'SA',
    proposals: [
      {
        number: 1,
        protocol: 'esp',
        spi: u32be(spi),
        transforms: [
          { type: 'ENCR', id: 20, keyBits: 128 },
          { type: 'ESN', id: 0 },
        ],
      },
    ],
  };
}

export const IKE_PROPOSAL: Payload = {
  type: 'SA',
  proposals: [
    {
      number: 1,
      protocol: 'ike',
      spi: new Uint8Array(0),
      transforms: [
        { type: 'ENCR', id: 20, keyBits: 128 },
        { type: 'PRF', id: 5 },
        { type: 'KE', id: 31 },
      ],
    },
  ],
};

export function selectors(type: 'TSi' | 'TSr', network: string): Payload {
  return { type, selectors: [selectorOf({ address: IpAddress.parse(network)!, length: 24 })] };
}

/** What a child of the pair's `lan` asks for, begun by node a. */
export function childPayloads(spi: number): Payload[] {
  return [espProposal(spi), selectors('TSi', '10.1.0.0'), selectors('TSr', '10.2.0.0')];
}

export class Stranger {
  readonly SPIi: Uint8Array;
  readonly Ni: Uint8Array;
  readonly #share: KeyShare;
  readonly #random: (length: number) => Uint8Array;
  readonly #node: IkeNode;
  readonly path: Path;
  SPIr: Uint8Array = new Uint8Array(8);
  Nr: Uint8Array = new Uint8Array(0);
  #keys: IkeKeys | undefined;
  #request: Uint8Array = new Uint8Array(0);
  #messageId = 0;
  /** Everything that the node has put out for what this stranger sent. */
  readonly outputs: IkedOutput[] = [];

  /** `from`: the address that the node knows its peer by, unless a test says otherwise. */
  constructor(node: IkeNode, seed: number, from = '192.0.2.1') {
    this.#node = node;
    this.#random = seededRandom(seed);
    this.SPIi = this.#random(8);
    this.SPIi[0]! |= 1;
    this.Ni = this.#random(32);
    this.#share = generate('x25519', this.#random);
    const at = (text: string) => ({ address: IpAddress.parse(text)!, port: 500 });
    this.path = { local: at(node.setting.address), remote: at(from), encapsulated: false };
  }

  get share(): KeyShare {
    return this.#share;
  }

  get keys(): IkeKeys {
    return this.#keys!;
  }

  /** Hands octets to the node, as they are, and returns what it sends back at once. The node's datapath answers in the same moment. */
  send(bytes: Uint8Array): Uint8Array[] {
    const sent: Uint8Array[] = [];
    const put = (outputs: readonly IkedOutput[]) => {
      for (const output of outputs) {
        this.outputs.push(output);
        if (output.kind === 'send') sent.push(output.bytes);
        if (output.kind === 'pfkey') {
          for (const message of this.#node.datapath.handle(output.message)) put(this.#handle({ kind: 'pfkey', message }));
        }
        if (output.kind === 'event') this.#node.events.push(output.event);
      }
    };
    put(this.#handle({ kind: 'datagram', path: this.path, bytes }));
    return sent;
  }

  #handle(input: Parameters<IkeNode['machine']['handle']>[0]): readonly IkedOutput[] {
    return this.#node.machine.handle(input, this.#node.net.now);
  }

  init(payloads: readonly Payload[] = this.initPayloads()): Uint8Array {
    return writeMessage({
      SPIi: this.SPIi,
      SPIr: new Uint8Array(8),
      exchange: EXCHANGE.IKE_SA_INIT,
      initiator: true,
      response: false,
      messageId: 0,
      payloads,
    });
  }

  initPayloads(): Payload[] {
    return [IKE_PROPOSAL, { type: 'KE', group: 31, data: this.#share.publicValue }, { type: 'Nonce', data: this.Ni }];
  }

  /** IKE_SA_INIT, rightly. False where the node did not answer with a key share. */
  open(): boolean {
    this.#request = this.init();
    const [response] = this.send(this.#request);
    if (response === undefined) return false;
    const { header, payloads } = readMessage(response);
    const KEr = find(payloads, 'KE');
    if (KEr === undefined) return false;
    this.SPIr = header.SPIr;
    this.Nr = find(payloads, 'Nonce')!.data;
    const g_ir = this.#share.agree(KEr.data).reveal();
    const SKEYSEED = skeyseed(prfOf(SUITE.prf), this.Ni, this.Nr, g_ir);
    this.#keys = ikeKeys(SUITE, SKEYSEED, this.Ni, this.Nr, this.SPIi, this.SPIr);
    this.#messageId = 1;
    return true;
  }

  /** The payloads of a right IKE_AUTH with this key. */
  authPayloads(psk = 'a secret between the two', id = 'a.example', spi = 0x5151_0001): Payload[] {
    const IDi: Payload = { type: 'IDi', idType: ID_TYPE.FQDN, data: utf8(id) };
    const prf = prfOf(SUITE.prf);
    const octets = signedOctets(prf, this.#request, this.Nr, this.keys.SK_pi, payloadBody(IDi));
    return [IDi, { type: 'AUTH', method: 2, data: sharedKeyAuth(prf, new Secret(utf8(psk)), octets) }, ...childPayloads(spi)];
  }

  /** A sealed request; its Message ID is the next one unless said otherwise. */
  request(exchange: number, payloads: readonly Payload[], messageId = this.#messageId): Uint8Array {
    const chain = writeMessage({
      SPIi: this.SPIi,
      SPIr: this.SPIr,
      exchange,
      initiator: true,
      response: false,
      messageId,
      payloads,
    });
    return this.seal(exchange, chain[16]!, chain.subarray(HEADER), messageId);
  }

  /** Any octets as the text of an SK payload, sealed rightly: what a mutation of the payloads needs. */
  seal(exchange: number, first: number, text: Uint8Array, messageId = this.#messageId): Uint8Array {
    const cipher = cipherOfSuite(SUITE);
    const { encr, integ } = sealKeys(this.keys, cipher, 'initiator');
    const sealedBytes = cipher.ivBytes + text.length + 1 + cipher.icvBytes;
    const header = cat(
      this.SPIi,
      this.SPIr,
      Uint8Array.of(SK, 0x20, exchange, 0x08),
      u32be(messageId),
      u32be(HEADER + 4 + sealedBytes),
      Uint8Array.of(first, 0),
      u16be(4 + sealedBytes),
    );
    const iv = this.#random(cipher.ivBytes);
    return cat(header, cipher.seal(encr.reveal(), integ.reveal(), iv, header, cat(text, Uint8Array.of(0))));
  }

  /** Sends a sealed request rightly and opens the response; undefined where there was none. */
  exchange(exchange: number, payloads: readonly Payload[]): OpenedMessage | undefined {
    const [response] = this.send(this.request(exchange, payloads));
    if (response === undefined) return undefined;
    this.#messageId += 1;
    return this.opened(response);
  }

  /** The next request has the next Message ID. */
  advance(): void {
    this.#messageId += 1;
  }

  opened(response: Uint8Array): OpenedMessage | undefined {
    const { sealed } = readMessage(response);
    return sealed === undefined ? undefined : openMessage(sealed, sealKeys(this.keys, cipherOfSuite(SUITE), 'responder'));
  }

  /** What the node asked its datapath for. */
  get asked(): string[] {
    return this.outputs.flatMap((output) => (output.kind === 'pfkey' ? [output.message.type] : []));
  }

  get faults(): string[] {
    return this.outputs.flatMap((output) =>
      output.kind === 'event' && output.event.name === 'fault' ? [output.event.message] : [],
    );
  }
}
