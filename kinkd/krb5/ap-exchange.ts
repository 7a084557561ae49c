/** The client/server authentication exchange (RFC 4120 §3.2) as KINK uses it: mutual, session key only. Pure; the caller keeps clock and replay cache. */

import { type DerValue, decode } from '../../src/asn1/schema.ts';
import { equal } from '../../src/bytes/bytes.ts';
import { digest } from '../../src/crypto/hash.ts';
import type { RandomBytes } from '../../src/machine.ts';
import type { Credential } from './credential.ts';
import { decrypt, type EncryptionKey, encrypt, enctypeName, KEY_USAGE } from './enctypes.ts';
import { ApError, explainKrbError, type KrbErrorName, type Refused } from './errors.ts';
import type { Keytab, KeytabEntry } from './keytab.ts';
import {
  AP_OPTION,
  ApRep,
  ApReq,
  Authenticator,
  type Checksum,
  EncApRepPart,
  type EncryptedData,
  EncTicketPart,
  type EncTicketPart as EncTicketPartValue,
  KrbError,
  keyOf,
  principalName,
  principalOf,
  TICKET_FLAG,
  Ticket,
} from './messages.ts';
import { type Principal, samePrincipal, showPrincipal } from './principal.ts';

/** The client's time in an authenticator: seconds since 1970, and microseconds. */
export interface AuthenticatorTime {
  readonly ctime: number;
  readonly cusec: number;
}

/** Gives each authenticator a time of its own, since equal ones look like replays (RFC 4120 §3.2.3, implementation note). */
export class AuthenticatorClock {
  #last = { ms: 0, usec: 0 };

  /** `wall` is our clock in milliseconds, with the peer's difference already added. */
  next(wall: number): AuthenticatorTime {
    const ms = Math.floor(wall);
    const usec = ms === this.#last.ms ? this.#last.usec + 1 : 0;
    this.#last = { ms, usec };
    const micros = ms * 1000 + usec;
    return { ctime: Math.floor(micros / 1_000_000), cusec: micros % 1_000_000 };
  }
}

/** KRB_AP_REQ that asks for mutual authentication, §3.2.2. Each call makes another authenticator for the same ticket. */
export function buildApReq(credential: Credential, at: AuthenticatorTime, random: RandomBytes): Uint8Array {
  return writeApReq(credential, at, random, { apOptions: AP_OPTION.MUTUAL_REQUIRED, usage: KEY_USAGE.AP_REQ_AUTHENTICATOR });
}

/** An AP-REQ with these options, whose authenticator has this usage and may vouch for other octets. */
export function writeApReq(
  { client, key, ticket }: Credential,
  at: AuthenticatorTime,
  random: RandomBytes,
  { apOptions, usage, cksum }: { readonly apOptions: number; readonly usage: number; readonly cksum?: DerValue<typeof Checksum> },
): Uint8Array {
  const authenticator = Authenticator.write({ crealm: client.realm, cname: principalName(client), cksum, ...at });
  return ApReq.write({ pvno: 5, msgType: 14, apOptions, ticket, authenticator: sealed(key, usage, authenticator, random) });
}

/**
 * Checks a KRB_AP_REP, §3.2.5, and tells which of the authenticators it answers: any of those sent in this transaction will do. Throws ApError (or
 * WireError where it is no AP-REP).
 */
export function checkApRep<T extends AuthenticatorTime>(apRep: Uint8Array, key: EncryptionKey, outstanding: readonly T[]): T {
  const { encPart } = decode(ApRep, apRep, 'AP-REP');
  const { ctime, cusec } = decode(EncApRepPart, opened(key, KEY_USAGE.AP_REP, encPart, 'the AP-REP'), 'EncAPRepPart');
  const answered = outstanding.find((sent) => sent.ctime === ctime && sent.cusec === cusec);
  if (answered === undefined)
    throw new ApError('KRB_AP_ERR_MUT_FAIL', `the AP-REP answers the time ${ctime}.${cusec}, which we did not send`);
  return answered;
}

/** What an acceptor goes by. Times are milliseconds. */
export interface Acceptor {
  readonly keytab: Keytab;
  /** Names that we answer to; a ticket for another name in the same keytab is not for us. */
  readonly servers: readonly Principal[];
  readonly clockSkewMs: number;
  /** Tells whether an authenticator was accepted before. Accepting does not remember it: that is part of the caller's commit. */
  readonly replays: { has(id: Uint8Array): boolean };
  /** Of the authenticator: only a ticket-granting service has another (RFC 4120 §7.5.1). */
  readonly usage?: number;
}

/** An AP-REQ that proves its client. */
export interface Accepted extends AuthenticatorTime {
  /** The session key of the ticket. */
  readonly key: EncryptionKey;
  readonly client: Principal;
  readonly server: Principal;
  /** When the ticket ends, in seconds since 1970. */
  readonly endtime: number;
  /** What the replay cache knows this authenticator by. */
  readonly authenticatorId: Uint8Array;
  /** Whether ap-options ask for it. Nothing protects these options, so KINK answers with an AP-REP in any case. */
  readonly mutualRequired: boolean;
}

/**
 * Checks a KRB_AP_REQ in the order of §3.2.3. `wall` is our clock, `sender` the address octets that it came from, for tickets that are bound to
 * addresses. Throws ApError, or WireError where it is no AP-REQ; either way nothing has changed anywhere.
 */
export function acceptApReq(apReq: Uint8Array, acceptor: Acceptor, wall: number, sender?: Uint8Array): Accepted {
  const { pvno, msgType, apOptions, ticket: ticketOctets, authenticator: sealedAuthenticator } = decode(ApReq, apReq, 'AP-REQ');
  if (pvno !== 5) throw new ApError('KRB_AP_ERR_BADVERSION', `wanted version 5, found ${pvno}`);
  if (msgType !== 14) throw new ApError('KRB_AP_ERR_MSG_TYPE', `wanted 14 (KRB_AP_REQ), found ${msgType}`);
  const ticket = decode(Ticket, ticketOctets, 'AP-REQ/ticket');
  const named = principalOf(ticket.realm, ticket.sname);
  if ((apOptions & AP_OPTION.USE_SESSION_KEY) !== 0)
    throw new ApError('KRB_AP_ERR_NO_TGT', 'a user-to-user ticket came, and we gave nobody our ticket-granting ticket');
  // The name that we hold, since nothing protects the name type of the other.
  const server = acceptor.servers.find((own) => samePrincipal(own, named));
  if (server === undefined)
    throw new ApError(
      'KRB_AP_ERR_NOT_US',
      `the ticket is for ${showPrincipal(named)}, we are ${acceptor.servers.map(showPrincipal).join(', ')}`,
    );

  const part = openTicket(ticket.encPart, keysFor(acceptor.keytab, server, ticket.encPart));
  const key = keyOf(part.key);
  const authenticator = decode(
    Authenticator,
    opened(key, acceptor.usage ?? KEY_USAGE.AP_REQ_AUTHENTICATOR, sealedAuthenticator, 'the authenticator'),
    'Authenticator',
  );
  const client = principalOf(part.crealm, part.cname);
  const claimed = principalOf(authenticator.crealm, authenticator.cname);
  if (!samePrincipal(client, claimed))
    throw new ApError(
      'KRB_AP_ERR_BADMATCH',
      `the ticket names ${showPrincipal(client)}, the authenticator ${showPrincipal(claimed)}`,
    );

  const { ctime, cusec } = authenticator;
  const authenticatorId = replayId(sealedAuthenticator);
  const error = refusal(part, server, acceptor, authenticatorId, clientTime({ ctime, cusec }), wall, sender);
  if (error !== undefined) throw new ApError(error[0], `${showPrincipal(client)}: ${error[1]}`, { key, client, ctime, cusec });
  const mutualRequired = (apOptions & AP_OPTION.MUTUAL_REQUIRED) !== 0;
  return { key, client, server, ctime, cusec, endtime: part.endtime, authenticatorId, mutualRequired };
}

/** KRB_AP_REP for an AP-REQ that was accepted (or refused with a key, where KINK still proves itself), §3.2.4: no subkey, RFC 4430 §7. */
export function makeApRep({ key, ctime, cusec }: Refused | Accepted, random: RandomBytes): Uint8Array {
  const part = EncApRepPart.write({ ctime, cusec });
  return ApRep.write({ encPart: sealed(key, KEY_USAGE.AP_REP, part, random) });
}

/** KRB_ERROR of `server` for what was refused, §5.9.1. The client's time and name go back where they are known. */
export function makeKrbError(error: ApError, server: Principal, wall: number): Uint8Array {
  const { refused } = error;
  const micros = Math.floor(wall * 1000);
  return KrbError.write({
    ...(refused === undefined
      ? {}
      : { ctime: refused.ctime, cusec: refused.cusec, crealm: refused.client.realm, cname: principalName(refused.client) }),
    stime: Math.floor(micros / 1_000_000),
    susec: micros % 1_000_000,
    errorCode: error.code,
    realm: server.realm,
    sname: principalName(server),
  });
}

/** A KRB_ERROR as it came. Believe it only where KINK's checksum covers it. */
export function readKrbError(bytes: Uint8Array): KrbError & { readonly explanation: string; readonly serverWall: number } {
  const error = decode(KrbError, bytes, 'KRB-ERROR');
  return {
    ...error,
    explanation: explainKrbError(error.errorCode),
    serverWall: error.stime * 1000 + Math.floor(error.susec / 1000),
  };
}

/** What is authentic and still no good, in the order of §3.2.3. */
function refusal(
  part: EncTicketPartValue,
  server: Principal,
  { clockSkewMs, replays }: Acceptor,
  authenticatorId: Uint8Array,
  clientWall: number,
  wall: number,
  sender: Uint8Array | undefined,
): readonly [KrbErrorName, string] | undefined {
  if (part.caddr !== undefined && part.caddr.length > 0) {
    const known = sender !== undefined && part.caddr.some(({ address }) => equal(address, sender));
    if (!known) return ['KRB_AP_ERR_BADADDR', 'the ticket is for other addresses than the one it came from'];
  }
  const skewMs = clientWall - wall;
  if (Math.abs(skewMs) > clockSkewMs)
    return [
      'KRB_AP_ERR_SKEW',
      `the client's clock is ${Math.round(skewMs / 1000)} s off ours, ${clockSkewMs / 1000} s are allowed; set the clocks`,
    ];
  if (replays.has(authenticatorId)) return ['KRB_AP_ERR_REPEAT', 'this authenticator was accepted before'];
  if ((part.flags & TICKET_FLAG.INVALID) !== 0) return ['KRB_AP_ERR_TKT_NYV', 'the ticket is marked invalid'];
  const early = (part.starttime ?? part.authtime) * 1000 - wall;
  if (early > clockSkewMs) return ['KRB_AP_ERR_TKT_NYV', `the ticket begins ${Math.round(early / 1000)} s from now`];
  const late = wall - part.endtime * 1000;
  if (late > clockSkewMs) return ['KRB_AP_ERR_TKT_EXPIRED', `the ticket ended ${Math.round(late / 1000)} s ago`];
  // §2.7: who does not check the path of realms itself goes by the KDC's word.
  const { contents } = part.transited;
  if (part.crealm !== server.realm && contents.length > 0 && (part.flags & TICKET_FLAG.TRANSITED_POLICY_CHECKED) === 0)
    return ['KRB_AP_PATH_NOT_ACCEPTED', `no KDC vouches for the realms between ${part.crealm} and ${server.realm}`];
  return undefined;
}

function keysFor(keytab: Keytab, server: Principal, { etype, kvno }: EncryptedData): readonly KeytabEntry[] {
  const lookup = keytab.keys(server, etype, kvno);
  if ('found' in lookup) return lookup.found;
  const name = showPrincipal(server);
  if (lookup.missing === 'version')
    throw new ApError(
      'KRB_AP_ERR_BADKEYVER',
      `no key version ${kvno} of ${name} (${enctypeName(etype)}); write the keytab anew (ktadd)`,
    );
  const lacks = lookup.missing === 'principal' ? name : `${enctypeName(etype)} of ${name}`;
  throw new ApError('KRB_AP_ERR_NOKEY', `the keytab lacks ${lacks}; write it anew (ktadd)`);
}

function openTicket(encPart: EncryptedData, keys: readonly KeytabEntry[]): EncTicketPartValue {
  for (const key of keys) {
    const text = decrypt(key, KEY_USAGE.TICKET, encPart.cipher);
    if (text === undefined) continue;
    const part = decode(EncTicketPart, text, 'EncTicketPart');
    text.fill(0); // it holds the session key
    return part;
  }
  throw new ApError(
    'KRB_AP_ERR_BAD_INTEGRITY',
    'the ticket does not decrypt with our key; is the keytab older than the key in the KDC?',
  );
}

/** The outer enctype must be the key's: nothing protects it otherwise. */
function opened(key: EncryptionKey, usage: number, { etype, cipher }: EncryptedData, what: string): Uint8Array {
  const text = etype === key.etype ? decrypt(key, usage, cipher) : undefined;
  if (text === undefined) throw new ApError('KRB_AP_ERR_BAD_INTEGRITY', `${what} does not decrypt with the session key`);
  return text;
}

function sealed(key: EncryptionKey, usage: number, part: Uint8Array, random: RandomBytes): EncryptedData {
  return { etype: key.etype, cipher: encrypt(key, usage, part, random) };
}

/** The ciphertext, which a fresh confounder makes unique, stands for client, server and time. */
function replayId({ cipher }: EncryptedData): Uint8Array {
  return digest('sha2_256', cipher);
}

function clientTime({ ctime, cusec }: AuthenticatorTime): number {
  return ctime * 1000 + cusec / 1000;
}
