/** Between PF_KEY messages and RFC 4301's vocabulary: SAs, policies, and what a server tells about them. Nobody else lays out extensions. */

import { NONE } from '../bytes/bytes.ts';
import { Secret } from '../bytes/secret.ts';
import type { EspSuite } from '../crypto/packet-cipher.ts';
import { ENCR, type EncrRow, encrBySadb, INTEG, integBySadb } from '../crypto/transforms.ts';
import { type Lifetime, UNLIMITED } from '../ipsec/lifetime.ts';
import { innerEnds } from '../ipsec/policy.ts';
import type { Mode, SaId, SaParameters, SaProtocol } from '../ipsec/sa.ts';
import { selectorOf, type TrafficSelector } from '../ipsec/selector.ts';
import type { IpAddress } from '../net/address.ts';
import { bitsOf } from '../net/prefix.ts';
import {
  type SadbAddress,
  SadbError,
  type SadbExtensions,
  type SadbLifetime,
  type SadbMessage,
  type SadbSa,
  sadb,
} from './message.ts';
import { ERRNO, IPSEC_MODE, SADB_SAFLAGS, SADB_SASTATE, SADB_SATYPE, type SadbType, UDP_ENCAP } from './registry.ts';

const SATYPE: Readonly<Record<SaProtocol, number>> = { ah: SADB_SATYPE.AH, esp: SADB_SATYPE.ESP, ipcomp: SADB_SATYPE.IPCOMP };
const MODE: Readonly<Record<Mode, number>> = {
  transport: IPSEC_MODE.TRANSPORT,
  tunnel: IPSEC_MODE.TUNNEL,
  beet: IPSEC_MODE.BEET,
};
/** SADB_AALG_NULL: integrity is absent on purpose. */
const AALG_NULL = 251;
/** SADB_X_CALG_DEFLATE, RFC 2394. */
const CALG_DEFLATE = 2;
/** IPComp has no keys. */
const NOTHING: EspSuite = { encr: 'null_enc', keyBits: 0, integ: 'none' };
/** No packet that leaves in one piece is longer. */
const MOST_PADDING = 9000;

/** What a message about an SA may say beyond the SA's parameters. */
export interface SaDetails {
  readonly seq?: number;
  readonly pid?: number;
  /** `SADB_SASTATE`; mature where it is left out. */
  readonly state?: number;
  readonly current?: SadbLifetime;
  readonly sequenceState?: SadbExtensions['sequenceState'];
  /** False: the message has no KEY extensions. */
  readonly keys?: boolean;
}

export function satypeOf(protocol: SaProtocol): number {
  return SATYPE[protocol];
}

/** The SA protocol of a message, or undefined for UNSPEC and those that have no SAs here. */
export function protocolOf(satype: number): SaProtocol | undefined {
  return satype === SADB_SATYPE.ESP
    ? 'esp'
    : satype === SADB_SATYPE.AH
      ? 'ah'
      : satype === SADB_SATYPE.IPCOMP
        ? 'ipcomp'
        : undefined;
}

/** An SA's address: all bits, any protocol, no port. */
export function hostAddress(address: IpAddress): SadbAddress {
  return { protocol: 0, prefixLength: bitsOf(address.family), address, port: 0 };
}

/** SADB_GETSPI, RFC 2367 §3.1.1. `seq` is that of the ACQUIRE it answers, where it answers one. */
export function saToGetspi(
  sa: Pick<SaParameters, 'protocol' | 'mode' | 'reqid' | 'source' | 'destination'>,
  range: { min: number; max: number },
  seq = 0,
): SadbMessage {
  return sadb('GETSPI', {
    seq,
    satype: SATYPE[sa.protocol],
    source: hostAddress(sa.source),
    destination: hostAddress(sa.destination),
    spirange: range,
    sa2: { mode: modeNumber(sa.mode), sequence: 0, reqid: sa.reqid },
  });
}

/** SADB_ADD, §3.1.3. */
export function saToAdd(sa: SaParameters, details: SaDetails = {}): SadbMessage {
  return saToSadb('ADD', sa, details);
}

/** SADB_UPDATE, §3.1.2: completes a larval SA. */
export function saToUpdate(sa: SaParameters, details: SaDetails = {}): SadbMessage {
  return saToSadb('UPDATE', sa, details);
}

/** SADB_DELETE or SADB_GET, §3.1.4, §3.1.5: an SA by its name. */
export function saIdTo(type: 'DELETE' | 'GET', id: SaId, source: IpAddress): SadbMessage {
  const sa: SadbSa = { spi: id.spi, replay: 0, state: SADB_SASTATE.MATURE, auth: 0, encrypt: 0, flags: 0 };
  return sadb(type, { satype: SATYPE[id.protocol], sa, source: hostAddress(source), destination: hostAddress(id.destination) });
}

/** UPDATE of a running outbound SA's state alone: on hold, its packets wait for another SA; or as it was. For this datapath, not for a kernel. */
export function saStateTo(state: 'on-hold' | 'mature', id: SaId, source: IpAddress): SadbMessage {
  const message = saIdTo('GET', id, source);
  const number = state === 'mature' ? SADB_SASTATE.MATURE : SADB_SASTATE.LARVAL;
  return { ...message, type: 'UPDATE', sa: { ...message.sa!, state: number } };
}

/** An SA as any verb that carries a whole one: ADD, UPDATE, and the answers to GET, DELETE and DUMP. */
export function saToSadb(type: SadbType, sa: SaParameters, details: SaDetails = {}): SadbMessage {
  const { seq = 0, pid = 0, state = SADB_SASTATE.MATURE, current, sequenceState, keys = true } = details;
  const { encapsulation, selectors } = sa;
  const ah = sa.protocol === 'ah';
  const auth = sa.suite.integ === 'none' ? 0 : INTEG[sa.suite.integ].sadb;
  return sadb(type, {
    seq,
    pid,
    satype: SATYPE[sa.protocol],
    sa: {
      spi: sa.spi,
      replay: Math.min(sa.replayWindow, 255),
      state,
      auth,
      encrypt: sa.protocol === 'ipcomp' ? CALG_DEFLATE : ah ? 0 : ENCR[sa.suite.encr].sadb,
      flags: sa.extendedSequence ? SADB_SAFLAGS.X_ESN : 0,
    },
    window: sa.replayWindow,
    tfcPadding: sa.tfcPadding || undefined,
    sequenceState,
    lifetimeHard: toSadbLifetime(sa.lifetime.hard),
    lifetimeSoft: toSadbLifetime(sa.lifetime.soft),
    lifetimeCurrent: current,
    source: hostAddress(sa.source),
    destination: hostAddress(sa.destination),
    keyAuth: keys && sa.integKey !== undefined ? { bits: sa.integKey.length * 8, key: sa.integKey } : undefined,
    keyEncrypt: keys && sa.protocol === 'esp' ? { bits: sa.encrKey.length * 8, key: sa.encrKey } : undefined,
    sa2: { mode: modeNumber(sa.mode), sequence: 0, reqid: sa.reqid },
    nattType: encapsulation === undefined ? undefined : UDP_ENCAP.ESPINUDP,
    nattSourcePort: encapsulation?.source.port,
    nattDestinationPort: encapsulation?.destination.port,
    saSelectors: selectors.source.length + selectors.destination.length === 0 ? undefined : selectors,
  });
}

/**
 * The SA that an ADD or UPDATE describes. Throws SadbError: ENOSYS for an algorithm that we do not have, EINVAL for a key that does
 * not fit it or anything else that makes no SA. `keys` false reads an answer from which the keys were taken; they are empty then.
 */
export function addToSa(message: SadbMessage, keys = true): SaParameters {
  const { sa, source, destination, sa2, keyAuth, keyEncrypt } = message;
  const protocol = protocolOf(message.satype);
  if (sa === undefined || source === undefined || destination === undefined || protocol === undefined) {
    throw refusal('a message about an SA has its protocol, SA, source and destination');
  }
  if (protocol === 'ipcomp' && sa.encrypt !== CALG_DEFLATE)
    throw refusal(`there is no compression algorithm ${sa.encrypt}, only DEFLATE (2)`, ERRNO.ENOSYS);
  const encrKey = keyEncrypt?.key ?? new Secret(NONE);
  const suite = protocol === 'ipcomp' ? NOTHING : protocol === 'ah' ? ahSuite(sa) : espSuite(sa, encrKey.length, keys);
  if (keys && suite.integ !== 'none' && keyAuth?.key.length !== INTEG[suite.integ].keyBytes) {
    throw refusal(`${suite.integ} takes a key of ${INTEG[suite.integ].keyBytes} octets, not ${keyAuth?.key.length ?? 0}`);
  }
  const mode = modeOf(sa2?.mode ?? IPSEC_MODE.ANY);
  const selectors = message.saSelectors ?? { source: proxySelectors(message.proxy), destination: [] };
  if (mode === 'beet') checkBeet(protocol, selectors);
  return {
    spi: sa.spi,
    protocol,
    mode,
    source: source.address,
    destination: destination.address,
    suite,
    encrKey: protocol === 'esp' ? encrKey : new Secret(NONE),
    integKey: suite.integ === 'none' ? undefined : (keyAuth?.key ?? new Secret(NONE)),
    extendedSequence: (sa.flags & SADB_SAFLAGS.X_ESN) !== 0,
    replayWindow: message.window ?? sa.replay,
    tfcPadding: tfcPaddingOf(message),
    reqid: sa2?.reqid ?? 0,
    encapsulation: encapsulationOf(message, source.address, destination.address),
    lifetime: { hard: fromSadbLifetime(message.lifetimeHard), soft: fromSadbLifetime(message.lifetimeSoft) },
    selectors,
  };
}

/** The addresses that no packet of the SA carries must follow from the SA. */
function checkBeet(protocol: SaProtocol, selectors: SaParameters['selectors']): void {
  if (protocol !== 'esp') throw refusal(`BEET mode is for ESP, not for ${protocol}`);
  if (innerEnds(selectors) === undefined)
    throw refusal("the SA's selectors fix one inner address at each end, of one family, in BEET mode");
}

export function toSadbLifetime({ seconds, bytes, packets }: Lifetime): SadbLifetime {
  return { allocations: limit(packets), bytes: limit(bytes), addtime: limit(seconds), usetime: 0 };
}

export function fromSadbLifetime(lifetime: SadbLifetime | undefined): Lifetime {
  return lifetime === undefined ? UNLIMITED : { seconds: lifetime.addtime, bytes: lifetime.bytes, packets: lifetime.allocations };
}

/** A limit below 1 that is not "none" stays one. */
function limit(value: number): number {
  return value === 0 ? 0 : Math.max(1, Math.floor(value));
}

/** A SadbError about a message as a whole. */
export function refusal(message: string, errno: number = ERRNO.EINVAL): SadbError {
  return new SadbError(errno, message, 0);
}

export function modeNumber(mode: Mode): number {
  return MODE[mode];
}

/** "Any" is transport, as Linux has it. */
export function modeOf(mode: number): Mode {
  if (mode === IPSEC_MODE.TUNNEL) return 'tunnel';
  if (mode === IPSEC_MODE.BEET) return 'beet';
  if (mode === IPSEC_MODE.TRANSPORT || mode === IPSEC_MODE.ANY) return 'transport';
  throw refusal(`the mode is ${mode}, not 1 (transport), 2 (tunnel) or 3 (BEET)`);
}

function espSuite(sa: SadbSa, keyLength: number, keys: boolean): EspSuite {
  const encr = encrBySadb(sa.encrypt);
  if (encr === undefined) throw refusal(`there is no encryption algorithm ${sa.encrypt}`, ERRNO.ENOSYS);
  const row: EncrRow = ENCR[encr];
  const bits = (keyLength - row.salt) * 8;
  const fits = row.bits.length === 0 ? keyLength === 0 : row.bits.includes(bits);
  if (keys && !fits) throw refusal(`${encr} takes no key of ${keyLength} octets (its salt of ${row.salt} included)`);
  const integ = integOf(sa.auth);
  if (row.icv > 0 && integ !== 'none')
    throw refusal(`${encr} protects by itself: the authentication algorithm is 0, not ${sa.auth}`);
  if (integ !== 'none' && !INTEG[integ].esp) throw refusal(`${integ} is for AH only: ESP has null_auth_aes_gmac (RFC 4543 §3)`);
  return { encr, keyBits: keys && row.keyLength ? bits : 0, integ };
}

function ahSuite(sa: SadbSa): EspSuite {
  const integ = integOf(sa.auth);
  if (integ === 'none') throw refusal('an AH SA has an authentication algorithm');
  return { encr: 'null_enc', keyBits: 0, integ };
}

function integOf(auth: number): EspSuite['integ'] {
  if (auth === 0 || auth === AALG_NULL) return 'none';
  const integ = integBySadb(auth);
  if (integ === undefined) throw refusal(`there is no authentication algorithm ${auth}`, ERRNO.ENOSYS);
  return integ;
}

function tfcPaddingOf({ tfcPadding }: SadbMessage): number | undefined {
  if (tfcPadding !== undefined && tfcPadding > MOST_PADDING)
    throw refusal(`TFC padding goes up to ${MOST_PADDING} octets, not ${tfcPadding}`);
  return tfcPadding || undefined;
}

function encapsulationOf(message: SadbMessage, source: IpAddress, destination: IpAddress): SaParameters['encapsulation'] {
  const { nattType, nattSourcePort, nattDestinationPort } = message;
  if (nattType === undefined || nattType === 0) return undefined;
  if (nattType !== UDP_ENCAP.ESPINUDP) throw refusal(`the encapsulation type is ${nattType}, not 2 (RFC 3948)`);
  if (!nattSourcePort || !nattDestinationPort) throw refusal('UDP encapsulation needs both ports');
  return { source: { address: source, port: nattSourcePort }, destination: { address: destination, port: nattDestinationPort } };
}

/** PROXY: the source selector where it is not the SA's source. Everything is what a kernel says for "none". */
function proxySelectors(proxy: SadbAddress | undefined): TrafficSelector[] {
  if (proxy === undefined || proxy.prefixLength === 0) return [];
  return [selectorOf({ address: proxy.address, length: proxy.prefixLength }, proxy.protocol === 255 ? 0 : proxy.protocol)];
}
