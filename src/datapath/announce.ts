/** The engine's state and effects as PF_KEY messages: answers about SAs and policies, ACQUIRE, EXPIRE, new mappings (RFC 2367 §3.1). */

import { never } from '../errors.ts';
import { hostAddress, modeNumber, saToSadb, satypeOf, toSadbLifetime } from '../pfkey/convert.ts';
import { policyToSadb } from '../pfkey/convert-policy.ts';
import { type SadbLifetime, type SadbMessage, type SadbSa, sadb } from '../pfkey/message.ts';
import { IPSEC_DIR, IPSEC_POLICY, SADB_SASTATE, type SadbType } from '../pfkey/registry.ts';
import type { Effect } from './effects.ts';
import type { Larval, Sa } from './sa.ts';
import type { SpdEntry } from './spd.ts';

const STATE: Readonly<Record<Sa['state'], number>> = {
  mature: SADB_SASTATE.MATURE,
  dying: SADB_SASTATE.DYING,
  dead: SADB_SASTATE.DEAD,
};

/** An SA with its counters. `keys` false leaves them out: those of an SA that is gone are wiped. */
export function saMessage(type: SadbType, sa: Sa, keys = true): SadbMessage {
  return saToSadb(type, sa.parameters, {
    state: STATE[sa.state],
    current: currentOf(sa),
    sequenceState: { outbound: sa.sequence + 1, inbound: sa.window.top },
    keys,
  });
}

/** An SPI that is set aside, or an ACQUIRE that is open (SPI 0). */
export function larvalMessage(type: SadbType, larval: Larval, state: number = SADB_SASTATE.LARVAL): SadbMessage {
  const seconds = Math.round((larval.expiresAt - larval.born.mono) / 1000);
  return sadb(type, {
    seq: larval.seq,
    satype: satypeOf(larval.protocol),
    sa: { ...NO_SA, spi: larval.spi, state },
    lifetimeHard: toSadbLifetime({ seconds, bytes: 0, packets: 0 }),
    lifetimeSoft: toSadbLifetime({ seconds: 0, bytes: 0, packets: 0 }),
    lifetimeCurrent: { allocations: 0, bytes: 0, addtime: epoch(larval.born.wall), usetime: 0 },
    source: hostAddress(larval.source),
    destination: hostAddress(larval.destination),
    sa2: { mode: modeNumber(larval.mode), sequence: 0, reqid: larval.reqid },
  });
}

/** An SPD entry; CURRENT counts the packets that it decided about. */
export function policyMessage(type: SadbType, { policy, kmAddress, hits, added, lastHit, expiresAt }: SpdEntry): SadbMessage {
  const seconds = expiresAt === Number.POSITIVE_INFINITY ? 0 : Math.ceil((expiresAt - added.mono) / 1000);
  const current = { allocations: hits, bytes: 0, addtime: epoch(added.wall), usetime: epoch(lastHit) };
  return { ...policyToSadb(type, policy, seconds, current), kmAddress };
}

/** What an effect says to those who registered. */
export function announce(effect: Effect): SadbMessage {
  switch (effect.kind) {
    case 'acquire':
      return acquireMessage(effect);
    case 'expire':
      return expireMessage(effect.sa, effect.hard);
    case 'larval-expired':
      return { ...larvalMessage('EXPIRE', effect.larval, SADB_SASTATE.DEAD), lifetimeSoft: undefined, seq: 0 };
    case 'new-mapping':
      return sadb('X_NAT_T_NEW_MAPPING', {
        satype: satypeOf(effect.sa.parameters.protocol),
        sa: { ...NO_SA, spi: effect.sa.spi },
        source: hostAddress(effect.before.address),
        nattSourcePort: effect.before.port,
        destination: hostAddress(effect.now.address),
        nattDestinationPort: effect.now.port,
      });
    default:
      return never(effect);
  }
}

/** The addresses are those that the SA is to have: the tunnel's, or where it names none the packet's. */
function acquireMessage({
  seq,
  policy,
  kmAddress,
  template,
  trigger,
  packet,
}: Extract<Effect, { kind: 'acquire' }>): SadbMessage {
  const ends = template.endpoints;
  const end = (of: 'source' | 'destination') => (ends === undefined || ends[of].isUnspecified ? trigger[of] : ends[of]);
  return sadb('ACQUIRE', {
    seq,
    satype: satypeOf(template.protocol),
    source: hostAddress(end('source')),
    destination: hostAddress(end('destination')),
    policy: { type: IPSEC_POLICY.IPSEC, direction: IPSEC_DIR.OUTBOUND, id: policy.id, priority: policy.priority, requests: [] },
    proposal: { replay: 0, combs: [] },
    kmAddress,
    packet,
  });
}

function expireMessage(sa: Sa, hard: boolean): SadbMessage {
  const message = saMessage('EXPIRE', sa, false);
  return {
    ...message,
    sa: { ...message.sa!, state: hard ? SADB_SASTATE.DEAD : SADB_SASTATE.DYING },
    lifetimeHard: hard ? message.lifetimeHard : undefined,
    lifetimeSoft: hard ? undefined : message.lifetimeSoft,
    saSelectors: undefined,
  };
}

const NO_SA: SadbSa = { spi: 0, replay: 0, state: 0, auth: 0, encrypt: 0, flags: 0 };

export function currentOf(sa: Sa): SadbLifetime {
  return { allocations: sa.packets, bytes: sa.bytes, addtime: epoch(sa.born.wall), usetime: epoch(sa.firstUse) };
}

/** Seconds since 1970 of `wall` milliseconds. */
function epoch(wall: number): number {
  return Math.floor(wall / 1000);
}
