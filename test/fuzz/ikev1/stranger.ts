/** A peer made by hand: it can do every step of IKEv1 rightly in both roles, so that a test can do any one of them wrongly. Nothing of it knows a state machine. */

import type { IkedOutput } from '../../../iked/iked.ts';
import type { IsakmpSa } from '../../../iked/ikev1/isakmp-sa.ts';
import {
  type Exchanged,
  HASH_1,
  HASH_2,
  HASH_3,
  HASH_I,
  HASH_R,
  type IsakmpKeys,
  type IsakmpSuite,
  isakmpKeys,
  messageCipher,
  phase1Iv,
  phase2Iv,
  prfOfSuite,
  skeyidOfSharedKey,
} from '../../../iked/ikev1/keys.ts';
import {
  EXCHANGE,
  type MessageCipher,
  type OpenedMessage,
  openMessage,
  readMessage,
  writeMessage,
} from '../../../iked/ikev1/message.ts';
import { buildPhase1Offer, type Phase1Terms } from '../../../iked/ikev1/phase-1-proposals.ts';
import { vendorId } from '../../../iked/ikev1/vendor-id.ts';
import { cat, NONE, utf8 } from '../../../src/bytes/bytes.ts';
import { Secret } from '../../../src/bytes/secret.ts';
import { generate, type KeyShare } from '../../../src/crypto/dh.ts';
import type { KeName } from '../../../src/crypto/transforms.ts';
import { selectorOf } from '../../../src/ipsec/selector.ts';
import { readChain, writeChain } from '../../../src/isakmp/chain.ts';
import { idOf } from '../../../src/isakmp/client-ids.ts';
import { ID_TYPE, NOTIFY, PROTOCOL } from '../../../src/isakmp/doi.ts';
import { find, type Payload, type PayloadOf, payloadBody } from '../../../src/isakmp/payloads.ts';
import { buildOffer } from '../../../src/isakmp/quick-mode.ts';
import type { Terms } from '../../../src/isakmp/terms.ts';
import { IpAddress, type Path } from '../../../src/net/address.ts';
import { Reader } from '../../../src/wire/reader.ts';
import type { IkeNode } from '../../support/ike-pair.ts';
import { seededRandom } from '../../support/random.ts';

/** What the pair of `ike-pair.ts` accepts in phase 1 and in phase 2. */
const PHASE_1: Phase1Terms = {
  encr: [{ name: 'aes_cbc', keyBits: 128 }],
  hash: ['hmac_sha2_256'],
  groups: ['ecp256'],
  seconds: 0,
  check: 'claim',
};
const PHASE_2: Terms = {
  alternatives: [
    {
      sas: [{ protocol: 'esp', encr: [{ name: 'aes_gcm_16', keyBits: 128 }], auth: [] }],
      lifetime: { seconds: 3600, bytes: 0, packets: 0 },
    },
  ],
  mode: 'tunnel',
  encapsulated: false,
  group: undefined,
  check: 'claim',
};

export function phase1Offer(group: KeName = 'ecp256'): PayloadOf<'SA'> {
  return buildPhase1Offer({ ...PHASE_1, groups: [group] });
}

export function espOffer(spi: number, group?: KeName): PayloadOf<'SA'> {
  return buildOffer({ ...PHASE_2, group }, new Map([['esp', spi]]));
}

/** SAs of a bundle, as a node's configuration and an offer have them. */
export const BUNDLE_SAS = [
  { protocol: 'esp', encr: [{ name: 'aes_gcm_16', keyBits: 128 }], auth: [] },
  { protocol: 'ah', encr: [], auth: ['hmac_sha2_256'] },
  { protocol: 'ipcomp', encr: [], auth: [] },
] as const;

/** AH around ESP around IPComp, under one number (RFC 2408 §4.2). */
export function bundleOffer(spi: number): PayloadOf<'SA'> {
  const alternatives = [{ ...PHASE_2.alternatives[0]!, sas: BUNDLE_SAS }];
  return buildOffer(
    { ...PHASE_2, alternatives },
    new Map([
      ['esp', spi],
      ['ah', spi + 1],
      ['ipcomp', 0x100 + (spi & 0x7fff)],
    ]),
  );
}

export function networkId(network: string): PayloadOf<'ID'> {
  return idOf(selectorOf({ address: IpAddress.parse(network)!, length: 24 }));
}

export function notifyOf(notify: keyof typeof NOTIFY, spi: Uint8Array = NONE, data: Uint8Array = NONE): PayloadOf<'Notify'> {
  return { type: 'Notify', doi: 1, protocol: PROTOCOL.ISAKMP, spi, notify: NOTIFY[notify], data };
}

export function deletionOf(protocol: number, ...spis: readonly Uint8Array[]): PayloadOf<'Delete'> {
  return { type: 'Delete', doi: 1, protocol, spis };
}

export const PSK = 'a secret between the two';

export class Stranger {
  readonly role: 'initiator' | 'responder';
  readonly path: Path;
  readonly own: Uint8Array;
  readonly nonce: Uint8Array;
  readonly outputs: IkedOutput[] = [];
  readonly suite: IsakmpSuite;
  psk = PSK;
  other: Uint8Array = new Uint8Array(8);
  SAi_b: Uint8Array = NONE;
  exchanged: Exchanged | undefined;
  keys!: IsakmpKeys;
  cipher!: MessageCipher;
  /** The IV of the next message of phase 1; of phase 2's first ones once that is over. */
  lastBlock!: Uint8Array;
  #messageId: number;
  readonly #node: IkeNode;
  readonly #share: KeyShare;

  constructor(node: IkeNode, seed: number, role: 'initiator' | 'responder' = 'initiator', group: KeName = 'ecp256') {
    const random = seededRandom(0x5eed + seed);
    this.#node = node;
    this.role = role;
    this.suite = { encr: 'aes_cbc', keyBits: 128, hash: 'hmac_sha2_256', group };
    this.#share = generate(group, random);
    this.own = random(8);
    this.nonce = random(32);
    this.#messageId = 0x1000 + (seed % 0x1000) * 0x1000;
    const [local, remote] = [node.setting.address, node.setting.peer].map((text) => IpAddress.parse(text)!) as [
      IpAddress,
      IpAddress,
    ];
    this.path = { local: { address: local, port: 500 }, remote: { address: remote, port: 500 }, encapsulated: false };
  }

  get CKY_I(): Uint8Array {
    return this.role === 'initiator' ? this.own : this.other;
  }

  get CKY_R(): Uint8Array {
    return this.role === 'initiator' ? this.other : this.own;
  }

  get share(): KeyShare {
    return this.#share;
  }

  /** The node's ISAKMP SA with us, from the inside. */
  get sa(): IsakmpSa | undefined {
    return this.#node.v1Sas.find(({ ownSpi }) => ownSpi.every((octet, i) => octet === this.other[i]));
  }

  /** Hands octets to the node, as they are, and returns what it sends back at once. The node's datapath answers in the same moment. */
  send(bytes: Uint8Array, path: Path = this.path): Uint8Array[] {
    return this.#put({ kind: 'datagram', path, bytes });
  }

  #put(input: Parameters<IkeNode['machine']['handle']>[0]): Uint8Array[] {
    const sent: Uint8Array[] = [];
    for (const output of this.#node.machine.handle(input, this.#node.net.now)) {
      this.outputs.push(output);
      if (output.kind === 'send') sent.push(output.bytes);
      if (output.kind === 'event') this.#node.events.push(output.event);
      if (output.kind !== 'pfkey') continue;
      for (const message of this.#node.datapath.handle(output.message)) sent.push(...this.#put({ kind: 'pfkey', message }));
    }
    return sent;
  }

  // Phase 1.

  clear(payloads: readonly Payload[], exchange: number = EXCHANGE['Main Mode'], messageId = 0): Uint8Array {
    const { CKY_I, CKY_R } = this;
    return writeMessage({ CKY_I, CKY_R, exchange, encrypted: false, commit: false, messageId, payloads });
  }

  message1(payloads: readonly Payload[] = [phase1Offer(this.suite.group)]): Uint8Array {
    const SA = find(payloads, 'SA');
    if (SA !== undefined) this.SAi_b = payloadBody(SA);
    return this.clear(payloads);
  }

  /** Messages 2: what the node's message 1 offers first. */
  message2(message1: Uint8Array): Uint8Array {
    const { header, payloads } = readMessage(message1);
    this.other = header.CKY_I;
    const SA = find(payloads, 'SA')!;
    this.SAi_b = payloadBody(SA);
    const [proposal] = SA.proposals;
    return this.clear([{ ...SA, proposals: [{ ...proposal!, transforms: proposal!.transforms.slice(0, 1) }] }, vendorId('DPD')]);
  }

  /** Message 3 or 4. */
  keyMessage(KE: Uint8Array = this.#share.publicValue, nonce: Uint8Array = this.nonce): Uint8Array {
    return this.clear([
      { type: 'KE', data: KE },
      { type: 'Nonce', data: nonce },
    ]);
  }

  /** Messages 1 and 2. False where the node did not answer. */
  hello(payloads?: readonly Payload[]): boolean {
    const [answer] = this.send(this.message1(payloads));
    if (answer === undefined) return false;
    const { header } = readMessage(answer);
    this.other = header.CKY_R;
    return header.exchange === EXCHANGE['Main Mode'];
  }

  /** Messages 3 and 4 as initiator. */
  agree(): boolean {
    const [answer] = this.send(this.keyMessage());
    if (answer === undefined) return false;
    this.derive(answer);
    return true;
  }

  /** The keys that follow from the node's KE and nonce. */
  derive(keyMessage: Uint8Array): void {
    const { payloads } = readMessage(keyMessage);
    const [theirKe, theirNonce] = [find(payloads, 'KE')!.data, find(payloads, 'Nonce')!.data];
    const left = this.role === 'initiator';
    const exchanged: Exchanged = {
      CKY_I: this.CKY_I,
      CKY_R: this.CKY_R,
      Ni_b: left ? this.nonce : theirNonce,
      Nr_b: left ? theirNonce : this.nonce,
      g_xi: left ? this.#share.publicValue : theirKe,
      g_xr: left ? theirKe : this.#share.publicValue,
    };
    const prf = prfOfSuite(this.suite);
    const SKEYID = skeyidOfSharedKey(prf, new Secret(utf8(this.psk)), exchanged.Ni_b, exchanged.Nr_b);
    this.exchanged = exchanged;
    this.keys = isakmpKeys(prf, SKEYID, this.#share.agree(theirKe), exchanged.CKY_I, exchanged.CKY_R);
    this.cipher = messageCipher(this.suite, this.keys.SKEYID_e).cipher;
    this.lastBlock = phase1Iv(this.suite, exchanged.g_xi, exchanged.g_xr);
  }

  /** ID and HASH of message 5 or 6. */
  proof(id = this.#node.setting.peersId): Payload[] {
    const ID: Payload = { type: 'ID', idType: ID_TYPE.FQDN, protocol: 0, port: 0, data: utf8(id) };
    return [ID, { type: 'HASH', data: this.proofHash(ID) }];
  }

  proofHash(ID: Payload): Uint8Array {
    const hash = this.role === 'initiator' ? HASH_I : HASH_R;
    return hash(prfOfSuite(this.suite), this.keys.SKEYID, this.exchanged!, this.SAi_b, payloadBody(ID));
  }

  /** A message of phase 1 with any octets inside. The chain of IVs stands still until `proved`. */
  sealedPhase1(payloads: readonly Payload[] = this.proof()): Uint8Array {
    const { first, octets } = writeChain(payloads);
    return this.seal(EXCHANGE['Main Mode'], 0, first, octets, this.lastBlock);
  }

  /** Messages 5 and 6 as initiator. False where the node did not prove itself. */
  prove(payloads?: readonly Payload[]): boolean {
    const message5 = this.sealedPhase1(payloads);
    const answer = this.send(message5).find((bytes) => readMessage(bytes).header.encrypted);
    if (answer === undefined) return false;
    const opened = openMessage(readMessage(answer), this.cipher, message5.slice(-this.cipher.blockBytes));
    this.lastBlock = opened.lastBlock;
    return true;
  }

  /** All of Main Mode as initiator. */
  open(): boolean {
    return this.hello() && this.agree() && this.prove();
  }

  /** All of Main Mode as responder, to the node's message 1. Returns what the node says in phase 2 at once. */
  admit(message1: Uint8Array): Uint8Array[] {
    const [message3] = this.send(this.message2(message1));
    this.derive(message3!);
    const [message5] = this.send(this.keyMessage());
    const opened = openMessage(readMessage(message5!), this.cipher, this.lastBlock);
    this.lastBlock = opened.lastBlock;
    const message6 = this.sealedPhase1();
    const answers = this.send(message6);
    this.lastBlock = message6.slice(-this.cipher.blockBytes);
    return answers;
  }

  // Phase 2.

  nextMessageId(): number {
    this.#messageId += 1;
    return this.#messageId;
  }

  iv(messageId: number): Uint8Array {
    return phase2Iv(this.suite, this.lastBlock, messageId);
  }

  /** Any octets as the text of an encrypted message: what a mutation of the payloads needs. Zeros fill the last block. */
  seal(exchange: number, messageId: number, first: number, text: Uint8Array, iv: Uint8Array = this.iv(messageId)): Uint8Array {
    const { blockBytes } = this.cipher;
    const whole = new Uint8Array(Math.max(1, Math.ceil(text.length / blockBytes)) * blockBytes);
    whole.set(text);
    const ciphertext = this.cipher.encrypt(iv, whole);
    const { CKY_I, CKY_R } = this;
    const header = writeMessage({ CKY_I, CKY_R, exchange, encrypted: false, commit: false, messageId, payloads: [] });
    header[16] = first;
    header[19] = 1;
    new DataView(header.buffer).setUint32(24, header.length + ciphertext.length);
    return cat(header, ciphertext);
  }

  /** HDR*, HASH(1), payloads. */
  hashed(exchange: number, payloads: readonly Payload[], messageId = this.nextMessageId()): Uint8Array {
    const { first, octets } = writeChain(payloads);
    return this.hashedOctets(exchange, first, octets, messageId);
  }

  /** The same with any octets for the payloads after the HASH, which covers what the receiver makes of them: up to the end of the chain. */
  hashedOctets(exchange: number, first: number, rest: Uint8Array, messageId = this.nextMessageId()): Uint8Array {
    const HASH = HASH_1(prfOfSuite(this.suite), this.keys.SKEYID_a, messageId, covered(first, rest));
    const head = writeChain([{ type: 'HASH', data: HASH }]).octets;
    head[0] = first;
    return this.seal(exchange, messageId, 8, cat(head, rest));
  }

  quickMode1(spi = 0x5151_0001, more: readonly Payload[] = []): Payload[] {
    const [mine, theirs] = this.role === 'initiator' ? ['10.1.0.0', '10.2.0.0'] : ['10.2.0.0', '10.1.0.0'];
    return [espOffer(spi), { type: 'Nonce', data: this.nonce }, ...more, networkId(mine!), networkId(theirs!)];
  }

  /** A whole Quick Mode as initiator. False where the node did not answer with an SA. */
  createChild(spi = 0x5151_0001): boolean {
    const messageId = this.nextMessageId();
    const message1 = this.hashed(EXCHANGE['Quick Mode'], this.quickMode1(spi), messageId);
    const [answer] = this.send(message1);
    if (answer === undefined || readMessage(answer).header.messageId !== messageId) return false;
    this.send(this.message3(message1, answer));
    return true;
  }

  /** HDR*, HASH(3). */
  message3(message1: Uint8Array, answer: Uint8Array): Uint8Array {
    const { messageId } = readMessage(message1).header;
    const opened = openMessage(readMessage(answer), this.cipher, message1.slice(-this.cipher.blockBytes));
    const Nr_b = find(opened.payloads, 'Nonce')!.data;
    const HASH = HASH_3(prfOfSuite(this.suite), this.keys.SKEYID_a, messageId, this.nonce, Nr_b);
    const { first, octets } = writeChain([{ type: 'HASH', data: HASH }]);
    return this.seal(EXCHANGE['Quick Mode'], messageId, first, octets, opened.lastBlock);
  }

  /** HDR*, HASH(2), …: the answer to the node's message 1, with any octets after the HASH where given. */
  message2Of(
    message1: Uint8Array,
    change: (payloads: Payload[]) => { first: number; octets: Uint8Array } = writeChain,
  ): Uint8Array {
    const { header } = readMessage(message1);
    const opened = this.opened(message1);
    const payloads = opened.payloads.slice(1).map((payload): Payload => {
      if (payload.type === 'Nonce') return { type: 'Nonce', data: this.nonce };
      if (payload.type !== 'SA') return payload;
      // All of the first number, with an SPI of its size each.
      const chosen = payload.proposals.filter(({ number }) => number === payload.proposals[0]!.number);
      const spi = Uint8Array.of(0x52, 0x52, header.messageId & 255, 1);
      return {
        type: 'SA',
        doi: payload.doi,
        situation: payload.situation,
        unread: NONE,
        proposals: chosen.map((one) => ({ ...one, spi: spi.slice(0, one.spi.length), transforms: one.transforms.slice(0, 1) })),
      };
    });
    const { first, octets } = change(payloads);
    const Ni_b = find(opened.payloads, 'Nonce')!.data;
    const HASH = HASH_2(prfOfSuite(this.suite), this.keys.SKEYID_a, header.messageId, Ni_b, covered(first, octets));
    const head = writeChain([{ type: 'HASH', data: HASH }]).octets;
    head[0] = first;
    return this.seal(EXCHANGE['Quick Mode'], header.messageId, 8, cat(head, octets), opened.lastBlock);
  }

  inform(...payloads: readonly Payload[]): Uint8Array[] {
    return this.send(this.hashed(EXCHANGE.Informational, payloads));
  }

  /** A first message of phase 2 of the node's. */
  opened(bytes: Uint8Array): OpenedMessage {
    const read = readMessage(bytes);
    return openMessage(read, this.cipher, this.iv(read.header.messageId));
  }

  get cookies(): Uint8Array {
    return cat(this.CKY_I, this.CKY_R);
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

/** What a HASH covers of octets that begin with a payload of type `first`: the chain, without what follows it. */
function covered(first: number, octets: Uint8Array): Uint8Array {
  const from = new Reader(octets, '');
  try {
    readChain(from, first);
    return octets.subarray(0, from.at);
  } catch {
    return octets; // no chain, so the receiver comes to no HASH either
  }
}
