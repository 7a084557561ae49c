/** The assigned numbers of PF_KEY v2: RFC 2367 §2, §3 and the extensions of the Linux dialect, and our private ones (high bit set). */

/** `sadb_msg_type`. The X_ ones are not in RFC 2367. */
// biome-ignore format: a table
export const SADB_TYPE = {
  GETSPI: 1, UPDATE: 2, ADD: 3, DELETE: 4, GET: 5, ACQUIRE: 6, REGISTER: 7, EXPIRE: 8, FLUSH: 9, DUMP: 10,
  X_PROMISC: 11, X_PCHANGE: 12, X_SPDUPDATE: 13, X_SPDADD: 14, X_SPDDELETE: 15, X_SPDGET: 16, X_SPDACQUIRE: 17, X_SPDDUMP: 18,
  X_SPDFLUSH: 19, X_SPDSETIDX: 20, X_SPDEXPIRE: 21, X_SPDDELETE2: 22, X_NAT_T_NEW_MAPPING: 23, X_MIGRATE: 24,
} as const;
export type SadbType = keyof typeof SADB_TYPE;

/** `sadb_msg_satype`. */
// biome-ignore format: a table
export const SADB_SATYPE = { UNSPEC: 0, AH: 2, ESP: 3, RSVP: 5, OSPFV2: 6, RIPV2: 7, MIP: 8, IPCOMP: 9 } as const;
/** The largest satype that a message may name. */
export const SADB_SATYPE_MAX = 9;

/** `sadb_sa_state`. */
export const SADB_SASTATE = { LARVAL: 0, MATURE: 1, DYING: 2, DEAD: 3 } as const;

/** `sadb_sa_flags`. ESN is ours (FreeBSD has the same bit): 64-bit sequence numbers. */
// biome-ignore format: a table
export const SADB_SAFLAGS = {
  PFS: 1, X_ESN: 0x400, X_NOPMTUDISC: 0x20000000, X_DECAP_DSCP: 0x40000000, X_NOECN: 0x80000000,
} as const;

/** `sadb_ext_type`, under the name of the member of `SadbMessage` that holds it. From 0x8000 on they are ours. */
// biome-ignore format: a table
export const SADB_EXT = {
  sa: 1, lifetimeCurrent: 2, lifetimeHard: 3, lifetimeSoft: 4, source: 5, destination: 6, proxy: 7, keyAuth: 8, keyEncrypt: 9,
  identitySource: 10, identityDestination: 11, sensitivity: 12, proposal: 13, supportedAuth: 14, supportedEncrypt: 15, spirange: 16,
  kmPrivate: 17, policy: 18, sa2: 19, nattType: 20, nattSourcePort: 21, nattDestinationPort: 22, nattOriginalAddress: 23,
  securityContext: 24, kmAddress: 25, filter: 26,
  window: 0x8001, sequenceState: 0x8002, tfcPadding: 0x8003, packet: 0x8004, newSource: 0x8005, newDestination: 0x8006,
  interfaceBinding: 0x8007, nattOriginalInitiator: 0x8008, nattOriginalResponder: 0x8009, nattFragment: 0x800a, portRanges: 0x800b,
  saSelectors: 0x800c, optIn: 0x80ff,
} as const;
export type SadbExtension = keyof typeof SADB_EXT;

/** Where the private extensions begin. */
export const SADB_EXT_PRIVATE = 0x8000;

/**
 * The bitmap of extension 0x80ff in REGISTER: bit n stands for the private extension 0x8000 + n, which the server then sends to this
 * client. Bit 0: KMADDRESS in ACQUIREs and in what is told about policies. Bit 31: KEY extensions of SAs that the client does not own.
 */
export const OPT_IN_KMADDRESS = 1;
export const OPT_IN_KEYS = 0x80000000;

/** KMADDRESS and every private extension, without the keys of others: what our own daemons ask for. */
export const OPT_IN_ALL = 0x1fff;

/** The bit of the opt-in bitmap for a private extension number, or 0 where it has none. */
export function optInBit(extension: number): number {
  const n = extension - SADB_EXT_PRIVATE;
  return n >= 1 && n <= 30 ? 1 << n : 0;
}

/** `sadb_x_policy_type`. */
export const IPSEC_POLICY = { DISCARD: 0, NONE: 1, IPSEC: 2, ENTRUST: 3, BYPASS: 4 } as const;
/** `sadb_x_policy_dir`. FWD exists on Linux only. */
export const IPSEC_DIR = { ANY: 0, INBOUND: 1, OUTBOUND: 2, FWD: 3 } as const;
/** `sadb_x_sa2_mode`, `sadb_x_ipsecrequest_mode`. BEET exists on Linux only. */
export const IPSEC_MODE = { ANY: 0, TRANSPORT: 1, TUNNEL: 2, BEET: 3 } as const;
/** `sadb_x_ipsecrequest_level`. */
export const IPSEC_LEVEL = { DEFAULT: 0, USE: 1, REQUIRE: 2, UNIQUE: 3 } as const;

/** Upper-layer protocol "any" (RFC 2367 has 0; the SPD extensions have 255 both ways). */
export const IPSEC_ULPROTO_ANY = 255;
/** The largest reqid that a policy may ask for; the kernel of Linux allots its own from 0x4000. */
export const IPSEC_MANUAL_REQID_MAX = 0x3fff;

/** IP protocol numbers in an ipsecrequest. */
export const IPPROTO = { ESP: 50, AH: 51, IPCOMP: 108 } as const;

/** `sadb_x_nat_t_type_type`. */
export const UDP_ENCAP = { ESPINUDP_NON_IKE: 1, ESPINUDP: 2 } as const;

/** The errno values that a server answers with (Linux numbers, which are the ones on the wire). */
// biome-ignore format: a table
export const ERRNO = {
  EPERM: 1, ENOENT: 2, ESRCH: 3, ENOMEM: 12, EACCES: 13, EBUSY: 16, EEXIST: 17, EINVAL: 22, ENOSPC: 28, ENOSYS: 38, ELOOP: 40, ENODATA: 61,
  EMSGSIZE: 90, EOPNOTSUPP: 95, ENOBUFS: 105, ETIMEDOUT: 110, ECONNREFUSED: 111,
} as const;

const TYPE_NAMES = new Map<number, SadbType>(Object.entries(SADB_TYPE).map(([name, n]) => [n, name as SadbType]));
const EXTENSION_NAMES = new Map<number, SadbExtension>(Object.entries(SADB_EXT).map(([name, n]) => [n, name as SadbExtension]));
const ERRNO_NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, n]) => [n, name]));

/** The verb with this number, or undefined where there is none. */
export function typeByNumber(n: number): SadbType | undefined {
  return TYPE_NAMES.get(n);
}

/** The extension with this number, or undefined where there is none. */
export function extensionByNumber(n: number): SadbExtension | undefined {
  return EXTENSION_NAMES.get(n);
}

/** `EEXIST`, or the number where we have no name for it. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
}

/** `sadb_ext_type` 0 to this are those of Linux; between it and 0x8000 lies what a receiver skips. */
export const SADB_EXT_MAX = 26;
