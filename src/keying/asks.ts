/** The questions a key daemon has for the datapath, and what their answers are for: PF_KEY requests about SPIs and SAs. Alone knows how each is put. */

import { type Ends, sameEnds } from '../ipsec/policy.ts';
import { type Mode, modeInBundle, type SaParameters, type SaProtocol, type Spis } from '../ipsec/sa.ts';
import type { Instant } from '../machine.ts';
import type { Endpoint, Path } from '../net/address.ts';
import { PfkeyClient, type PfkeyClientInput } from '../pfkey/client.ts';
import { addToSa, saIdTo, saStateTo, saToAdd, saToGetspi, saToUpdate } from '../pfkey/convert.ts';
import { type SadbMessage, sadb } from '../pfkey/message.ts';
import { errnoName, OPT_IN_ALL, SADB_SATYPE } from '../pfkey/registry.ts';
import { type ChildPolicy, protocolOf, protocolsOf } from './child-policy.ts';
import { between } from './ends.ts';
import type { SaPair } from './sa-pair.ts';

/** SPIs that we let the datapath choose from; 0 to 255 are reserved (RFC 4303 §2.1). */
const SPI_RANGE = { min: 0x100, max: 0x0fffffff } as const;

/** What an SPI is asked for: a negotiation with a peer, which may be over when the answer comes. */
export interface Asker {
  readonly closed: boolean;
}

/** Which CPIs are negotiated, RFC 3173 §3.3. */
const CPI_RANGE = { min: 0x100, max: 0xefff } as const;

/** The SAs that SPIs are for, one each. */
export interface SpiWish {
  /** The first is the one that their pair will be known by. */
  readonly protocols: readonly SaProtocol[];
  /** Of the innermost. */
  readonly mode: Mode;
  readonly reqid: number;
  /** Where its pair is to end. */
  readonly path: Path;
}

/** What a new pair of this policy needs. */
export function wishOf({ policy, reqid }: ChildPolicy, mode: Mode, path: Path): SpiWish {
  const first = protocolOf(policy);
  return { protocols: [first, ...protocolsOf(policy).filter((protocol) => protocol !== first)], mode, reqid, path };
}

/** What a PF_KEY request is for. */
type Purpose<S extends Asker, P extends SaPair> =
  /** An SPI for what a negotiation is about to request (`request`) or to answer (`response`). */
  | { readonly for: 'spi'; readonly sa: S; readonly role: 'request' | 'response'; readonly wish: SpiWish; readonly got: Spis }
  /** `sent` holds the keys until the datapath has them. */
  | { readonly for: 'install'; readonly child: P; readonly direction: 'inbound' | 'outbound'; readonly sent: SaParameters }
  | { readonly for: 'life'; readonly sa: S; readonly child: P }
  | { readonly for: 'idle'; readonly child: P }
  | { readonly for: 'nothing' };

/** What the datapath says, in the terms of the machine. */
export type Heard<S extends Asker, P extends SaPair> =
  | { readonly kind: 'spi'; readonly sa: S; readonly role: 'request' | 'response'; readonly spi: number | undefined }
  | { readonly kind: 'installed'; readonly child: P }
  | { readonly kind: 'refused'; readonly child: P; readonly why: string }
  /** Packets that an inbound SA has authenticated so far; undefined: it is not there. */
  | { readonly kind: 'counted'; readonly sa: S; readonly child: P; readonly packets: number | undefined }
  /** Packets that one of the two directions has carried; undefined: its SA is not there. */
  | { readonly kind: 'carried'; readonly child: P; readonly packets: number | undefined }
  | { readonly kind: 'acquire'; readonly message: SadbMessage }
  | { readonly kind: 'expire'; readonly message: SadbMessage }
  /** ESP of the peer's, authenticated, came from another address or port: its NAT has made a new mapping. */
  | { readonly kind: 'moved'; readonly spi: number; readonly remote: Endpoint }
  /** Somebody moved the ends of a policy and of its SAs. */
  | { readonly kind: 'migrate'; readonly message: SadbMessage }
  | { readonly kind: 'synchronised'; readonly sas: readonly SadbMessage[]; readonly policies: readonly SadbMessage[] }
  | { readonly kind: 'broken'; readonly why: string };

/** SPIs that were given out together, and where their pair is to end. */
interface Larval {
  readonly spis: Spis;
  readonly path: Path;
}

interface Drain {
  readonly at: number;
  readonly sa: Pick<SaParameters, 'spi' | 'protocol' | 'source' | 'destination'>;
}

/** The machine's end of PF_KEY. */
export class Asks<S extends Asker, P extends SaPair> {
  readonly #client: PfkeyClient<Purpose<S, P>>;
  readonly #emit: (output: { readonly kind: 'pfkey'; readonly message: SadbMessage }) => void;
  #synchronised = false;
  /** SAs that were replaced, until what is on its way has arrived. */
  #drains: Drain[] = [];
  /** SPIs that were given out and that no SA was installed under yet, by the first of each wish. */
  readonly #larval = new Map<number, Larval>();

  constructor(pid: number, emit: (output: { readonly kind: 'pfkey'; readonly message: SadbMessage }) => void) {
    this.#client = new PfkeyClient<Purpose<S, P>>({ pid, register: [SADB_SATYPE.ESP], optIn: OPT_IN_ALL });
    this.#emit = emit;
  }

  get up(): boolean {
    return this.#client.connected;
  }

  /** What the datapath had when we came to it has been told: where tunnels have moved to, and which SAs are there. */
  get synchronised(): boolean {
    return this.up && this.#synchronised;
  }

  /** Hands in what came from the datapath and returns what it means. */
  hear(input: PfkeyClientInput<never>, now: Instant): Heard<S, P>[] {
    if (input.kind === 'connected') this.#synchronised = false;
    return this.#run(input, now);
  }

  /** Overdue requests, and inbound SAs whose time is over. */
  passTime(now: Instant): Heard<S, P>[] {
    const due = this.#drains.filter(({ at }) => at <= now.mono);
    this.#drains = this.#drains.filter(({ at }) => at > now.mono);
    return [...due.flatMap(({ sa }) => this.remove(sa, 0, now)), ...this.#run({ kind: 'tick' }, now)];
  }

  wakeAt(): number | undefined {
    const drains = this.#drains.map(({ at }) => at);
    const at = this.#client.wakeAt();
    return drains.length === 0 ? at : Math.min(...drains, at ?? Number.POSITIVE_INFINITY);
  }

  /** GETSPI for the SAs that are to bring the peer's packets to us, one after the other: all or none. */
  spi(sa: S, role: 'request' | 'response', wish: SpiWish, now: Instant): Heard<S, P>[] {
    return this.#nextSpi({ for: 'spi', sa, role, wish, got: new Map() }, now);
  }

  #nextSpi(purpose: Purpose<S, P> & { readonly for: 'spi' }, now: Instant): Heard<S, P>[] {
    const { protocols, mode, reqid, path } = purpose.wish;
    const protocol = protocols[purpose.got.size]!;
    const request = saToGetspi(
      {
        protocol,
        mode: modeInBundle(protocols, protocol, mode),
        reqid,
        source: path.remote.address,
        destination: path.local.address,
      },
      protocol === 'ipcomp' ? CPI_RANGE : SPI_RANGE,
    );
    return this.#ask(request, purpose, now);
  }

  /** The SPIs that were given out together with this one, and itself. */
  spisWith(spi: number): Spis {
    return this.#larval.get(spi)?.spis ?? new Map();
  }

  /** Gives an SPI back that no SA was made of, and those that came with it. */
  release(spi: number, now: Instant): Heard<S, P>[] {
    const larval = this.#larval.get(spi);
    this.#larval.delete(spi);
    return larval === undefined ? [] : this.#giveBack(larval, now);
  }

  #giveBack({ spis, path }: Larval, now: Instant): Heard<S, P>[] {
    const ends = { source: path.remote.address, destination: path.local.address };
    return [...spis].flatMap(([protocol, spi]) => this.remove({ spi, protocol, ...ends }, 0, now));
  }

  /** Larval SAs, and those that are about to go, which were between these ends are between others now. */
  relocate(from: Ends, to: Ends): void {
    for (const [spi, larval] of this.#larval) {
      const { local, remote } = larval.path;
      if (!sameEnds({ source: remote.address, destination: local.address }, from)) continue;
      this.#larval.set(spi, { ...larval, path: between(larval.path, { local: to.destination, remote: to.source }) });
    }
    this.#drains = this.#drains.map((drain) => (sameEnds(drain.sa, from) ? { ...drain, sa: { ...drain.sa, ...to } } : drain));
  }

  /** UPDATE of the larval inbound SA, and ADD of the outbound one. */
  install(child: P, outbound: boolean, now: Instant): Heard<S, P>[] {
    child.pending += (outbound ? 2 : 1) * child.sas.length;
    const larval = this.#larval.get(child.spiIn)?.path;
    this.#larval.delete(child.spiIn);
    // Its policy has moved, and word of the inbound SA's own movement is still to come: until then it has its old name.
    if (larval !== undefined)
      child.path = between(child.path, { local: larval.local.address, remote: child.path.remote.address });
    const heard = this.#install(child, 'inbound', saToUpdate, now);
    return outbound ? [...heard, ...this.#addOutbound(child, now)] : heard;
  }

  /** ADD of both SAs: of a child whose larval inbound SA became another, which is deleted (KINK's optimistic keying, RFC 4430 §3.2). */
  add(child: P, now: Instant): Heard<S, P>[] {
    child.pending += 2 * child.sas.length;
    const heard = this.#install(child, 'inbound', saToAdd, now);
    return [...heard, ...this.#addOutbound(child, now)];
  }

  installOutbound(child: P, now: Instant): Heard<S, P>[] {
    child.pending += child.sas.length;
    return this.#addOutbound(child, now);
  }

  #addOutbound(child: P, now: Instant): Heard<S, P>[] {
    child.outboundState = 'installed';
    return this.#install(child, 'outbound', saToAdd, now);
  }

  #install(child: P, direction: 'inbound' | 'outbound', toMessage: typeof saToAdd, now: Instant): Heard<S, P>[] {
    return child.allParameters(direction).flatMap((parameters) => {
      const sent = withOwnKeys(parameters);
      return this.#ask(toMessage(sent), { for: 'install', child, direction, sent }, now);
    });
  }

  /** DELETE of both SAs: the outbound one now, the inbound one after `drainMs`. Its keys are wiped. */
  uninstall(child: P, drainMs: number, now: Instant): Heard<S, P>[] {
    const heard = this.uninstallOutbound(child, now);
    for (const sa of child.allParameters('inbound')) heard.push(...this.remove(sa, drainMs, now));
    for (const keys of child.sas.flatMap(({ inbound, outbound }) => [inbound, outbound])) {
      keys.encr.wipe();
      keys.integ?.wipe();
    }
    return heard;
  }

  /** DELETE of the outbound SAs alone, where they are installed. */
  uninstallOutbound(child: P, now: Instant): Heard<S, P>[] {
    const installed = child.outboundState === 'installed' ? child.allParameters('outbound') : [];
    child.outboundState = 'none';
    return installed.flatMap((sa) => this.remove(sa, 0, now));
  }

  /** GET of a child's SAs, one in each direction, for what they carried. */
  countCarried(child: P, now: Instant): Heard<S, P>[] {
    return (['inbound', 'outbound'] as const).flatMap((direction) => {
      const { spi, protocol, source, destination } = child.parameters(direction);
      return this.#ask(saIdTo('GET', { spi, protocol, destination }, source), { for: 'idle', child }, now);
    });
  }

  /** GET of a child's inbound SA, for its counters. */
  countInbound(sa: S, child: P, now: Instant): Heard<S, P>[] {
    const { path } = child;
    const id = { spi: child.spiIn, protocol: child.protocol, destination: path.local.address } as const;
    return this.#ask(saIdTo('GET', id, path.remote.address), { for: 'life', sa, child }, now);
  }

  /** DELETE of one SA, larval ones included. */
  remove(
    { spi, protocol, source, destination }: Pick<SaParameters, 'spi' | 'protocol' | 'source' | 'destination'>,
    drainMs: number,
    now: Instant,
  ): Heard<S, P>[] {
    if (drainMs === 0) return this.#ask(saIdTo('DELETE', { spi, protocol, destination }, source), { for: 'nothing' }, now);
    this.#drains.push({ at: now.mono + drainMs, sa: { spi, protocol, source, destination } });
    return [];
  }

  /** UPDATE of a running outbound SA's state alone. A datapath that cannot hold refuses it, and the SA goes on as it is. */
  setState(sa: SaParameters, state: 'on-hold' | 'mature', now: Instant): Heard<S, P>[] {
    return this.#ask(saStateTo(state, sa, sa.source), { for: 'nothing' }, now);
  }

  /** The negative answer to an ACQUIRE: its sequence number with an errno (RFC 2367 §3.1.6). */
  refuseAcquire(seq: number, satype: number, errno: number, now: Instant): void {
    this.#ask(sadb('ACQUIRE', { seq, satype, errno }), { for: 'nothing' }, now);
  }

  #ask(message: SadbMessage, purpose: Purpose<S, P>, now: Instant): Heard<S, P>[] {
    return this.#run({ kind: 'request', tag: purpose, message }, now);
  }

  #run(input: PfkeyClientInput<Purpose<S, P>>, now: Instant): Heard<S, P>[] {
    const heard: Heard<S, P>[] = [];
    for (const output of this.#client.handle(input, now)) {
      switch (output.kind) {
        case 'send':
          this.#emit({ kind: 'pfkey', message: output.message });
          break;
        case 'answer':
          heard.push(...this.#answered(output.tag, output.errno, output.reply[0], now));
          break;
        case 'notification':
          if (output.message.type === 'ACQUIRE') heard.push({ kind: 'acquire', message: output.message });
          if (output.message.type === 'X_NAT_T_NEW_MAPPING') heard.push(...newMapping(output.message));
          if (output.message.type === 'EXPIRE') heard.push({ kind: 'expire', message: output.message });
          if (output.message.type === 'X_MIGRATE') heard.push({ kind: 'migrate', message: output.message });
          break;
        case 'synchronised':
          this.#synchronised = true;
          heard.push({ kind: 'synchronised', sas: output.sas, policies: output.policies });
          break;
        default:
          heard.push({ kind: 'broken', why: output.reason });
      }
    }
    return heard;
  }

  #answered(purpose: Purpose<S, P>, errno: number, reply: SadbMessage | undefined, now: Instant): Heard<S, P>[] {
    switch (purpose.for) {
      case 'spi': {
        const { sa, role, wish } = purpose;
        const spi = errno === 0 ? reply?.sa?.spi : undefined;
        const got = new Map(purpose.got);
        if (spi !== undefined) got.set(wish.protocols[got.size]!, spi);
        const spis: Larval = { spis: got, path: wish.path };
        if (spi === undefined) return [...this.#giveBack(spis, now), { kind: 'spi', sa, role, spi }];
        if (sa.closed) return this.#giveBack(spis, now);
        if (got.size < wish.protocols.length) return this.#nextSpi({ ...purpose, got }, now);
        const first = got.get(wish.protocols[0]!)!;
        this.#larval.set(first, spis);
        return [{ kind: 'spi', sa, role, spi: first }];
      }
      case 'install': {
        const { child, direction, sent } = purpose;
        sent.encrKey.wipe();
        sent.integKey?.wipe();
        child.pending -= 1;
        if (errno !== 0 && child.state !== 'gone')
          return [{ kind: 'refused', child, why: `the datapath refused the ${direction} SA: ${errnoName(errno)}` }];
        return child.pending === 0 ? [{ kind: 'installed', child }] : [];
      }
      case 'idle':
      case 'life': {
        reply?.keyEncrypt?.key.wipe();
        reply?.keyAuth?.key.wipe();
        const packets = errno === 0 ? reply?.lifetimeCurrent?.allocations : undefined;
        if (purpose.for === 'idle') return [{ kind: 'carried', child: purpose.child, packets }];
        return [{ kind: 'counted', sa: purpose.sa, child: purpose.child, packets }];
      }
      default:
        return [];
    }
  }
}

/** A pair may be gone, and its keys wiped, before the message that installs it is written: it would install a key of zeros. */
function withOwnKeys(sa: SaParameters): SaParameters {
  return { ...sa, encrKey: sa.encrKey.slice(0, sa.encrKey.length), integKey: sa.integKey?.slice(0, sa.integKey.length) };
}

function newMapping({ sa, destination, nattDestinationPort }: SadbMessage): Heard<never, never>[] {
  if (sa === undefined || destination === undefined || nattDestinationPort === undefined) return [];
  return [{ kind: 'moved', spi: sa.spi, remote: { address: destination.address, port: nattDestinationPort } }];
}

/** An SA of a DUMP, without its keys; undefined where it is none that we could have made. */
export function dumpedSa(message: SadbMessage): SaParameters | undefined {
  if (message.errno !== 0) return undefined;
  try {
    return addToSa(message, false);
  } catch {
    return undefined;
  }
}
