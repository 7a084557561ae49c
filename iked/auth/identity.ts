/** Identities: the ID payload of a configured one, comparison, and their printed form (RFC 7296 §3.5). */

import { equal, fromUtf8, hex, utf8 } from '../../src/bytes/bytes.ts';
import type { IdentityConfig } from '../../src/config/config.ts';
import { IpAddress } from '../../src/net/address.ts';

/** ID types, RFC 7296 §3.5. */
export const ID_TYPE = {
  IPV4_ADDR: 1,
  FQDN: 2,
  RFC822_ADDR: 3,
  IPV6_ADDR: 5,
  DER_ASN1_DN: 9,
  DER_ASN1_GN: 10,
  KEY_ID: 11,
} as const;

/** The body of an ID payload. */
export interface Identity {
  readonly idType: number;
  readonly data: Uint8Array;
}

export function identityOfAddress(address: IpAddress): Identity {
  return { idType: address.family === 4 ? ID_TYPE.IPV4_ADDR : ID_TYPE.IPV6_ADDR, data: address.bytes };
}

/**
 * The identity that a policy's words mean, or undefined where a file it names was not given or the address is none. `files` has the
 * contents of the named files by path.
 */
export function identityOf(config: IdentityConfig, files: ReadonlyMap<string, Uint8Array>): Identity | undefined {
  switch (config.type) {
    case 'ipaddr': {
      const address = IpAddress.parse(config.value);
      return address === undefined ? undefined : identityOfAddress(address);
    }
    case 'fqdn':
      return { idType: ID_TYPE.FQDN, data: utf8(config.value) };
    case 'email':
      return { idType: ID_TYPE.RFC822_ADDR, data: utf8(config.value) };
    case 'keyid': {
      const data = config.file ? files.get(config.value) : utf8(config.value);
      return data === undefined ? undefined : { idType: ID_TYPE.KEY_ID, data };
    }
    default: {
      const data = files.get(config.value);
      return data === undefined ? undefined : { idType: ID_TYPE.DER_ASN1_DN, data };
    }
  }
}

/** Exact comparison; names of hosts and mail domains without regard to case (RFC 4343). */
export function sameIdentity(a: Identity, b: Identity): boolean {
  if (a.idType !== b.idType) return false;
  if (a.idType === ID_TYPE.FQDN) return fromUtf8(a.data).toLowerCase() === fromUtf8(b.data).toLowerCase();
  return equal(a.data, b.data);
}

const NAMES = new Map<number, string>([
  [ID_TYPE.FQDN, 'fqdn'],
  [ID_TYPE.RFC822_ADDR, 'email'],
  [ID_TYPE.DER_ASN1_DN, 'x509_subject'],
  [ID_TYPE.KEY_ID, 'keyid'],
]);

/** `fqdn gate.example`, `ipaddr 192.0.2.1`, in the words of a policy file. What a peer sent is escaped, so that no log line can be forged. */
export function showIdentity({ idType, data }: Identity): string {
  if (idType === ID_TYPE.IPV4_ADDR && data.length === 4) return `ipaddr ${IpAddress.of(data)}`;
  if (idType === ID_TYPE.IPV6_ADDR && data.length === 16) return `ipaddr ${IpAddress.of(data)}`;
  const name = NAMES.get(idType) ?? `ID type ${idType}`;
  const text = idType === ID_TYPE.DER_ASN1_DN || data.length > 256 || data.some((octet) => octet < 0x20 || octet > 0x7e);
  return `${name} ${text ? `0x${hex(data.subarray(0, 64))}${data.length > 64 ? '…' : ''}` : fromUtf8(data)}`;
}
