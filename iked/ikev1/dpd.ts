/** Dead peer detection, RFC 3706: R-U-THERE where nothing was heard, and the answer to the peer's. */

import { cat, equal, readU32be, u32be } from '../../src/bytes/bytes.ts';
import { DOI, NOTIFY, PROTOCOL } from '../../src/isakmp/doi.ts';
import type { Payload, PayloadOf } from '../../src/isakmp/payloads.ts';
import { peerSilent } from './endings.ts';
import type { IsakmpSa } from './isakmp-sa.ts';

/** Questions of ours without an answer. */
export interface Probing {
  /** Sequence number of the first of them, and of the next. */
  readonly first: number;
  next: number;
  deadline: number;
}

/** The first question, whose sequence number is random with its high bit clear (§6.2). Anything authentic from the peer ends the probing. */
export function beginProbing(sa: IsakmpSa): void {
  if (sa.probing !== undefined || sa.state.name !== 'established') return;
  const first = sa.probeSequence ?? readU32be(sa.host.random(4)) & 0x7fffffff;
  sa.probing = { first, next: first, deadline: sa.host.now.mono };
  probe(sa);
}

/** Asks again when it is time, and gives the peer up after `dpd_maxfail` questions. */
export function probe(sa: IsakmpSa): void {
  const { probing, host } = sa;
  if (probing === undefined || host.now.mono < probing.deadline) return;
  const { dpdRetry, dpdMaxFail } = sa.peer!.ikev1;
  const asked = probing.next - probing.first;
  if (!host.linked) {
    // Our own way out is broken: silence means nothing.
    probing.deadline = host.now.mono + dpdRetry;
    return;
  }
  if (asked >= dpdMaxFail) return peerSilent(sa, `no answer from ${sa.peerName} to ${asked} R-U-THERE`);
  const sequence = probing.next;
  probing.next += 1;
  probing.deadline = host.now.mono + dpdRetry;
  sa.probeSequence = probing.next >>> 0;
  sa.inform([notify(sa, NOTIFY['R-U-THERE'], u32be(sequence >>> 0))]);
}

function notify(sa: IsakmpSa, type: number, data: Uint8Array): Payload {
  return { type: 'Notify', doi: DOI.IPSEC, protocol: PROTOCOL.ISAKMP, spi: cookies(sa), notify: type, data };
}

function cookies({ CKY_I, CKY_R }: IsakmpSa): Uint8Array {
  return cat(CKY_I, CKY_R);
}

/** The peer asks. An old sequence number is a replay, and other cookies mean another ISAKMP SA (§6.1); the very same datagram is answered as before. */
export function hearProbe(sa: IsakmpSa, { spi, data }: PayloadOf<'Notify'>, bytes: Uint8Array): void {
  if (data.length !== 4 || !equal(spi, cookies(sa))) return sa.host.count('messages-dropped');
  const sequence = readU32be(data);
  if (sa.peerProbe !== undefined && (sequence - sa.peerProbe) >>> 0 > 0x7fffffff) return;
  sa.peerProbe = sequence;
  const answer = sa.writeInformational([notify(sa, NOTIFY['R-U-THERE-ACK'], data)]);
  sa.lastProbe = { bytes, answer };
  sa.transmit(answer, sa.path);
}

/** The peer answers: that it was authentic is all that is wanted, and that has been noted. */
export function hearAck(sa: IsakmpSa, { data }: PayloadOf<'Notify'>): void {
  sa.report('notify-received', `the peer is there (R-U-THERE-ACK ${data.length === 4 ? readU32be(data) : ''})`, {
    notify: 'R-U-THERE-ACK',
  });
}
