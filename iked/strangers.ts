/** Datagrams that belong to no IKE SA: which are answered, with what, and how often at most (RFC 7296 §2.5, §2.21.4). */

import { hex } from '../src/bytes/bytes.ts';
import { PeerError, WireError } from '../src/errors.ts';
import { type Path, showEndpoint } from '../src/net/address.ts';
import type { Host } from './host.ts';
import { type Header, writeMessage } from './ikev2/message.ts';
import { type NotifyName, notify } from './ikev2/notify.ts';

/** Addresses that are told of once each. */
const MOST_UNSERVED = 256;

export class Strangers {
  readonly #host: Host;
  /** Addresses that were told of as not served by IKEv1. */
  readonly #unserved = new Set<string>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** RFC 7296 §2.5: a higher major version is answered; anything else that is no message is dropped. */
  unreadable(path: Path, bytes: Uint8Array, error: unknown): void {
    if (error instanceof WireError) return this.ignore(path, error.message);
    if (!(error instanceof PeerError)) throw error;
    const response = (bytes[19]! & 0x20) !== 0;
    if (response || !this.#host.complaints.another()) return this.ignore(path, error.message);
    const header = {
      SPIi: bytes.slice(0, 8),
      SPIr: bytes.slice(8, 16),
      exchange: bytes[18]!,
      initiator: (bytes[19]! & 8) !== 0,
      response,
      messageId: 0,
    };
    this.#complain(path, header, 'INVALID_MAJOR_VERSION');
  }

  /** A message of an IKE SA that is not here. */
  unknown(path: Path, header: Header): void {
    if (header.response || !this.#host.complaints.another())
      return this.ignore(path, `there is no IKE SA ${hex(header.SPIi)}/${hex(header.SPIr)}`);
    this.#complain(path, header, 'INVALID_IKE_SPI');
  }

  /**
   * IKEv1 from where no remote accepts it: nothing is answered, and each address is told of once, since a peer that is set to IKEv1 tries for
   * ever.
   */
  unserved(path: Path): void {
    const { address } = path.remote;
    this.#host.count('messages-dropped');
    if (this.#unserved.has(`${address}`)) return;
    if (this.#unserved.size >= MOST_UNSERVED) this.#unserved.delete([...this.#unserved][0]!);
    this.#unserved.add(`${address}`);
    const others = this.#host.peersAt(address).map(({ name }) => name);
    const what =
      others.length === 0
        ? `no remote has ${address} in peers_ipaddr: add it there, with acceptable_kmp { ikev1; }, if the peer is to be served`
        : `acceptable_kmp of remote ${others.join(', ')} does not list it: add ikev1 there, or set the peer to IKEv2`;
    this.#host.report('message-refused', `${address} speaks IKEv1 and is not answered: ${what}`, {
      peer: showEndpoint(path.remote),
    });
  }

  #complain(path: Path, { SPIi, SPIr, exchange, messageId, initiator }: Header, name: NotifyName): void {
    this.#host.report('message-refused', `a message of no IKE SA from ${showEndpoint(path.remote)} answered with ${name}`, {
      notify: name,
    });
    const payloads = [notify(name)];
    const answer = { SPIi, SPIr, exchange, initiator: !initiator, response: true, messageId, payloads };
    this.#host.emit({ kind: 'send', path, bytes: writeMessage(answer) });
  }

  ignore(path: Path, why: string): void {
    this.#host.count('messages-dropped');
    this.#host.report('message-dropped', `a datagram was ignored: ${why}`, { peer: showEndpoint(path.remote) });
  }
}
