/** Looks for key material where it must not be: every octet string that any `Secret` revealed during a run, in every form that a leak takes. */

import { Secret } from '../../src/bytes/secret.ts';

/** Octets of a key that must come together to count as a leak. */
const WINDOW = 8;

/** Collects what secrets reveal while it is `listening`, and searches texts and octets for it. */
export class SecretHunt {
  readonly #windows = new Set<string>();
  readonly #words = new Set<number>();
  readonly #known = new WeakSet<Uint8Array>();

  /** Carries out `act`; whatever secrets it uses are known from then on. */
  listening<T>(act: () => T): T {
    const before = current;
    current = this;
    try {
      return act();
    } finally {
      current = before;
    }
  }

  learn(secret: Uint8Array): void {
    if (this.#known.has(secret) || secret.length < WINDOW || secret.every((octet) => octet === 0)) return;
    this.#known.add(secret);
    const hex = hexOf(secret);
    for (let at = 0; at + WINDOW <= secret.length; at++) {
      this.#windows.add(hex.slice(2 * at, 2 * (at + WINDOW)));
      this.#words.add(word(secret, at));
    }
  }

  /** Whether `bytes` hold a piece of a secret. */
  inBytes(bytes: Uint8Array): boolean {
    for (let at = 0; at + WINDOW <= bytes.length; at++) {
      if (this.#words.has(word(bytes, at)) && this.#windows.has(hexOf(bytes.subarray(at, at + WINDOW)))) return true;
    }
    return false;
  }

  /** Why `value`, an event or a reply, must not leave a machine, or undefined: it is no plain data, or holds a piece of a secret. */
  inValue(value: unknown, path = ''): string | undefined {
    if (value === undefined || value === null || typeof value === 'number' || typeof value === 'boolean') return undefined;
    if (typeof value === 'string') return this.#inText(value) ? `${path} shows key material: ${value}` : undefined;
    if (Array.isArray(value) && value.length >= WINDOW && value.every((item) => typeof item === 'number')) {
      return this.inBytes(Uint8Array.from(value)) ? `${path} is key material` : undefined;
    }
    if (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype) {
      for (const [name, member] of Object.entries(value)) {
        const found = this.inValue(member, path === '' ? name : `${path}.${name}`);
        if (found !== undefined) return found;
      }
      return undefined;
    }
    return `${path} is no plain data`;
  }

  #inText(text: string): boolean {
    if (!SUSPICIOUS.test(text)) return false;
    for (const [run] of text.matchAll(/[0-9a-fA-F]{16,}/g)) {
      for (let at = 0; at + 2 * WINDOW <= run.length; at++) {
        if (this.#windows.has(run.slice(at, at + 2 * WINDOW).toLowerCase())) return true;
      }
    }
    for (const [run] of text.matchAll(/[0-9a-fA-F]{2}([ :][0-9a-fA-F]{2}){7,}/g))
      if (this.#inText(run.replaceAll(/[ :]/g, ''))) return true;
    for (const [run] of text.matchAll(/[A-Za-z0-9+/]{11,}/g)) if (this.inBytes(Buffer.from(run, 'base64'))) return true;
    for (const [run] of text.matchAll(/\d{1,3}(,\s?\d{1,3}){7,}/g))
      if (this.inBytes(Uint8Array.from(run.split(',').map(Number)))) return true;
    return this.inBytes(Buffer.from(text, 'latin1'));
  }
}

/** What a text must hold for a piece of a key to be in it: long runs of hexadecimal, Base64 or decimal numbers, or octets that are no text. */
const SUSPICIOUS = /[0-9a-fA-F]{16}|[A-Za-z0-9+/]{11}|(?:[0-9a-fA-F]{2}[ :]){7}|(?:\d{1,3},\s?){7}|[^\x20-\x7e]/;

let current: SecretHunt | undefined;

const reveal = Secret.prototype.reveal;
Secret.prototype.reveal = function (this: Secret): Uint8Array {
  const octets = reveal.call(this);
  current?.learn(octets);
  return octets;
};

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}
