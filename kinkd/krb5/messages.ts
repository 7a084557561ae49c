/** The ASN.1 messages of Kerberos between client and service, and what all messages share (RFC 4120 §5), in the RFC's order and words. */

import { applicationTag } from '../../src/asn1/der.ts';
import {
  application,
  constant,
  type DerValue,
  field,
  flags,
  int,
  intBetween,
  octets,
  optional,
  sequence,
  sequenceOf,
  text,
  time,
  whole,
} from '../../src/asn1/schema.ts';
import { Secret } from '../../src/bytes/secret.ts';
import { WireError } from '../../src/errors.ts';
import { enctype, enctypeName, isEtype, type EncryptionKey as Key } from './enctypes.ts';
import type { Principal } from './principal.ts';

export const UInt32 = intBetween(0, 0xffffffff);
export const Microseconds = intBetween(0, 999_999);

/** §5.2.2 */
export const PrincipalName = sequence({ nameType: field(0, int), nameString: field(1, sequenceOf(text, 64)) });
export type PrincipalName = DerValue<typeof PrincipalName>;

/** §5.2.5 */
export const HostAddress = sequence({ addrType: field(0, int), address: field(1, octets) });
export const HostAddresses = sequenceOf(HostAddress);

/** §5.2.6 */
export const AuthorizationData = sequenceOf(sequence({ adType: field(0, int), adData: field(1, octets) }));

/** §5.2.7 */
export const PaData = sequence({ padataType: field(1, int), padataValue: field(2, octets) });
export type PaData = DerValue<typeof PaData>;

/** §5.2.9 */
export const EncryptedData = sequence({ etype: field(0, int), kvno: optional(1, UInt32), cipher: field(2, octets) });
export type EncryptedData = DerValue<typeof EncryptedData>;
export const EncryptionKey = sequence({ keytype: field(0, int), keyvalue: field(1, octets) });
export const Checksum = sequence({ cksumtype: field(0, int), checksum: field(1, octets) });

/** §5.3 */
export const Ticket = application(
  1,
  sequence({ tktVno: constant(0, 5), realm: field(1, text), sname: field(2, PrincipalName), encPart: field(3, EncryptedData) }),
);
export type Ticket = DerValue<typeof Ticket>;
/** A Ticket as its octets. */
export const TicketOctets = whole(applicationTag(1));

/** §5.3; bits are counted from the most significant of 32. */
export const TICKET_FLAG = { INVALID: 0x01000000, TRANSITED_POLICY_CHECKED: 0x00080000 } as const;
export const EncTicketPart = application(
  3,
  sequence({
    flags: field(0, flags),
    key: field(1, EncryptionKey),
    crealm: field(2, text),
    cname: field(3, PrincipalName),
    transited: field(4, sequence({ trType: field(0, int), contents: field(1, octets) })),
    authtime: field(5, time),
    starttime: optional(6, time),
    endtime: field(7, time),
    renewTill: optional(8, time),
    caddr: optional(9, HostAddresses),
    authorizationData: optional(10, AuthorizationData),
  }),
);
export type EncTicketPart = DerValue<typeof EncTicketPart>;

/** §5.5.1 */
export const AP_OPTION = { USE_SESSION_KEY: 0x40000000, MUTUAL_REQUIRED: 0x20000000 } as const;
export const ApReq = application(
  14,
  sequence({
    pvno: field(0, int),
    msgType: field(1, int),
    apOptions: field(2, flags),
    ticket: field(3, TicketOctets),
    authenticator: field(4, EncryptedData),
  }),
);
export const Authenticator = application(
  2,
  sequence({
    authenticatorVno: constant(0, 5),
    crealm: field(1, text),
    cname: field(2, PrincipalName),
    cksum: optional(3, Checksum),
    cusec: field(4, Microseconds),
    ctime: field(5, time),
    subkey: optional(6, EncryptionKey),
    // MIT writes numbers above 2^31 as negative ones at times; they mean nothing here.
    seqNumber: optional(7, int),
    authorizationData: optional(8, AuthorizationData),
  }),
);

/** §5.5.2 */
export const ApRep = application(
  15,
  sequence({ pvno: constant(0, 5), msgType: constant(1, 15), encPart: field(2, EncryptedData) }),
);
export const EncApRepPart = application(
  27,
  sequence({
    ctime: field(0, time),
    cusec: field(1, Microseconds),
    subkey: optional(2, EncryptionKey),
    seqNumber: optional(3, int),
  }),
);

/** §5.9.1 */
export const KrbError = application(
  30,
  sequence({
    pvno: constant(0, 5),
    msgType: constant(1, 30),
    ctime: optional(2, time),
    cusec: optional(3, Microseconds),
    stime: field(4, time),
    susec: field(5, Microseconds),
    errorCode: field(6, int),
    crealm: optional(7, text),
    cname: optional(8, PrincipalName),
    realm: field(9, text),
    sname: field(10, PrincipalName),
    eText: optional(11, text),
    eData: optional(12, octets),
  }),
);
export type KrbError = DerValue<typeof KrbError>;

export function principalName({ components, nameType }: Principal): PrincipalName {
  return { nameType, nameString: components };
}

export function principalOf(realm: string, { nameType, nameString }: PrincipalName): Principal {
  return { realm, nameType, components: nameString };
}

export function encryptionKey({ etype, key }: Key): DerValue<typeof EncryptionKey> {
  return { keytype: etype, keyvalue: key.reveal() };
}

/** The key of a message as one that can be used. Throws WireError where its type is not spoken or its length is another's. */
export function keyOf({ keytype, keyvalue }: DerValue<typeof EncryptionKey>): Key {
  if (!isEtype(keytype)) throw new WireError(`a key of enctype ${keytype}, which is not spoken`);
  if (keyvalue.length !== enctype(keytype).keyBytes)
    throw new WireError(`a key of ${keyvalue.length} octets for ${enctypeName(keytype)}, which has ${enctype(keytype).keyBytes}`);
  return { etype: keytype, key: new Secret(keyvalue) };
}
