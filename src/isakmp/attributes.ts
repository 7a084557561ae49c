/** Data attributes, RFC 2408 §3.3: basic ones (type and a value of two octets) and variable ones (type, length, value). */

import { u16be } from '../bytes/bytes.ts';
import { Fault } from '../errors.ts';
import type { Codec } from '../wire/codec.ts';
import { LIFE_TYPE } from './doi.ts';

/** One attribute. `basic` says how it lies on the wire; what it means depends on the value alone (RFC 2409 appendix A). */
export interface Attribute {
  /** 0 to 32767. */
  readonly type: number;
  readonly basic: boolean;
  /** Two octets where basic. */
  readonly value: Uint8Array;
}

/** Attribute format bit: set for type and value, clear for type, length and value. */
const AF = 0x8000;

/** Attributes up to the end of the enclosing part. */
export const Attributes: Codec<readonly Attribute[]> = {
  read: (from) => {
    const attributes: Attribute[] = [];
    while (from.left > 0) {
      const word = from.u16();
      const basic = word >= AF;
      attributes.push({ type: word & ~AF, basic, value: from.bytes(basic ? 2 : from.u16()) });
    }
    return attributes;
  },
  write: (to, attributes) => {
    for (const { type, basic, value } of attributes) {
      if (basic && value.length !== 2) throw new Fault(`a basic attribute has a value of 2 octets, not ${value.length}`);
      to.u16(basic ? type | AF : type);
      if (!basic) to.u16(value.length);
      to.bytes(value);
    }
  },
};

/** A basic attribute. */
export function basic(type: number, value: number): Attribute {
  return { type, basic: true, value: u16be(value) };
}

/** A number as an attribute: basic where it fits in two octets, else variable with four (or more, where needed). */
export function numeric(type: number, value: number): Attribute {
  if (value <= 0xffff) return basic(type, value);
  const octets: number[] = [];
  for (let left = value; left > 0; left = Math.floor(left / 256)) octets.unshift(left % 256);
  while (octets.length < 4) octets.unshift(0);
  return { type, basic: false, value: Uint8Array.from(octets) };
}

/** The value as a number; undefined where it is empty, Infinity where it is above 2^53. */
export function numberOf({ value }: Attribute): number | undefined {
  if (value.length === 0) return undefined;
  let number = 0;
  for (const octet of value) number = number * 256 + octet;
  return Number.isSafeInteger(number) ? number : Number.POSITIVE_INFINITY;
}

/** How long an SA may live as its attributes say; a unit that they do not name is undefined. */
export interface Life {
  readonly seconds?: number;
  readonly kilobytes?: number;
}

/** The attribute types of a pair of life type and life duration: phase 1 and phase 2 number them differently. */
export interface LifeTypes {
  readonly type: number;
  readonly duration: number;
}

/** `life` as pairs of type and duration. */
export function lifeAttributes(types: LifeTypes, life: Life): Attribute[] {
  const pair = (unit: keyof typeof LIFE_TYPE, value: number | undefined) =>
    value === undefined ? [] : [basic(types.type, LIFE_TYPE[unit]), numeric(types.duration, value)];
  return [...pair('seconds', life.seconds), ...pair('kilobytes', life.kilobytes)];
}

/** What a list of attributes comes to: one number a type, and its life. */
export interface AttributeSet {
  readonly numbers: ReadonlyMap<number, number>;
  readonly life: Life;
}

/**
 * Sorts a list, in which each duration belongs to the life type in front of it and may occur once for each unit (RFC 2407 §4.5.2).
 * A string says what is wrong: a type given twice with different values, a duration without a type, an empty value.
 */
export function attributeSet(attributes: readonly Attribute[], types: LifeTypes): AttributeSet | string {
  const numbers = new Map<number, number>();
  const life: { seconds?: number; kilobytes?: number } = {};
  let unit: number | undefined;
  for (const attribute of attributes) {
    const value = numberOf(attribute);
    if (value === undefined) return `attribute ${attribute.type} has no value`;
    if (attribute.type === types.type) {
      unit = value;
    } else if (attribute.type === types.duration) {
      if (unit === undefined) return 'a life duration has no life type in front of it';
      const name = unit === LIFE_TYPE.seconds ? 'seconds' : unit === LIFE_TYPE.kilobytes ? 'kilobytes' : undefined;
      if (name === undefined) return `life type ${unit} is unknown`;
      if (life[name] !== undefined && life[name] !== value) return `two lifetimes in ${name}, ${life[name]} and ${value}`;
      life[name] = value;
      unit = undefined;
    } else {
      const known = numbers.get(attribute.type);
      if (known !== undefined && known !== value) return `attribute ${attribute.type} is both ${known} and ${value}`;
      numbers.set(attribute.type, value);
    }
  }
  return { numbers, life };
}
