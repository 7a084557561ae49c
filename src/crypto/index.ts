/** The public door of the crypto folder: the table of transforms, and what is computed with its rows. */

export * from './aead.ts';
export * from './dh.ts';
export * from './engine.ts';
export { nativeEngine } from './engine-native.ts';
export { nobleEngine } from './engine-noble.ts';
export * from './hash.ts';
export * from './known-answer.ts';
export * from './mac.ts';
export type { EspSuite, PacketCipher } from './packet-cipher.ts';
export { noblePacketCipher } from './packet-cipher-noble.ts';
export { nodePacketCipher } from './packet-cipher-node.ts';
export * from './prf.ts';
export * from './transforms.ts';
