/** SADB_ACQUIRE: the datapath has a packet and no SA. spmd says which selector the policy is, then the child is wanted (RFC 2367 §3.1.6). */

import { earliest, type Instant } from '../src/machine.ts';
import type { SadbMessage } from '../src/pfkey/message.ts';
import { ERRNO } from '../src/pfkey/registry.ts';
import type { Owner } from './host.ts';
import { coversPacket } from './ikev2/narrowing.ts';
import { selectorsOfPacket } from './trigger.ts';

/** spmd answers within this, or an ACQUIRE is refused. Milliseconds. */
const SLID_MS = 5_000;
/** An ACQUIRE that meets a child younger than this was overtaken by it. Milliseconds. */
const JUST_MADE_MS = 2_000;
/** ACQUIREs that wait for spmd. */
const MOST_SLIDS = 256;

interface Slid {
  readonly message: SadbMessage;
  readonly deadline: number;
}

export class Acquires {
  readonly #owner: Owner;
  /** By the id of the question to spmd. */
  readonly #slids = new Map<number, Slid>();
  #nextId = 1;

  constructor(owner: Owner) {
    this.#owner = owner;
  }

  /** It names a policy by number; spmd knows which selector that is. */
  asked(message: SadbMessage): void {
    const policyId = message.policy?.id;
    this.#owner.count('acquires');
    if (policyId === undefined || this.#slids.size >= MOST_SLIDS) return this.#refuse(message, ERRNO.EINVAL);
    const id = this.#nextId++;
    this.#slids.set(id, { message, deadline: this.#owner.now.mono + SLID_MS });
    this.#owner.emit({ kind: 'ask', id, question: { about: 'selector-of', policyId } });
  }

  passTime({ mono }: Instant): void {
    for (const [id, { deadline }] of [...this.#slids]) if (deadline <= mono) this.answered(id, undefined);
  }

  wakeAt(): number | undefined {
    return earliest(...[...this.#slids.values()].map(({ deadline }) => deadline));
  }

  /** The selector of the policy that an ACQUIRE is about; undefined: spmd has none, or is away. */
  answered(id: number, selector: string | undefined): void {
    const slid = this.#slids.get(id);
    if (slid === undefined) return;
    this.#slids.delete(id);
    const { message } = slid;
    const { peers, wanted, table, now } = this.#owner;
    const policyId = message.policy?.id;
    const policy = selector === undefined ? undefined : peers.child(selector);
    if (policy === undefined) {
      const what =
        selector === undefined
          ? 'spmd does not know the policy'
          : `selector ${selector} has no remote to negotiate with by IKEv2`;
      this.#owner.report('acquire-refused', `traffic of policy ${policyId} waits for an SA: ${what}`, { policyId });
      return this.#refuse(message, ERRNO.ENOENT);
    }
    wanted.resume(policy.name);
    if (!wanted.mayInitiate(policy)) {
      const why = `traffic of ${policy.name} waits for an SA, but remote ${policy.remote} is passive: the peer has to begin`;
      this.#owner.report('acquire-refused', why, { child: policy.name });
      return this.#refuse(message, ERRNO.EACCES);
    }
    const packet = message.packet === undefined ? undefined : selectorsOfPacket(message.packet);
    // It asked before it had what is there by now: the packet goes through that.
    const fresh = table.children().some((child) => {
      const { local, peer } = child.agreed;
      const takes = packet === undefined || coversPacket({ TSi: local, TSr: peer }, packet);
      return (
        child.policy.name === policy.name && child.usable && !child.superseded && takes && now.mono - child.since < JUST_MADE_MS
      );
    });
    if (fresh) return;
    const acquire = { seq: message.seq, satype: message.satype, packet };
    wanted.demand(policy, { acquire }, false, { local: message.source?.address, remote: message.destination?.address });
  }

  #refuse({ seq, satype }: SadbMessage, errno: number): void {
    this.#owner.asks.refuseAcquire(seq, satype, errno, this.#owner.now);
  }
}
