/** Every IKE SA and ISAKMP SA of this host: by our own SPI (cookie), by an initiator's SPI while half open, by remote. */

import { equal, hex } from '../src/bytes/bytes.ts';
import { type Endpoint, showEndpoint } from '../src/net/address.ts';
import type { IsakmpSa } from './ikev1/isakmp-sa.ts';
import type { KeyChild, KeySa } from './versions.ts';

/** How long, and for how many IKE SAs that are gone, the last response is kept. */
const ECHO_MS = 30_000;
const MOST_ECHOES = 1000;

interface Echo {
  readonly request: Uint8Array;
  readonly response: Uint8Array;
  readonly until: number;
}

export class SaTable {
  readonly #echoes = new Map<string, Echo>();
  readonly #bySpi = new Map<string, KeySa>();
  /** Responder's IKE SAs, until they are gone: an IKE_SA_INIT that comes again is answered again. */
  readonly #byInitiator = new Map<string, KeySa>();

  get size(): number {
    return this.#bySpi.size;
  }

  /** IKE SAs that strangers began and that are not authenticated. */
  get halfOpen(): number {
    let count = 0;
    for (const sa of this.#byInitiator.values()) if (!sa.authenticated) count += 1;
    return count;
  }

  all(): KeySa[] {
    return [...this.#bySpi.values()];
  }

  add(sa: KeySa): void {
    this.#bySpi.set(hex(sa.ownSpi), sa);
    if (!sa.originalInitiator && sa.initRequest !== undefined)
      this.#byInitiator.set(initiatorKey(sa.SPIi, sa.initRequest.from), sa);
  }

  /** An IKE SA is gone; what it answered last is kept for a peer that did not hear it (RFC 7296 §2.1). */
  forget(sa: KeySa): void {
    const { echo } = sa;
    if (echo !== undefined) {
      if (this.#echoes.size >= MOST_ECHOES) this.#echoes.delete([...this.#echoes.keys()][0]!);
      this.#echoes.set(hex(sa.ownSpi), { ...echo, until: sa.host.now.mono + ECHO_MS });
    }
    this.#bySpi.delete(hex(sa.ownSpi));
    if (sa.initRequest !== undefined) {
      const key = initiatorKey(sa.SPIi, sa.initRequest.from);
      if (this.#byInitiator.get(key) === sa) this.#byInitiator.delete(key);
    }
  }

  /** The response that an IKE SA gave to these very octets before it went. */
  echo(own: Uint8Array, request: Uint8Array, mono: number): Uint8Array | undefined {
    const echo = this.#echoes.get(hex(own));
    return echo !== undefined && mono < echo.until && equal(echo.request, request) ? echo.response : undefined;
  }

  /** By the SPI that we chose: the one thing that maps a message to an IKE SA (RFC 7296 §2.6). */
  bySpi(own: Uint8Array): KeySa | undefined {
    return this.#bySpi.get(hex(own));
  }

  /** By both cookies of IKEv1, of which one is ours; the responder's is zero where its initiator does not know it yet. */
  byCookies(CKY_I: Uint8Array, CKY_R: Uint8Array): IsakmpSa | undefined {
    const ours = this.#bySpi.get(hex(CKY_I));
    if (ours?.version === 1 && ours.originalInitiator) {
      const unknown = [ours.CKY_R, CKY_R].some((cookie) => cookie.every((octet) => octet === 0));
      return unknown || equal(ours.CKY_R, CKY_R) ? ours : undefined;
    }
    const theirs = this.#bySpi.get(hex(CKY_R));
    return theirs?.version === 1 && !theirs.originalInitiator && equal(theirs.CKY_I, CKY_I) ? theirs : undefined;
  }

  byInitiator(SPIi: Uint8Array, from: Endpoint): KeySa | undefined {
    return this.#byInitiator.get(initiatorKey(SPIi, from));
  }

  /** IKE SAs of a remote, newest last. */
  ofRemote(name: string): KeySa[] {
    return this.all().filter((sa) => sa.peer?.name === name);
  }

  /** The one that the next child of a remote (of the peer `at` an address, where a remote stands for many) is negotiated in: established first, else one on its way. */
  carrierOf(name: string, at?: Endpoint['address']): KeySa | undefined {
    const able = this.ofRemote(name).filter((sa) => sa.takesChildren && (at === undefined || sa.path.remote.address.equals(at)));
    return able.findLast((sa) => sa.state.name === 'established') ?? able.at(-1);
  }

  children(): KeyChild[] {
    return this.all().flatMap((sa): readonly KeyChild[] => sa.children);
  }

  /** Children by the SPI that we receive on. */
  childByInboundSpi(spi: number): KeyChild | undefined {
    return this.children().find((child) => child.spiIn === spi);
  }

  /** Children by the SPI that the peer receives on, and its address. */
  childByOutboundSpi(spi: number, destination: Endpoint['address']): KeyChild | undefined {
    return this.children().find((child) => child.spiOut === spi && child.path.remote.address.equals(destination));
  }
}

function initiatorKey(SPIi: Uint8Array, from: Endpoint): string {
  return `${hex(SPIi)} ${showEndpoint(from)}`;
}
