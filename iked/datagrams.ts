/** Which SA a datagram belongs to, by its version and by the SPI or cookie of ours in it (RFC 7296 §2.6, RFC 2408 §2.5); and what begins a new one. */

import { PeerError, WireError } from '../src/errors.ts';
import { majorVersion } from '../src/isakmp/header.ts';
import { type Path, showEndpoint } from '../src/net/address.ts';
import { nameOf } from '../src/wire/registry.ts';
import type { Owner } from './host.ts';
import { receive as receiveIsakmp } from './ikev1/exchanges.ts';
import { respondMainMode } from './ikev1/main-mode.ts';
import * as v1 from './ikev1/message.ts';
import { complain } from './ikev1/strangers.ts';
import { receive } from './ikev2/exchanges.ts';
import { respondIkeSaInit } from './ikev2/ike-sa-init.ts';
import * as v2 from './ikev2/message.ts';
import type { Strangers } from './strangers.ts';

export function receiveDatagram(owner: Owner, strangers: Strangers, path: Path, bytes: Uint8Array): void {
  if (majorVersion(bytes) === 1) receiveV1(owner, strangers, path, bytes);
  else receiveV2(owner, strangers, path, bytes);
}

function receiveV2(owner: Owner, strangers: Strangers, path: Path, bytes: Uint8Array): void {
  let read: v2.ReadMessage;
  try {
    read = v2.readMessage(bytes);
  } catch (error) {
    return strangers.unreadable(path, bytes, error);
  }
  const { header } = read;
  if (header.exchange === v2.EXCHANGE.IKE_SA_INIT && !header.response) {
    if (header.initiator && isZero(header.SPIr)) return respondIkeSaInit(owner, read, bytes, path);
    return strangers.ignore(path, 'an IKE_SA_INIT request with a responder SPI or without the I flag');
  }
  const own = header.initiator ? header.SPIr : header.SPIi;
  const sa = owner.table.bySpi(own);
  if (sa?.version === 2) return owner.guard(sa, () => receive(sa, read, bytes, path));
  const echo = owner.table.echo(own, bytes, owner.now.mono);
  if (echo !== undefined) return owner.emit({ kind: 'send', path, bytes: echo });
  strangers.unknown(path, header);
}

function receiveV1(owner: Owner, strangers: Strangers, path: Path, bytes: Uint8Array): void {
  let read: v1.ReadMessage;
  try {
    read = v1.readMessage(bytes);
  } catch (error) {
    if (!(error instanceof WireError || error instanceof PeerError)) throw error;
    return strangers.ignore(path, error.message);
  }
  const { header } = read;
  const sa = owner.table.byCookies(header.CKY_I, header.CKY_R);
  if (sa !== undefined) return owner.guard(sa, () => receiveIsakmp(sa, read, bytes, path));
  if (!isZero(header.CKY_R) || header.exchange === v1.EXCHANGE.Informational)
    return strangers.ignore(
      path,
      `there is no ISAKMP SA with these cookies for a message of ${nameOf(v1.EXCHANGE, header.exchange)}`,
    );
  if (owner.peersAtV1(path.remote.address).length === 0) return strangers.unserved(path);
  if (header.exchange === v1.EXCHANGE['Main Mode']) return respondMainMode(owner, read, bytes, path);
  const what = nameOf(v1.EXCHANGE, header.exchange);
  const why = `${showEndpoint(path.remote)} begins with ${what}, which is not spoken here: set it to main mode`;
  complain(owner, header, path, new PeerError('UNSUPPORTED-EXCHANGE-TYPE', why));
}

function isZero(cookie: Uint8Array): boolean {
  return cookie.every((octet) => octet === 0);
}
