/** The ASN.1 messages between client and KDC (RFC 4120 §5.4) and the pre-authentication data that keytabs need (§5.2.7). */

import { TAG } from '../../src/asn1/der.ts';
import {
  application,
  constant,
  type DerValue,
  decode,
  field,
  flags,
  int,
  octets,
  optional,
  sequence,
  sequenceOf,
  text,
  time,
  whole,
} from '../../src/asn1/schema.ts';
import {
  EncryptedData,
  EncryptionKey,
  HostAddresses,
  Microseconds,
  PaData,
  PrincipalName,
  TicketOctets,
  UInt32,
} from './messages.ts';

/** §7.5.2 */
export const PA = { TGS_REQ: 1, ENC_TIMESTAMP: 2, ETYPE_INFO2: 19 } as const;

/** §5.4.1. The client reads none of it, a KDC does. */
export const KdcReqBody = sequence({
  kdcOptions: field(0, flags),
  cname: optional(1, PrincipalName),
  realm: field(2, text),
  sname: optional(3, PrincipalName),
  from: optional(4, time),
  till: field(5, time),
  rtime: optional(6, time),
  nonce: field(7, UInt32),
  etype: field(8, sequenceOf(int)),
  addresses: optional(9, HostAddresses),
  encAuthorizationData: optional(10, EncryptedData),
  additionalTickets: optional(11, sequenceOf(TicketOctets)),
});
export type KdcReqBody = DerValue<typeof KdcReqBody>;

/** The body stays as its octets: the checksum in a TGS-REQ's authenticator is over them. */
const kdcReq = (msgType: 10 | 12) =>
  application(
    msgType,
    sequence({
      pvno: constant(1, 5),
      msgType: constant(2, msgType),
      padata: optional(3, sequenceOf(PaData)),
      reqBody: field(4, whole(TAG.sequence)),
    }),
  );
export const AsReq = kdcReq(10);
export const TgsReq = kdcReq(12);

/** §5.4.2 */
const kdcRep = (msgType: 11 | 13) =>
  application(
    msgType,
    sequence({
      pvno: constant(0, 5),
      msgType: constant(1, msgType),
      padata: optional(2, sequenceOf(PaData)),
      crealm: field(3, text),
      cname: field(4, PrincipalName),
      ticket: field(5, TicketOctets),
      encPart: field(6, EncryptedData),
    }),
  );
export const AsRep = kdcRep(11);
export const TgsRep = kdcRep(13);
export type KdcRep = DerValue<typeof AsRep>;

/** Either tag is written by some KDC in an AS-REP, and clients take both. RFC 6806 §11 adds members, which is why this one is open. */
export const EncKdcRepPart = application(
  [26, 25],
  sequence(
    {
      key: field(0, EncryptionKey),
      lastReq: field(1, sequenceOf(sequence({ lrType: field(0, int), lrValue: field(1, time) }))),
      nonce: field(2, int),
      keyExpiration: optional(3, time),
      flags: field(4, flags),
      authtime: field(5, time),
      starttime: optional(6, time),
      endtime: field(7, time),
      renewTill: optional(8, time),
      srealm: field(9, text),
      sname: field(10, PrincipalName),
      caddr: optional(11, HostAddresses),
    },
    'open',
  ),
);

/** §5.2.7.2 */
export const PaEncTsEnc = sequence({ patimestamp: field(0, time), pausec: optional(1, Microseconds) });

/** §5.2.7.5 */
export const EtypeInfo2 = sequenceOf(sequence({ etype: field(0, int), salt: optional(1, text), s2kparams: optional(2, octets) }));

/** §5.9.1: e-data of KDC_ERR_PREAUTH_REQUIRED. */
export const MethodData = sequenceOf(PaData);

/** The enctypes that a KDC_ERR_PREAUTH_REQUIRED offers, in its order; undefined where it offers none. */
export function offeredEtypes(eData: Uint8Array | undefined): readonly number[] | undefined {
  if (eData === undefined) return undefined;
  const info = decode(MethodData, eData, 'METHOD-DATA').find(({ padataType }) => padataType === PA.ETYPE_INFO2);
  return info === undefined ? undefined : decode(EtypeInfo2, info.padataValue, 'ETYPE-INFO2').map(({ etype }) => etype);
}
