/**
 * The Quick Mode exchange on top of `src/isakmp/quick-mode.ts`, both roles (RFC 2409 §5.5).
 *
 * No packet is lost when the halves are installed the right way round. The responder installs its inbound SA before message 2 leaves, so the
 * initiator may use the new pair as soon as it has that message; the initiator has both SAs in before message 3 leaves, and only message 3
 * (or a DELETE for the pair that is replaced, which says the same) makes the responder send on the new pair. Until then it sends on the old
 * one and repeats message 2; the initiator answers each repetition with message 3 again.
 */

import { equal } from '../../src/bytes/bytes.ts';
import { checkPublicValue, generate, type KeyShare } from '../../src/crypto/dh.ts';
import type { KeName } from '../../src/crypto/transforms.ts';
import { PeerError } from '../../src/errors.ts';
import type { Mode, NamedSa } from '../../src/ipsec/sa.ts';
import type { TrafficSelector } from '../../src/ipsec/selector.ts';
import type { ClientSelectors } from '../../src/isakmp/client-ids.ts';
import { idOf } from '../../src/isakmp/client-ids.ts';
import { ID_TYPE } from '../../src/isakmp/doi.ts';
import { saKeys } from '../../src/isakmp/keymat.ts';
import { all, find, type Payload } from '../../src/isakmp/payloads.ts';
import { answerOffer, buildOffer, concludeOffer, responderLifetime, withResponderLifetime } from '../../src/isakmp/quick-mode.ts';
import { checkKe } from '../../src/isakmp/rules.ts';
import { leadOf } from '../../src/isakmp/terms.ts';
import type { ChildPolicy } from '../../src/keying/child-policy.ts';
import { ipsecOf, type PolicyChoice, type PolicyTerms, sasOf } from '../../src/keying/terms.ts';
import type { IpAddress, Path } from '../../src/net/address.ts';
import type { IsakmpSa, Task } from './isakmp-sa.ts';
import { HASH_1, HASH_2, HASH_3, keymatPrf } from './keys.ts';
import { EXCHANGE, type OpenedMessage, octetsAfterHash } from './message.ts';
import { QuickModePair, twinsOf } from './pair.ts';
import { checkAnswered, choosePolicy, type QuickModeChoice, termsFor, trafficFor } from './quick-mode-choice.ts';
import { checkRules } from './rules.ts';
import { Turn } from './turn.ts';

export type CreateTask = Task & { readonly kind: 'create-child' | 'rekey-child' };

/** How far an exchange is. */
export type Step =
  | { readonly name: 'awaiting-message-2'; readonly offered: Offered }
  /** The pair is on its way into the datapath; `next` is what then leaves. */
  | { readonly name: 'installing'; readonly pair: QuickModePair; readonly next: Uint8Array }
  | { readonly name: 'awaiting-message-3'; readonly pair: QuickModePair }
  /** Over: kept so that a repetition is answered again. */
  | { readonly name: 'over' };

export interface QuickMode {
  readonly messageId: number;
  readonly initiator: boolean;
  readonly turn: Turn;
  /** `mono` of its first message. */
  readonly begun: number;
  iv: Uint8Array;
  step: Step;
  /** The nonces, once both are known. */
  nonces: { readonly Ni_b: Uint8Array; readonly Nr_b: Uint8Array } | undefined;
  /** SAs of unknown pairs that the peer deleted since: those that message 2 brings may be among them. */
  readonly deleted: NamedSa[];
}

/** What an initiator put into message 1. */
export interface Offered {
  readonly task: CreateTask;
  readonly policy: ChildPolicy;
  readonly terms: PolicyTerms;
  readonly traffic: ClientSelectors;
  readonly spi: number;
  readonly Ni_b: Uint8Array;
  readonly share: KeyShare | undefined;
}

/** A message 1 of the peer's that waits for an SPI. */
export interface ParkedQuickMode {
  readonly message: OpenedMessage;
  readonly bytes: Uint8Array;
  readonly path: Path;
  readonly generation: number;
}

/** What a responder decided to do, before anything has changed. */
export interface QuickModePlan extends QuickModeChoice {
  readonly Ni_b: Uint8Array;
  /** The public value of the peer's KE payload. */
  readonly g_xi: Uint8Array | undefined;
}

// The initiator.

/** HDR*, HASH(1), SA, Ni, [KE], IDci, IDcr, [NAT-OAi, NAT-OAr]. Throws PeerError where the policy cannot be said in Quick Mode. */
export function requestQuickMode(sa: IsakmpSa, task: CreateTask, spi: number): QuickMode {
  const { host } = sa;
  const { ikev1 } = sa.peer!;
  const old = task.kind === 'rekey-child' ? task.child : undefined;
  const named = old?.policy.name ?? (task.kind === 'create-child' ? task.demand.policy.name : '');
  const policy = host.peers.child(named) ?? old?.policy ?? (task as Task & { kind: 'create-child' }).demand.policy;
  const traffic = old === undefined ? trafficFor(sa, policy, task) : { IDci: old.agreed.local[0]!, IDcr: old.agreed.peer[0]! };
  const terms = termsFor(sa, policy);
  const offer = buildOffer(terms, host.spisWith(spi));
  const share = terms.group === undefined ? undefined : generate(terms.group, host.random, host.engine);
  const Ni_b = host.random(ikev1.nonceBytes);
  const messageId = sa.newMessageId();
  const payloads: Payload[] = [
    offer,
    { type: 'Nonce', data: Ni_b },
    ...(share === undefined ? [] : [{ type: 'KE', data: share.publicValue } as const]),
    idOf(traffic.IDci),
    idOf(traffic.IDcr),
    ...originalAddresses(terms, sa.path.local.address, sa.path.remote.address),
  ];
  const hash = HASH_1(sa.prf, sa.keys.SKEYID_a, messageId, octetsAfterHash(payloads));
  const exchange: QuickMode = {
    messageId,
    initiator: true,
    turn: new Turn(),
    begun: host.now.mono,
    iv: sa.phase2Iv(messageId),
    step: { name: 'awaiting-message-2', offered: { task, policy, terms, traffic, spi, Ni_b, share } },
    nonces: undefined,
    deleted: [],
  };
  sa.remember(exchange);
  const bytes = seal(sa, exchange, hash, payloads);
  exchange.turn.ask(bytes, host.now.mono, sa.retry, host.random);
  sa.transmit(bytes, sa.path);
  return exchange;
}

/** What message 2 says: the pair, on its way into the datapath. Throws PeerError; nothing has changed then. */
export function concludeQuickMode(sa: IsakmpSa, exchange: QuickMode, offered: Offered, message: OpenedMessage): QuickModePair {
  const { payloads } = message;
  const { policy, terms, traffic, spi, Ni_b, share } = offered;
  checkRules('Quick Mode 2', true, payloads);
  const choice = withResponderLifetime(concludeOffer(terms, find(payloads, 'SA')!), payloads);
  checkAnswered(sa, traffic, payloads);
  const g_xr = checkKe('Quick Mode, message 2', choice.group, payloads);
  const g_qm_xy = share === undefined || g_xr === undefined ? undefined : share.agree(g_xr);
  const Nr_b = find(payloads, 'Nonce')!.data;
  share?.wipe();

  exchange.iv = message.lastBlock;
  exchange.nonces = { Ni_b, Nr_b };
  const pair = makePair(sa, exchange, {
    policy,
    choice,
    local: traffic.IDci,
    peer: traffic.IDcr,
    mode: choice.mode,
    spi,
    g_qm_xy,
  });
  g_qm_xy?.wipe();
  if (offered.task.kind === 'create-child') pair.demand = offered.task.demand;
  const next = seal(sa, exchange, HASH_3(sa.prf, sa.keys.SKEYID_a, exchange.messageId, Ni_b, Nr_b), []);
  exchange.step = { name: 'installing', pair, next };
  // The responder may take ESP from message 3 on, which our own ESP must not overtake: what is replaced carries the traffic until then, or it waits.
  const carried = twinsOf(pair).some((twin) => twin.confirmed && !twin.superseded) || sa.host.isOnHold(policy);
  if (carried) pair.outboundState = 'held';
  sa.host.install(pair, !carried);
  return pair;
}

// The responder.

/** What may be had of what the peer asks for. Throws PeerError. */
export function planQuickMode(sa: IsakmpSa, { payloads }: OpenedMessage): QuickModePlan {
  checkRules('Quick Mode 1', true, payloads);
  const choice = choosePolicy(sa, payloads);
  const g_xi = checkKe('Quick Mode, message 1', choice.choice.group, payloads);
  checkPublic(choice.choice.group, g_xi);
  return { ...choice, Ni_b: find(payloads, 'Nonce')!.data, g_xi };
}

function checkPublic(group: KeName | undefined, value: Uint8Array | undefined): void {
  if (group === undefined || value === undefined) return;
  const invalid = checkPublicValue(group, value);
  if (invalid !== undefined) throw new PeerError('INVALID-KEY-INFORMATION', `KE payload of Quick Mode: ${invalid}`);
}

/** HDR*, HASH(2), SA, Nr, [KE], [IDci, IDcr], [N(RESPONDER-LIFETIME)], [NAT-OAi, NAT-OAr]: ready, and sent once the inbound SA is in. */
export function commitQuickMode(
  sa: IsakmpSa,
  exchange: QuickMode,
  plan: QuickModePlan,
  message: OpenedMessage,
  spi: number,
): void {
  const { host } = sa;
  const { choice, Ni_b, g_xi, terms } = plan;
  const spis = host.spisWith(spi);
  const share = choice.group === undefined ? undefined : generate(choice.group, host.random, host.engine);
  const g_qm_xy = share === undefined || g_xi === undefined ? undefined : share.agree(g_xi);
  const Nr_b = host.random(sa.peer!.ikev1.nonceBytes);
  exchange.iv = message.lastBlock;
  exchange.nonces = { Ni_b, Nr_b };
  const pair = makePair(sa, exchange, { ...plan, mode: choice.mode, spi, g_qm_xy });
  const payloads: Payload[] = [
    answerOffer(choice, spis),
    { type: 'Nonce', data: Nr_b },
    ...(share === undefined ? [] : [{ type: 'KE', data: share.publicValue } as const]),
    ...all(message.payloads, 'ID'),
    ...(choice.shortened ? [responderLifetime(choice, spis)] : []),
    ...originalAddresses(terms, sa.path.remote.address, sa.path.local.address),
  ];
  share?.wipe();
  g_qm_xy?.wipe();
  const hash = HASH_2(sa.prf, sa.keys.SKEYID_a, exchange.messageId, Ni_b, octetsAfterHash(payloads));
  exchange.step = { name: 'installing', pair, next: seal(sa, exchange, hash, payloads) };
  pair.outboundState = 'held';
  host.install(pair, false);
}

/** Whether HASH(3) is right: then the initiator has the pair. */
export function verifyMessage3(sa: IsakmpSa, { messageId, nonces }: QuickMode, { payloads }: OpenedMessage): boolean {
  const { Ni_b, Nr_b } = nonces!;
  return equal(HASH_3(sa.prf, sa.keys.SKEYID_a, messageId, Ni_b, Nr_b), find(payloads, 'HASH')?.data ?? new Uint8Array(0));
}

// Both.

interface Making {
  readonly policy: ChildPolicy;
  readonly choice: PolicyChoice;
  readonly mode: Mode;
  readonly local: TrafficSelector;
  readonly peer: TrafficSelector;
  /** Ours. */
  readonly spi: number;
  readonly g_qm_xy: { reveal(): Uint8Array } | undefined;
}

function makePair(sa: IsakmpSa, exchange: QuickMode, { policy, choice, mode, local, peer, spi, g_qm_xy }: Making): QuickModePair {
  const { Ni_b, Nr_b } = exchange.nonces!;
  const prf = keymatPrf(sa.prf, sa.keys.SKEYID_d);
  const input = { g_qm_xy: g_qm_xy?.reveal(), Ni_b, Nr_b };
  const pair = new QuickModePair(
    {
      policy,
      mode,
      ipsec: ipsecOf(choice),
      ...sasOf(choice, sa.host.spisWith(spi), (...one) => saKeys(prf, input, ...one)),
      local: [local],
      peer: [peer],
      initiator: exchange.initiator,
      Ni_b,
      Nr_b,
    },
    { ...leadOf(choice).suite, extendedSequence: false },
    sa,
    sa.host.pathOfPair(sa, policy, mode),
    exchange.begun,
  );
  sa.children.push(pair);
  sa.timers.clear('grace');
  return pair;
}

/** Seals a message of the exchange, whose IV goes on from it. */
function seal(sa: IsakmpSa, exchange: QuickMode, hash: Uint8Array, payloads: readonly Payload[]): Uint8Array {
  const all: Payload[] = [{ type: 'HASH', data: hash }, ...payloads];
  const { bytes, lastBlock } = sa.writePhase2(EXCHANGE['Quick Mode'], exchange.messageId, all, exchange.iv);
  exchange.iv = lastBlock;
  return bytes;
}

/** RFC 3947 §5.2: with UDP-encapsulated transport mode both ends say what they take the two addresses for. */
function originalAddresses({ mode, encapsulated }: PolicyTerms, initiator: IpAddress, responder: IpAddress): Payload[] {
  if (mode !== 'transport' || !encapsulated) return [];
  return [initiator, responder].map((address) => ({
    type: 'NAT-OA',
    idType: address.family === 4 ? ID_TYPE.IPV4_ADDR : ID_TYPE.IPV6_ADDR,
    data: address.bytes,
  }));
}
