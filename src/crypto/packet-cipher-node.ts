/** PacketCipher through node:crypto: what serves where OpenSSL cannot be called directly. Has Camellia and DES, which noble lacks. */

import { nativeEngine } from './engine-native.ts';
import type { PacketCipher } from './packet-cipher.ts';
import { enginePacketCipher } from './packet-cipher-engine.ts';

export function nodePacketCipher(arena: Uint8Array): PacketCipher {
  return enginePacketCipher(arena, nativeEngine, 'node');
}
