/**
 * encap.sock: IKE datagrams on the UDP encapsulation port (RFC 3948), which belongs to the datapath, to and from iked. A frame is
 * `length (4, of what follows) | kind (1) | family (1) | local port (2) | remote port (2) | local address | remote address | IKE message`.
 */

import { cat, NONE, readU32be, u16be, u32be } from '../bytes/bytes.ts';
import { WireError } from '../errors.ts';
import { IpAddress, type Path } from '../net/address.ts';

export type EncapFrame =
  /** An IKE message without its non-ESP marker. */
  | { readonly kind: 'ike'; readonly path: Path; readonly bytes: Uint8Array }
  /** A NAT keepalive to send: one octet 0xff (RFC 3948 §2.3). */
  | { readonly kind: 'keepalive'; readonly path: Path };

const KIND = { ike: 0, keepalive: 1 } as const;
const FIXED = 6;
/** A UDP datagram, its addresses and the fixed part. */
const LONGEST = FIXED + 32 + 65_535;

export function writeEncapFrame(frame: EncapFrame): Uint8Array {
  const { local, remote } = frame.path;
  const body = cat(
    Uint8Array.of(KIND[frame.kind], local.address.family),
    u16be(local.port),
    u16be(remote.port),
    local.address.bytes,
    remote.address.bytes,
    frame.kind === 'ike' ? frame.bytes : NONE,
  );
  return cat(u32be(body.length), body);
}

/** Cuts a stream into frames. Throws WireError where the other end does not speak this protocol; the connection is then of no use. */
export class EncapFramer {
  #rest: Uint8Array = NONE;

  put(chunk: Uint8Array): EncapFrame[] {
    let bytes = this.#rest.length === 0 ? chunk : cat(this.#rest, chunk);
    const frames: EncapFrame[] = [];
    while (bytes.length >= 4) {
      const length = readU32be(bytes);
      if (length < FIXED || length > LONGEST)
        throw new WireError(`expected a frame of ${FIXED} to ${LONGEST} octets, found length ${length}`);
      if (bytes.length < 4 + length) break;
      frames.push(readFrame(bytes.subarray(4, 4 + length)));
      bytes = bytes.subarray(4 + length);
    }
    this.#rest = bytes.slice();
    return frames;
  }
}

function readFrame(body: Uint8Array): EncapFrame {
  const size = body[1] === 4 ? 4 : 16;
  if (body[1] !== 4 && body[1] !== 6) throw new WireError(`expected address family 4 or 6, found ${body[1]}`);
  if (body.length < FIXED + 2 * size)
    throw new WireError(`expected two addresses of ${size} octets, found ${body.length - FIXED} octets`);
  const address = (at: number) => IpAddress.of(body.subarray(at, at + size));
  const path: Path = {
    local: { address: address(FIXED), port: (body[2]! << 8) | body[3]! },
    remote: { address: address(FIXED + size), port: (body[4]! << 8) | body[5]! },
    encapsulated: true,
  };
  if (body[0] === KIND.keepalive) return { kind: 'keepalive', path };
  if (body[0] === KIND.ike) return { kind: 'ike', path, bytes: body.slice(FIXED + 2 * size) };
  throw new WireError(`expected frame kind 0 or 1, found ${body[0]}`);
}
