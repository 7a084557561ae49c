/**
 * What the engine would do with a packet that was never sent, and why (RFC 4301 §5.1, §5.2): the look-ups of `decisions.ts` and of the packet path,
 * told step by step. It changes nothing and counts nothing.
 */

import { showPolicySelector, showTemplate, type Template } from '../ipsec/policy.ts';
import { showEndpoint } from '../net/address.ts';
import { IPV6, IpPacket } from '../net/ip-packet.ts';
import { hasTypes } from '../net/message-types.ts';
import { lackOf } from './acquire.ts';
import type { Core } from './core.ts';
import {
  aboutClear,
  admits,
  clearVerdict,
  couldAdmit,
  decideOutbound,
  findBundle,
  isForTransport,
  isOptional,
  isSpent,
  isUsable,
  needsWhole,
} from './decisions.ts';
import { DROP, type DropName, dropName } from './drops.ts';
import { type Fragments, WAITS, WHOLE } from './fragments.ts';
import { holds } from './matcher.ts';
import { headersRefusal } from './outbound-bundles.ts';
import type { Sa } from './sa.ts';
import type { SpdEntry } from './spd.ts';
import { showSpi } from './status.ts';

/**
 * `protected`: it leaves through SAs; `clear`: it leaves as it is; `waits`: it is kept until key management has made the SA, or until the fragments of
 * its packet are there; `delivered`: it goes to the host; `dropped`: and why is in `drop`.
 */
export type Fate = 'protected' | 'clear' | 'waits' | 'delivered' | 'dropped';

export interface Explanation {
  readonly direction: 'outbound' | 'inbound';
  /** The packet as it was understood. */
  readonly packet: string;
  /** What was looked at, in order, a sentence each. */
  readonly steps: readonly string[];
  readonly fate: Fate;
  readonly drop: DropName | undefined;
  /** The policy that decides. */
  readonly policy: { readonly id: number; readonly selector: string; readonly action: string } | undefined;
  /** What it goes through, innermost first, or came through, outermost first. */
  readonly sas: readonly { readonly spi: string; readonly protocol: string; readonly mode: string; readonly path: string }[];
}

/** An IP packet that a program here sends, or that is forwarded. */
export function explainOutbound(core: Core, bytes: Uint8Array): Explanation {
  const told = new Telling('outbound', bytes);
  const { packet } = told;
  if (!told.isPacket) return told.dropped(DROP.malformed, 'it is no IP packet, or shorter than its headers say');
  const spent = new Set<Sa>();
  let decision = decideOutbound(core, packet, spent);
  for (let end = endOf(decision); end !== undefined; end = endOf(decision)) {
    told.step(`${saText(end)} has reached a hard limit: it ends here, and another is looked for`);
    spent.add(end);
    decision = decideOutbound(core, packet, spent);
  }
  if (packet.fragment && needsWhole(core, packet, decision))
    return explainFragment(told, core.fragments.outbound, 0, bytes, (whole) => explainOutbound(core, whole));
  const { entry, sa, bundle } = decision;
  if (!told.decidedBy(core, 'outbound', entry)) {
    if (core.unmatched === 'discard') return told.dropped(DROP.unmatched, 'what no policy matches is discarded');
    return told.ends('clear', 'what no policy matches is bypassed: it leaves in clear');
  }
  if (entry.policy.action === 'discard') return told.dropped(DROP.discard, 'the policy discards it');
  if (entry.policy.action === 'bypass') return told.ends('clear', 'the policy bypasses it: it leaves in clear');
  const sas = bundle ?? (sa === undefined ? [] : [sa]);
  if (sas.length === 0) return explainWait(core, told, entry, spent);
  for (const one of sas) told.through(one);
  const refusal = sa !== undefined ? refusalOfEsp(core, sa, bytes, packet) : refusalOfBundle(core, sas, bytes, packet);
  if (refusal === DROP.notForTransport)
    return told.dropped(
      refusal,
      'transport mode cannot carry a packet with these headers (options), or AH cannot authenticate them',
    );
  if (refusal !== DROP.none) return told.dropped(refusal, 'the cipher does not have the algorithms of the SA');
  return told.ends('protected', `it leaves by ${pathText(sas.at(-1)!)}`);

  function endOf({ sa, bundle }: typeof decision): Sa | undefined {
    return (bundle ?? (sa === undefined ? [] : [sa])).find((one) => !isUsable(one, 1));
  }
}

/** An IP packet that comes from outside: in clear, or through these SAs, outermost first. */
export function explainInbound(core: Core, bytes: Uint8Array, through: readonly Sa[]): Explanation {
  const told = new Telling('inbound', bytes);
  const { packet } = told;
  for (const sa of through) {
    told.through(sa);
    if (isSpent(sa)) return told.dropped(DROP.noSa, `${saText(sa)} has reached a hard limit`);
    if (!core.sad.canRun(sa)) return told.dropped(DROP.cipherFailed, 'the cipher does not have the algorithms of the SA');
  }
  if (!told.isPacket)
    return told.dropped(
      through.length === 0 ? DROP.malformed : DROP.badInner,
      'it is no IP packet, or shorter than its headers say',
    );
  if (through.length > 0) {
    if (!holds(through.at(-1)!.parameters.selectors, packet)) told.step('the selectors of the SA do not hold it');
    const entry = admits(core.spd, through, packet);
    const [sa, ...others] = through;
    const isAlone = others.length === 0 && sa!.parameters.mode !== 'transport' && sa!.parameters.protocol === 'esp';
    if (entry === undefined && packet.fragment && isAlone && couldAdmit(core.spd, sa!, packet)) {
      const { inbound } = core.fragments;
      return explainFragment(told, inbound, sa!.serial, bytes, (whole) => explainInbound(core, whole, through));
    }
    if (!told.decidedBy(core, 'inbound', entry))
      return told.dropped(DROP.policyMismatch, 'no inbound policy that asks for these SAs and no others is about it');
    return told.ends('delivered', 'it is what its SAs and policy admit: it goes to the host');
  }
  told.step('it comes in clear');
  const entry = aboutClear(core.spd, packet);
  told.decidedBy(core, 'inbound', entry);
  const verdict = clearVerdict(entry, core.unmatched);
  if (verdict === DROP.clearText) return told.dropped(verdict, 'the policy demands protection');
  if (verdict === DROP.discard) return told.dropped(verdict, 'the policy discards it');
  if (verdict !== DROP.none) return told.dropped(verdict, 'what no policy matches is discarded');
  return told.ends('delivered', 'it may pass');
}

/** RFC 4301 §7: what its packet is about is known once that is whole. */
function explainFragment(
  told: Telling,
  fragments: Fragments,
  scope: number,
  bytes: Uint8Array,
  explainWhole: (whole: Uint8Array) => Explanation,
): Explanation {
  const { outcome, whole } = fragments.prospect(bytes, told.packet, scope);
  told.step('it is a fragment, and what its packet is about, or what carries it, depends on the whole');
  if (outcome === WAITS) return told.ends('waits', 'it waits for the others');
  if (outcome !== WHOLE) return told.dropped(outcome, 'it cannot be put together with others');
  told.step('it is the last that its packet wanted');
  const explained = explainWhole(whole);
  return { ...explained, steps: [...told.steps, ...explained.steps] };
}

/** SAs that one trace tells of. */
const MOST_SAS = 16;

/**
 * What `tanuki trace` shows: what is done to the packet on its way out; or, inbound, in clear and through each SA that could carry it, those that deliver
 * it first.
 */
export function trace(core: Core, bytes: Uint8Array, direction: Explanation['direction']): readonly Explanation[] {
  if (direction === 'outbound') return [explainOutbound(core, bytes)];
  const packet = new IpPacket(bytes);
  const carriers = packet.read(0, bytes.length) ? [...core.sad.all].filter((sa) => couldCarry(sa, packet)) : [];
  const through = carriers.map((sa) => explainInbound(core, bytes, [sa]));
  const [delivered, refused] = [true, false].map((is) => through.filter(({ fate }) => (fate === 'delivered') === is));
  return [explainInbound(core, bytes, []), ...delivered!, ...refused!].slice(0, MOST_SAS + 1);
}

/** In transport mode the packet has the SA's own ends. */
function couldCarry(sa: Sa, packet: IpPacket): boolean {
  const { source, destination, mode } = sa.parameters;
  if (sa.direction === 'outbound' || !holds(sa.parameters.selectors, packet)) return false;
  return mode !== 'transport' || (source.equals(packet.sourceAddress()) && destination.equals(packet.destinationAddress()));
}

/** RFC 4301 §5.1 step 3c: there is no SA. */
function explainWait(core: Core, told: Telling, entry: SpdEntry, spent: ReadonlySet<Sa>): Explanation {
  const { packet } = told;
  const wanted: readonly Template[] = entry.isBundle
    ? findBundle(core.sad, entry, packet, spent).missing
    : entry.policy.templates.filter((template) => !isOptional(core.sad, template));
  const [template] = wanted;
  if (template === undefined)
    return told.ends(
      'clear',
      'the policy only uses SAs where they are there: key management is asked, and it leaves in clear meanwhile',
    );
  const held = core.sad.heldOutbound(template);
  if (held === undefined) told.step(`there is no SA for ${showTemplate(template)}`);
  else told.step(`${saText(held)} is on hold: key management is about to replace it, or lets it go`);
  const { asked, refusal } = core.acquires.prospect(entry, template, packet, lackOf(core.sad, template));
  if (refusal === DROP.acquireFailed) return told.dropped(refusal, 'key management refused to make one a moment ago');
  if (refusal !== DROP.none) return told.dropped(refusal, 'too many packets wait for SAs');
  return told.ends(
    'waits',
    asked ? 'key management was asked for one already: it waits' : 'key management is asked for one: it waits',
  );
}

function refusalOfEsp(core: Core, sa: Sa, bytes: Uint8Array, packet: IpPacket): number {
  const nextHeader = packet.family === 4 ? packet.protocol : bytes[packet.at + IPV6.nextHeader]!;
  if (!sa.tunnel && sa.inner === undefined && !isForTransport(packet, nextHeader)) return DROP.notForTransport;
  return core.sad.canRun(sa) ? DROP.none : DROP.cipherFailed;
}

function refusalOfBundle(core: Core, sas: readonly Sa[], bytes: Uint8Array, packet: IpPacket): number {
  const refusal = headersRefusal(sas, bytes, packet);
  if (refusal !== DROP.none) return refusal;
  return sas.every((sa) => core.sad.canRun(sa)) ? DROP.none : DROP.cipherFailed;
}

/** The steps of one packet, and its end. */
class Telling {
  readonly packet: IpPacket;
  readonly isPacket: boolean;
  readonly #direction: Explanation['direction'];
  readonly steps: string[] = [];
  readonly #sas: Explanation['sas'][number][] = [];
  #policy: Explanation['policy'];

  constructor(direction: Explanation['direction'], bytes: Uint8Array) {
    this.#direction = direction;
    this.packet = new IpPacket(bytes);
    this.isPacket = this.packet.read(0, bytes.length);
  }

  step(sentence: string): void {
    this.steps.push(sentence);
  }

  through(sa: Sa): void {
    const { protocol, mode } = sa.parameters;
    this.#sas.push({ spi: showSpi(sa.spi), protocol, mode, path: pathText(sa) });
    this.step(`${this.#direction === 'outbound' ? 'it goes' : 'it comes'} through ${saText(sa)}`);
  }

  decidedBy(core: Core, direction: Explanation['direction'], entry: SpdEntry | undefined): entry is SpdEntry {
    if (entry === undefined) {
      const tried = core.spd.ordered(direction).length + (direction === 'inbound' ? core.spd.ordered('forward').length : 0);
      this.step(`none of ${tried} ${direction} policies is about it`);
      return false;
    }
    const { id, selector, action, priority, templates } = entry.policy;
    this.#policy = { id, selector: showPolicySelector(selector), action };
    const asks = templates.length === 0 ? '' : ` ${templates.map(showTemplate).join(' ')}`;
    this.step(`policy ${id} (priority ${priority}) is about it: ${this.#policy.selector}: ${action}${asks}`);
    return true;
  }

  dropped(reason: number, sentence: string): Explanation {
    return this.#end('dropped', `${sentence} (${dropName(reason)})`, dropName(reason));
  }

  ends(fate: Fate, sentence: string): Explanation {
    return this.#end(fate, sentence, undefined);
  }

  #end(fate: Fate, sentence: string, drop: DropName | undefined): Explanation {
    this.step(sentence);
    const packet = this.isPacket ? packetText(this.packet) : 'no IP packet';
    return { direction: this.#direction, packet, steps: this.steps, fate, drop, policy: this.#policy, sas: this.#sas };
  }
}

function saText({ spi, state, parameters }: Sa): string {
  const { protocol, mode, source, destination, reqid } = parameters;
  return `SA ${showSpi(spi)} (${protocol} ${mode}, ${source} -> ${destination}, reqid ${reqid}, ${state})`;
}

/** What carries its packets: `UDP 192.0.2.1[4500] -> 192.0.2.2[4500]`. */
function pathText({ parameters: { protocol, source, destination, encapsulation } }: Sa): string {
  if (encapsulation === undefined) return `${protocol} ${source} -> ${destination}`;
  return `UDP ${showEndpoint(encapsulation.source)} -> ${showEndpoint(encapsulation.destination)}`;
}

function packetText(packet: IpPacket): string {
  const { protocol, fragment, bytes, sourcePort, destinationPort } = packet;
  const part = (name: string, value: number) => (value < 0 ? '' : ` ${name} ${value}`);
  const ports = hasTypes(protocol)
    ? part('type', sourcePort) + part('code', destinationPort)
    : part('port', sourcePort) + part('->', destinationPort);
  const ends = `${packet.sourceAddress()} -> ${packet.destinationAddress()}`;
  return `${ends} protocol ${protocol}${ports}${fragment ? ', a fragment' : ''}, ${bytes} octets`;
}
