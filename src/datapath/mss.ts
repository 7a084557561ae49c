/** TCP's maximum segment size (RFC 9293 §3.7.1), lowered in SYNs that pass, so that connections begin with segments that the path carries. */

import { type Checksum, fold } from '../net/checksum.ts';
import { IPV4, IPV6, type IpPacket } from '../net/ip-packet.ts';
import { PROTOCOL } from '../net/transport.ts';

const TCP = { offset: 12, flags: 13, checksum: 16, bytes: 20 } as const;
const SYN = 0x02;
const OPTION = { end: 0, nop: 1, mss: 2, mssBytes: 4 } as const;
/** RFC 9293 §3.7.1: what a host may be asked for in any case; less would be an attack. */
const LEAST_MSS = 536;

export class Mss {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #checksum: Checksum;

  constructor(arena: Uint8Array, checksum: Checksum) {
    this.#bytes = arena;
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.length);
    this.#checksum = checksum;
  }

  /** Lowers the MSS of a SYN, with its checksum, so that a packet has at most `longest` octets. Other packets stay as they are. */
  clamp(packet: IpPacket, longest: number): void {
    const tcpAt = packet.at + packet.headerBytes;
    const left = packet.bytes - packet.headerBytes;
    if (packet.protocol !== PROTOCOL.tcp || packet.fragment || left < TCP.bytes) return;
    if ((this.#bytes[tcpAt + TCP.flags]! & SYN) === 0) return;
    const end = tcpAt + Math.min(left, (this.#bytes[tcpAt + TCP.offset]! >> 4) * 4);
    const mssAt = this.#find(tcpAt + TCP.bytes, end);
    const most = Math.max(LEAST_MSS, longest - (packet.family === 4 ? IPV4.bytes : IPV6.bytes) - TCP.bytes);
    if (mssAt < 0 || this.#view.getUint16(mssAt) <= most) return;
    // RFC 1624, over the words that the option lies in: it need not begin at an even octet.
    const first = tcpAt + ((mssAt - tcpAt) & ~1);
    const octets = Math.min(4, tcpAt + left - first);
    const before = this.#checksum.sum(first, octets);
    this.#view.setUint16(mssAt, most);
    const sum = (~this.#view.getUint16(tcpAt + TCP.checksum) & 0xffff) + (~before & 0xffff) + this.#checksum.sum(first, octets);
    this.#view.setUint16(tcpAt + TCP.checksum, ~fold(sum) & 0xffff);
  }

  /** Where the option's value lies, or -1. */
  #find(start: number, end: number): number {
    for (let at = start; at < end; ) {
      const kind = this.#bytes[at]!;
      if (kind === OPTION.end) return -1;
      const length = kind === OPTION.nop || at + 1 >= end ? 1 : this.#bytes[at + 1]!;
      if (length === 0 || at + length > end) return -1;
      if (kind === OPTION.mss && length === OPTION.mssBytes) return at + 2;
      at += length;
    }
    return -1;
  }
}
