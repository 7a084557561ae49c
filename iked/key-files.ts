/** What a pre-shared key file holds, in the format that `psk_format` names (decisions: one trailing newline is not part of a text). */

import { fromHex, fromUtf8 } from '../src/bytes/bytes.ts';
import { Secret } from '../src/bytes/secret.ts';
import type { Ikev2Config } from '../src/config/config.ts';
import { SystemError } from '../src/errors.ts';

/** The key, and how it was read (for the log). Throws SystemError where the file does not hold that format, or nothing. */
export function readPsk(
  file: Uint8Array,
  format: Ikev2Config['pskFormat'],
  path: string,
): { key: Secret; as: 'text' | 'hex' | 'raw' } {
  const as = format === 'auto' ? guess(file) : format;
  const key = as === 'raw' ? file.slice() : as === 'hex' ? hexKey(file, path) : withoutNewline(file);
  if (key.length === 0) throw new SystemError(`${path} holds no key: make one with tanuki keygen`);
  return { key: new Secret(key), as };
}

/** Printable to the end means text, with or without a newline; anything else is the raw key. */
function guess(file: Uint8Array): 'text' | 'raw' {
  return withoutNewline(file).every((octet) => octet >= 0x20 && octet < 0x7f) ? 'text' : 'raw';
}

function withoutNewline(file: Uint8Array): Uint8Array {
  const end = file.at(-1) === 0x0a ? (file.at(-2) === 0x0d ? file.length - 2 : file.length - 1) : file.length;
  return file.slice(0, end);
}

function hexKey(file: Uint8Array, path: string): Uint8Array {
  const key = fromHex(fromUtf8(file).replace(/^\s*0x/i, ''));
  if (key === undefined) throw new SystemError(`${path} is no even number of hexadecimal digits, as psk_format hex says`);
  return key;
}
