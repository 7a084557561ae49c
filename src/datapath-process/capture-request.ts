/** The arguments of the verb `capture`, and its answer as JSON. Throws Error with what was expected where they are of no use. */

import { CAPTURE_INTERFACES } from '../net/pcapng.ts';
import type { CaptureRequest, CaptureResult } from './capture.ts';
import type { CaptureAnswer } from './ports.ts';

export const LONGEST_SNAP = 65_535;

export function readCapture(args: Readonly<Record<string, unknown>>): CaptureRequest {
  const { step, snapLength, interface: side, address, spi, droppedOnly } = args;
  if (step === 'take' || step === 'end') return { step };
  if (step !== 'begin') throw expected('step', 'begin, take or end', step);
  if (snapLength !== undefined && !isWhole(snapLength, LONGEST_SNAP))
    throw expected('snapLength', `octets, at most ${LONGEST_SNAP}`, snapLength);
  if (side !== undefined && side !== 'inner' && side !== 'outer')
    throw expected('interface', CAPTURE_INTERFACES.join(' or '), side);
  if (address !== undefined && typeof address !== 'string') throw expected('address', 'an address or a prefix', address);
  if (spi !== undefined && !isWhole(spi, 0xffff_ffff)) throw expected('spi', 'a 32-bit number', spi);
  return {
    step,
    filter: { snapLength: snapLength ?? LONGEST_SNAP, interface: side, address, spi, droppedOnly: droppedOnly === true },
  };
}

export function writeCaptured({ packets, lost }: CaptureResult): CaptureAnswer {
  return { lost, packets: packets.map(({ bytes, ...packet }) => ({ ...packet, bytes: Buffer.from(bytes).toString('base64') })) };
}

function isWhole(value: unknown, most: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= most;
}

function expected(name: string, what: string, found: unknown): Error {
  return new Error(`capture: expected "${name}": ${what}; found ${JSON.stringify(found)}`);
}
