/** A key daemon's UDP sockets: one for each local address that its configuration names and this host has, as addresses come and go. */

import type { LocalAddress } from '../config/expand.ts';
import { SystemError } from '../errors.ts';
import type { Event } from '../event.ts';
import { type Endpoint, type Path, sameEndpoint, showEndpoint } from '../net/address.ts';
import { localAddresses, watchLocalAddresses } from './local-addresses.ts';
import { bindUdp, type UdpSocket } from './udp.ts';

/** A new IPv6 address cannot be bound while duplicate address detection goes on (RFC 4862 §5.4), and its end is no change of addresses. */
const TRY_AGAIN_MS = 250;

export interface LocalSocketsOptions {
  /** What the configuration means on a host with these addresses. */
  readonly wanted: (local: readonly LocalAddress[]) => readonly Endpoint[];
  readonly onDatagram: (path: Path, bytes: Uint8Array) => void;
  /** Before the sockets follow. */
  readonly onAddresses: (local: readonly LocalAddress[]) => void;
  readonly report: (event: Event) => void;
  /** The directive that lists addresses, as the operator writes it: `interface { ike … }`. */
  readonly directive: string;
}

export class LocalSockets {
  readonly #options: LocalSocketsOptions;
  readonly #watch: { close(): void };
  #sockets: UdpSocket[] = [];
  #following: Promise<void> = Promise.resolve();
  #again: NodeJS.Timeout | undefined;
  #closed = false;
  /** Why a local address is not served now, by its name. */
  #problems: ReadonlyMap<string, string> = new Map();

  constructor(options: LocalSocketsOptions) {
    this.#options = options;
    options.onAddresses(localAddresses());
    this.#watch = watchLocalAddresses((addresses) => this.#changed(addresses));
  }

  get problems(): ReadonlyMap<string, string> {
    return this.#problems;
  }

  /** Somebody knows that addresses have changed: nothing waits for the next look. */
  lookNow(): void {
    this.#changed(localAddresses());
  }

  /** Opens and closes until the sockets are those that are wanted, one run after the other. */
  follow(): Promise<void> {
    this.#following = this.#following.then(() => this.#follow());
    return this.#following;
  }

  /** From the socket of its local address; an address that is so new that it has none gets it first. */
  send(path: Path, bytes: Uint8Array): void {
    const socket = this.#at(path.local);
    if (socket !== undefined) return socket.send(bytes, path.remote);
    void this.follow().then(() => {
      const opened = this.#at(path.local);
      if (opened !== undefined) return opened.send(bytes, path.remote);
      if (this.#problems.has(showEndpoint(path.local)) || this.#closed) return; // said when it could not be opened
      const message = `no socket at ${showEndpoint(path.local)}: list this address in ${this.#options.directive}`;
      this.#options.report({ name: 'send-failed', severity: 'warning', message });
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watch.close();
    clearTimeout(this.#again);
    await this.follow();
  }

  #at(local: Endpoint): UdpSocket | undefined {
    return (
      this.#sockets.find((socket) => sameEndpoint(socket.local, local)) ??
      this.#sockets.find((socket) => socket.local.address.equals(local.address))
    );
  }

  #changed(addresses: readonly LocalAddress[]): void {
    this.#options.onAddresses(addresses);
    void this.follow();
  }

  async #follow(): Promise<void> {
    const local = localAddresses();
    const wanted = this.#closed ? [] : this.#options.wanted(local);
    const keep = this.#sockets.filter((socket) => wanted.some((endpoint) => sameEndpoint(endpoint, socket.local)));
    for (const socket of this.#sockets) if (!keep.includes(socket)) await socket.close();
    this.#sockets = keep;
    const problems = new Map<string, string>();
    let isNew = false;
    for (const endpoint of wanted) {
      if (this.#sockets.some((socket) => sameEndpoint(socket.local, endpoint))) continue;
      try {
        this.#sockets.push(await this.#open(endpoint));
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        isNew ||= error.code === 'EADDRNOTAVAIL' && local.some(({ address }) => address.equals(endpoint.address));
        problems.set(showEndpoint(endpoint), error.message);
        if (this.#problems.get(showEndpoint(endpoint)) !== error.message)
          this.#options.report({ name: 'socket-failed', severity: 'error', message: error.message });
      }
    }
    this.#problems = problems;
    clearTimeout(this.#again);
    if (isNew) this.#again = setTimeout(() => void this.follow(), TRY_AGAIN_MS).unref();
  }

  #open(local: Endpoint): Promise<UdpSocket> {
    return bindUdp(local, {
      onDatagram: (bytes, remote, bound) => this.#options.onDatagram({ local: bound, remote, encapsulated: false }, bytes),
      onError: ({ message }) => this.#options.report({ name: 'send-failed', severity: 'warning', message }),
    });
  }
}
