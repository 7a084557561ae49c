/** What each PF_KEY request must hold before its verb runs: RFC 2367 §3.1, and what Linux asks for beyond it. Data, and one check. */

import type { Dialect, SadbIpsecRequest, SadbMessage } from './message.ts';
import {
  ERRNO,
  IPPROTO,
  IPSEC_DIR,
  IPSEC_MODE,
  IPSEC_POLICY,
  SADB_SASTATE,
  SADB_SATYPE,
  SADB_SATYPE_MAX,
  type SadbExtension,
  type SadbType,
} from './registry.ts';

/** Why a request is refused: what goes into its answer, and the same for people. */
export interface Refusal {
  readonly errno: number;
  readonly reason: string;
}

interface Rule {
  readonly needs: readonly SadbExtension[];
  /** The request names one SA protocol: AH, ESP or IPCOMP. */
  readonly oneProtocol?: true;
  readonly check?: (message: SadbMessage, dialect: Dialect) => Refusal | undefined;
}

/** The most requests that a policy may have (Linux: XFRM_MAX_DEPTH). */
export const MAX_REQUESTS = 6;

const SA_PROTOCOLS: readonly number[] = [SADB_SATYPE.AH, SADB_SATYPE.ESP, SADB_SATYPE.IPCOMP];
const SA_REQUESTS: readonly number[] = [IPPROTO.ESP, IPPROTO.AH, IPPROTO.IPCOMP];
/** With the headers of Mobile IPv6: routing, destination options. */
const LINUX_REQUESTS: readonly number[] = [...SA_REQUESTS, 43, 60];
const SA: readonly SadbExtension[] = ['sa', 'source', 'destination'];
const POLICY: readonly SadbExtension[] = ['source', 'destination', 'policy'];

/** One row a verb; verbs that only a server sends have none. */
const RULES: { readonly [Type in SadbType]?: Rule } = {
  GETSPI: { needs: ['source', 'destination'], oneProtocol: true, check: checkRange },
  UPDATE: { needs: SA, oneProtocol: true, check: checkSa },
  ADD: { needs: SA, oneProtocol: true, check: checkSa },
  DELETE: { needs: SA, oneProtocol: true },
  GET: { needs: SA, oneProtocol: true },
  ACQUIRE: { needs: [] },
  REGISTER: {
    needs: [],
    check: ({ satype }) => (satype > SADB_SATYPE_MAX ? invalid(`there is no SA type ${satype}`) : undefined),
  },
  FLUSH: { needs: [], check: checkAnyProtocol },
  DUMP: { needs: [], check: checkAnyProtocol },
  X_PROMISC: {
    needs: [],
    check: ({ satype }) => (satype > 1 ? invalid(`the SA type is 0 (off) or 1 (on), not ${satype}`) : undefined),
  },
  X_SPDUPDATE: { needs: POLICY, check: checkPolicy },
  X_SPDADD: { needs: POLICY, check: checkPolicy },
  X_SPDSETIDX: { needs: POLICY, check: checkPolicy },
  X_SPDDELETE: { needs: POLICY, check: (message) => checkFamilies(message) ?? checkDirection(message) },
  X_SPDGET: { needs: ['policy'] },
  X_SPDDELETE2: { needs: ['policy'] },
  X_SPDDUMP: { needs: [] },
  X_SPDFLUSH: { needs: [] },
  X_MIGRATE: { needs: POLICY, check: checkMigrate },
};

/** Whether a request may reach its verb: undefined, or why not. What depends on the SAD or the SPD is not asked here. */
export function checkRequest(message: SadbMessage, dialect: Dialect): Refusal | undefined {
  if (message.reserved !== 0) return invalid(`the reserved field is ${message.reserved}, not 0`);
  const rule = RULES[message.type];
  if (rule === undefined) return { errno: ERRNO.EOPNOTSUPP, reason: `${message.type} is sent by the server only` };
  for (const name of rule.needs) if (message[name] === undefined) return invalid(`${message.type} needs the extension ${name}`);
  if (rule.oneProtocol && !SA_PROTOCOLS.includes(message.satype))
    return invalid(`the SA type is ${message.satype}, not AH (2), ESP (3) or IPCOMP (9)`);
  return (rule.oneProtocol ? checkFamilies(message) : undefined) ?? rule.check?.(message, dialect);
}

function invalid(reason: string): Refusal {
  return { errno: ERRNO.EINVAL, reason };
}

/** All protocols, or one of them. */
function checkAnyProtocol({ satype }: SadbMessage): Refusal | undefined {
  if (satype === SADB_SATYPE.UNSPEC || SA_PROTOCOLS.includes(satype)) return undefined;
  return invalid(`the SA type is ${satype}, not 0 (all), AH (2), ESP (3) or IPCOMP (9)`);
}

function checkFamilies({ source, destination }: SadbMessage): Refusal | undefined {
  if (source!.address.family === destination!.address.family) return undefined;
  return invalid(`the source ${source!.address} and the destination ${destination!.address} are of different families`);
}

function checkRange({ spirange, satype }: SadbMessage): Refusal | undefined {
  if (spirange === undefined) return undefined;
  if (spirange.min > spirange.max) return invalid(`the SPI range begins at ${spirange.min}, behind its end ${spirange.max}`);
  if (satype === SADB_SATYPE.IPCOMP && spirange.max > 0xffff)
    return invalid(`a CPI has 16 bits, the range ends at ${spirange.max}`);
  return undefined;
}

function checkSa(message: SadbMessage, dialect: Dialect): Refusal | undefined {
  const { satype, sa, keyAuth, keyEncrypt, lifetimeHard, lifetimeSoft } = message;
  if (dialect === 'tanuki' && isStateOnly(message)) return checkState(sa!.state);
  if (satype === SADB_SATYPE.ESP && keyEncrypt === undefined)
    return invalid('an ESP SA needs the extension keyEncrypt (of 0 bits with NULL)');
  if (satype === SADB_SATYPE.AH && keyAuth === undefined) return invalid('an AH SA needs the extension keyAuth');
  if ((lifetimeHard === undefined) !== (lifetimeSoft === undefined))
    return invalid('HARD and SOFT lifetimes come together or not at all');
  if (dialect === 'tanuki' && satype !== SADB_SATYPE.IPCOMP && sa!.spi < 256)
    return invalid(`SPI ${sa!.spi} is reserved (RFC 4303 §2.1)`);
  return undefined;
}

/** How long an SA may be on hold, in milliseconds: whoever holds it may be dead by then. */
export const HOLD_MS = 2000;

/**
 * An UPDATE without keys, which RFC 2367 has no use for: it names a running SA and says only its state. LARVAL puts an outbound SA on hold for `HOLD_MS`
 * at most, so that its packets wait for another; MATURE lets it go, and so does any other UPDATE.
 */
export function isStateOnly({ type, satype, keyAuth, keyEncrypt }: SadbMessage): boolean {
  return type === 'UPDATE' && satype !== SADB_SATYPE.IPCOMP && keyAuth === undefined && keyEncrypt === undefined;
}

function checkState(state: number): Refusal | undefined {
  if (state === SADB_SASTATE.LARVAL || state === SADB_SASTATE.MATURE) return undefined;
  return invalid(`the state of an SA without keys is ${state}, not 0 (larval: on hold) or 1 (mature: let go)`);
}

function checkDirection({ policy }: SadbMessage): Refusal | undefined {
  if (policy!.direction >= IPSEC_DIR.INBOUND && policy!.direction <= IPSEC_DIR.FWD) return undefined;
  return invalid(`the direction is ${policy!.direction}, not 1 (in), 2 (out) or 3 (forward)`);
}

/** An ipsec policy without a request is refused in every dialect: Linux would make a bypass of it. */
function checkPolicy(message: SadbMessage, dialect: Dialect): Refusal | undefined {
  const { type, requests } = message.policy!;
  const wrong = checkFamilies(message) ?? checkDirection(message);
  if (wrong !== undefined) return wrong;
  if (type > IPSEC_POLICY.IPSEC) return invalid(`the policy type is ${type}, not 0 (discard), 1 (none) or 2 (ipsec)`);
  if (type !== IPSEC_POLICY.IPSEC) return undefined;
  if (requests.length === 0) return invalid('an ipsec policy needs at least one complete request of 16 octets or more');
  if (requests.length > MAX_REQUESTS)
    return { errno: ERRNO.ELOOP, reason: `a policy has at most ${MAX_REQUESTS} requests, not ${requests.length}` };
  return firstOf(requests, (request) => {
    const bad = checkRequestForm(request, dialect);
    if (bad !== undefined || request.mode === IPSEC_MODE.TRANSPORT) return bad;
    return request.addresses === undefined ? invalid('a tunnel or BEET mode request needs both endpoints') : checkEnds(request);
  });
}

function firstOf<T>(values: readonly T[], check: (value: T) => Refusal | undefined): Refusal | undefined {
  for (const value of values) {
    const wrong = check(value);
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

function checkRequestForm({ protocol, mode }: SadbIpsecRequest, dialect: Dialect = 'tanuki'): Refusal | undefined {
  const known: readonly number[] = dialect === 'linux-strict' ? LINUX_REQUESTS : SA_REQUESTS;
  if (!known.includes(protocol)) return invalid(`the protocol of a request is ${protocol}, not 50, 51 or 108`);
  if (mode === IPSEC_MODE.BEET && dialect === 'tanuki')
    return protocol === IPPROTO.ESP ? undefined : invalid(`BEET mode is for ESP (50), not for protocol ${protocol}`);
  if (mode !== IPSEC_MODE.TRANSPORT && mode !== IPSEC_MODE.TUNNEL)
    return invalid(`the mode of a request is ${mode}, not 1 (transport), 2 (tunnel) or 3 (BEET)`);
  return undefined;
}

function checkEnds({ addresses }: SadbIpsecRequest): Refusal | undefined {
  if (addresses !== undefined && addresses.source.address.family !== addresses.destination.address.family)
    return invalid('the endpoints of a tunnel are of different families');
  return undefined;
}

/** Pairs of an old and a new request that agree in all but their addresses, each with both of them, in transport mode too. */
function checkMigrate(message: SadbMessage): Refusal | undefined {
  const { requests } = message.policy!;
  const wrong = checkFamilies(message) ?? checkDirection(message);
  if (wrong !== undefined) return wrong;
  if (requests.length === 0 || requests.length % 2 !== 0)
    return invalid(`a MIGRATE has pairs of an old and a new request, not ${requests.length} requests`);
  if (requests.length > 2 * MAX_REQUESTS)
    return invalid(`a MIGRATE has at most ${MAX_REQUESTS} pairs, not ${requests.length / 2}`);
  const seen = new Set<string>();
  for (let i = 0; i < requests.length; i += 2) {
    const [from, to] = [requests[i]!, requests[i + 1]!];
    const bad = checkRequestForm(from) ?? checkRequestForm(to) ?? checkEnds(from) ?? checkEnds(to);
    if (bad !== undefined) return bad;
    if (from.protocol !== to.protocol || from.mode !== to.mode || from.reqid !== to.reqid)
      return invalid(`pair ${i / 2 + 1}: the old and the new request differ in protocol, mode or reqid`);
    if (from.addresses === undefined || to.addresses === undefined)
      return invalid(`pair ${i / 2 + 1}: a request has no addresses`);
    if (to.addresses.source.address.isUnspecified || to.addresses.destination.address.isUnspecified)
      return invalid(`pair ${i / 2 + 1}: a new address is unspecified`);
    const { source, destination } = from.addresses;
    const name = `${from.protocol} ${from.mode} ${from.reqid} ${source.address} ${destination.address}`;
    if (seen.has(name)) return invalid(`pair ${i / 2 + 1}: what it moves was moved by an earlier pair`);
    seen.add(name);
  }
  const { kmAddress } = message;
  if (kmAddress !== undefined && kmAddress.local.address.family !== kmAddress.remote.address.family)
    return invalid('the addresses of KMADDRESS are of different families');
  return undefined;
}
