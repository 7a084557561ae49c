/** Opens single ESP packets outside of an engine, from keys that are known: for captures, diagnosis and tests (RFC 4303 §3.4). */

import type { PacketCipher } from '../crypto/packet-cipher.ts';
import type { SaParameters } from '../ipsec/sa.ts';
import { DROP, type DropName, dropName } from './drops.ts';
import { Esp } from './esp.ts';
import { Sad } from './sad.ts';

export type InspectedEsp =
  /** `payload` is without padding and trailer: the inner IP packet in tunnel mode, the transport segment in transport mode. */
  | { readonly opened: true; readonly sequence: number; readonly nextHeader: number; readonly payload: Uint8Array }
  | { readonly opened: false; readonly reason: DropName };

/** ESP from its SPI to its ICV at most. */
const ROOM = 65_536;

/**
 * A function that opens the packets of one SA in whatever order, each any number of times: there is no replay check. `cipherOf` makes a
 * cipher over an arena (`noblePacketCipher`). With extended sequence numbers the high half is guessed from the packets before. The keys in
 * `parameters` are used and stay as they are.
 */
export function espInspector(
  parameters: SaParameters,
  cipherOf: (arena: Uint8Array) => PacketCipher,
): (esp: Uint8Array) => InspectedEsp {
  const arena = new Uint8Array(ROOM);
  const cipher = cipherOf(arena);
  const sad = new Sad(cipher);
  const esp = new Esp(arena, cipher, sad, (length) => new Uint8Array(length));
  const sa = sad.add({ ...parameters, replayWindow: 0 }, 'inbound', { high: 0, low: 0 }, { mono: 0, wall: 0 });
  return (packet) => {
    if (packet.length < 8 || packet.length > ROOM) return { opened: false, reason: dropName(DROP.truncated) };
    const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
    if (view.getUint32(0) !== parameters.spi) return { opened: false, reason: dropName(DROP.noSa) };
    arena.set(packet);
    const sequence = sa.extended ? sa.window.extend(view.getUint32(4)) : view.getUint32(4);
    const reason = esp.open(sa, 0, packet.length);
    if (reason !== DROP.none) return { opened: false, reason: dropName(reason) };
    const { at, bytes, nextHeader } = esp.opened;
    return { opened: true, sequence, nextHeader, payload: arena.slice(at, at + bytes) };
  };
}
