/** Algorithms as the files name them, today's words and racoon2's, and which row of the table of transforms each means. */

import {
  ENCR,
  type EncrName,
  type EncrRow,
  INTEG,
  type IntegName,
  type IntegRow,
  KE,
  type KeName,
  type KeRow,
  PRF,
  type PrfName,
  type PrfRow,
} from '../crypto/transforms.ts';
import { quoted, type Span } from './diagnostics.ts';
import { type Cursor, type Kind, kind, parseNumber } from './kinds.ts';

export interface Cipher {
  readonly name: EncrName;
  readonly keyBits: number;
}

/** Left out of a list: the word is known, but nothing stands behind it yet. */
export const LEFT_OUT = 'left-out';
export type Known<T> = T | typeof LEFT_OUT;

/** Words of racoon2 (and of everyday speech) for rows of the table. */
const CIPHER_WORDS: Readonly<Record<string, { readonly name: EncrName; readonly bits?: number }>> = {
  rijndael_cbc: { name: 'aes_cbc' },
  ...sized('aes', '_cbc', 'aes_cbc'),
  ...sized('aes', '_ctr', 'aes_ctr'),
  ...sized('aes', '_gcm_8', 'aes_gcm_8'),
  ...sized('aes', '_gcm_12', 'aes_gcm_12'),
  ...sized('aes', '_gcm_16', 'aes_gcm_16'),
  ...sized('aes', '_ccm_8', 'aes_ccm_8'),
  ...sized('aes', '_ccm_12', 'aes_ccm_12'),
  ...sized('aes', '_ccm_16', 'aes_ccm_16'),
  ...sized('aes', '_gcm_16_iiv', 'aes_gcm_16_iiv'),
  ...sized('aes', '_ccm_8_iiv', 'aes_ccm_8_iiv'),
  ...sized('null_auth_aes', '_gmac', 'null_auth_aes_gmac'),
  ...sized('camellia', '_cbc', 'camellia_cbc'),
  null: { name: 'null_enc' },
};
const GROUP_WORDS: Readonly<Record<string, KeName>> = { curve25519: 'x25519', curve448: 'x448' };
/** racoon2's documentation gave IKEv2 the names of the hashes; its code wanted those of the MACs. */
const MAC_WORDS: Readonly<Record<string, string>> = {
  sha1: 'hmac_sha1',
  sha2_256: 'hmac_sha2_256',
  sha2_384: 'hmac_sha2_384',
  sha2_512: 'hmac_sha2_512',
};

/** What racoon2's parser knew and Tanuki does not have. */
const OLD_CIPHERS = [
  ...[
    'des_cbc_iv64',
    'des_cbc_iv32',
    '3idea_cbc',
    'idea_cbc',
    'rc5_cbc',
    'rc4_cbc',
    'cast128_cbc',
    'blowfish_cbc',
    'twofish_cbc',
  ],
  'camellia_ctr',
];
const OLD_MACS = ['md5', 'hmac_md5', 'tiger', 'kpdk_md5', 'des_mac'];
const OLD_GROUPS = ['modp768', 'ec2n155', 'ec2n185', 'modp1024_160', 'modp2048_224', 'modp2048_256'];
const OLD_GROUP_NUMBERS: Readonly<Record<number, string>> = { 1: 'modp768', 3: 'ec2n155', 4: 'ec2n185' };

function sized(before: string, after: string, name: EncrName): Record<string, { name: EncrName; bits: number }> {
  return Object.fromEntries([128, 192, 256].map((bits) => [`${before}${bits}${after}`, { name, bits }]));
}

/** `NAME`, `NAME , KEYLEN_BITS`, `NAME , KEYLEN_BITS , KEY`, `NAME , , KEY`. The key is ignored, as ever. */
interface Element {
  readonly word: string;
  readonly at: Span;
  readonly bits: number | undefined;
}

function elementAt(cursor: Cursor, what: string): Element | undefined {
  const word = cursor.text(what);
  if (word === undefined) return undefined;
  const element = { word: word.text, at: word.atom.span, bits: undefined };
  if (!cursor.take(',')) return element;
  let bits: number | undefined;
  if (cursor.peek()?.kind === 'atom') {
    const length = cursor.text('a key length')!;
    bits = length === undefined ? undefined : parseNumber(length.text);
    if (bits === undefined || bits < 1) {
      if (length !== undefined)
        cursor.reader.report.error(length.atom.span, `${quoted(length.text)} is no key length`, 'a number of bits');
      return undefined;
    }
  }
  if (cursor.take(',')) {
    const key = cursor.text('a key');
    if (key === undefined) return undefined;
    cursor.reader.report.warning(
      key.atom.span,
      'a key in a list of algorithms is ignored',
      'take it out: it is a secret in a place where it does nothing',
    );
  }
  return { ...element, bits };
}

function unknown(
  cursor: Cursor,
  { word, at }: Element,
  what: string,
  known: readonly string[],
  old: readonly string[],
): Known<never> | undefined {
  if (old.includes(word)) {
    cursor.reader.report.warning(at, `${quoted(word)} is not offered: Tanuki does not have it`, `it has ${known.join(', ')}`);
    return LEFT_OUT;
  }
  const near = cursor.reader.report.near(word, known);
  cursor.reader.report.error(
    at,
    `${quoted(word)} is no ${what}`,
    near === undefined ? `known: ${known.join(', ')}` : `did you mean ${quoted(near)}?`,
  );
  return undefined;
}

function warnWeak(cursor: Cursor, { word, at }: Element, row: { readonly weak: boolean; readonly rfc: string }): void {
  if (row.weak)
    cursor.reader.report.warning(
      at,
      `${quoted(word)} is weak; it is let in because the policy names it`,
      'take it out as soon as the peer can do better',
    );
}

/** What racoon2's files name for an IKE SA and RFC 8247 forbids is left out, so that such a file still works. */
function tooWeak(cursor: Cursor, { word, at }: Element, instead: string): Known<never> {
  cursor.reader.report.warning(
    at,
    `${quoted(word)} is not offered: it is too weak for an IKE SA (RFC 8247)`,
    `it is for ${instead} only`,
  );
  return LEFT_OUT;
}

/** A key length where none belongs. */
function noLength(cursor: Cursor, { word, at, bits }: Element): void {
  if (bits !== undefined) cursor.reader.report.warning(at, `a key length has no effect on ${quoted(word)}`, 'leave it out');
}

/** What the rows of a table have that a protocol can name: those with a number in its column. */
function namesWith<Name extends string>(table: Readonly<Record<Name, object>>, column: string): readonly Name[] {
  return (Object.keys(table) as Name[]).filter((name) => column in table[name]);
}

/** What an IKEv1 SA can have (RFC 2409 appendix A), and what quick mode can, which KINK shares. */
export const IN_IKEV1: {
  readonly encr: readonly EncrName[];
  readonly hash: readonly PrfName[];
  readonly groups: readonly KeName[];
  readonly espEncr: readonly EncrName[];
  readonly espAuth: readonly IntegName[];
  readonly ahAuth: readonly IntegName[];
} = {
  encr: namesWith(ENCR, 'isakmp'),
  hash: namesWith(PRF, 'hashV1'),
  groups: namesWith(KE, 'groupV1'),
  espEncr: namesWith(ENCR, 'espV1'),
  espAuth: namesWith(INTEG, 'authV1').filter((name) => INTEG[name].esp),
  ahAuth: namesWith(INTEG, 'ahV1'),
};

/** Reports an algorithm that the protocol has no number for. */
function missing(cursor: Cursor, { word, at }: Element, what: string, has: readonly string[]): undefined {
  cursor.reader.report.error(at, `IKEv1 has no number for ${quoted(word)}`, `its ${what}: ${has.join(', ')}`);
  return undefined;
}

/** Words for ciphers, for hints and documentation. */
const CIPHERS = [...new Set([...Object.keys(ENCR), ...Object.keys(CIPHER_WORDS)])];

/** Ciphers; of an IKE SA, which may not use NULL (RFC 7296 §5), of IKEv1's, which knows few, or of ESP. */
export function cipher(of: 'ike' | 'ikev1' | 'esp'): Kind<Known<Cipher>> {
  return kind('CIPHER [, BITS]', (cursor) => {
    const element = elementAt(cursor, 'a cipher');
    if (element === undefined) return undefined;
    const { report } = cursor.reader;
    const word = Object.hasOwn(CIPHER_WORDS, element.word) ? CIPHER_WORDS[element.word]! : undefined;
    const name = word?.name ?? (Object.hasOwn(ENCR, element.word) ? (element.word as EncrName) : undefined);
    if (name === undefined) return unknown(cursor, element, 'cipher', CIPHERS, OLD_CIPHERS);
    const row: EncrRow = ENCR[name];
    if (of !== 'esp' && !row.ike && row.weak) return tooWeak(cursor, element, 'esp_enc_alg');
    if (of === 'ikev1' && row.isakmp === undefined) return missing(cursor, element, 'ciphers', IN_IKEV1.encr);
    if (of === 'ike' && !row.ike) {
      const rfc = row.iv === 0 && row.icv > 0 ? 'RFC 8750 §7' : 'RFC 7296 §5';
      report.error(element.at, `${quoted(element.word)} must not protect an IKE SA (${rfc})`, 'it is for esp_enc_alg only');
      return undefined;
    }
    const keyBits = element.bits ?? word?.bits ?? row.defaultBits;
    const fits = row.bits.length === 0 ? keyBits === 0 : row.bits.includes(keyBits) && (word?.bits ?? keyBits) === keyBits;
    if (!fits) {
      const lengths = word?.bits !== undefined ? `${word.bits}` : row.bits.length === 0 ? 'no key' : row.bits.join(', ');
      report.error(element.at, `${quoted(element.word)} has no keys of ${keyBits} bits`, `its length: ${lengths}`);
      return undefined;
    }
    warnWeak(cursor, element, row);
    if (row.primitive === 'null' || row.primitive === 'aes_gmac')
      report.warning(
        element.at,
        `\`${name}\` authenticates but does not hide anything`,
        'anyone on the way can read the traffic',
      );
    return { name, keyBits };
  });
}

function macName(word: string, cursor: Cursor, at: Span): string {
  const mac = Object.hasOwn(MAC_WORDS, word) ? MAC_WORDS[word] : undefined;
  if (mac !== undefined) cursor.reader.report.note(at, `${quoted(word)} is taken as ${quoted(mac)}`, `write ${mac}`);
  return mac ?? word;
}

/** Integrity algorithms of an IKE SA, of AH, or of ESP, which may have `non_auth`. */
export function integrity(of: 'ike' | 'ah'): Kind<Known<IntegName>>;
export function integrity(of: 'esp'): Kind<Known<IntegName | 'none'>>;
export function integrity(of: 'ike' | 'ah' | 'esp'): Kind<Known<IntegName | 'none'>> {
  return kind('MAC', (cursor) => {
    const element = elementAt(cursor, 'an integrity algorithm');
    if (element === undefined) return undefined;
    if (of === 'esp' && element.word === 'non_auth') return 'none';
    const name = macName(element.word, cursor, element.at);
    if (!Object.hasOwn(INTEG, name)) return unknown(cursor, element, 'integrity algorithm', Object.keys(INTEG), OLD_MACS);
    noLength(cursor, element);
    const row: IntegRow = INTEG[name as IntegName];
    if (of === 'ike' && !row.ike && row.weak) return tooWeak(cursor, element, 'esp_auth_alg and ah_auth_alg');
    if (of !== 'ah' && !row.esp) {
      const instead = of === 'esp' ? 'write null_auth_aes_gmac into esp_enc_alg (RFC 4543 §3)' : 'it is for ah_auth_alg only';
      cursor.reader.report.error(element.at, `${quoted(element.word)} is for AH only`, instead);
      return undefined;
    }
    warnWeak(cursor, element, row);
    return name as IntegName;
  });
}

export const prf: Kind<Known<PrfName>> = kind('PRF', (cursor) => {
  const element = elementAt(cursor, 'a pseudorandom function');
  if (element === undefined) return undefined;
  const name = macName(element.word, cursor, element.at);
  if (!Object.hasOwn(PRF, name)) return unknown(cursor, element, 'pseudorandom function', Object.keys(PRF), OLD_MACS);
  noLength(cursor, element);
  const row: PrfRow = PRF[name as PrfName];
  warnWeak(cursor, element, row);
  return name as PrfName;
});

/** How IKEv1 and this file name the hash whose HMAC is a pseudorandom function. */
export function hashWord(name: PrfName): string {
  return name.replace(/^hmac_/, '');
}

/** Hashes of IKEv1, each as the pseudorandom function that it makes (RFC 2409 §4). */
export const hash: Kind<Known<PrfName>> = kind('HASH', (cursor) => {
  const element = elementAt(cursor, 'a hash');
  if (element === undefined) return undefined;
  const name = IN_IKEV1.hash.find((candidate) => element.word === candidate || element.word === hashWord(candidate));
  if (name === undefined) {
    const words = IN_IKEV1.hash.map(hashWord);
    return Object.hasOwn(PRF, element.word)
      ? missing(cursor, element, 'hashes', words)
      : unknown(cursor, element, 'hash', words, OLD_MACS);
  }
  noLength(cursor, element);
  const row: PrfRow = PRF[name];
  warnWeak(cursor, element, row);
  return name;
});

/** Key exchange methods by name or by number, which is the same in IKEv1 and IKEv2. */
export const group: Kind<Known<KeName>> = groupOf('ikev2');
/** Those that IKEv1 and KINK can name. */
export const groupV1: Kind<Known<KeName>> = groupOf('ikev1');

function groupOf(protocol: 'ikev1' | 'ikev2'): Kind<Known<KeName>> {
  return kind('GROUP', (cursor) => {
    const element = elementAt(cursor, 'a Diffie-Hellman group');
    if (element === undefined) return undefined;
    const number = /^\d/.test(element.word) ? parseNumber(element.word) : undefined;
    const byNumber = (Object.keys(KE) as KeName[]).find((candidate) => KE[candidate].ikev2 === number);
    const name = byNumber ?? (Object.hasOwn(GROUP_WORDS, element.word) ? GROUP_WORDS[element.word]! : element.word);
    if (!Object.hasOwn(KE, name)) {
      const word = number === undefined ? element.word : (OLD_GROUP_NUMBERS[number] ?? element.word);
      return unknown(cursor, { ...element, word }, 'Diffie-Hellman group', Object.keys(KE), OLD_GROUPS);
    }
    noLength(cursor, element);
    const row: KeRow = KE[name as KeName];
    if (protocol === 'ikev1' && row.groupV1 === undefined) return missing(cursor, element, 'groups', IN_IKEV1.groups);
    warnWeak(cursor, element, row);
    return name as KeName;
  });
}

/** Any algorithm, where a list has no effect. */
export const anyAlgorithm: Kind<string> = kind('ALGORITHM [, BITS]', (cursor) => elementAt(cursor, 'an algorithm')?.word);

/** Whether a cipher authenticates by itself. */
export function isAead(name: EncrName): boolean {
  return ENCR[name].icv > 0;
}

/** How `tanuki lint --print` writes a cipher. */
export function writeCipher({ name, keyBits }: Cipher): string {
  return ENCR[name].keyLength ? `${name}, ${keyBits}` : name;
}
