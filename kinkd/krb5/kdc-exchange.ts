/** The client's side of the AS exchange (RFC 4120 §3.1, with the pre-authentication that a keytab allows) and of the TGS exchange (§3.3). Pure. */

import { decode } from '../../src/asn1/schema.ts';
import { readU32be } from '../../src/bytes/bytes.ts';
import { WireError } from '../../src/errors.ts';
import type { RandomBytes } from '../../src/machine.ts';
import { AuthenticatorClock, type AuthenticatorTime, readKrbError, writeApReq } from './ap-exchange.ts';
import type { Credential } from './credential.ts';
import { checksum, decrypt, type EncryptionKey, type Etype, encrypt, enctype, KEY_USAGE, PREFERRED_ETYPES } from './enctypes.ts';
import { KdcError, krbErrorCode } from './errors.ts';
import {
  AsRep,
  AsReq,
  EncKdcRepPart,
  type KdcRep,
  KdcReqBody,
  offeredEtypes,
  PA,
  PaEncTsEnc,
  TgsRep,
  TgsReq,
} from './kdc-messages.ts';
import type { Keytab, KeytabEntry } from './keytab.ts';
import { EncryptedData, keyOf, type PaData, principalName, principalOf } from './messages.ts';
import { type Principal, samePrincipal, showPrincipal, ticketGranter } from './principal.ts';

/** Identifier octets of what a KDC answers with. */
const KRB_ERROR_TAG = 0x7e;

/** One exchange with a KDC. The octets of a request may be sent several times and to several KDCs. */
export interface KdcExchange {
  /** The next request, with our time in it. */
  request(wall: number): Uint8Array;
  /** What the answer to the last request gives, or that another request must follow. Throws KdcError, or WireError. */
  conclude(answer: Uint8Array, wall: number): Credential | 'again';
}

/** Whether an answer by UDP asks for TCP, §7.2.1. */
export function asksForTcp(answer: Uint8Array): boolean {
  return answer[0] === KRB_ERROR_TAG && readKrbError(answer).errorCode === krbErrorCode('KRB_ERR_RESPONSE_TOO_BIG');
}

/** A ticket-granting ticket for `client` by its key in the keytab, which must hold one (`Keytab.of`). */
export class AsExchange implements KdcExchange {
  readonly #client: Principal;
  readonly #keys: readonly KeytabEntry[];
  readonly #random: RandomBytes;
  readonly #clock = new AuthenticatorClock();
  /** The key to pre-authenticate with, once the KDC has told which it wants. */
  #preauthentication: KeytabEntry | undefined;
  #nonce = 0;

  constructor(client: Principal, keytab: Keytab, random: RandomBytes) {
    this.#client = client;
    this.#keys = keytab.of(client);
    this.#random = random;
  }

  request(wall: number): Uint8Array {
    this.#nonce = freshNonce(this.#random);
    const padata =
      this.#preauthentication === undefined
        ? []
        : [encryptedTimestamp(this.#preauthentication, this.#clock.next(wall), this.#random)];
    const reqBody = KdcReqBody.write({
      kdcOptions: 0,
      cname: principalName(this.#client),
      realm: this.#client.realm,
      sname: principalName(ticketGranter(this.#client.realm)),
      till: 0,
      nonce: this.#nonce,
      etype: PREFERRED_ETYPES.filter((etype) => this.#keys.some((key) => key.etype === etype)),
    });
    return AsReq.write({ padata: padata.length > 0 ? padata : undefined, reqBody });
  }

  conclude(answer: Uint8Array, wall: number): Credential | 'again' {
    if (answer[0] === KRB_ERROR_TAG) return this.#refused(answer, wall);
    const reply = decode(AsRep, answer, 'AS-REP');
    const keys = this.#keys.filter(({ etype }) => etype === reply.encPart.etype);
    const asked = { client: this.#client, server: ticketGranter(this.#client.realm), nonce: this.#nonce };
    return credentialOf(reply, keys, KEY_USAGE.AS_REP, asked, wall);
  }

  #refused(answer: Uint8Array, wall: number): 'again' {
    const error = readKrbError(answer);
    const asked = `ticket-granting ticket of ${showPrincipal(this.#client)}`;
    if (error.errorCode !== krbErrorCode('KDC_ERR_PREAUTH_REQUIRED') || this.#preauthentication !== undefined)
      throw refusedBy(error, asked, wall);
    const offered: readonly number[] = offeredEtypes(error.eData) ?? PREFERRED_ETYPES;
    const wanted = offered.find((etype) => this.#keys.some((key) => key.etype === etype));
    this.#preauthentication = this.#keys.find(({ etype }) => etype === wanted);
    if (this.#preauthentication === undefined)
      throw new KdcError(
        error.errorCode,
        asked,
        `wanted a key of enctype ${offered.join(', ')}, and the keytab has ${this.#keys.map(({ etype }) => etype).join(', ')}`,
      );
    return 'again';
  }
}

/** A service ticket by a ticket-granting ticket of the service's own realm. */
export class TgsExchange implements KdcExchange {
  readonly #tgt: Credential;
  readonly #server: Principal;
  readonly #random: RandomBytes;
  readonly #etypes: readonly Etype[];
  readonly #clock = new AuthenticatorClock();
  #nonce = 0;

  /** `etypes` are asked for as the session key's, best first. */
  constructor(tgt: Credential, server: Principal, random: RandomBytes, etypes: readonly Etype[] = PREFERRED_ETYPES) {
    this.#tgt = tgt;
    this.#server = server;
    this.#random = random;
    this.#etypes = etypes;
  }

  request(wall: number): Uint8Array {
    const { key } = this.#tgt;
    this.#nonce = freshNonce(this.#random);
    const reqBody = KdcReqBody.write({
      kdcOptions: 0,
      realm: this.#server.realm,
      sname: principalName(this.#server),
      till: 0,
      nonce: this.#nonce,
      etype: this.#etypes,
    });
    const apReq = writeApReq(this.#tgt, this.#clock.next(wall), this.#random, {
      apOptions: 0,
      usage: KEY_USAGE.TGS_REQ_AUTHENTICATOR,
      cksum: { cksumtype: enctype(key.etype).checksumType, checksum: checksum(key, KEY_USAGE.TGS_REQ_CHECKSUM, reqBody) },
    });
    return TgsReq.write({ padata: [{ padataType: PA.TGS_REQ, padataValue: apReq }], reqBody });
  }

  conclude(answer: Uint8Array, wall: number): Credential {
    if (answer[0] === KRB_ERROR_TAG) throw refusedBy(readKrbError(answer), `ticket for ${showPrincipal(this.#server)}`, wall);
    const asked = { client: this.#tgt.client, server: this.#server, nonce: this.#nonce };
    const { key } = this.#tgt;
    const reply = decode(TgsRep, answer, 'TGS-REP');
    return credentialOf(reply, key.etype === reply.encPart.etype ? [key] : [], KEY_USAGE.TGS_REP, asked, wall);
  }
}

/** The checks of §3.1.5 and §3.3.4, made on the part that only the KDC can have encrypted. */
function credentialOf(
  reply: KdcRep,
  keys: readonly EncryptionKey[],
  usage: number,
  asked: { readonly client: Principal; readonly server: Principal; readonly nonce: number },
  wall: number,
): Credential {
  const { encPart, ticket } = reply;
  const client = principalOf(reply.crealm, reply.cname);
  if (!samePrincipal(client, asked.client))
    throw new WireError(
      `the KDC answered for ${showPrincipal(client)}, asked was ${showPrincipal(asked.client)}`,
      undefined,
      'KDC-REP',
    );
  let text: Uint8Array | undefined;
  for (const key of keys) text ??= decrypt(key, usage, encPart.cipher);
  if (text === undefined)
    throw new WireError(
      `the answer of the KDC does not decrypt with our key of enctype ${encPart.etype}; is the keytab older than the key in the KDC?`,
      undefined,
      'KDC-REP',
    );
  const part = decode(EncKdcRepPart, text, 'EncKDCRepPart');
  text.fill(0);
  const server = principalOf(part.srealm, part.sname);
  if (part.nonce !== asked.nonce)
    throw new WireError(`the nonce is ${part.nonce}, sent was ${asked.nonce}`, undefined, 'EncKDCRepPart');
  if (!samePrincipal(server, asked.server))
    throw new WireError(
      `the ticket is for ${showPrincipal(server)}, asked was ${showPrincipal(asked.server)}`,
      undefined,
      'EncKDCRepPart',
    );
  const { starttime = part.authtime, endtime } = part;
  if (endtime * 1000 <= wall)
    throw new WireError(`the ticket ended before it came; compare our clock with the KDC's`, undefined, 'EncKDCRepPart');
  return { client, server, key: keyOf(part.key), ticket, starttime, endtime };
}

function refusedBy({ errorCode, eText, serverWall }: ReturnType<typeof readKrbError>, asked: string, wall: number): KdcError {
  if (errorCode === krbErrorCode('KRB_AP_ERR_SKEW'))
    return new KdcError(
      errorCode,
      asked,
      `the KDC's clock is ${Math.round((serverWall - wall) / 1000)} s ahead of ours; set the clocks`,
    );
  return new KdcError(errorCode, asked, eText === undefined ? undefined : `the KDC says: ${JSON.stringify(eText)}`);
}

/** PA-ENC-TIMESTAMP, §5.2.7.2. */
function encryptedTimestamp(key: KeytabEntry, { ctime, cusec }: AuthenticatorTime, random: RandomBytes): PaData {
  const cipher = encrypt(key, KEY_USAGE.PA_ENC_TIMESTAMP, PaEncTsEnc.write({ patimestamp: ctime, pausec: cusec }), random);
  return { padataType: PA.ENC_TIMESTAMP, padataValue: EncryptedData.write({ etype: key.etype, kvno: key.kvno, cipher }) };
}

/** 31 bits, since some write the nonce as a signed number. */
function freshNonce(random: RandomBytes): number {
  return readU32be(random(4)) >>> 1;
}
