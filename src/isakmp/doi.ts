/** Assigned numbers of ISAKMP and the IPsec DOI: RFC 2408 §3.1 and §3.14.1, RFC 2407 §4.4 to §4.6, RFC 2409 appendix A, and IANA. Algorithms are in `src/crypto/transforms.ts`. */

import { knownName, nameOf, registry } from '../wire/registry.ts';

/** Payload types, RFC 2408 §3.1, RFC 3947 §9; `none` ends a chain. P and T stand inside of SA only. */
export const PAYLOAD = registry({
  none: 0,
  SA: 1,
  P: 2,
  T: 3,
  KE: 4,
  ID: 5,
  CERT: 6,
  CR: 7,
  HASH: 8,
  SIG: 9,
  Nonce: 10,
  Notify: 11,
  Delete: 12,
  VendorId: 13,
  'NAT-D': 20,
  'NAT-OA': 21,
});

/** Domains of interpretation, RFC 2408 §2.1, RFC 2407 §4.1. */
export const DOI = registry({ ISAKMP: 0, IPSEC: 1 });

/** The only situation of RFC 2407 §4.2 that is spoken here: neither secrecy nor integrity labels. */
export const SIT_IDENTITY_ONLY = 1;

/** Protocol identifiers, RFC 2407 §4.4.1. */
export const PROTOCOL = registry({ ISAKMP: 1, AH: 2, ESP: 3, IPCOMP: 4 });

/** The one transform of phase 1, RFC 2407 §4.4.2. */
export const KEY_IKE = 1;

/** Identification types, RFC 2407 §4.6.2.1. */
export const ID_TYPE = registry({
  IPV4_ADDR: 1,
  FQDN: 2,
  USER_FQDN: 3,
  IPV4_ADDR_SUBNET: 4,
  IPV6_ADDR: 5,
  IPV6_ADDR_SUBNET: 6,
  IPV4_ADDR_RANGE: 7,
  IPV6_ADDR_RANGE: 8,
  DER_ASN1_DN: 9,
  DER_ASN1_GN: 10,
  KEY_ID: 11,
});

/** Attributes of a phase 1 transform, RFC 2409 appendix A. */
export const OAKLEY_ATTRIBUTE = registry({
  'Encryption Algorithm': 1,
  'Hash Algorithm': 2,
  'Authentication Method': 3,
  'Group Description': 4,
  'Group Type': 5,
  'Group Prime': 6,
  'Group Generator One': 7,
  'Group Generator Two': 8,
  'Group Curve A': 9,
  'Group Curve B': 10,
  'Life Type': 11,
  'Life Duration': 12,
  PRF: 13,
  'Key Length': 14,
  'Field Size': 15,
  'Group Order': 16,
});

/** Attributes of an AH or ESP transform, RFC 2407 §4.5. */
export const IPSEC_ATTRIBUTE = registry({
  'SA Life Type': 1,
  'SA Life Duration': 2,
  'Group Description': 3,
  'Encapsulation Mode': 4,
  'Authentication Algorithm': 5,
  'Key Length': 6,
  'Key Rounds': 7,
  'Compress Dictionary Size': 8,
  'Compress Private Algorithm': 9,
  'ECN Tunnel': 10,
  'Extended (64-bit) Sequence Number': 11,
});

/** Units of a life duration, RFC 2407 §4.5 and RFC 2409 appendix A. */
export const LIFE_TYPE = registry({ seconds: 1, kilobytes: 2 });

/** Authentication methods, RFC 2409 appendix A. */
export const AUTH_METHOD = registry({
  'pre-shared key': 1,
  'DSS signatures': 2,
  'RSA signatures': 3,
  'Encryption with RSA': 4,
  'Revised encryption with RSA': 5,
});

/** Encapsulation modes, RFC 2407 §4.5, RFC 3947 §5.1. */
export const ENCAPSULATION_MODE = registry({
  Tunnel: 1,
  Transport: 2,
  'UDP-Encapsulated-Tunnel': 3,
  'UDP-Encapsulated-Transport': 4,
});

/** Notify message types, RFC 2408 §3.14.1, RFC 2407 §4.6.3, RFC 3706 §5.2. */
export const NOTIFY = registry({
  'INVALID-PAYLOAD-TYPE': 1,
  'DOI-NOT-SUPPORTED': 2,
  'SITUATION-NOT-SUPPORTED': 3,
  'INVALID-COOKIE': 4,
  'INVALID-MAJOR-VERSION': 5,
  'INVALID-MINOR-VERSION': 6,
  'INVALID-EXCHANGE-TYPE': 7,
  'INVALID-FLAGS': 8,
  'INVALID-MESSAGE-ID': 9,
  'INVALID-PROTOCOL-ID': 10,
  'INVALID-SPI': 11,
  'INVALID-TRANSFORM-ID': 12,
  'ATTRIBUTES-NOT-SUPPORTED': 13,
  'NO-PROPOSAL-CHOSEN': 14,
  'BAD-PROPOSAL-SYNTAX': 15,
  'PAYLOAD-MALFORMED': 16,
  'INVALID-KEY-INFORMATION': 17,
  'INVALID-ID-INFORMATION': 18,
  'INVALID-CERT-ENCODING': 19,
  'INVALID-CERTIFICATE': 20,
  'CERT-TYPE-UNSUPPORTED': 21,
  'INVALID-CERT-AUTHORITY': 22,
  'INVALID-HASH-INFORMATION': 23,
  'AUTHENTICATION-FAILED': 24,
  'INVALID-SIGNATURE': 25,
  'ADDRESS-NOTIFICATION': 26,
  'NOTIFY-SA-LIFETIME': 27,
  'CERTIFICATE-UNAVAILABLE': 28,
  'UNSUPPORTED-EXCHANGE-TYPE': 29,
  'UNEQUAL-PAYLOAD-LENGTHS': 30,
  CONNECTED: 16384,
  'RESPONDER-LIFETIME': 24576,
  'REPLAY-STATUS': 24577,
  'INITIAL-CONTACT': 24578,
  'R-U-THERE': 36136,
  'R-U-THERE-ACK': 36137,
});
export type NotifyName = keyof typeof NOTIFY;

/** Status notifies begin here, RFC 2408 §3.14.1: what is below says that something failed. */
const FIRST_STATUS = 16384;

export function notifyName(type: number): string {
  return nameOf(NOTIFY, type);
}

export function isErrorNotify(type: number): boolean {
  return type < FIRST_STATUS;
}

/** The type to send for the name that a PeerError carries. What no ISAKMP name covers (shared code speaks IKEv2's) becomes the nearest of them. */
export function notifyNumber(name: string): number {
  if (name === 'INVALID_SYNTAX') return NOTIFY['INVALID-KEY-INFORMATION']; // src/crypto/dh.ts, of a public value
  return NOTIFY[name as NotifyName] ?? NOTIFY['PAYLOAD-MALFORMED'];
}

/** `ESP`, or the number of a protocol that has no name. */
export function protocolName(protocol: number): string {
  return knownName(PROTOCOL, protocol) ?? `protocol ${protocol}`;
}
