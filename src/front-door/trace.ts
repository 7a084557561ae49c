/** `tanuki trace`: what the datapath would do with a packet, which is not sent: policy, SA, every step, and why it would be dropped. */

import { PROTOCOLS } from '../config/addresses.ts';
import type { TraceResult } from '../datapath-process/ports.ts';
import { hasTypes, MESSAGE_TYPES } from '../net/message-types.ts';
import { ask } from './ask.ts';
import { EXIT, Exit } from './exit-codes.ts';

export interface TraceOptions {
  readonly runDir: string;
  readonly source: string;
  readonly destination: string;
  /** A name or a number; absent: an echo request. */
  readonly protocol: string | undefined;
  /** The destination's port, or a message's type by name or number. */
  readonly port: string | undefined;
  readonly sourcePort: number | undefined;
  readonly octets: number | undefined;
  readonly inbound: boolean;
}

export async function trace({ runDir, source, destination, ...options }: TraceOptions): Promise<TraceResult> {
  const { sourcePort, octets, inbound } = options;
  const protocol = options.protocol === undefined ? undefined : numberOf(options.protocol, PROTOCOLS, 255, 'a protocol');
  const isTyped = protocol !== undefined && hasTypes(protocol);
  const types = MESSAGE_TYPES[protocol ?? -1] ?? {};
  const port =
    options.port === undefined ? undefined : numberOf(options.port, types, isTyped ? 255 : 65_535, isTyped ? 'a type' : 'a port');
  const ports = isTyped ? { sourcePort: port ?? sourcePort } : { sourcePort, destinationPort: port };
  return (await ask('datapath', runDir, 'trace', { source, destination, protocol, ...ports, octets, inbound })) as TraceResult;
}

/** Each explanation as a paragraph: the packet, a line for each step, what comes of it. */
export function showTrace(result: TraceResult): string {
  return result
    .map(({ direction, packet, steps, fate }) =>
      [`${direction}: ${packet}: ${fate}`, ...steps.map((step) => `  ${step}`)].join('\n'),
    )
    .join('\n');
}

function numberOf(text: string, names: Readonly<Record<string, number>>, most: number, what: string): number {
  const value = Object.hasOwn(names, text) ? names[text]! : /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= most))
    throw new Exit(EXIT.usage, `trace: expected ${what} by name or a number from 0 to ${most}, found "${text}"`);
  return value;
}
