/** MIT's libkrb5 through koffi, as the other end of an AP exchange: struct layouts of 64-bit Linux, for tests only. */

import { createRequire } from 'node:module';

type Koffi = typeof import('koffi');
type Native = (...args: readonly unknown[]) => number;

const P = 'void *';
const SIGNATURES = {
  krb5_init_context: [P],
  krb5_parse_name: [P, 'str', P],
  krb5_cc_resolve: [P, 'str', P],
  krb5_kt_resolve: [P, 'str', P],
  krb5_get_credentials: [P, 'uint32_t', P, P, P],
  krb5_mk_req_extended: [P, P, 'int32_t', P, P, P],
  krb5_rd_req: [P, P, P, P, P, P, P],
  krb5_mk_rep: [P, P, P],
  krb5_rd_rep: [P, P, P, P],
  krb5_auth_con_getkey: [P, P, P],
} as const;

const KRB5_GC_CACHED = 2;
const AP_OPTS_MUTUAL_REQUIRED = 0x20000000;
/** Of krb5_creds, and where its client and server are. */
const CREDS = { bytes: 120, client: 8, server: 16 } as const;

/** libkrb5 with the configuration that KRB5_CONFIG names. Everything it allocates lives as long as the test. */
export class MitKerberos {
  readonly #koffi: Koffi;
  readonly #native: Record<keyof typeof SIGNATURES, Native>;
  readonly #message: (context: bigint, code: number) => string;
  readonly #context: bigint;

  constructor() {
    this.#koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const library = this.#koffi.load('libkrb5.so.3');
    const calls = Object.entries(SIGNATURES).map(([name, types]) => [name, library.func(name, 'int32_t', [...types])]);
    this.#native = Object.fromEntries(calls) as Record<keyof typeof SIGNATURES, Native>;
    this.#message = library.func('krb5_get_error_message', 'str', [P, 'int32_t']) as (context: bigint, code: number) => string;
    const context = new Pointer();
    const code = this.#native.krb5_init_context(context.cell);
    if (code !== 0) throw new Error(`krb5_init_context: ${code}`);
    this.#context = context.value;
  }

  /** krb5_mk_req_extended with a ticket out of a cache file, mutual authentication required; and krb5_rd_rep. */
  initiate(ccache: string, client: string, server: string) {
    const credentials = Buffer.alloc(CREDS.bytes);
    credentials.writeBigUInt64LE(this.#name(client), CREDS.client);
    credentials.writeBigUInt64LE(this.#name(server), CREDS.server);
    const cache = this.#made('krb5_cc_resolve', ccache);
    const found = new Pointer();
    this.#must('krb5_get_credentials', this.#context, KRB5_GC_CACHED, cache, credentials, found.cell);
    const exchange = new Pointer();
    const apReq = new Data();
    this.#must('krb5_mk_req_extended', this.#context, exchange.cell, AP_OPTS_MUTUAL_REQUIRED, null, found.value, apReq.struct);
    return {
      apReq: this.#octets(apReq),
      key: this.#key(exchange),
      checkReply: (apRep: Uint8Array) =>
        this.#must('krb5_rd_rep', this.#context, exchange.value, new Data(apRep, this.#koffi).struct, new Pointer().cell),
    };
  }

  /** krb5_rd_req with a keytab, and krb5_mk_rep. Throws what libkrb5 says. */
  accept(apReq: Uint8Array, keytab: string, server: string) {
    const exchange = new Pointer();
    const input = new Data(apReq, this.#koffi);
    const table = this.#made('krb5_kt_resolve', keytab);
    this.#must(
      'krb5_rd_req',
      this.#context,
      exchange.cell,
      input.struct,
      this.#name(server),
      table,
      Buffer.alloc(4),
      new Pointer().cell,
    );
    const apRep = new Data();
    this.#must('krb5_mk_rep', this.#context, exchange.value, apRep.struct);
    return { apRep: this.#octets(apRep), key: this.#key(exchange) };
  }

  /** The session key of an exchange. */
  #key(exchange: Pointer): { readonly etype: number; readonly octets: Uint8Array } {
    const key = new Pointer();
    this.#must('krb5_auth_con_getkey', this.#context, exchange.value, key.cell);
    const block = this.#memory(key.value, 24);
    return { etype: block.readInt32LE(4), octets: this.#memory(block.readBigUInt64LE(16), block.readUInt32LE(8)) };
  }

  #name(text: string): bigint {
    return this.#made('krb5_parse_name', text);
  }

  #made(name: 'krb5_parse_name' | 'krb5_cc_resolve' | 'krb5_kt_resolve', text: string): bigint {
    const made = new Pointer();
    this.#must(name, this.#context, text, made.cell);
    return made.value;
  }

  #must(name: keyof typeof SIGNATURES, ...args: readonly unknown[]): void {
    const code = this.#native[name](...args);
    if (code !== 0) throw new Error(`${name}: ${this.#message(this.#context, code)}`);
  }

  #octets(data: Data): Uint8Array {
    return this.#memory(data.address, data.length);
  }

  #memory(address: bigint, length: number): Buffer {
    return Buffer.from(new Uint8Array(this.#koffi.view(address, length)));
  }
}

/** Room for one pointer that a call fills. */
class Pointer {
  readonly cell = Buffer.alloc(8);
  get value(): bigint {
    return this.cell.readBigUInt64LE();
  }
}

/** krb5_data: magic, length, pointer. */
class Data {
  readonly struct = Buffer.alloc(16);
  /** Held so that it is not collected while the struct points at it. */
  readonly held: Uint8Array | undefined;
  constructor(bytes?: Uint8Array, koffi?: Koffi) {
    if (bytes === undefined || koffi === undefined) return;
    this.held = Uint8Array.from(bytes);
    this.struct.writeUInt32LE(bytes.length, 4);
    this.struct.writeBigUInt64LE(BigInt(koffi.address(this.held)), 8);
  }
  get length(): number {
    return this.struct.readUInt32LE(4);
  }
  get address(): bigint {
    return this.struct.readBigUInt64LE(8);
  }
}
