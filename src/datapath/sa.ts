/** One SA as the engine runs it, and an SPI that waits for one (RFC 4301 §4.4.2). */

import { isCbc } from '../crypto/primitives.ts';
import { ENCR, INTEG } from '../crypto/transforms.ts';
import { Fault } from '../errors.ts';
import { type Ends, innerEnds } from '../ipsec/policy.ts';
import type { Mode, SaParameters, SaProtocol, Spi } from '../ipsec/sa.ts';
import type { TrafficSelector } from '../ipsec/selector.ts';
import type { Instant } from '../machine.ts';
import type { IpAddress } from '../net/address.ts';
import { ReplayWindow } from './replay.ts';

/** Longer than any packet: nothing is known of the path. */
export const NO_LIMIT = 0x10000;

export type SaState = 'mature' | 'dying' | 'dead';

const TWO_32 = 0x1_0000_0000;

/** One unidirectional SA as the engine runs it. The packet path reads its plain members; only `Sad` and the engine write them. */
export class Sa {
  parameters: SaParameters;
  readonly spi: Spi;
  /** A small number of its own, never given to another SA while the engine lives. */
  readonly serial: number;
  /** Mature until a soft limit is reached; dead once it is out of the SAD. */
  state: SaState = 'mature';
  /** Decided by GETSPI and UPDATE, or by the first packet: an SA protects one direction (RFC 4301 §4.1). */
  direction: 'inbound' | 'outbound' | undefined;
  /** Outbound: its packets wait until it is let go (`Sad.hold`). */
  onHold = false;
  readonly tunnel: boolean;
  /** BEET mode: the inner addresses. */
  readonly inner: Ends | undefined;
  readonly extended: boolean;
  readonly encapsulated: boolean;
  readonly ivBytes: number;
  readonly icvBytes: number;
  /** Octets of IV in an ICV of AH (RFC 4543 §4). */
  readonly icvIvBytes: number;
  /** Octets that a payload is padded up to (RFC 4303 §2.7): the inner packet's own length tells the receiver. */
  readonly padTo: number;
  /** The text (payload, padding, trailer) is a multiple of this. */
  readonly align: number;
  readonly randomIv: boolean;
  /** Whether its selectors name ports, which later fragments do not have (RFC 4301 §7). */
  readonly selectsPorts: boolean;
  window: ReplayWindow;
  path: number;
  /** The longest packet that its path carries in one piece, and how the outer header follows from the inner (`PathMtus.apply`). */
  longest = NO_LIMIT;
  /** The same for TCP's segments, either way, where their MSS is to be clamped. */
  longestSegment = NO_LIMIT;
  outerMask = 0;
  outerBits = 0;
  /** The last sequence number sent, and the last that may be. */
  sequence = 0;
  readonly lastSequence: number;
  /** What the sequence number is mixed with to make the IV of a counter mode. */
  ivHigh = 0;
  ivLow = 0;
  /** Handles of the cipher; -1 until the first packet. */
  sealHandle = -1;
  openHandle = -1;
  /** Packets, and octets of them without ESP (the inner packet in tunnel mode), that passed. */
  packets = 0;
  bytes = 0;
  readonly softBytes: number;
  readonly softPackets: number;
  readonly hardBytes: number;
  readonly hardPackets: number;
  /** `mono` milliseconds, Infinity where there is no limit. */
  readonly softAt: number;
  readonly hardAt: number;
  /** First and last use in `wall` milliseconds; 0: never. */
  firstUse = 0;
  lastUse = 0;
  readonly born: Instant;
  source: IpAddress;
  destination: IpAddress;
  /** Where it ended before it moved; packets under way may name that until then (`mono` milliseconds). */
  #former: Ends | undefined;
  #formerUntil = Number.NEGATIVE_INFINITY;
  /** When a new mapping was last told, in `mono` milliseconds. */
  mappingToldAt = Number.NEGATIVE_INFINITY;

  constructor(parameters: SaParameters, serial: number, path: number, born: Instant, lived: number) {
    const { suite, lifetime, extendedSequence } = parameters;
    this.parameters = parameters;
    this.spi = parameters.spi;
    this.serial = serial;
    this.path = path;
    this.born = born;
    this.tunnel = parameters.mode === 'tunnel';
    this.inner = parameters.mode === 'beet' ? innerEnds(parameters.selectors) : undefined;
    if (parameters.mode === 'beet' && this.inner === undefined) throw new Fault('an SA in BEET mode without inner addresses');
    this.extended = extendedSequence;
    this.encapsulated = parameters.encapsulation !== undefined;
    const { primitive, iv, icv, block } = ENCR[suite.encr];
    this.ivBytes = iv;
    this.icvBytes = suite.integ === 'none' ? icv : INTEG[suite.integ].icvBytes;
    this.icvIvBytes = suite.integ === 'none' ? 0 : INTEG[suite.integ].iv;
    this.padTo = this.tunnel && parameters.protocol === 'esp' ? (parameters.tfcPadding ?? 0) : 0;
    this.align = Math.max(4, block);
    this.randomIv = isCbc(primitive);
    this.selectsPorts = [...parameters.selectors.source, ...parameters.selectors.destination].some(namesPorts);
    this.window = new ReplayWindow(parameters.replayWindow);
    this.lastSequence = extendedSequence ? Number.MAX_SAFE_INTEGER : TWO_32 - 1;
    this.softBytes = lifetime.soft.bytes || Infinity;
    this.softPackets = lifetime.soft.packets || Infinity;
    this.hardBytes = lifetime.hard.bytes || Infinity;
    this.hardPackets = lifetime.hard.packets || Infinity;
    this.softAt = born.mono - lived + (lifetime.soft.seconds * 1000 || Infinity);
    this.hardAt = born.mono - lived + (lifetime.hard.seconds * 1000 || Infinity);
    this.source = parameters.source;
    this.destination = parameters.destination;
  }

  /** It has moved: packets between its `former` ends are taken for a time, but not in transport mode, where they would get other addresses. */
  rememberEnds(former: Ends, until: number): void {
    this.#former = { source: former.source, destination: former.destination };
    if (this.parameters.mode !== 'transport') this.#formerUntil = until;
  }

  /** It takes the place of `other`, also for packets to and daemons that know the former ends of that. */
  inheritEnds(other: Sa): void {
    this.#former = other.#former;
    this.#formerUntil = other.#formerUntil;
  }

  /** Whether it ended there before it moved. */
  hasEndedAt(destination: IpAddress): boolean {
    return this.#former?.destination.hasWordsOf(destination) ?? false;
  }

  /** Whether packets may still come to `destination` because the SA ended there until a moment ago. */
  endedAt(destination: Int32Array, mono: number): boolean {
    return mono < this.#formerUntil && hasWords(this.#former!.destination, destination);
  }

  /** The same for where they come from. */
  beganAt(source: Int32Array, mono: number): boolean {
    return mono < this.#formerUntil && hasWords(this.#former!.source, source);
  }
}

/** An SPI set aside by GETSPI until UPDATE completes it. */
export interface Larval {
  readonly spi: Spi;
  readonly protocol: SaProtocol;
  readonly mode: Mode;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly reqid: number;
  /** Of the ACQUIRE that it answers, or 0. */
  readonly seq: number;
  /** Its destination before it moved. */
  readonly former?: IpAddress | undefined;
  readonly born: Instant;
  /** `mono` milliseconds. */
  readonly expiresAt: number;
}

/** Whether an address has these four words, as `Slots` has them. */
export function hasWords({ word0, word1, word2, word3 }: IpAddress, words: Int32Array): boolean {
  return word0 === words[0] && word1 === words[1] && word2 === words[2] && word3 === words[3];
}

function namesPorts({ startPort, endPort }: TrafficSelector): boolean {
  return startPort !== 0 || endPort !== 0xffff;
}
