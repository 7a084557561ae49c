/** One AH or ESP transform of Quick Mode as plain data and back, RFC 2407 §4.4.3, §4.4.4, §4.5, RFC 3947 §5.1, RFC 4106 §8. */

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
import type { Mode } from '../ipsec/sa.ts';
import { type Attribute, attributeSet, basic, type Life, type LifeTypes, lifeAttributes } from './attributes.ts';
import { ENCAPSULATION_MODE, IPSEC_ATTRIBUTE, PROTOCOL, protocolName } from './doi.ts';
import type { Transform } from './sa-payload.ts';

/** What one transform means. AH has `encr: 'null_enc'`. */
export interface IpsecTransform {
  readonly protocol: 'esp' | 'ah';
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
export const IPSEC_PROTOCOL = { esp: PROTOCOL.ESP, ah: PROTOCOL.AH } as const;

/** Whether IKEv1 and KINK have numbers for the algorithms. */
export function hasNumbers(protocol: 'esp' | 'ah', { encr, integ }: EspSuite): boolean {
  if (protocol === 'ah') return integ !== 'none' && rowOf(integ).ahV1 !== undefined;
  return cipherRow(encr).espV1 !== undefined && (integ === 'none' || (rowOf(integ).esp && rowOf(integ).authV1 !== undefined));
}

/** Writes a transform. Throws Fault where `hasNumbers` is false. */
export function writeTransform(number: number, transform: IpsecTransform): Transform {
  const { protocol, suite, encapsulation, group, life } = transform;
  const { encr, keyBits, integ } = suite;
  const id = protocol === 'ah' ? (integ === 'none' ? undefined : rowOf(integ).ahV1) : cipherRow(encr).espV1;
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

/** What a transform of `protocol` means, or in a few words why it cannot be used here. */
export function readTransform(protocol: number, { id, attributes }: Transform): IpsecTransform | string {
  const set = attributeSet(attributes, IPSEC_LIFE);
  if (typeof set === 'string') return set;
  const { numbers, life } = set;
  const other = [...numbers.keys()].find((type) => !UNDERSTOOD.includes(type));
  if (other !== undefined) return `attribute ${other} is not supported`;
  const suite = suiteOf(protocol, id, numbers);
  if (typeof suite === 'string') return suite;
  const groupId = numbers.get(IPSEC_ATTRIBUTE['Group Description']);
  const group = groupId === undefined ? undefined : keByGroupV1(groupId);
  if (groupId !== undefined && group === undefined) return `group ${groupId} is unknown`;
  const wrap = numbers.get(IPSEC_ATTRIBUTE['Encapsulation Mode']);
  const encapsulation = wrap === undefined ? undefined : encapsulationOf(wrap);
  if (wrap !== undefined && encapsulation === undefined) return `encapsulation mode ${wrap} is unknown`;
  return { protocol: protocol === PROTOCOL.AH ? 'ah' : 'esp', suite, encapsulation, group, life };
}

function suiteOf(protocol: number, id: number, numbers: ReadonlyMap<number, number>): EspSuite | string {
  const auth = numbers.get(IPSEC_ATTRIBUTE['Authentication Algorithm']);
  const keyBits = numbers.get(IPSEC_ATTRIBUTE['Key Length']);
  const integ = auth === undefined ? 'none' : integByAuthV1(auth);
  if (integ === undefined) return `authentication algorithm ${auth} is unknown`;
  if (protocol === PROTOCOL.AH) {
    const named = integByAhV1(id);
    if (named === undefined) return `AH transform ${id} is unknown`;
    if (named !== integ) return `AH transform ${id} needs its own authentication algorithm`;
    return { encr: 'null_enc', keyBits: 0, integ };
  }
  if (protocol !== PROTOCOL.ESP) return `${protocolName(protocol)} is not supported`;
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
    protocol === 'ah' ? integText(integ) : cipherRow(encr).icv > 0 ? encrText(encr, keyBits) : suiteText(encr, keyBits, integ);
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
