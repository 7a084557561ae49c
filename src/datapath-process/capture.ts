/** `tanuki capture`: copies of the packets that pass the engine, inner and outer, while somebody asks for them. One flag is all that it costs while nobody does. */

import { dropName } from '../datapath/drops.ts';
import { showSpi } from '../datapath/status.ts';
import type { IpAddress } from '../net/address.ts';
import type { CapturedPacket, CaptureInterface } from '../net/pcapng.ts';
import { type Prefix, parsePrefix, prefixHolds } from '../net/prefix.ts';

export interface CaptureFilter {
  /** Octets of a packet that are kept. */
  readonly snapLength: number;
  /** Undefined: any. Packets that a filter cannot judge (an inner one has no SPI) do not pass it. */
  readonly interface?: CaptureInterface | undefined;
  /** One end is there: an address or a prefix. */
  readonly address?: string | undefined;
  readonly spi?: number | undefined;
  readonly droppedOnly?: boolean | undefined;
}

/** What a packet says about itself, for the filter and the comment. */
export interface Candidate extends Omit<CapturedPacket, 'comment' | 'lost' | 'at'> {
  /** Undefined: it is no IP packet. */
  readonly source: IpAddress | undefined;
  readonly destination: IpAddress | undefined;
  readonly spi: number | undefined;
}

export interface CaptureResult {
  readonly packets: readonly CapturedPacket[];
  /** Packets that found no room since the last answer. */
  readonly lost: number;
}

export type CaptureRequest =
  | { readonly step: 'begin'; readonly filter: CaptureFilter }
  | { readonly step: 'take' }
  | { readonly step: 'end' };

/** One request to a capture. Throws Error with a sentence where it cannot be carried out. */
export function captureStep(capture: Capture, request: CaptureRequest, mono: number): CaptureResult {
  if (request.step === 'begin') capture.begin(request.filter, mono);
  else if (request.step === 'take') return capture.take(mono);
  else capture.end();
  return { packets: [], lost: 0 };
}

/** Of packets that wait to be asked for, each with what its keeping takes. */
const MOST_OCTETS = 4 * 1024 * 1024;
const KEEPING_OCTETS = 256;
/** Who has not asked for so many milliseconds is gone: the capture ends. */
const PATIENCE = 10_000;

export class Capture {
  /** Whether packets are wanted. */
  on = false;
  #filter: CaptureFilter = { snapLength: 0 };
  #address: Prefix | undefined;
  #until = 0;
  #packets: CapturedPacket[] = [];
  #octets = 0;
  #lost = 0;
  #lostBefore = 0;

  /** Throws Error where another capture is under way, or the filter is of no use. */
  begin(filter: CaptureFilter, mono: number): void {
    this.#checkPatience(mono);
    if (this.on) throw new Error('capture: another one is under way; end it first, or wait ten seconds if it was killed');
    const address = filter.address === undefined ? undefined : parsePrefix(filter.address);
    if (filter.address !== undefined && address === undefined)
      throw new Error(`capture: expected "address": an address or a prefix, found ${JSON.stringify(filter.address)}`);
    this.on = true;
    this.#filter = filter;
    this.#address = address;
    this.#until = mono + PATIENCE;
  }

  /** What has passed since it was asked last. Throws Error where no capture is under way. */
  take(mono: number): CaptureResult {
    this.#checkPatience(mono);
    if (!this.on) throw new Error('capture: none is under way');
    const result = { packets: this.#packets, lost: this.#lost };
    this.#until = mono + PATIENCE;
    this.#packets = [];
    this.#octets = this.#lost = 0;
    return result;
  }

  end(): void {
    this.on = false;
    this.#packets = [];
    this.#octets = this.#lost = this.#lostBefore = 0;
  }

  /** Keeps a packet that the filter lets pass. `drop`: of it, or `DROP.none`. */
  put(packet: Candidate, drop: number, mono: number, wall: number): void {
    this.#checkPatience(mono);
    if (!this.on || !this.#passes(packet, drop)) return;
    const { source, destination, spi, bytes, ...rest } = packet;
    const kept = bytes.slice(0, this.#filter.snapLength);
    if (this.#octets + kept.length + KEEPING_OCTETS > MOST_OCTETS) {
      this.#lost++;
      this.#lostBefore++;
      return;
    }
    this.#octets += kept.length + KEEPING_OCTETS;
    const comment = [
      ...(spi === undefined ? [] : [`SPI ${showSpi(spi)}`]),
      ...(drop === 0 ? [] : [`dropped: ${dropName(drop)}`]),
    ].join(', ');
    this.#packets.push({ ...rest, at: wall, bytes: kept, comment, lost: this.#lostBefore });
    this.#lostBefore = 0;
  }

  #passes({ interface: side, source, destination, spi }: Candidate, drop: number): boolean {
    const filter = this.#filter;
    if (filter.interface !== undefined && filter.interface !== side) return false;
    if (filter.spi !== undefined && filter.spi !== spi) return false;
    if (filter.droppedOnly === true && drop === 0) return false;
    const holds = (end: IpAddress | undefined) => end !== undefined && prefixHolds(this.#address!, end);
    return this.#address === undefined || holds(source) || holds(destination);
  }

  #checkPatience(mono: number): void {
    if (this.on && mono > this.#until) this.end();
  }
}
