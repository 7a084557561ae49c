/** Error codes of Kerberos (RFC 4120 §7.5.9) and the errors that carry them. */

import type { EncryptionKey } from './enctypes.ts';
import type { Principal } from './principal.ts';

/** What each code is called and, for people, what it means. */
// biome-ignore format: a table
export const KRB_ERROR = {
  KDC_ERR_NAME_EXP: [1, "the client's entry in the KDC has expired"],
  KDC_ERR_SERVICE_EXP: [2, "the service's entry in the KDC has expired"],
  KDC_ERR_BAD_PVNO: [3, 'the protocol version is not supported'],
  KDC_ERR_C_PRINCIPAL_UNKNOWN: [6, 'the KDC does not know the client; create it (kadmin addprinc)'],
  KDC_ERR_S_PRINCIPAL_UNKNOWN: [7, 'the KDC does not know the service; create it (kadmin addprinc)'],
  KDC_ERR_NULL_KEY: [9, 'the client or service has no key'],
  KDC_ERR_NEVER_VALID: [11, 'the requested times leave no life; compare the clocks'],
  KDC_ERR_POLICY: [12, "the KDC's policy rejects the request"],
  KDC_ERR_BADOPTION: [13, 'the KDC cannot accommodate an option'],
  KDC_ERR_ETYPE_NOSUPP: [14, 'the KDC has no enctype in common with us for these principals'],
  KDC_ERR_SUMTYPE_NOSUPP: [15, 'the KDC does not support the checksum type'],
  KDC_ERR_PADATA_TYPE_NOSUPP: [16, 'the KDC does not support the kind of pre-authentication'],
  KDC_ERR_CLIENT_REVOKED: [18, "the client's credentials are revoked or locked out"],
  KDC_ERR_SERVICE_REVOKED: [19, "the service's credentials are revoked"],
  KDC_ERR_TGT_REVOKED: [20, 'the ticket-granting ticket is revoked'],
  KDC_ERR_KEY_EXPIRED: [23, "the client's key has expired; change it and write the keytab anew"],
  KDC_ERR_PREAUTH_FAILED: [24, 'pre-authentication failed; the keytab is older than the key in the KDC'],
  KDC_ERR_PREAUTH_REQUIRED: [25, 'pre-authentication is required'],
  KDC_ERR_SERVER_NOMATCH: [26, 'the requested service and the ticket do not match'],
  KDC_ERR_MUST_USE_USER2USER: [27, 'the service is for user-to-user tickets only'],
  KDC_ERR_PATH_NOT_ACCEPTED: [28, 'the path of realms is not accepted'],
  KDC_ERR_SVC_UNAVAILABLE: [29, 'a service of the KDC is not available'],
  KRB_AP_ERR_BAD_INTEGRITY: [31, 'the integrity check of a decrypted part failed'],
  KRB_AP_ERR_TKT_EXPIRED: [32, 'the ticket has expired'],
  KRB_AP_ERR_TKT_NYV: [33, 'the ticket is not valid yet'],
  KRB_AP_ERR_REPEAT: [34, 'the request is a replay'],
  KRB_AP_ERR_NOT_US: [35, "the ticket is for another service's name"],
  KRB_AP_ERR_BADMATCH: [36, 'ticket and authenticator name different clients'],
  KRB_AP_ERR_SKEW: [37, 'the clocks differ by more than is allowed'],
  KRB_AP_ERR_BADADDR: [38, 'the ticket is for other addresses'],
  KRB_AP_ERR_BADVERSION: [39, 'the protocol version does not match'],
  KRB_AP_ERR_MSG_TYPE: [40, 'the message type is invalid'],
  KRB_AP_ERR_MODIFIED: [41, 'the message was modified'],
  KRB_AP_ERR_BADKEYVER: [44, 'the keytab lacks this version of the key'],
  KRB_AP_ERR_NOKEY: [45, 'the keytab has no key that fits the ticket'],
  KRB_AP_ERR_MUT_FAIL: [46, 'mutual authentication failed'],
  KRB_AP_ERR_METHOD: [48, 'another way of authentication is required'],
  KRB_AP_ERR_INAPP_CKSUM: [50, 'the type of a checksum is inappropriate'],
  KRB_AP_PATH_NOT_ACCEPTED: [51, 'the path of realms is not accepted'],
  KRB_ERR_RESPONSE_TOO_BIG: [52, 'the answer does not fit in UDP'],
  KRB_ERR_GENERIC: [60, 'an error that the text describes'],
  KRB_ERR_FIELD_TOOLONG: [61, 'a field is too long'],
  KRB_AP_ERR_NO_TGT: [67, 'no ticket-granting ticket is at hand'],
  KDC_ERR_WRONG_REALM: [68, 'the principal belongs to another realm'],
  KRB_AP_ERR_USER_TO_USER_REQUIRED: [69, 'the ticket must be for user-to-user'],
} as const;

export type KrbErrorName = keyof typeof KRB_ERROR;

/** The number of a name. */
export function krbErrorCode(name: KrbErrorName): number {
  return KRB_ERROR[name][0];
}

/** The name of a number, where it has one here. */
export function krbErrorName(code: number): KrbErrorName | undefined {
  return NAMES.get(code);
}

/** `KRB_AP_ERR_SKEW: the clocks differ …`, or the bare number. */
export function explainKrbError(code: number): string {
  const name = krbErrorName(code);
  return name === undefined ? `Kerberos error ${code}` : `${name}: ${KRB_ERROR[name][1]}`;
}

/** What an AP-REQ told before it was refused, all of it authentic: with it the refusal can be protected. */
export interface Refused {
  readonly key: EncryptionKey;
  readonly client: Principal;
  readonly ctime: number;
  readonly cusec: number;
}

/** An AP-REQ or AP-REP that is refused; `code` goes into the KRB-ERROR. */
export class ApError extends Error {
  override readonly name = 'ApError';
  readonly code: number;
  readonly error: KrbErrorName;
  /** Present where ticket and authenticator were decrypted before the refusal. */
  readonly refused: Refused | undefined;
  constructor(error: KrbErrorName, found: string, refused?: Refused) {
    super(`${explainKrbError(krbErrorCode(error))}: ${found}`);
    this.code = krbErrorCode(error);
    this.error = error;
    this.refused = refused;
  }
}

/** The KDC refused a request. Its KRB-ERROR is not authenticated: whoever sees the request can send one. */
export class KdcError extends Error {
  override readonly name = 'KdcError';
  readonly code: number;
  readonly error: KrbErrorName | undefined;
  constructor(code: number, asked: string, detail?: string) {
    super(`${asked}: ${explainKrbError(code)}${detail === undefined ? '' : ` (${detail})`}`);
    this.code = code;
    this.error = krbErrorName(code);
  }
}

const NAMES: ReadonlyMap<number, KrbErrorName> = new Map(
  Object.entries(KRB_ERROR).map(([name, [code]]) => [code, name as KrbErrorName]),
);
