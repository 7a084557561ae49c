/** Algorithms under the kernel's names, as attributes of an SA (struct xfrm_algo and its kin, linux/xfrm.h). */

import { NONE } from '../../bytes/bytes.ts';
import type { EspSuite } from '../../crypto/packet-cipher.ts';
import {
  ENCR,
  ENCR_NAMES,
  type EncrPrimitive,
  type EncrRow,
  INTEG,
  INTEG_NAMES,
  type IntegName,
  suiteText,
} from '../../crypto/transforms.ts';
import { SystemError } from '../../errors.ts';
import type { SaParameters, SaProtocol } from '../../ipsec/sa.ts';
import { attribute } from './codec.ts';
import { SIZE, Struct, XFRMA } from './xfrm-structs.ts';

/** What the kernel calls them. A combined-mode cipher carries its salt behind the key, as KEYMAT has it. */
const CIPHER: Record<EncrPrimitive, string> = {
  aes_gcm: 'rfc4106(gcm(aes))',
  aes_ccm: 'rfc4309(ccm(aes))',
  chacha20_poly1305: 'rfc7539esp(chacha20,poly1305)',
  aes_gmac: 'rfc4543(gcm(aes))',
  aes_cbc: 'cbc(aes)',
  aes_ctr: 'rfc3686(ctr(aes))',
  camellia_cbc: 'cbc(camellia)',
  des_cbc: 'cbc(des)',
  '3des_cbc': 'cbc(des3_ede)',
  null: 'ecb(cipher_null)',
};
/** Absent: the kernel's AH and ESP have none. */
const MAC: Partial<Record<IntegName, string>> = {
  hmac_sha2_256: 'hmac(sha256)',
  hmac_sha2_384: 'hmac(sha384)',
  hmac_sha2_512: 'hmac(sha512)',
  hmac_sha1: 'hmac(sha1)',
  aes_xcbc: 'xcbc(aes)',
  aes_cmac: 'cmac(aes)',
  hmac_md5: 'hmac(md5)',
};
/** RFC 2394; the others of RFC 3173 have no implementations. */
const COMPRESSION = 'deflate';
const NAME_BYTES = 64;

/** Whether the kernel has names for a suite: it takes no IV from the sequence number (RFC 8750), and has no GMAC for AH. */
export function hasKernelName({ encr, integ }: EspSuite): boolean {
  const { iv, primitive }: EncrRow = ENCR[encr];
  return (iv > 0 || primitive === 'null') && (integ === 'none' || MAC[integ] !== undefined);
}

/** Throws SystemError (ENOSYS) where the kernel has no such algorithm. */
export function algorithmAttributes({
  protocol,
  suite,
  encrKey,
  integKey,
}: Pick<SaParameters, 'protocol' | 'suite' | 'encrKey' | 'integKey'>): Uint8Array[] {
  if (protocol === 'ipcomp') return [plain(XFRMA.ALG_COMP, COMPRESSION, NONE)];
  const { encr, keyBits, integ } = suite;
  if (!hasKernelName(suite))
    throw new SystemError(`the kernel's ${protocol.toUpperCase()} has no ${suiteText(encr, keyBits, integ)}`, 'ENOSYS');
  const { primitive, icv }: EncrRow = ENCR[encr];
  if (icv > 0) return [sized(XFRMA.ALG_AEAD, CIPHER[primitive], encrKey.reveal(), 8 * icv)];
  const mac = integ === 'none' ? [] : [sized(XFRMA.ALG_AUTH_TRUNC, MAC[integ]!, integKey!.reveal(), 8 * INTEG[integ].icvBytes)];
  return protocol === 'ah' ? mac : [...mac, plain(XFRMA.ALG_CRYPT, CIPHER[primitive], encrKey.reveal())];
}

/** The suite that the attributes of an SA tell; undefined where it is none of our table. Throws WireError. */
export function suiteOfAttributes(protocol: SaProtocol, found: ReadonlyMap<number, Uint8Array>): EspSuite | undefined {
  if (protocol === 'ipcomp') {
    const comp = found.get(XFRMA.ALG_COMP);
    const isOurs = comp !== undefined && nameIn(Struct.read(comp, SIZE.algorithm, 'XFRMA_ALG_COMP')) === COMPRESSION;
    return isOurs ? { encr: 'null_enc', keyBits: 0, integ: 'none' } : undefined;
  }
  const aead = found.get(XFRMA.ALG_AEAD);
  if (aead !== undefined) return withKeyBits(Struct.read(aead, SIZE.sizedAlgorithm, 'XFRMA_ALG_AEAD'), 'none', true);
  const auth = found.get(XFRMA.ALG_AUTH_TRUNC);
  const integ = auth === undefined ? 'none' : integOf(Struct.read(auth, SIZE.sizedAlgorithm, 'XFRMA_ALG_AUTH_TRUNC'));
  if (integ === undefined) return undefined;
  if (protocol === 'ah') return integ === 'none' ? undefined : { encr: 'null_enc', keyBits: 0, integ };
  const crypt = found.get(XFRMA.ALG_CRYPT);
  return crypt && withKeyBits(Struct.read(crypt, SIZE.algorithm, 'XFRMA_ALG_CRYPT'), integ, false);
}

function withKeyBits(struct: Struct, integ: EspSuite['integ'], sized: boolean): EspSuite | undefined {
  const icvBytes = sized ? struct.u32(NAME_BYTES + 4) / 8 : 0;
  const encr = ENCR_NAMES.find((name) => {
    const { primitive, icv, iv }: EncrRow = ENCR[name];
    return CIPHER[primitive] === nameIn(struct) && icv === icvBytes && (iv > 0 || primitive === 'null');
  });
  return encr && { encr, keyBits: struct.u32(NAME_BYTES) - 8 * ENCR[encr].salt, integ };
}

function integOf(struct: Struct): IntegName | undefined {
  const icvBits = struct.u32(NAME_BYTES + 4);
  return INTEG_NAMES.find((name) => MAC[name] === nameIn(struct) && 8 * INTEG[name].icvBytes === icvBits);
}

function nameIn({ bytes }: Struct): string {
  const name = bytes.subarray(0, NAME_BYTES);
  const end = name.indexOf(0);
  return new TextDecoder().decode(end < 0 ? name : name.subarray(0, end));
}

/** struct xfrm_algo: `name (64) | bits of key (4) | key`. */
function plain(type: number, name: string, key: Uint8Array): Uint8Array {
  const struct = named(SIZE.algorithm + key.length, name).setU32(NAME_BYTES, 8 * key.length);
  struct.bytes.set(key, SIZE.algorithm);
  return attribute(type, struct.bytes);
}

/** struct xfrm_algo_aead and xfrm_algo_auth: `name (64) | bits of key (4) | bits of ICV (4) | key`. */
function sized(type: number, name: string, key: Uint8Array, icvBits: number): Uint8Array {
  const struct = named(SIZE.sizedAlgorithm + key.length, name)
    .setU32(NAME_BYTES, 8 * key.length)
    .setU32(NAME_BYTES + 4, icvBits);
  struct.bytes.set(key, SIZE.sizedAlgorithm);
  return attribute(type, struct.bytes);
}

function named(size: number, name: string): Struct {
  const struct = Struct.of(size);
  struct.bytes.set(new TextEncoder().encode(name));
  return struct;
}
