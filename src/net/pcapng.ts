/** Captured packets as a pcapng file (draft-ietf-opsawg-pcapng): one section, an interface block for each side of the datapath, a block for each packet. */

import { Writer } from '../wire/writer.ts';

/** The two sides, in the order of their blocks. */
export const CAPTURE_INTERFACES = ['inner', 'outer'] as const;
export type CaptureInterface = (typeof CAPTURE_INTERFACES)[number];

export interface CapturedPacket {
  /** Wall clock, milliseconds. */
  readonly at: number;
  readonly interface: CaptureInterface;
  readonly direction: 'inbound' | 'outbound';
  /** Octets that it had; `bytes` may hold fewer. */
  readonly octets: number;
  /** From its IP header on. */
  readonly bytes: Uint8Array;
  /** Empty: none. */
  readonly comment: string;
  /** Packets of either side that were not kept since the one before. */
  readonly lost: number;
}

const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const ENHANCED_PACKET = 6;
/** Written in the byte order of all numbers. */
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** Packets begin with an IPv4 or IPv6 header. */
const LINKTYPE_RAW = 101;
const OPTION = { end: 0, comment: 1, name: 2, userApplication: 4, timeResolution: 9 } as const;
const PACKET_OPTION = { flags: 2, dropCount: 4 } as const;
const MILLISECONDS = 3;
const DIRECTION = { inbound: 1, outbound: 2 } as const;

/** What a file begins with. */
export function pcapngHead(snapLength: number): Uint8Array {
  const writer = new Writer();
  block(writer, SECTION, () => {
    writer.u32(BYTE_ORDER_MAGIC);
    writer.u16(1); // version 1.0
    writer.u16(0);
    writer.u64(0xffff_ffff_ffff_ffffn); // the section's length is not known
    option(writer, OPTION.userApplication, text('tanuki capture'));
    option(writer, OPTION.end, NOTHING);
  });
  for (const name of CAPTURE_INTERFACES) {
    block(writer, INTERFACE, () => {
      writer.u16(LINKTYPE_RAW);
      writer.u16(0);
      writer.u32(snapLength);
      option(writer, OPTION.name, text(name));
      option(writer, OPTION.timeResolution, Uint8Array.of(MILLISECONDS));
      option(writer, OPTION.end, NOTHING);
    });
  }
  return writer.finish();
}

/** One packet. */
export function pcapngPacket(packet: CapturedPacket): Uint8Array {
  const writer = new Writer(packet.bytes.length + 128);
  const at = Math.floor(packet.at);
  block(writer, ENHANCED_PACKET, () => {
    writer.u32(CAPTURE_INTERFACES.indexOf(packet.interface));
    writer.u32(Math.floor(at / 2 ** 32));
    writer.u32(at % 2 ** 32);
    writer.u32(packet.bytes.length);
    writer.u32(packet.octets);
    padded(writer, packet.bytes);
    if (packet.comment !== '') option(writer, OPTION.comment, text(packet.comment));
    option(writer, PACKET_OPTION.flags, Uint8Array.of(0, 0, 0, DIRECTION[packet.direction]));
    if (packet.lost > 0) option(writer, PACKET_OPTION.dropCount, eight(packet.lost));
    option(writer, OPTION.end, NOTHING);
  });
  return writer.finish();
}

const NOTHING = new Uint8Array(0);

/** Type, length, body, and the length again. */
function block(writer: Writer, type: number, body: () => void): void {
  const start = writer.length;
  writer.u32(type);
  writer.u32(0);
  body();
  const length = writer.length + 4 - start;
  writer.u32(length);
  writer.patch(start + 4, 4, length);
}

function option(writer: Writer, code: number, value: Uint8Array): void {
  writer.u16(code);
  writer.u16(value.length);
  padded(writer, value);
}

function padded(writer: Writer, value: Uint8Array): void {
  writer.bytes(value);
  writer.zeros(-value.length & 3);
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

function eight(value: number): Uint8Array {
  const writer = new Writer(8);
  writer.u64(BigInt(value));
  return writer.finish();
}
