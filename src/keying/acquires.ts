/** SADB_ACQUIRE: the datapath has a packet and no SA. spmd says which selector the policy is, then the child is wanted (RFC 2367 §3.1.6). */

import { covers } from '../ipsec/selector-pair.ts';
import { earliest, type Instant } from '../machine.ts';
import type { SadbMessage } from '../pfkey/message.ts';
import { ERRNO } from '../pfkey/registry.ts';
import { endsOf } from './ends.ts';
import type { KeyHost } from './host.ts';
import { selectorsOfPacket } from './trigger.ts';
import type { Wanted } from './wanted.ts';

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
  readonly #host: KeyHost;
  readonly #wanted: Wanted;
  /** By the id of the question to spmd. */
  readonly #slids = new Map<number, Slid>();
  #nextId = 1;

  constructor(host: KeyHost, wanted: Wanted) {
    this.#host = host;
    this.#wanted = wanted;
  }

  /** It names a policy by number; spmd knows which selector that is. */
  asked(message: SadbMessage): void {
    const policyId = message.policy?.id;
    this.#host.count('acquires');
    if (policyId === undefined || this.#slids.size >= MOST_SLIDS) return this.#refuse(message, ERRNO.EINVAL);
    const id = this.#nextId++;
    this.#slids.set(id, { message, deadline: this.#host.now.mono + SLID_MS });
    this.#host.emit({ kind: 'ask', id, question: { about: 'selector-of', policyId } });
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
    const { policies, now } = this.#host;
    const policyId = message.policy?.id;
    const policy = selector === undefined ? undefined : policies.child(selector);
    if (policy === undefined) {
      const what =
        selector === undefined ? 'spmd does not know the policy' : `selector ${selector} has no remote to negotiate with`;
      this.#host.report('acquire-refused', `traffic of policy ${policyId} waits for an SA: ${what}`, { policyId });
      return this.#refuse(message, ERRNO.ENOENT);
    }
    const beginner = this.#host.beginner(policy);
    // A packet that waits since its old SA is on hold: a new pair is under way, whoever began.
    if (beginner === 'other' || this.#host.adoption.holds(policy, this.#host.now)) return;
    this.#wanted.resume(policy.name);
    if (beginner === 'peer') {
      const why = `traffic of ${policy.name} waits for an SA, but remote ${policy.remote} is passive: the peer has to begin`;
      this.#host.report('acquire-refused', why, { child: policy.name });
      return this.#refuse(message, ERRNO.EACCES);
    }
    const packet = message.packet === undefined ? undefined : selectorsOfPacket(message.packet);
    // It asked before it had what is there by now: the packet goes through that.
    const fresh = this.#host.pairs().some((child) => {
      const { local, peer } = child.agreed;
      const takes = packet === undefined || covers(packet, { TSi: local, TSr: peer });
      return (
        child.policy.name === policy.name && child.usable && !child.superseded && takes && now.mono - child.since < JUST_MADE_MS
      );
    });
    if (fresh) return;
    const acquire = { seq: message.seq, satype: message.satype, packet };
    const { source, destination, kmAddress } = message;
    const km = kmAddress === undefined ? undefined : endsOf(kmAddress.local, kmAddress.remote);
    this.#wanted.demand(policy, { acquire }, false, { local: source?.address, remote: destination?.address, km });
  }

  #refuse({ seq, satype }: SadbMessage, errno: number): void {
    this.#host.asks.refuseAcquire(seq, satype, errno, this.#host.now);
  }
}
