/**
 * What must hold of keys at every moment, seen where they are used: in a host's datapath no key is ever installed twice, also not after restarts;
 * the sequence numbers sent under a key only rise (RFC 4303 §2.2, RFC 4106 §2: the same number twice is the same nonce twice); and X_MIGRATE
 * changes neither keys nor counters.
 */

import { readU32be } from '../../src/bytes/bytes.ts';
import type { Secret } from '../../src/bytes/secret.ts';
import type { Datapath } from '../../src/datapath/datapath.ts';
import type { Sa } from '../../src/datapath/sa.ts';
import type { IpAddress } from '../../src/net/address.ts';
import type { Verbs } from '../../src/pfkey/server.ts';

/** One key at one host. */
interface Use {
  readonly spi: number;
  /** The highest sequence number that left under it. */
  last: number;
}

export class KeyWatch {
  readonly #breach: (what: string) => void;
  /** By the octets of the key. */
  readonly #uses = new Map<string, Use>();
  /** The same by where the datapath keeps the key, which is one place from installation to deletion. */
  readonly #bySecret = new WeakMap<Secret, Use>();
  /** Of SAs that are gone: their last packet may leave after them. */
  readonly #bySpi = new Map<number, Use>();
  #engine: Datapath | undefined;
  #lastSerial = 0;

  constructor(breach: (what: string) => void) {
    this.#breach = breach;
  }

  /** The verbs of a datapath that has just started, watched. */
  over(engine: Datapath, verbs: Verbs): Verbs {
    this.#engine = engine;
    this.#lastSerial = 0;
    return {
      handle: (message, now) => {
        const before = message.type === 'X_MIGRATE' ? this.#portrait() : undefined;
        const result = verbs.handle(message, now);
        this.#look();
        const after = before === undefined ? undefined : this.#portrait();
        if (before !== after)
          this.#breach(`X_MIGRATE changed SAs (SPI, key, sequence number, packets): ${before}; after it: ${after}`);
        return result;
      },
      supported: () => verbs.supported(),
      registered: () => verbs.registered?.(),
    };
  }

  /** An ESP packet leaves the host for `destination`. */
  sent(packet: Uint8Array, destination: IpAddress): void {
    const [spi, sequence] = [readU32be(packet), readU32be(packet.subarray(4))];
    const sa = this.#engine?.core.sad.find(spi, 'esp', destination);
    const use = sa === undefined ? this.#bySpi.get(spi) : this.#bySecret.get(sa.parameters.encrKey);
    if (use === undefined) return this.#breach(`an ESP packet leaves under an SPI ${spiText(spi)} that was never installed`);
    if (sequence <= use.last)
      this.#breach(`sequence number ${sequence} leaves under the key of SA ${spiText(spi)} after ${use.last} did`);
    use.last = Math.max(use.last, sequence);
  }

  /** SAs that were not there when it looked last. An SA that only changed keeps its `Secret`. */
  #look(): void {
    let newest = this.#lastSerial;
    for (const sa of this.#engine!.core.sad.all) {
      if (sa.serial <= this.#lastSerial) continue;
      newest = Math.max(newest, sa.serial);
      if (!this.#bySecret.has(sa.parameters.encrKey)) this.#installed(sa);
    }
    this.#lastSerial = newest;
  }

  #installed({ spi, parameters: { encrKey } }: Sa): void {
    const key = hexOf(encrKey);
    const known = this.#uses.get(key);
    if (known !== undefined)
      this.#breach(`the encryption key of SA ${spiText(known.spi)} is installed again, for SA ${spiText(spi)}`);
    const use = known ?? { spi, last: 0 };
    this.#uses.set(key, use);
    this.#bySecret.set(encrKey, use);
    this.#bySpi.set(spi, use);
  }

  /** Every SA with what a movement leaves alone. */
  #portrait(): string {
    const lines = [...this.#engine!.core.sad.all].map(
      ({ spi, parameters, sequence, packets }) =>
        `${spiText(spi)} ${hexOf(parameters.encrKey).slice(0, 6)}… ${sequence} ${packets}`,
    );
    return lines.sort().join(', ');
  }
}

function hexOf(key: Secret): string {
  return Buffer.from(key.reveal()).toString('hex');
}

function spiText(spi: number): string {
  return spi.toString(16).padStart(8, '0');
}
