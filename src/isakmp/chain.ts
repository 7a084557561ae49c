/** A chain of payloads, each of which names the type of the next, RFC 2408 §3.2: with an ISAKMP header (IKEv1) or without (KINK, RFC 4430 §4.2.6). */

import { Fault } from '../errors.ts';
import { Reader } from '../wire/reader.ts';
import { Writer } from '../wire/writer.ts';
import { PAYLOAD } from './doi.ts';
import { type Payload, payloadBody, payloadName, payloadNumber, readPayload } from './payloads.ts';

/** Octets of a generic payload header. */
export const GENERIC = 4;
/** More payloads than any honest message holds; reading stops there, before a sender is known. */
const MOST_PAYLOADS = 256;

/** Reads payloads from the type `first` on, up to one that says that none follows; whatever stands behind it is left to the caller. */
export function readChain(from: Reader, first: number): Payload[] {
  const payloads: Payload[] = [];
  let type = first;
  while (type !== PAYLOAD.none) {
    if (payloads.length === MOST_PAYLOADS) from.fail(`more than ${MOST_PAYLOADS} payloads`);
    const next = from.u8();
    const reservedOctet = from.u8();
    const length = from.u16();
    if (length < GENERIC) {
      from.fail(
        `payload ${payloadName(type)} has a length of ${length} octets, less than its own header of ${GENERIC}`,
        from.at - 2,
      );
    }
    const payload = readPayload(type, from.part(length - GENERIC, payloadName(type)));
    payloads.push(reservedOctet === 0 ? payload : { ...payload, reservedOctet });
    type = next;
  }
  return payloads;
}

/** The payloads that all of `octets` are. Throws WireError; `path` names the whole in errors. */
export function readPayloads(octets: Uint8Array, first: number, path = ''): Payload[] {
  const from = new Reader(octets, path);
  const payloads = readChain(from, first);
  from.finish();
  return payloads;
}

/** The octets of a chain, and the type of its first payload, which whoever embeds it has to say. */
export function writeChain(payloads: readonly Payload[]): { readonly first: number; readonly octets: Uint8Array } {
  const to = new Writer(512);
  payloads.forEach((payload, i) => {
    const next = payloads[i + 1];
    const body = payloadBody(payload);
    const length = GENERIC + body.length;
    if (length > 0xffff) throw new Fault(`a payload has at most ${0xffff} octets, not ${length}`);
    to.u8(next === undefined ? PAYLOAD.none : payloadNumber(next));
    to.u8(payload.reservedOctet ?? 0);
    to.u16(length);
    to.bytes(body);
  });
  const first = payloads[0];
  return { first: first === undefined ? PAYLOAD.none : payloadNumber(first), octets: to.finish() };
}
