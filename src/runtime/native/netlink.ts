/**
 * A netlink socket, used synchronously: requests about routes and links are rare and answered at once by the kernel (netlink(7)).
 */

import { SystemError } from '../../errors.ts';
import {
  attributes,
  encodeMessage,
  messages,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
} from '../netlink/codec.ts';
import { Arena, scratch } from './arena.ts';
import { check, close, EAGAIN, EINTR, type Libc, systemError } from './libc.ts';
import { trySetOption } from './sockets.ts';

const AF_NETLINK = 16;
/** struct sockaddr_nl: `family (2) | pad (2) | port (4) | groups (4)`; the kernel chooses a port of 0. */
const SOCKADDR_NL_BYTES = 12;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
const NLMSGERR_ATTR_MSG = 1;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const EPERM = 1;
const BUFFER_BYTES = 256 * 1024;
const TIMEOUT_SECONDS = 5;
/** What one transaction may have: some twenty thousand rules. */
const TRANSACTION_BYTES = 8 * 1024 * 1024;
const SO_SNDBUFFORCE = 32;

let buffer: Arena | undefined;
/** For transactions that are longer than `buffer`; it grows, and is never given back. */
let outbox: Arena | undefined;

/** One request of a transaction. */
export interface Request {
  readonly type: number;
  readonly flags: number;
  readonly body: Uint8Array;
}

/** One socket to one protocol of the kernel (NETLINK_ROUTE is 0). Each request waits for its answer, 5 seconds at most. */
export class NetlinkSocket {
  readonly fd: number;
  readonly #libc: Libc;
  readonly #buffer: Arena;
  #sequence = 0;

  /**
   * `groups` are multicast groups to listen to; read them with `notifications`, on a socket that makes no requests. Throws
   * SystemError.
   */
  constructor(libc: Libc, protocol: number, groups: readonly number[] = []) {
    this.#libc = libc;
    buffer ??= new Arena(libc, BUFFER_BYTES);
    this.#buffer = buffer;
    this.fd = check(libc, libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol), 'open a netlink socket');
    try {
      this.#prepare(groups);
    } catch (error) {
      libc.close(this.fd);
      throw error;
    }
  }

  #prepare(groups: readonly number[]): void {
    const libc = this.#libc;
    trySetOption(libc, this.fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
    trySetOption(libc, this.fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
    const page = scratch(libc);
    page.setU64(0, TIMEOUT_SECONDS);
    page.setU64(8, 0);
    check(libc, libc.setsockopt(this.fd, SOL_SOCKET, SO_RCVTIMEO, page.base, 16), 'limit the wait for netlink');
    page.bytes.fill(0, 0, SOCKADDR_NL_BYTES);
    page.view.setUint16(0, AF_NETLINK, true);
    check(libc, libc.bind(this.fd, page.base, SOCKADDR_NL_BYTES), 'bind a netlink socket');
    for (const group of groups) {
      if (!trySetOption(libc, this.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)) {
        throw systemError(`listen to netlink group ${group}`, libc.errno());
      }
    }
  }

  /**
   * Sends one request, waits until the kernel acknowledges it, and returns what it answered before that (nothing to most
   * requests). `what` names the request in the error. Throws SystemError with the errno's name as its code.
   */
  request(type: number, flags: number, body: Uint8Array, what: string): NetlinkMessage[] {
    const sequence = this.#send(type, NLM_F_REQUEST | NLM_F_ACK | flags, body, what);
    const answers: NetlinkMessage[] = [];
    for (;;) {
      for (const message of this.#receive(what)) {
        if (message.sequence !== sequence) continue;
        if (message.type !== NLMSG_ERROR) answers.push(message);
        else {
          refuse(message, what);
          return answers;
        }
      }
    }
  }

  /**
   * Sends requests that take effect together or not at all, between the messages that mark such a batch, and waits until the last is acknowledged.
   * Throws SystemError with the first refusal.
   */
  transact(begin: Request, requests: readonly Request[], end: Request, what: string): void {
    const first = this.#sequence + 1;
    const encoded = [begin, ...requests, end].map(({ type, flags, body }, i) => {
      const acknowledged = i === requests.length ? NLM_F_ACK : 0;
      return encodeMessage(type, NLM_F_REQUEST | acknowledged | flags, ++this.#sequence, body);
    });
    const last = first + requests.length;
    const octets = encoded.reduce((sum, { length }) => sum + length, 0);
    if (octets > TRANSACTION_BYTES)
      throw new SystemError(`${what}: ${octets} octets, at most ${TRANSACTION_BYTES} fit into one change`, 'EMSGSIZE');
    if (octets > BUFFER_BYTES / 2) trySetOption(this.#libc, this.fd, SOL_SOCKET, SO_SNDBUFFORCE, 2 * TRANSACTION_BYTES);
    const { base, bytes } = this.#roomFor(octets);
    let at = 0;
    for (const message of encoded) {
      bytes.set(message, at);
      at += message.length;
    }
    check(this.#libc, this.#libc.send(this.fd, base, octets, 0), what);
    for (;;) {
      for (const message of this.#receive(what)) {
        if (message.type !== NLMSG_ERROR || message.sequence < first) continue;
        refuse(message, what);
        if (message.sequence === last) return;
      }
    }
  }

  #roomFor(octets: number): Arena {
    if (octets <= BUFFER_BYTES) return this.#buffer;
    if (outbox === undefined || outbox.bytes.length < octets)
      outbox = new Arena(this.#libc, Math.min(TRANSACTION_BYTES, 2 * octets));
    return outbox;
  }

  /**
   * Asks for all objects of a kind and returns the kernel's messages. Asks again where a change interrupted the listing. Throws
   * SystemError.
   */
  dump(type: number, body: Uint8Array, what: string): NetlinkMessage[] {
    for (let attempt = 0; attempt < 8; attempt++) {
      const found = this.#dumpOnce(type, body, what);
      if (found !== undefined) return found;
    }
    throw new SystemError(`${what}: the kernel's table changed during each of 8 listings; try again`, 'EINTR');
  }

  /**
   * What the groups told since the last call; never waits. `lost` where the kernel dropped some (ENOBUFS): list everything anew.
   */
  notifications(): { messages: NetlinkMessage[]; lost: boolean } {
    const all: NetlinkMessage[] = [];
    let lost = false;
    for (;;) {
      const { base, bytes } = this.#buffer;
      const length = this.#libc.recv(this.fd, base, BUFFER_BYTES, MSG_DONTWAIT);
      if (length > 0) {
        all.push(...messages(bytes.slice(0, length)));
        continue;
      }
      const error = systemError('read netlink notifications', this.#libc.errno());
      if (error.code === 'EAGAIN') return { messages: all, lost };
      if (error.code === 'ENOBUFS') lost = true;
      else if (error.code !== 'EINTR') throw error;
    }
  }

  close(): void {
    close(this.#libc, this.fd);
  }

  #dumpOnce(type: number, body: Uint8Array, what: string): NetlinkMessage[] | undefined {
    const sequence = this.#send(type, NLM_F_REQUEST | NLM_F_DUMP, body, what);
    const found: NetlinkMessage[] = [];
    let interrupted = false;
    for (;;) {
      for (const message of this.#receive(what)) {
        if (message.sequence !== sequence) continue;
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG_DONE) return interrupted ? undefined : found;
        if (message.type === NLMSG_ERROR) refuse(message, what);
        else found.push(message);
      }
    }
  }

  #send(type: number, flags: number, body: Uint8Array, what: string): number {
    const sequence = ++this.#sequence;
    const message = encodeMessage(type, flags, sequence, body);
    this.#buffer.bytes.set(message);
    check(this.#libc, this.#libc.send(this.fd, this.#buffer.base, message.length, 0), what);
    return sequence;
  }

  #receive(what: string): NetlinkMessage[] {
    for (;;) {
      const { base, bytes } = this.#buffer;
      const length = this.#libc.recv(this.fd, base, BUFFER_BYTES, MSG_TRUNC);
      if (length > BUFFER_BYTES)
        throw new SystemError(`${what}: the kernel's answer has ${length} octets, at most ${BUFFER_BYTES} are read`);
      if (length >= 0) return messages(bytes.slice(0, length));
      const errno = this.#libc.errno();
      if (errno === EAGAIN) throw new SystemError(`${what}: the kernel did not answer within ${TIMEOUT_SECONDS} s`, 'ETIMEDOUT');
      if (errno !== EINTR) throw systemError(what, errno);
    }
  }
}

/**
 * NLMSG_ERROR: `-errno (4) | header of the request (16) | …`, with the kernel's own sentence in an attribute where it has one. 0
 * means done.
 */
function refuse(message: NetlinkMessage, what: string): void {
  const view = new DataView(message.body.buffer, message.body.byteOffset, message.body.length);
  const errno = -view.getInt32(0, true);
  if (errno === 0) return;
  let hint = errno === EPERM ? 'it needs root or CAP_NET_ADMIN' : '';
  if ((message.flags & NLM_F_ACK_TLVS) !== 0) {
    const requestBytes = (message.flags & NLM_F_CAPPED) !== 0 ? 16 : view.getUint32(4, true);
    const text = attributes(message.body, 4 + requestBytes).get(NLMSGERR_ATTR_MSG);
    if (text !== undefined) hint = `the kernel says "${Buffer.from(text).toString().replace(/\0.*$/s, '')}"`;
  }
  throw systemError(what, errno, hint);
}
