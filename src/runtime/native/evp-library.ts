/**
 * OpenSSL's EVP interface through koffi: of the node binary itself, else of the system's libcrypto.so.3. Nothing but declarations
 * (evp(3), HMAC(3)).
 */

import { SystemError } from '../../errors.ts';
import { type Door, tryDoor } from './door.ts';
import type { Libc } from './libc.ts';

/**
 * The raw functions; pointers and lengths are numbers, 0 is NULL, and 1 means success. Contexts are kept as BigInts: they are made once and
 * handed over as they are, where a number of more than 31 bits would be allocated anew for each packet.
 */
export interface Evp {
  /** `OpenSSL 3.0.19 …` and where it was found, for the log. */
  readonly version: string;
  EVP_CIPHER_fetch(library: number, algorithm: string, properties: number): number;
  EVP_CIPHER_CTX_new(): number;
  EVP_CIPHER_CTX_free(context: bigint): void;
  EVP_CIPHER_CTX_set_padding(context: bigint, padding: number): number;
  EVP_CIPHER_CTX_ctrl(context: bigint, command: number, argument: number, pointer: number): number;
  EVP_CIPHER_CTX_set_params(context: bigint, parameters: number): number;
  EVP_CIPHER_CTX_get_params(context: bigint, parameters: number): number;
  EVP_CipherInit_ex(context: bigint, cipher: number, engine: number, key: number, iv: number, encrypt: number): number;
  EVP_DecryptInit_ex2(context: bigint, cipher: number, key: number, iv: number, parameters: number): number;
  EVP_CipherUpdate(context: bigint, out: number, outLength: number, input: number, length: number): number;
  EVP_CipherFinal_ex(context: bigint, out: number, outLength: number): number;
  EVP_MD_fetch(library: number, algorithm: string, properties: number): number;
  HMAC_CTX_new(): number;
  HMAC_CTX_free(context: bigint): void;
  HMAC_Init_ex(context: bigint, key: number, length: number, digest: number, engine: number): number;
  HMAC_Update(context: bigint, data: number, length: number): number;
  HMAC_Final(context: bigint, out: number, outLength: number): number;
  CMAC_CTX_new(): number;
  CMAC_CTX_free(context: bigint): void;
  CMAC_Init(context: bigint, key: number, length: number, cipher: number, engine: number): number;
  CMAC_Update(context: bigint, data: number, length: number): number;
  CMAC_Final(context: bigint, out: number, outLength: number): number;
  ERR_clear_error(): void;
}

const P = 'int64_t';
const SIGNATURES = {
  EVP_CIPHER_fetch: [P, [P, 'str', P]],
  EVP_CIPHER_CTX_new: [P, []],
  EVP_CIPHER_CTX_free: ['void', [P]],
  EVP_CIPHER_CTX_set_padding: ['int', [P, 'int']],
  EVP_CIPHER_CTX_ctrl: ['int', [P, 'int', 'int', P]],
  EVP_CIPHER_CTX_set_params: ['int', [P, P]],
  EVP_CIPHER_CTX_get_params: ['int', [P, P]],
  EVP_CipherInit_ex: ['int', [P, P, P, P, P, 'int']],
  EVP_DecryptInit_ex2: ['int', [P, P, P, P, P]],
  EVP_CipherUpdate: ['int', [P, P, P, P, 'int']],
  EVP_CipherFinal_ex: ['int', [P, P, P]],
  EVP_MD_fetch: [P, [P, 'str', P]],
  HMAC_CTX_new: [P, []],
  HMAC_CTX_free: ['void', [P]],
  HMAC_Init_ex: ['int', [P, P, 'int', P, P]],
  HMAC_Update: ['int', [P, P, P]],
  HMAC_Final: ['int', [P, P, P]],
  CMAC_CTX_new: [P, []],
  CMAC_CTX_free: ['void', [P]],
  CMAC_Init: ['int', [P, P, P, P, P]],
  CMAC_Update: ['int', [P, P, P]],
  CMAC_Final: ['int', [P, P, P]],
  ERR_clear_error: ['void', []],
} as const satisfies Record<Exclude<keyof Evp, 'version'>, readonly [string, readonly string[]]>;

let door: Door<Evp> | undefined;

/** Looks for OpenSSL 3 once for this thread. Node 20's own has it; a build without exported symbols (or BoringSSL) has not. */
export function evp(libc: Libc): Door<Evp> {
  door ??= firstOf(libc);
  return door;
}

function firstOf(libc: Libc): Door<Evp> {
  const own = tryDoor(() => bind(libc.self, 'in the node binary'));
  if (own.open !== undefined) return own;
  const shared = tryDoor(() => bind(libc.koffi.load('libcrypto.so.3'), 'libcrypto.so.3'));
  if (shared.open !== undefined) return shared;
  return { open: undefined, why: `OpenSSL 3 is neither in the node binary (${own.why}) nor in libcrypto.so.3 (${shared.why})` };
}

function bind(library: Libc['self'], where: string): Evp {
  const number = Number(library.func('OpenSSL_version_num', 'uint64_t', [])());
  const text = String(library.func('OpenSSL_version', 'str', ['int'])(0));
  if (number < 0x3000_0000) throw new SystemError(`it is ${text}, and the functions used came with OpenSSL 3.0`);
  const functions = Object.entries(SIGNATURES).map(([name, [result, parameters]]) => [
    name,
    library.func(name, result, [...parameters]),
  ]);
  return { ...(Object.fromEntries(functions) as Omit<Evp, 'version'>), version: `${text} (${where})` };
}
