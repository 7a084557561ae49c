/** One AH, ESP or IPComp transform of Quick Mode as plain data and back, and its SPI: RFC 2407 §4.4.3 to §4.4.5, §4.5, RFC 3947 §5.1, RFC 4106 §8, RFC 3173 §4.1. */

import { readU32be, u16be, u32be } from '../bytes/bytes.ts';
import type { EspSuite } from '../crypto/packet-cipher.ts';
import {
  ENCR,
  type EncrName,
  type EncrRow,
  encrByEspV1,
  encrKeymatBytes,
  encrText,
  INTEG,
  type IntegName,
  type IntegRow,
  integByAhV1,
  integByAuthV1,
  integText,
  KE,
  type KeName,
  type KeRow,
  keByGroupV1,
  keText,
  suiteText,
} from '../crypto/transforms.ts';
import { Fault } from '../errors.ts';
import { BUNDLE, type Mode, type SaProtocol } from '../ipsec/sa.ts';
import { type Attribute, attributeSet, basic, type Life, type LifeTypes, lifeAttributes } from './attributes.ts';
import { ENCAPSULATION_MODE, IPSEC_ATTRIBUTE, PROTOCOL, protocolName } from './doi.ts';
import type { Transform } from './sa-payload.ts';

/** What one transform means. AH and IPComp have `encr: 'null_enc'`, and IPComp no integrity either. */
export interface IpsecTransform {
  readonly protocol: SaProtocol;
  readonly suite: EspSuite;
  /** Undefined where the attribute is absent: "host-dependent". */
  readonly encapsulation: Encapsulation | undefined;
  /** The group of a KE payload beside it. */
  readonly group: KeName | undefined;
  readonly life: Life;
}

/** How packets are wrapped; `udp` says that they are encapsulated in UDP (RFC 3948). */
export interface Encapsulation {
  readonly mode: Mode;
  readonly udp: boolean;
}

/** RFC 2407 §4.4.5; the others are not built. */
const IPCOMP_DEFLATE = 2;
const NO_SUITE: EspSuite = { encr: 'null_enc', keyBits: 0, integ: 'none' };

/** Where lifetimes are in a phase 2 attribute list: that of a transform, and of RESPONDER-LIFETIME. */
export const IPSEC_LIFE: LifeTypes = { type: IPSEC_ATTRIBUTE['SA Life Type'], duration: IPSEC_ATTRIBUTE['SA Life Duration'] };

/** Attributes that we know to read; a transform with any other is not acceptable (RFC 2407 §4.5.3). */
const UNDERSTOOD: readonly number[] = [
  IPSEC_ATTRIBUTE['Group Description'],
  IPSEC_ATTRIBUTE['Encapsulation Mode'],
  IPSEC_ATTRIBUTE['Authentication Algorithm'],
  IPSEC_ATTRIBUTE['Key Length'],
];

/** The protocol's number. */
export const IPSEC_PROTOCOL = { esp: PROTOCOL.ESP, ah: PROTOCOL.AH, ipcomp: PROTOCOL.IPCOMP } as const satisfies Record<
  SaProtocol,
  number
>;

/** The protocol of a number, or undefined for ISAKMP's own and those that nobody knows. */
export function ipsecProtocol(number: number): SaProtocol | undefined {
  return BUNDLE.find((protocol) => IPSEC_PROTOCOL[protocol] === number);
}

/** SPIs below are reserved (RFC 4303 §2.1), and so are CPIs or they stand for an algorithm without being negotiated (RFC 3173 §3.3). */
const LOWEST_SPI = 256;

/** An SPI as it is written: a CPI in two octets (RFC 3173 §4.1). */
export function spiOctets(protocol: SaProtocol, spi: number): Uint8Array {
  return protocol === 'ipcomp' ? u16be(spi) : u32be(spi);
}

/** The SPI in these octets, a CPI in two or in four; undefined where it has another length. */
export function readSpi(protocol: SaProtocol, octets: Uint8Array): number | undefined {
  if (protocol !== 'ipcomp') return octets.length === 4 ? readU32be(octets) : undefined;
  // In four the first two are to be ignored.
  const cpi = octets.length === 4 ? octets.subarray(2) : octets;
  return cpi.length === 2 ? cpi[0]! * 256 + cpi[1]! : undefined;
}

/** Why a proposal's SPI is none that an SA can have, or undefined. */
export function unusableSpi(protocol: SaProtocol, octets: Uint8Array): string | undefined {
  const spi = readSpi(protocol, octets);
  const expected = protocol === 'ipcomp' ? '2 (or 4)' : '4';
  if (spi === undefined) return `an SPI of ${octets.length} octets, expected ${expected}`;
  const rfc = protocol === 'ipcomp' ? 'RFC 3173 §3.3' : 'RFC 4303 §2.1';
  return spi < LOWEST_SPI ? `SPI ${spi} is reserved (${rfc})` : undefined;
}

/** Whether IKEv1 and KINK have numbers for the algorithms. */
export function hasNumbers(protocol: SaProtocol, { encr, integ }: EspSuite): boolean {
  if (protocol === 'ipcomp') return true;
  if (protocol === 'ah') return integ !== 'none' && rowOf(integ).ahV1 !== undefined;
  return cipherRow(encr).espV1 !== undefined && (integ === 'none' || (rowOf(integ).esp && rowOf(integ).authV1 !== undefined));
}

/** Writes a transform. Throws Fault where `hasNumbers` is false. */
export function writeTransform(number: number, transform: IpsecTransform): Transform {
  const { protocol, suite, encapsulation, group, life } = transform;
  const { encr, keyBits, integ } = suite;
  const id = transformId(protocol, suite);
  if (id === undefined || !hasNumbers(protocol, suite))
    throw new Fault(`${suiteText(encr, keyBits, integ)} has no number in IKEv1`);
  const attributes: Attribute[] = lifeAttributes(IPSEC_LIFE, life);
  const add = (type: keyof typeof IPSEC_ATTRIBUTE, value: number | undefined) => {
    if (value !== undefined) attributes.push(basic(IPSEC_ATTRIBUTE[type], value));
  };
  if (group !== undefined) add('Group Description', groupNumber(group));
  if (encapsulation !== undefined) add('Encapsulation Mode', encapsulationNumber(encapsulation));
  if (integ !== 'none') add('Authentication Algorithm', rowOf(integ).authV1);
  if (protocol === 'esp' && cipherRow(encr).keyLength) add('Key Length', keyBits);
  return { number, id, attributes };
}

function transformId(protocol: SaProtocol, { encr, integ }: EspSuite): number | undefined {
  if (protocol === 'ipcomp') return IPCOMP_DEFLATE;
  if (protocol === 'esp') return cipherRow(encr).espV1;
  return integ === 'none' ? undefined : rowOf(integ).ahV1;
}

/** What a transform of `protocol` means, or in a few words why it cannot be used here. */
export function readTransform(protocol: number, { id, attributes }: Transform): IpsecTransform | string {
  const set = attributeSet(attributes, IPSEC_LIFE);
  if (typeof set === 'string') return set;
  const { numbers, life } = set;
  const other = [...numbers.keys()].find((type) => !UNDERSTOOD.includes(type));
  if (other !== undefined) return `attribute ${other} is not supported`;
  const known = ipsecProtocol(protocol);
  if (known === undefined) return `${protocolName(protocol)} is not supported`;
  const suite = suiteOf(known, id, numbers);
  if (typeof suite === 'string') return suite;
  const groupId = numbers.get(IPSEC_ATTRIBUTE['Group Description']);
  const group = groupId === undefined ? undefined : keByGroupV1(groupId);
  if (groupId !== undefined && group === undefined) return `group ${groupId} is unknown`;
  const wrap = numbers.get(IPSEC_ATTRIBUTE['Encapsulation Mode']);
  const encapsulation = wrap === undefined ? undefined : encapsulationOf(wrap);
  if (wrap !== undefined && encapsulation === undefined) return `encapsulation mode ${wrap} is unknown`;
  return { protocol: known, suite, encapsulation, group, life };
}

function suiteOf(protocol: SaProtocol, id: number, numbers: ReadonlyMap<number, number>): EspSuite | string {
  // RFC 3173 §4.1: attributes that mean nothing to IPComp are ignored.
  if (protocol === 'ipcomp')
    return id === IPCOMP_DEFLATE ? NO_SUITE : `IPComp transform ${id} is not supported, only DEFLATE (2)`;
  const auth = numbers.get(IPSEC_ATTRIBUTE['Authentication Algorithm']);
  const keyBits = numbers.get(IPSEC_ATTRIBUTE['Key Length']);
  const integ = auth === undefined ? 'none' : integByAuthV1(auth);
  if (integ === undefined) return `authentication algorithm ${auth} is unknown`;
  if (protocol === 'ah') {
    const named = integByAhV1(id);
    if (named === undefined) return `AH transform ${id} is unknown`;
    if (named !== integ) return `AH transform ${id} needs its own authentication algorithm`;
    return { encr: 'null_enc', keyBits: 0, integ };
  }
  const encr = encrByEspV1(id);
  if (encr === undefined) return `ESP transform ${id} is unknown`;
  const row = cipherRow(encr);
  if (integ !== 'none' && !rowOf(integ).esp) return `${integ} is for AH only`;
  if (row.icv > 0 && integ !== 'none') return `${encr} takes no authentication algorithm beside it`;
  if (encr === 'null_enc' && integ === 'none') return 'neither encryption nor authentication';
  if (!row.keyLength && keyBits !== undefined) return `${encr} takes no key length`;
  if (encrKeymatBytes(encr, keyBits ?? 0) === undefined)
    return `${encr} with ${keyBits === undefined ? 'no key length' : `a key of ${keyBits} bits`}`;
  return { encr, keyBits: keyBits ?? 0, integ };
}

function encapsulationNumber({ mode, udp }: Encapsulation): number {
  if (mode === 'tunnel') return udp ? ENCAPSULATION_MODE['UDP-Encapsulated-Tunnel'] : ENCAPSULATION_MODE.Tunnel;
  return udp ? ENCAPSULATION_MODE['UDP-Encapsulated-Transport'] : ENCAPSULATION_MODE.Transport;
}

function encapsulationOf(number: number): Encapsulation | undefined {
  const modes: readonly Mode[] = ['tunnel', 'transport'];
  return modes
    .flatMap((mode) => [false, true].map((udp) => ({ mode, udp })))
    .find((encapsulation) => encapsulationNumber(encapsulation) === number);
}

/** The number of a group in IKEv1, or undefined for one that IKEv2 alone has. */
export function groupNumber(group: KeName): number | undefined {
  const row: KeRow = KE[group];
  return row.groupV1;
}

/** `esp aes_cbc-256/hmac_sha2_256 modp2048 tunnel`: for logs and explanations. */
export function transformText({ protocol, suite, encapsulation, group }: IpsecTransform): string {
  const { encr, keyBits, integ } = suite;
  const algorithms =
    protocol === 'ipcomp'
      ? 'DEFLATE'
      : protocol === 'ah'
        ? integText(integ)
        : cipherRow(encr).icv > 0
          ? encrText(encr, keyBits)
          : suiteText(encr, keyBits, integ);
  const wrap = encapsulation === undefined ? '' : ` ${encapsulationText(encapsulation)}`;
  return `${protocol} ${algorithms}${group === undefined ? '' : `/${keText(group)}`}${wrap}`;
}

export function encapsulationText({ mode, udp }: Encapsulation): string {
  return udp ? `UDP-encapsulated ${mode}` : mode;
}

function cipherRow(encr: EncrName): EncrRow {
  return ENCR[encr];
}

function rowOf(integ: IntegName): IntegRow {
  return INTEG[integ];
}
