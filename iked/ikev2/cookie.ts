/** COOKIE: proof of an initiator's address without any state of ours (RFC 7296 §2.6). */

import { cat, equal, u16be } from '../../src/bytes/bytes.ts';
import { defaultEngine, type Engine } from '../../src/crypto/engine.ts';
import type { Instant, RandomBytes } from '../../src/machine.ts';
import type { Endpoint } from '../../src/net/address.ts';

/** A secret serves this long for new cookies, and as long again for checking old ones. */
const SECRET_MS = 60_000;

interface CookieSecret {
  readonly version: number;
  readonly key: Uint8Array;
  readonly since: number;
}

/** The secrets of one responder: the current and the previous one, so that a slow but honest initiator is not turned away. */
export class Cookies {
  readonly #random: RandomBytes;
  readonly #engine: Engine;
  #current: CookieSecret | undefined;
  #previous: CookieSecret | undefined;

  constructor(random: RandomBytes, engine: Engine = defaultEngine) {
    this.#random = random;
    this.#engine = engine;
  }

  /** Cookie = <VersionIDofSecret> | HMAC(<secret>, Ni | IPi | port | SPIi). */
  make(Ni: Uint8Array, from: Endpoint, SPIi: Uint8Array, now: Instant): Uint8Array {
    return this.#compute(this.#secret(now), Ni, from, SPIi);
  }

  /** Whether `cookie` is one of ours for this request. */
  check(cookie: Uint8Array, Ni: Uint8Array, from: Endpoint, SPIi: Uint8Array, now: Instant): boolean {
    this.#secret(now);
    const secret = [this.#current, this.#previous].find((known) => known?.version === cookie[0]);
    return secret !== undefined && equal(this.#compute(secret, Ni, from, SPIi), cookie);
  }

  #compute({ version, key }: CookieSecret, Ni: Uint8Array, { address, port }: Endpoint, SPIi: Uint8Array): Uint8Array {
    return cat(Uint8Array.of(version), this.#engine.hmac('sha2_256', key, Ni, address.bytes, u16be(port), SPIi));
  }

  #secret({ mono }: Instant): CookieSecret {
    if (this.#current === undefined || mono - this.#current.since >= SECRET_MS) {
      const version = ((this.#current?.version ?? 0) + 1) & 0xff;
      this.#previous = this.#current !== undefined && mono - this.#current.since < 2 * SECRET_MS ? this.#current : undefined;
      this.#current = { version, key: this.#random(32), since: mono };
    }
    return this.#current;
  }
}
