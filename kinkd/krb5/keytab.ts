/** Keytab files of MIT krb5, version 0x0502: long-term keys of our principals. No RFC tells the format; MIT's documentation does (keytab_file_format). */

import { cat, fromUtf8, u16be, u32be, utf8 } from '../../src/bytes/bytes.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { WireError } from '../../src/errors.ts';
import { Reader } from '../../src/wire/reader.ts';
import { type EncryptionKey, enctype, enctypeName, isEtype } from './enctypes.ts';
import { type Principal, samePrincipal } from './principal.ts';

export interface KeytabEntry extends EncryptionKey {
  readonly principal: Principal;
  readonly kvno: number;
}

/** What is found, or what is missing: no such principal, no key of that enctype, no key of that version. */
export type KeytabLookup = { readonly found: readonly KeytabEntry[] } | { readonly missing: 'principal' | 'enctype' | 'version' };

export class Keytab {
  readonly entries: readonly KeytabEntry[];
  /** Entries left out because their enctype is not spoken. */
  readonly skipped: number;

  constructor(entries: readonly KeytabEntry[], skipped = 0) {
    this.entries = entries;
    this.skipped = skipped;
  }

  /** The keys of `principal` with this enctype and version (any version, newest first, where none is told). */
  keys(principal: Principal, etype: number, kvno?: number): KeytabLookup {
    const own = this.of(principal);
    if (own.length === 0) return { missing: 'principal' };
    const fitting = own.filter((entry) => entry.etype === etype);
    if (fitting.length === 0) return { missing: 'enctype' };
    // Old writers keep 8 bits of the version only.
    const found = fitting.filter(
      (entry) => kvno === undefined || entry.kvno === kvno || (entry.kvno < 256 && entry.kvno === (kvno & 0xff)),
    );
    return found.length === 0 ? { missing: 'version' } : { found };
  }

  /** All keys of `principal`, newest first. */
  of(principal: Principal): readonly KeytabEntry[] {
    return this.entries.filter((entry) => samePrincipal(entry.principal, principal)).sort((a, b) => b.kvno - a.kvno);
  }

  /** Everyone who has a key here, once each. */
  principals(): readonly Principal[] {
    const all = this.entries.map((entry) => entry.principal);
    return all.filter((principal, i) => all.findIndex((other) => samePrincipal(other, principal)) === i);
  }

  wipe(): void {
    for (const { key } of this.entries) key.wipe();
  }
}

/** Reads the octets of a keytab file. Throws WireError. */
export function readKeytab(bytes: Uint8Array): Keytab {
  const reader = new Reader(bytes, 'keytab');
  const version = reader.u16();
  if (version !== 0x0502) reader.fail(`version ${version.toString(16)} is not read, only 502`, 0);
  const entries: KeytabEntry[] = [];
  let skipped = 0;
  while (reader.left > 0) {
    const size = reader.u32() | 0;
    if (size === 0) break; // the rest was set aside and never written
    const record = reader.part(Math.abs(size), `entry ${entries.length + skipped + 1}`);
    if (size < 0) continue; // a hole that a removed key left
    const entry = readEntry(record);
    if (entry === undefined) skipped += 1;
    else entries.push(entry);
  }
  return new Keytab(entries, skipped);
}

/** The octets of a keytab file that was written at `wall`. */
export function writeKeytab(entries: readonly KeytabEntry[], wall: number): Uint8Array {
  const records = entries.map(({ principal, kvno, etype, key }) => {
    const record = cat(
      u16be(principal.components.length),
      ...[principal.realm, ...principal.components].map((part) => withLength(utf8(part))),
      u32be(principal.nameType),
      u32be(Math.floor(wall / 1000)),
      Uint8Array.of(kvno & 0xff),
      u16be(etype),
      withLength(key.reveal()),
      u32be(kvno),
    );
    return cat(u32be(record.length), record);
  });
  return cat(u16be(0x0502), ...records);
}

function withLength(octets: Uint8Array): Uint8Array {
  return cat(u16be(octets.length), octets);
}

function readEntry(record: Reader): KeytabEntry | undefined {
  const count = record.u16();
  const realm = fromUtf8(counted(record));
  const components = Array.from({ length: Math.min(count, record.left) }, () => fromUtf8(counted(record)));
  const nameType = record.u32();
  record.skip(4); // when it was written
  const low = record.u8();
  const etype = record.u16();
  const key = counted(record);
  const full = record.left >= 4 ? record.u32() : 0;
  if (!isEtype(etype)) return undefined;
  if (key.length !== enctype(etype).keyBytes)
    throw new WireError(
      `a key of ${key.length} octets for ${enctypeName(etype)}, which has ${enctype(etype).keyBytes}`,
      undefined,
      'keytab',
    );
  return { principal: { components, realm, nameType }, kvno: full === 0 ? low : full, etype, key: new Secret(key) };
}

function counted(record: Reader): Uint8Array {
  return record.bytes(record.u16());
}
