/** The disk as the policy language sees it: files that are safe to believe, shell patterns, the environment (decisions §7). */

import { closeSync, fstatSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import type { FileText, SourceFiles } from '../config/load.ts';
import { partFits } from '../config/memory-files.ts';

/** A policy file of more octets is a wrong file. */
const LONGEST_BYTES = 16 * 1024 * 1024;
/** Directory entries that one pattern may walk through. */
const MOST_ENTRIES = 100_000;

/** Reads only regular files of this user or root that nobody else can write. Never throws: what is wrong comes back as a problem. */
export const sourceFiles: SourceFiles = { read, glob, env: (name) => process.env[name] };

function read(path: string): FileText {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(atHome(path), 'r');
    const { uid, mode, size, isFile } = describe(descriptor);
    const me = process.geteuid?.() ?? uid;
    if (!isFile) return { problem: 'it is no regular file', hint: 'name a file' };
    if (uid !== me && uid !== 0) return { problem: `it belongs to user ${uid}`, hint: `chown ${me} ${path}` };
    if ((mode & 0o022) !== 0)
      return { problem: `others may write it (mode ${(mode & 0o777).toString(8)})`, hint: `chmod go-w ${path}` };
    if (size > LONGEST_BYTES) return { problem: `it has ${size} octets`, hint: 'is this a policy file?' };
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(descriptor)) };
  } catch (error) {
    return problemOf(error as NodeJS.ErrnoException);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function describe(descriptor: number): { uid: number; mode: number; size: number; isFile: boolean } {
  const stat = fstatSync(descriptor);
  return { uid: stat.uid, mode: stat.mode, size: stat.size, isFile: stat.isFile() };
}

function problemOf({ code, message }: NodeJS.ErrnoException): FileText {
  if (code === 'ENOENT') return { problem: 'it does not exist', hint: 'check the path' };
  if (code === 'EACCES') return { problem: 'this user may not read it', hint: 'check the mode of the file and of its folders' };
  if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return { problem: 'it is not UTF-8 text', hint: 'save it as UTF-8' };
  return { problem: message, hint: 'check the path' };
}

function atHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? homedir() + path.slice(1) : path;
}

/** `*` and `?` stay within one part of a path, and do not match a leading dot. */
function glob(pattern: string): readonly string[] {
  const whole = atHome(pattern);
  if (!/[*?]/.test(whole)) return exists(whole) ? [whole] : [];
  const absolute = whole.startsWith('/');
  let left = MOST_ENTRIES;
  let found = [absolute ? '/' : ''];
  for (const part of whole.split('/').filter((piece) => piece !== '')) {
    found = found.flatMap((folder) => {
      if (!/[*?]/.test(part)) return exists(folder + part) ? [`${folder + part}/`] : [];
      const names = namesIn(folder === '' ? '.' : folder).slice(0, left);
      left -= names.length;
      return names
        .filter((name) => partFits(part, name) && (part.startsWith('.') || !name.startsWith('.')))
        .map((name) => `${folder}${name}/`);
    });
  }
  return found.map((path) => path.slice(0, -1)).sort();
}

function exists(path: string): boolean {
  return attempt(() => statSync(resolve(path), { throwIfNoEntry: false }) !== undefined, false);
}

function namesIn(folder: string): readonly string[] {
  return attempt(() => readdirSync(folder).sort(), []);
}

/** What is not there, is no folder, or is closed to us matches nothing: whoever asked then says that no file matches. */
function attempt<T>(look: () => T, otherwise: T): T {
  try {
    return look();
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException).code === 'string') return otherwise;
    throw error;
  }
}
