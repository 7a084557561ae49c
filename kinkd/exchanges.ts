/**
 * A datagram on its way to what it belongs to, RFC 4430 §3, §6, §10. Nothing is worked on, asked for or changed before AP-REQ and Cksum (or Cksum
 * and AP-REP) were found right; what is wrong before is dropped, or complained about so many times a second.
 */

import { AuthError, PeerError, WireError } from '../src/errors.ts';
import { type Path, showEndpoint } from '../src/net/address.ts';
import { nameOf } from '../src/wire/registry.ts';
import type { Association } from './association.ts';
import { hearEpoch } from './endings.ts';
import type { Host } from './host.ts';
import { conclude, hint, replyAgain } from './initiator.ts';
import { type Accepted, acceptApReq, checkApRep, makeApRep, makeKrbError } from './krb5/ap-exchange.ts';
import type { EncryptionKey } from './krb5/enctypes.ts';
import { ApError } from './krb5/errors.ts';
import { showPrincipal } from './krb5/principal.ts';
import { ladder } from './ladder.ts';
import {
  encrypted,
  type Header,
  IPSEC_DOI,
  openEncrypt,
  peekHeader,
  type ReadMessage,
  readMessage,
  sealMessage,
  TYPE,
  verifyCksum,
  writeMessage,
} from './message.ts';
import { find, KINK_ERROR, type KinkErrorName, type Payload } from './payloads.ts';
import { type Command, hearAck, hearCommand, refusalPayload } from './responder.ts';
import { checkRules, refuseOuter } from './rules.ts';

export function receive(host: Host, path: Path, bytes: Uint8Array): void {
  host.count('messages-in');
  let read: ReadMessage;
  try {
    read = readMessage(bytes);
  } catch (error) {
    return unreadable(host, path, bytes, error);
  }
  const refusal = refuseOuter(read.messageType, read.payloads, read.sealed !== undefined);
  if (refusal !== undefined) return ignore(host, path, refusal);
  switch (read.messageType) {
    case TYPE.REPLY:
      return hearReply(host, path, read);
    case TYPE.GETTGT:
      return refuseTgt(host, path, read);
    default:
      return hearCommandOrAck(host, path, read);
  }
}

/** RFC 4430 §4.2.8: another version or DOI is answered, so that a person finds out; anything else that is no message is dropped. */
function unreadable(host: Host, path: Path, bytes: Uint8Array, error: unknown): void {
  if (!(error instanceof WireError || error instanceof PeerError)) throw error;
  const header = peekHeader(bytes);
  const command = header !== undefined && header.messageType !== TYPE.REPLY && header.messageType !== TYPE.ACK;
  if (error instanceof WireError || !command || !host.complaints.another()) return ignore(host, path, error.message);
  complain(host, path, header, [{ type: 'ERROR', code: KINK_ERROR[error.notify as KinkErrorName] }], error.message);
}

/** User-to-user is not spoken: nobody gets our ticket-granting ticket (RFC 4430 §6.6). */
function refuseTgt(host: Host, path: Path, read: ReadMessage): void {
  const why = 'GETTGT: user-to-user authentication is not supported here';
  if (!host.complaints.another()) return ignore(host, path, why);
  complain(host, path, read, [{ type: 'ERROR', code: KINK_ERROR.KINK_U2UDENIED }], why);
}

// Commands and ACK.

function hearCommandOrAck(host: Host, cameBy: Path, read: ReadMessage): void {
  const { EPOCH, apReq } = find(read.payloads, 'AP_REQ')!;
  const accepted = authenticate(host, cameBy, read, apReq);
  if (accepted === undefined) return;
  const peer = host.peers.byPrincipals(accepted.client, accepted.server);
  if (peer === undefined) return refuseStranger(host, cameBy, read, accepted);
  host.replays.add(accepted);
  const path = host.presentPath(peer, cameBy);
  const association = host.table.of(peer, path);
  if (!hearEpoch(association, EPOCH, accepted)) return dropOld(association);
  association.path = path;
  const { payloads, inner } = opened(association, read, accepted.key);
  association.report('ladder', ladder(read, inner), { direction: 'in', id: read.XID });
  if (read.messageType !== TYPE.ACK)
    return hearCommand(association, { messageType: read.messageType, XID: read.XID, path, accepted, payloads });
  if (payloads instanceof Error) return ignore(host, path, payloads.message);
  hearAck(association, read.XID);
}

/** The AP-REQ's client, where the whole message is its. What is not right leaves no trace. */
function authenticate(host: Host, path: Path, read: ReadMessage, apReq: Uint8Array): Accepted | undefined {
  const { config, keytab, servers } = host.peers;
  const acceptor = { keytab, servers, clockSkewMs: config.kerberos.clockSkew, replays: host.replays };
  try {
    const accepted = acceptApReq(apReq, acceptor, host.now.wall, path.remote.address.bytes);
    verifyCksum(read, accepted.key);
    return accepted;
  } catch (error) {
    if (error instanceof ApError) refuseApReq(host, path, read, error);
    else if (error instanceof WireError || error instanceof AuthError) ignore(host, path, error.message);
    else throw error;
    return undefined;
  }
}

/** RFC 4430 §6.3: with the ticket's key at hand the error is protected by it, and proves who we are; else it stands alone. */
function refuseApReq(host: Host, path: Path, read: ReadMessage, error: ApError): void {
  const { refused } = error;
  if (refused !== undefined) {
    try {
      verifyCksum(read, refused.key);
    } catch (wrong) {
      if (!(wrong instanceof AuthError)) throw wrong;
      return ignore(host, path, wrong.message);
    }
  }
  // Anyone can repeat what he has seen: no answer is worth that (KRB_AP_ERR_REPEAT), nor is there more than one server that we could be.
  const server = host.peers.servers[0];
  if (error.error === 'KRB_AP_ERR_REPEAT' || read.messageType === TYPE.ACK || server === undefined || !host.complaints.another())
    return ignore(host, path, error.message);
  const krbError: Payload = { type: 'KRB_ERROR', krbError: makeKrbError(error, server, host.now.wall) };
  if (refused === undefined) return complain(host, path, read, [krbError], error.message);
  answerOnce(host, path, read, refused, krbError, error.message);
}

/** A principal that no remote names, or that asks for another name of ours than its remote says. */
function refuseStranger(host: Host, path: Path, read: ReadMessage, accepted: Accepted): void {
  const known = host.peers.all.find(({ kink }) => kink.peersPrincipal === showPrincipal(accepted.client));
  const who = `${showPrincipal(accepted.client)} (to ${showPrincipal(accepted.server)})`;
  const why =
    known === undefined
      ? `${who} is the peers_principal of no remote`
      : `${who} asks for another principal than my_principal of remote ${known.name}`;
  // Everyone in the realm has a ticket for us if he likes: nothing is kept of him, his authenticator included.
  if (read.messageType === TYPE.ACK || !host.complaints.another()) return ignore(host, path, why);
  host.remember(showEndpoint(path.remote), why);
  answerOnce(host, path, read, accepted, refusalPayload(new PeerError('PAYLOAD-MALFORMED', why)).payload, why);
}

/** A protected REPLY that nothing is remembered of. */
function answerOnce(
  host: Host,
  path: Path,
  { messageType, XID }: Header,
  to: Pick<Accepted, 'key' | 'client' | 'ctime' | 'cusec'>,
  payload: Payload,
  why: string,
): void {
  report(host, path, messageType, payload, why);
  const apRep: Payload = { type: 'AP_REP', EPOCH: host.EPOCH, apRep: makeApRep(to, host.random) };
  const payloads = [apRep, encrypted([payload], to.key, host.random)];
  host.emit({
    kind: 'send',
    path,
    bytes: sealMessage({ messageType: TYPE.REPLY, DOI: IPSEC_DOI, XID, ACKREQ: false, payloads }, to.key),
  });
}

/** An unprotected error. */
function complain(host: Host, path: Path, { messageType, XID }: Header, payloads: readonly Payload[], why: string): void {
  report(host, path, messageType, payloads[0]!, why);
  const message = { messageType: TYPE.REPLY, DOI: IPSEC_DOI, XID, ACKREQ: false, payloads };
  host.emit({ kind: 'send', path, bytes: writeMessage(message) });
}

function report(host: Host, path: Path, messageType: number, payload: Payload, why: string): void {
  const name = payload.type === 'ERROR' ? nameOf(KINK_ERROR, payload.code) : payload.type;
  const peer = showEndpoint(path.remote);
  host.report('message-refused', `${nameOf(TYPE, messageType)} from ${peer} answered with ${name}: ${why}`, {
    peer,
    notify: name,
  });
}

// REPLY.

function hearReply(host: Host, path: Path, read: ReadMessage): void {
  const transaction = host.table.transaction(read.XID);
  const key = transaction?.credential?.key;
  if (transaction === undefined || key === undefined) return ignore(host, path, `REPLY to no command of ours (XID ${read.XID})`);
  const { association, stage } = transaction;
  const apRep = find(read.payloads, 'AP_REP');
  if (apRep === undefined) {
    const peers = path.remote.address.equals(transaction.path.remote.address);
    if (!peers || stage !== 'sent') return ignore(host, path, 'an unprotected REPLY that is not waited for');
    return heedless(host, path, () => hint(transaction, read.payloads));
  }
  let sentAt: number;
  try {
    verifyCksum(read, key);
    sentAt = checkApRep(apRep.apRep, key, transaction.outstanding).at;
  } catch (error) {
    if (!(error instanceof AuthError || error instanceof ApError || error instanceof WireError)) throw error;
    return ignore(host, path, error.message);
  }
  if (!hearEpoch(association, apRep.EPOCH, { sentAt }) || transaction.closed) return dropOld(association);
  const { payloads, inner } = opened(association, read, key);
  association.report('ladder', ladder(read, inner), { direction: 'in', id: read.XID });
  if (stage !== 'sent') return replyAgain(transaction, read.ACKREQ);
  if (payloads instanceof Error) return ignore(host, path, payloads.message);
  conclude(transaction, payloads, read.ACKREQ);
}

/** What an unauthenticated message holds may be anything. */
function heedless(host: Host, path: Path, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    ignore(host, path, error.message);
  }
}

/** All payloads of an authentic message, those inside of KINK_ENCRYPT in its place; or why they are not to be had. */
function opened(
  { peer }: Association,
  read: ReadMessage,
  key: EncryptionKey,
): { readonly payloads: Command['payloads']; readonly inner: readonly Payload[] } {
  const sealed = find(read.payloads, 'ENCRYPT');
  try {
    const inner = sealed === undefined ? [] : openEncrypt(sealed, key);
    const payloads = checkRules(read.messageType, read.payloads, inner);
    const clear = read.payloads.find(({ type }) => type === 'ISAKMP' || type === 'KRB_ERROR' || type === 'ERROR');
    if (clear !== undefined && !peer.kink.clearPayloads)
      throw new PeerError('KINK_PROTOERR', `${clear.type} outside of ENCRYPT, which only clear_payloads on would let in`);
    return { payloads, inner };
  } catch (error) {
    if (error instanceof AuthError) return { payloads: new WireError(error.message), inner: [] };
    if (error instanceof WireError || error instanceof PeerError) return { payloads: error, inner: [] };
    throw error;
  }
}

function dropOld(association: Association): void {
  association.host.count('messages-dropped');
  association.report('message-dropped', 'a message was ignored: it is from before the peer restarted');
}

function ignore(host: Host, path: Path, why: string): void {
  host.count('messages-dropped');
  host.report('message-dropped', `a datagram was ignored: ${why}`, { peer: showEndpoint(path.remote) });
}
