/** The sum of `Checksum` by the processor's SIMD instructions, through WebAssembly: 57 ns instead of 200 for 1,344 octets. */

/** What is used of WebAssembly: Node's types do not have it. */
declare const WebAssembly: {
  readonly Memory: new (pages: { initial: number; maximum: number }) => SimdMemory;
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (
    module: object,
    imports: { arena: { memory: SimdMemory } },
  ) => { readonly exports: { readonly sum: Sum } };
};

/** Memory that the instructions can reach. */
export interface SimdMemory {
  readonly buffer: ArrayBuffer;
}

/** As `Checksum.sum`, of at most 2^18 octets, whatever the alignment. Throws RangeError beyond the memory. */
export type Sum = (at: number, length: number) => number;

const PAGE = 65_536;

/** `checksum.wat`, assembled. */
export const SIMD_CODE =
  'AGFzbQEAAAABBwFgAn9/AX8CEQEFYXJlbmEGbWVtb3J5AgAAAwIBAAcHAQNzdW0AAArvAQHsAQMCewF/AX4gACABQWBxaiEEAkADQCAAIARPDQEgAiAA' +
  '/QAEAP1//a4BIQIgAyAA/QAEEP1//a4BIQMgAEEgaiEADAALCyAC/ckBIAL9ygH9zgEgA/3JASAD/coB/c4B/c4BIQIgAv0dACAC/R0BfCEFIAAgAUEe' +
  'cWohBAJAA0AgACAETw0BIAUgADMBAHwhBSAAQQJqIQAMAAsLIAFBAXEEQCAFIAAxAAB8IQULIAVC//8DgyAFQhCIfCEFIAVC//8DgyAFQhCIfCEFIAVC' +
  '//8DgyAFQhCIfCEFIAWnQf8BcUEIdCAFp0EIdnIL';

/** Memory of `octets`, rounded up to 64 KiB, which never grows. Throws RangeError where there is no address space for it. */
export function simdMemory(octets: number): SimdMemory {
  const pages = Math.ceil(octets / PAGE);
  return new WebAssembly.Memory({ initial: pages, maximum: pages });
}

/** Sums of what lies in that memory. */
export function simdSum(memory: SimdMemory): Sum {
  const module = new WebAssembly.Module(Buffer.from(SIMD_CODE, 'base64'));
  return new WebAssembly.Instance(module, { arena: { memory } }).exports.sum;
}
