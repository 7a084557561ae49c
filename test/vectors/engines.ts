/** The engines that every vector runs against, and the folder of large vector files, which may be absent. */

import { existsSync, readFileSync } from 'node:fs';
import { fromHex } from '../../src/bytes/bytes.ts';
import { type Engine, nativeEngine, nobleEngine } from '../../src/crypto/index.ts';

export const ENGINES: readonly (readonly [string, Engine])[] = [
  ['noble', nobleEngine],
  ['native', nativeEngine],
];

export const SHARED = new URL('../../../shared/vectors/', import.meta.url);
export const ABSENT = !existsSync(SHARED);
/** Behind the title of what needs the folder. */
export const WHY = ABSENT ? ' (skipped: ../shared/vectors is absent)' : '';

/** A JSON file of the folder, or undefined where the folder is absent. */
export function shared<T>(file: string): T | undefined {
  return ABSENT ? undefined : (JSON.parse(readFileSync(new URL(file, SHARED), 'utf8')) as T);
}

export function octets(text: string): Uint8Array {
  const bytes = fromHex(text);
  if (bytes === undefined) throw new Error(`not hexadecimal: ${text}`);
  return bytes;
}
