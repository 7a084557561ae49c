/** `tanuki setkey`: SAs and policies by hand, in setkey(8)'s language, over the datapath's PF_KEY socket. */

import { readFileSync } from 'node:fs';
import { SystemError } from '../errors.ts';
import type { SadbMessage } from '../pfkey/message.ts';
import { ERRNO, errnoName } from '../pfkey/registry.ts';
import { connectPfkey, PfkeyError } from '../runtime/pfkey-connection.ts';
import { runDir as runDirectory } from '../runtime/run-dir.ts';
import { EXIT, Exit } from './exit-codes.ts';
import { readSetkey, type Statement } from './setkey-language.ts';
import { showSadb } from './setkey-show.ts';
import { SetkeyError } from './setkey-words.ts';

export interface SetkeyOptions {
  readonly runDir: string;
  /** A file, `-` for standard input. */
  readonly file?: string | undefined;
  /** Text instead of a file. */
  readonly text?: string | undefined;
  readonly json?: boolean | undefined;
}

/** How long the datapath may take to be there, in milliseconds. */
const PATIENCE = 2_000;

/** What an errno means here, for those who do not know them by heart. */
const MEANING: Readonly<Record<string, string>> = {
  EEXIST: 'it is there already',
  ESRCH: 'there is no such SA',
  ENOENT: 'there is no such policy',
  ENODATA: 'the policy has no SA between these old addresses; dump, and move it from where it is',
  ENOSYS: 'the datapath does not have this protocol or algorithm',
  EOPNOTSUPP: 'the datapath does not do this',
  EINVAL: 'the datapath does not take it',
};

/** All statements are read before the first is said: a wrong text changes nothing. Throws Exit. */
export async function setkey({ runDir, file, text, json }: SetkeyOptions): Promise<void> {
  const name = text !== undefined ? 'text' : file === undefined || file === '-' ? 'standard input' : file;
  const statements = read(name, text ?? readInput(file));
  const path = runDirectory(runDir).pfkey;
  const pfkey = await connectPfkey(path, { patienceMs: PATIENCE, onError: () => {} }).catch((error: unknown) => {
    throw new Exit(EXIT.notRunning, error instanceof SystemError ? error.message : String(error));
  });
  try {
    for (const statement of statements) {
      const reply = await pfkey.request(statement.message).catch((error: unknown) => refuse(name, statement, error));
      show(statement, reply, json === true);
    }
  } finally {
    pfkey.close();
  }
}

function read(name: string, text: string): Statement[] {
  try {
    return readSetkey(text);
  } catch (error) {
    if (!(error instanceof SetkeyError)) throw error;
    throw new Exit(EXIT.usage, `${name}:${error.line}:${error.column}: ${error.message}; nothing was changed`);
  }
}

function readInput(file: string | undefined): string {
  try {
    return readFileSync(file === undefined || file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw new Exit(EXIT.usage, `cannot read ${file ?? 'standard input'}: ${(error as Error).message}`);
  }
}

function refuse(name: string, { verb, line, column }: Statement, error: unknown): never {
  const where = `${name}:${line}:${column}: ${verb}`;
  if (!(error instanceof PfkeyError)) throw error;
  if (error.errno === ERRNO.ETIMEDOUT) throw new Exit(EXIT.timeout, `${where}: the datapath did not answer`);
  if (error.errno === ERRNO.ECONNREFUSED) throw new Exit(EXIT.notRunning, `${where}: the connection to the datapath is lost`);
  const errno = errnoName(error.errno);
  const meaning = MEANING[errno];
  const before = 'what stands before it is done';
  throw new Exit(EXIT.refused, `${where} was refused with ${errno}${meaning === undefined ? '' : ` (${meaning})`}; ${before}`);
}

function show({ verb, line }: Statement, reply: readonly SadbMessage[], json: boolean): void {
  const asked = ['get', 'dump', 'spddump'].includes(verb);
  if (json) {
    process.stdout.write(`${JSON.stringify({ verb, line, ...(asked ? { found: reply.map(showSadb) } : {}) })}\n`);
    return;
  }
  for (const message of asked ? reply : []) process.stdout.write(`${showSadb(message)}\n`);
  if (asked && reply.length === 0) process.stdout.write(verb === 'spddump' ? 'No SPD entries.\n' : 'No SAD entries.\n');
}
