/** DELETE, RFC 4430 §3.3, §6.4: each side names the SPIs that it receives on; the responder removes both directions, and the initiator its inbound SA last. */

import { deletedSa, deletions } from '../src/isakmp/deletion.ts';
import { NOTIFY } from '../src/isakmp/doi.ts';
import { all, type Payload } from '../src/isakmp/payloads.ts';
import { DRAIN_MS } from '../src/keying/sa-pair.ts';
import type { Association } from './association.ts';
import { dropPair } from './endings.ts';
import { IPSEC_DOI } from './message.ts';
import type { KinkPair } from './pair.ts';

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
      const sa = deletedSa(protocol, spi);
      const pair = sa === undefined ? undefined : association.outbound(sa);
      if (pair !== undefined) pairs.add(pair);
      else if (unknown.length < MOST_UNKNOWN)
        unknown.push({ type: 'Notify', doi: IPSEC_DOI, protocol, spi, notify: NOTIFY['INVALID-SPI'], data: new Uint8Array(0) });
    }
  }
  const ours = deletions([...pairs].flatMap((pair) => pair.names('inbound')));
  return { pairs: [...pairs], payloads: [...ours, ...unknown] };
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
