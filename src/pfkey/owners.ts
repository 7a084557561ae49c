/** Who made or last completed each SA: only this client sees its keys. */

import type { IpAddress } from '../net/address.ts';

/** A connection to the server. */
export type ClientId = number;

/** What names an SA in PF_KEY: protocol (`SADB_SATYPE`), destination and SPI. */
export interface SaName {
  readonly satype: number;
  readonly destination: IpAddress;
  readonly spi: number;
}

interface Owned {
  readonly satype: number;
  readonly destination: IpAddress;
  client: ClientId;
  /** Another SA of the same SPI. */
  next: Owned | undefined;
}

export class Owners {
  readonly #bySpi = new Map<number, Owned>();

  get(name: SaName): ClientId | undefined {
    return this.#find(name)?.client;
  }

  set(name: SaName, client: ClientId): void {
    const known = this.#find(name);
    if (known !== undefined) known.client = client;
    else {
      const { spi, satype, destination } = name;
      this.#bySpi.set(spi, { satype, destination, client, next: this.#bySpi.get(spi) });
    }
  }

  delete({ spi, satype, destination }: SaName): void {
    this.#keep(spi, (owned) => owned.satype !== satype || !owned.destination.equals(destination));
  }

  /** Forgets all that are not to be kept. */
  keepOnly(isKept: (owned: { readonly satype: number; readonly client: ClientId }) => boolean): void {
    for (const spi of [...this.#bySpi.keys()]) this.#keep(spi, isKept);
  }

  #find({ spi, satype, destination }: SaName): Owned | undefined {
    let owned = this.#bySpi.get(spi);
    while (owned !== undefined && (owned.satype !== satype || !owned.destination.equals(destination))) owned = owned.next;
    return owned;
  }

  #keep(spi: number, isKept: (owned: Owned) => boolean): void {
    let kept: Owned | undefined;
    for (let owned = this.#bySpi.get(spi); owned !== undefined; ) {
      const { next } = owned;
      if (isKept(owned)) {
        owned.next = kept;
        kept = owned;
      }
      owned = next;
    }
    if (kept === undefined) this.#bySpi.delete(spi);
    else this.#bySpi.set(spi, kept);
  }
}
