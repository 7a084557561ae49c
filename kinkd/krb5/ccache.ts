/** Credential caches of MIT krb5 in FILE format 0x0504. No RFC tells the format; MIT's documentation does (ccache_file_format). */

import { fromUtf8 } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { Reader } from '../../src/wire/reader.ts';
import type { Credential } from './credential.ts';
import { enctype, isEtype } from './enctypes.ts';
import type { Principal } from './principal.ts';

export interface Ccache {
  readonly client: Principal;
  /** In the order of the file: of several for the same server the last is the newest. */
  readonly credentials: readonly Credential[];
  /** Credentials left out because the enctype of their key is not spoken. */
  readonly skipped: number;
}

/** MIT keeps settings of its own as credentials of this realm. */
const CONFIGURATION_REALM = 'X-CACHECONF:';

/** Reads the octets of a cache file. Throws WireError. */
export function readCcache(bytes: Uint8Array): Ccache {
  const reader = new Reader(bytes, 'ccache');
  const version = reader.u16();
  if (version !== 0x0504) reader.fail(`version ${version.toString(16)} is not read, only 504`, 0);
  reader.skip(reader.u16()); // offsets of the KDC's clock
  const client = readPrincipal(reader);
  const credentials: Credential[] = [];
  let skipped = 0;
  while (reader.left > 0) {
    const credential = readCredential(reader);
    if (credential === 'configuration') continue;
    if (credential === undefined) skipped += 1;
    else credentials.push(credential);
  }
  return { client, credentials, skipped };
}

function readCredential(reader: Reader): Credential | 'configuration' | undefined {
  const client = readPrincipal(reader);
  const server = readPrincipal(reader);
  const etype = reader.u16();
  const key = counted(reader);
  const [authtime, starttime, endtime] = [reader.u32(), reader.u32(), reader.u32()] as const;
  reader.skip(4 + 1 + 4); // renew-till, whether it is for user-to-user, ticket flags
  for (let table = 0; table < 2; table++) for (let i = reader.u32(); i > 0; i--) skipTyped(reader); // addresses, authorization data
  const ticket = counted(reader);
  counted(reader); // a second ticket
  if (server.realm === CONFIGURATION_REALM) return 'configuration';
  if (!isEtype(etype)) return undefined;
  if (key.length !== enctype(etype).keyBytes) reader.fail(`a session key of ${key.length} octets for enctype ${etype}`);
  return { client, server, key: { etype, key: new Secret(key) }, ticket, starttime: starttime || authtime, endtime };
}

function readPrincipal(reader: Reader): Principal {
  const nameType = reader.u32();
  const count = reader.u32();
  const realm = fromUtf8(counted(reader));
  const components: string[] = [];
  for (let i = 0; i < count; i++) components.push(fromUtf8(counted(reader)));
  return { components, realm, nameType };
}

function skipTyped(reader: Reader): void {
  reader.skip(2);
  counted(reader);
}

function counted(reader: Reader): Uint8Array {
  return reader.bytes(reader.u32());
}
