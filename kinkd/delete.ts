/** DELETE, RFC 4430 §3.3, §6.4: each side names the SPIs that it receives on; the responder removes both directions, and the initiator its inbound SA last. */

import { readU32be, u32be } from '../src/bytes/bytes.ts';
import { NOTIFY, PROTOCOL } from '../src/isakmp/doi.ts';
import { all, type Payload } from '../src/isakmp/payloads.ts';
import { DRAIN_MS } from '../src/keying/sa-pair.ts';
import type { Association } from './association.ts';
import { dropPair } from './endings.ts';
import { IPSEC_DOI } from './message.ts';
import type { KinkPair } from './pair.ts';

/** The Delete payload of the SAs that we receive on under these SPIs. */
export function deletion(spis: readonly number[]): Payload {
  return { type: 'Delete', doi: IPSEC_DOI, protocol: PROTOCOL.ESP, spis: spis.map(u32be) };
}

/** What a DELETE comes to. Only SAs of the principal that asks are found. */
export interface Deletion {
  readonly pairs: readonly KinkPair[];
  /** Delete for what is there, INVALID-SPI for what is not. */
  readonly payloads: readonly Payload[];
}

export function planDelete(association: Association, operations: readonly (readonly Payload[])[]): Deletion {
  const named = operations.flatMap((payloads) => all(payloads, 'Delete'));
  const pairs = new Set<KinkPair>();
  const unknown: Payload[] = [];
  for (const { protocol, spis } of named) {
    for (const spi of spis) {
      const pair = protocol === PROTOCOL.ESP && spi.length === 4 ? association.outbound(readU32be(spi)) : undefined;
      if (pair !== undefined) pairs.add(pair);
      else if (unknown.length < MOST_UNKNOWN)
        unknown.push({ type: 'Notify', doi: IPSEC_DOI, protocol, spi, notify: NOTIFY['INVALID-SPI'], data: new Uint8Array(0) });
    }
  }
  const spis = [...pairs].map(({ spiIn }) => spiIn);
  return { pairs: [...pairs], payloads: [...(spis.length === 0 ? [] : [deletion(spis)]), ...unknown] };
}

/** INVALID-SPI notifies in one answer; a peer could name thousands. */
const MOST_UNKNOWN = 16;

/** Our inbound SAs stay a while for what the peer sent before. */
export function commitDelete({ pairs }: Deletion): void {
  for (const pair of pairs) {
    const ours = pair.state === 'deleting';
    dropPair(pair, DRAIN_MS, ours ? 'both ends deleted it' : 'the peer deleted it', false);
  }
}
