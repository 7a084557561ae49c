/** The ACQUIREs of the kernel that no SA has answered yet (RFC 2367 §3.1.6): it asks once, and a key daemon may register later. */

import type { SaParameters } from '../ipsec/sa.ts';
import { hostAddress, satypeOf } from '../pfkey/convert.ts';
import { type SadbMessage, sadb } from '../pfkey/message.ts';
import { IPSEC_DIR, IPSEC_POLICY } from '../pfkey/registry.ts';
import type { XfrmAcquire } from '../runtime/netlink/xfrm-policy.ts';
import type { XfrmSaInfo } from '../runtime/netlink/xfrm-sa.ts';
import type { KernelPolicy } from './policy-table.ts';

/** More are told once, and not again. */
const MOST = 1024;

interface Open {
  readonly message: SadbMessage;
  readonly reqid: number;
  readonly acquire: XfrmAcquire;
}

export class Acquires {
  /** By their seq. */
  readonly #open = new Map<number, Open>();
  /** How many there were. */
  count = 0;

  /** What is told of a new one. */
  add(acquire: XfrmAcquire, { kmAddress }: KernelPolicy): SadbMessage {
    const { seq, protocol, policy } = acquire;
    const message = sadb('ACQUIRE', {
      seq,
      satype: satypeOf(protocol),
      source: hostAddress(acquire.source),
      destination: hostAddress(acquire.destination),
      policy: { type: IPSEC_POLICY.IPSEC, direction: IPSEC_DIR.OUTBOUND, id: policy.id, priority: policy.priority, requests: [] },
      proposal: { replay: 0, combs: [] },
      kmAddress,
    });
    this.count++;
    if (this.#open.size < MOST) this.#open.set(seq, { message, reqid: policy.templates[0]?.reqid ?? 0, acquire });
    return message;
  }

  get messages(): SadbMessage[] {
    return [...this.#open.values()].map(({ message }) => message);
  }

  /** The key daemon will make no SA. */
  refused(seq: number): void {
    this.#open.delete(seq);
  }

  /** An outbound SA is there. */
  answered({ reqid, protocol }: SaParameters): void {
    for (const [seq, one] of this.#open) if (one.reqid === reqid && one.acquire.protocol === protocol) this.#open.delete(seq);
  }

  /** The kernel waits for no SA any more, and will ask again. */
  expired({ reqid, protocol, destination }: XfrmSaInfo): void {
    const isMeant = ({ acquire, ...one }: Open) =>
      one.reqid === reqid && acquire.protocol === protocol && acquire.destination.equals(destination);
    const [seq] = [...this.#open].find(([, one]) => isMeant(one)) ?? [];
    if (seq !== undefined) this.#open.delete(seq);
  }
}
