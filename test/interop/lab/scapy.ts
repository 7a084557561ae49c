/** The scapy oracle as a child process: seals and opens ESP packets independently of our own code (requests in `scapy-esp.py`'s head). */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const AH_SCRIPT = fileURLToPath(new URL('../scapy-ah.py', import.meta.url));
const SCRIPT = fileURLToPath(new URL('../scapy-esp.py', import.meta.url));

export type ScapyCipher = 'NULL' | 'AES-CBC' | 'AES-CTR' | 'AES-GCM' | 'AES-CCM' | 'CHACHA20-POLY1305' | '3DES' | 'DES';
export type ScapyAuth =
  | 'NULL'
  | 'HMAC-SHA1-96'
  | 'SHA2-256-128'
  | 'SHA2-384-192'
  | 'SHA2-512-256'
  | 'HMAC-MD5-96'
  | 'AES-CMAC-96';

/** One SA as scapy sees it. `key` has the cipher's salt behind it, as KEYMAT does (RFC 4106 §8.1). */
export type ScapySa = {
  readonly mode: 'tunnel' | 'transport';
  readonly spi: number;
  readonly cipher: ScapyCipher;
  readonly key?: Uint8Array;
  /** Octets of ICV of AES-CCM; 16 without it. */
  readonly icv?: number;
  readonly auth?: ScapyAuth;
  readonly authKey?: Uint8Array;
  readonly esn?: boolean;
};

export type SealRequest = ScapySa & {
  readonly seq: number;
  readonly esnHigh?: number;
  readonly iv?: Uint8Array;
  readonly outer?: { src: string; dst: string; ttl?: number; tos?: number; id?: number; df?: boolean };
  readonly udp?: { source: number; destination: number };
  readonly packet: Uint8Array;
};

/** One SA of AH and packets for it. `seq` is that of the first; `outer` is for tunnel mode. */
export type AhRequest = {
  readonly mode: 'tunnel' | 'transport';
  readonly spi: number;
  readonly auth: ScapyAuth;
  readonly authKey: Uint8Array;
  readonly esn: boolean;
  readonly esnHigh: number;
  readonly outer: { readonly src: string; readonly dst: string };
  readonly seq: number;
  readonly packets: readonly Uint8Array[];
};

export type OpenRequest = ScapySa & { readonly esnHigh?: number; readonly packet: Uint8Array };

type Failure = {
  readonly ok: false;
  readonly error: 'integrity' | 'malformed' | 'unsupported' | 'request';
  readonly message: string;
};
export type Sealed = { readonly ok: true; readonly packet: Uint8Array; readonly spi: number; readonly seq: number } | Failure;
export type Opened =
  | {
      readonly ok: true;
      readonly packet: Uint8Array;
      readonly spi: number;
      readonly seq: number;
      readonly nextHeader: number;
      readonly padLength: number;
    }
  | Failure;

/** The python that can import scapy's IPsec layer and a cipher library, or undefined: then what needs it is skipped. */
export function scapyPython(): string | undefined {
  const probe = 'from scapy.layers import ipsec; assert "AES-GCM" in ipsec.CRYPT_ALGOS';
  return ['/usr/bin/python3', 'python3'].find((python) => spawnSync(python, ['-c', probe], { timeout: 20_000 }).status === 0);
}

/** A running oracle. Requests are answered in order; `close` ends it. */
export class ScapyOracle {
  readonly #child: ChildProcess;
  readonly #waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  #ended: Error | undefined;
  #id = 0;

  constructor(python: string, script = SCRIPT) {
    this.#child = spawn(python, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.#waiting.shift()?.resolve(line));
    const end = (why: string) => {
      this.#ended = new Error(`the scapy oracle ended: ${why}`);
      for (const { reject } of this.#waiting.splice(0)) reject(this.#ended);
    };
    this.#child.on('error', (error) => end(error.message));
    this.#child.on('exit', (code, signal) => end(`exit ${code ?? signal}`));
    this.#child.stdin!.on('error', (error) => end(error.message));
  }

  /** `packet` protected by the SA: an IP packet with ESP (and UDP, when `udp` is given). */
  async seal(request: SealRequest): Promise<Sealed> {
    return (await this.#ask('seal', request)) as Sealed;
  }

  /** The packet inside an outer packet, or why scapy refuses it. */
  async open(request: OpenRequest): Promise<Opened> {
    return (await this.#ask('open', request)) as Opened;
  }

  /** AH around, or out of, many packets at once; the oracle was made with `AH_SCRIPT`. A string says why scapy refuses a packet. */
  async ah(op: 'seal' | 'open', request: AhRequest): Promise<readonly (Uint8Array | string)[]> {
    const reply = (await this.#ask(op, { ...request, packets: request.packets.map(hex) })) as {
      ok: boolean;
      message?: string;
      packets: (string | { error: string })[];
    };
    if (!reply.ok) throw new Error(`scapy: ${reply.message}`);
    return reply.packets.map((packet) => (typeof packet === 'string' ? unhex(packet) : packet.error));
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin!.end();
    const deadline = setTimeout(() => this.#child.kill('SIGKILL'), 3000);
    await exited;
    clearTimeout(deadline);
  }

  async #ask(op: string, request: object): Promise<unknown> {
    if (this.#ended) throw this.#ended;
    const id = ++this.#id;
    const members = Object.entries(request).map(([name, value]) => [name, value instanceof Uint8Array ? hex(value) : value]);
    const line = await new Promise<string>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#child.stdin!.write(`${JSON.stringify({ id, op, ...Object.fromEntries(members) })}\n`);
    });
    const reply = JSON.parse(line) as Record<string, unknown>;
    if (reply.id !== id) throw new Error(`the scapy oracle answered ${String(reply.id)}, expected ${id}`);
    return typeof reply.packet === 'string' ? { ...reply, packet: unhex(reply.packet) } : reply;
  }
}

const hex = (octets: Uint8Array) => Buffer.from(octets).toString('hex');
const unhex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
