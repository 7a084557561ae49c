/** The arguments of the verb `trace`: a packet by its ends, protocol and ports. Throws Error with what was expected where they are of no use. */

import { probePacket } from '../datapath/probe.ts';
import { IpAddress } from '../net/address.ts';
import { isIcmp, PROTOCOL } from '../net/transport.ts';
import type { TraceRequest } from './engine-host.ts';

/** Octets of a packet that nobody gave a length. */
const OCTETS = 64;
/** Such a packet comes from a port of those that programs get. */
const EPHEMERAL = 49_152;

export function readTrace(args: Readonly<Record<string, unknown>>): TraceRequest {
  const source = address(args, 'source');
  const destination = address(args, 'destination');
  if (source.family !== destination.family)
    throw new Error(`trace: expected two addresses of one family, found ${source} and ${destination}`);
  const protocol = number(args, 'protocol', 255, source.family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6);
  const port = isIcmp(protocol) || protocol === PROTOCOL.mobility ? 255 : 65_535;
  const echo = protocol === PROTOCOL.icmp ? 8 : protocol === PROTOCOL.icmpv6 ? 128 : 0;
  const packet = probePacket({
    source,
    destination,
    protocol,
    sourcePort: number(args, 'sourcePort', port, port === 255 ? echo : EPHEMERAL),
    destinationPort: number(args, 'destinationPort', port, 0),
    octets: number(args, 'octets', 65_535, OCTETS),
  });
  return { packet, direction: args.inbound === true ? 'inbound' : 'outbound' };
}

function address(args: Readonly<Record<string, unknown>>, name: string): IpAddress {
  const text = args[name];
  const parsed = typeof text === 'string' ? IpAddress.parse(text) : undefined;
  if (parsed === undefined) throw new Error(`trace: expected "${name}": a numeric address, found ${JSON.stringify(text)}`);
  return parsed;
}

function number(args: Readonly<Record<string, unknown>>, name: string, most: number, otherwise: number): number {
  const value = args[name];
  if (value === undefined) return otherwise;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > most)
    throw new Error(`trace: expected "${name}": a whole number from 0 to ${most}, found ${JSON.stringify(value)}`);
  return value;
}
