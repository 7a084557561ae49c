/** A stand-in for a KDC (RFC 4120 §3.1, §3.3), pure and small: for the quick start and for tests where no KDC is installed. No database, no policy. */

import { decode } from '../../src/asn1/schema.ts';
import { Secret } from '../../src/bytes/secret.ts';
import type { RandomBytes } from '../../src/machine.ts';
import { acceptApReq } from './ap-exchange.ts';
import type { Credential } from './credential.ts';
import { decrypt, type EncryptionKey, encrypt, enctype, isEtype, KEY_USAGE, verifyChecksum } from './enctypes.ts';
import { ApError, type KrbErrorName, krbErrorCode } from './errors.ts';
import {
  AsRep,
  AsReq,
  EncKdcRepPart,
  EtypeInfo2,
  KdcReqBody,
  MethodData,
  PA,
  PaEncTsEnc,
  TgsRep,
  TgsReq,
} from './kdc-messages.ts';
import type { Keytab } from './keytab.ts';
import {
  ApReq,
  Authenticator,
  EncryptedData,
  EncTicketPart,
  encryptionKey,
  KrbError,
  principalName,
  principalOf,
  Ticket,
} from './messages.ts';
import { type Principal, showPrincipal, ticketGranter } from './principal.ts';

const INITIAL = 0x00400000;
const PRE_AUTHENTICATED = 0x00200000;

/** What goes into a ticket beside its names. Times are seconds since 1970. */
export interface TicketTerms {
  readonly client: Principal;
  readonly server: Principal;
  /** The server's long-term key, and its version. */
  readonly serverKey: EncryptionKey & { readonly kvno?: number };
  readonly sessionKey: EncryptionKey;
  readonly starttime: number;
  readonly endtime: number;
  readonly flags?: number;
  readonly transited?: Uint8Array;
  readonly addresses?: readonly Uint8Array[];
}

/** A ticket of these terms as its client holds it. */
export function issueTicket(terms: TicketTerms, random: RandomBytes): Credential {
  const { client, server, serverKey, sessionKey, starttime, endtime, addresses } = terms;
  const part = EncTicketPart.write({
    flags: terms.flags ?? 0,
    key: encryptionKey(sessionKey),
    crealm: client.realm,
    cname: principalName(client),
    transited: { trType: 1, contents: terms.transited ?? new Uint8Array(0) },
    authtime: starttime,
    starttime,
    endtime,
    caddr: addresses?.map((address) => ({ addrType: address.length === 4 ? 2 : 24, address })),
  });
  const encPart = { etype: serverKey.etype, kvno: serverKey.kvno, cipher: encrypt(serverKey, KEY_USAGE.TICKET, part, random) };
  const ticket = Ticket.write({ realm: server.realm, sname: principalName(server), encPart });
  return { client, server, key: sessionKey, ticket, starttime, endtime };
}

/** The realm: every principal with its keys is in `keytab`, the ticket-granting service included. */
export class StandInKdc {
  readonly realm: string;
  readonly #keytab: Keytab;
  readonly #random: RandomBytes;
  readonly #lifeSeconds: number;
  readonly #skewMs: number;

  constructor(realm: string, keytab: Keytab, random: RandomBytes, lifeSeconds = 36_000, skewMs = 300_000) {
    this.realm = realm;
    this.#keytab = keytab;
    this.#random = random;
    this.#lifeSeconds = lifeSeconds;
    this.#skewMs = skewMs;
  }

  /** The answer to one request, an AS-REP, TGS-REP or KRB-ERROR. Throws WireError where it is no request. */
  answer(request: Uint8Array, wall: number): Uint8Array {
    return request[0] === 0x6c ? this.#tgs(request, wall) : this.#as(request, wall);
  }

  #as(request: Uint8Array, wall: number): Uint8Array {
    const { padata = [], reqBody } = decode(AsReq, request, 'AS-REQ');
    const body = decode(KdcReqBody, reqBody, 'KDC-REQ-BODY');
    const client = body.cname && principalOf(body.realm, body.cname);
    const keys = client === undefined ? [] : this.#keytab.of(client);
    if (client === undefined || keys.length === 0) return this.#error('KDC_ERR_C_PRINCIPAL_UNKNOWN', wall);
    const timestamp = padata.find(({ padataType }) => padataType === PA.ENC_TIMESTAMP);
    if (timestamp === undefined) {
      const info = EtypeInfo2.write(keys.map(({ etype }) => ({ etype })));
      const eData = MethodData.write([
        { padataType: PA.ENC_TIMESTAMP, padataValue: new Uint8Array(0) },
        { padataType: PA.ETYPE_INFO2, padataValue: info },
      ]);
      return this.#error('KDC_ERR_PREAUTH_REQUIRED', wall, eData);
    }
    const sealed = decode(EncryptedData, timestamp.padataValue, 'PA-ENC-TIMESTAMP');
    const key = keys.find(({ etype }) => etype === sealed.etype);
    const stamp = key && decrypt(key, KEY_USAGE.PA_ENC_TIMESTAMP, sealed.cipher);
    if (key === undefined || stamp === undefined) return this.#error('KDC_ERR_PREAUTH_FAILED', wall);
    const { patimestamp } = decode(PaEncTsEnc, stamp, 'PA-ENC-TS-ENC');
    if (Math.abs(patimestamp * 1000 - wall) > this.#skewMs) return this.#error('KRB_AP_ERR_SKEW', wall);
    return this.#reply(AsRep, client, body, key, KEY_USAGE.AS_REP, INITIAL | PRE_AUTHENTICATED, wall);
  }

  #tgs(request: Uint8Array, wall: number): Uint8Array {
    const { padata = [], reqBody } = decode(TgsReq, request, 'TGS-REQ');
    const apReq = padata.find(({ padataType }) => padataType === PA.TGS_REQ);
    if (apReq === undefined) return this.#error('KDC_ERR_PADATA_TYPE_NOSUPP', wall);
    try {
      const accepted = acceptApReq(apReq.padataValue, this.#granter(), wall);
      const { authenticator } = decode(ApReq, apReq.padataValue, 'AP-REQ');
      const opened = decrypt(accepted.key, KEY_USAGE.TGS_REQ_AUTHENTICATOR, authenticator.cipher);
      const { cksum } = decode(Authenticator, opened ?? new Uint8Array(0), 'Authenticator');
      if (cksum === undefined || !verifyChecksum(accepted.key, KEY_USAGE.TGS_REQ_CHECKSUM, reqBody, cksum.checksum))
        return this.#error('KRB_AP_ERR_MODIFIED', wall);
      const body = decode(KdcReqBody, reqBody, 'KDC-REQ-BODY');
      return this.#reply(
        TgsRep,
        accepted.client,
        body,
        accepted.key,
        KEY_USAGE.TGS_REP,
        PRE_AUTHENTICATED,
        wall,
        accepted.endtime,
      );
    } catch (error) {
      if (error instanceof ApError) return this.#error(error.error, wall);
      throw error;
    }
  }

  #granter() {
    return {
      keytab: this.#keytab,
      servers: [ticketGranter(this.realm)],
      clockSkewMs: this.#skewMs,
      replays: { has: () => false }, // a repeated TGS-REQ gains nobody anything
      usage: KEY_USAGE.TGS_REQ_AUTHENTICATOR,
    };
  }

  #reply(
    Reply: typeof AsRep,
    client: Principal,
    body: KdcReqBody,
    replyKey: EncryptionKey & { readonly kvno?: number },
    usage: number,
    flags: number,
    wall: number,
    until = Number.POSITIVE_INFINITY,
  ): Uint8Array {
    const server = body.sname && principalOf(body.realm, body.sname);
    const serverKey = server && this.#keytab.of(server)[0];
    if (server === undefined || serverKey === undefined) return this.#error('KDC_ERR_S_PRINCIPAL_UNKNOWN', wall);
    const etype = body.etype.find(isEtype);
    if (etype === undefined) return this.#error('KDC_ERR_ETYPE_NOSUPP', wall);
    const sessionKey: EncryptionKey = { etype, key: new Secret(this.#random(enctype(etype).keyBytes)) };
    const starttime = Math.floor(wall / 1000);
    const endtime = Math.min(until, starttime + this.#lifeSeconds, body.till === 0 ? Number.POSITIVE_INFINITY : body.till);
    const { ticket } = issueTicket({ client, server, serverKey, sessionKey, starttime, endtime, flags }, this.#random);
    const part = EncKdcRepPart.write({
      key: encryptionKey(sessionKey),
      lastReq: [{ lrType: 0, lrValue: starttime }],
      nonce: body.nonce,
      flags,
      authtime: starttime,
      starttime,
      endtime,
      srealm: server.realm,
      sname: principalName(server),
    });
    return Reply.write({
      crealm: client.realm,
      cname: principalName(client),
      ticket,
      encPart: { etype: replyKey.etype, kvno: replyKey.kvno, cipher: encrypt(replyKey, usage, part, this.#random) },
    });
  }

  #error(error: KrbErrorName, wall: number, eData?: Uint8Array): Uint8Array {
    const granter = ticketGranter(this.realm);
    return KrbError.write({
      stime: Math.floor(wall / 1000),
      susec: 0,
      errorCode: krbErrorCode(error),
      realm: granter.realm,
      sname: principalName(granter),
      eData,
    });
  }

  /** A principal with fresh keys of these enctypes. */
  static principalKeys(principal: Principal, etypes: readonly EncryptionKey['etype'][], random: RandomBytes, kvno = 1) {
    return etypes.map((etype) => ({ principal, kvno, etype, key: new Secret(random(enctype(etype).keyBytes)) }));
  }

  toString(): string {
    return `StandInKdc(${this.#keytab.principals().map(showPrincipal).join(', ')})`;
  }
}
