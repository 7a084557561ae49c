/** What names and describes one IPsec SA (RFC 4301 §4.1, §4.4.2). */

import type { Secret } from '../bytes/secret.ts';
import type { EspSuite } from '../crypto/packet-cipher.ts';
import type { Endpoint, IpAddress } from '../net/address.ts';
import type { Lifetime } from './lifetime.ts';
import type { TrafficSelector } from './selector.ts';

/** Security Parameters Index, 1 to 2^32 - 1; 0 to 255 are reserved (RFC 4303 §2.1). */
export type Spi = number;
export type SaProtocol = 'esp' | 'ah' | 'ipcomp';
/** BEET (draft-nikander-esp-beet-mode): a tunnel between two inner addresses that the SA fixes, so that no packet carries them. */
export type Mode = 'transport' | 'tunnel' | 'beet';
export type Direction = 'inbound' | 'outbound';

/** Destination, protocol and SPI: what names an SA on the wire. */
export interface SaId {
  readonly destination: IpAddress;
  readonly protocol: SaProtocol;
  readonly spi: Spi;
}

/** An SA by its protocol and SPI, where its destination is understood. */
export type NamedSa = Pick<SaId, 'protocol' | 'spi'>;

/** The SPIs of one end, one for each SA of a bundle (RFC 4301 §4.4.2). */
export type Spis = ReadonlyMap<SaProtocol, Spi>;

/** The order in which a packet meets the SAs of a bundle: compressed before it is encrypted (RFC 3173 §2), authenticated last. */
export const BUNDLE: readonly SaProtocol[] = ['ipcomp', 'esp', 'ah'];

/** The mode of one of a bundle's SAs: the first makes the tunnel, and those around it protect the packet that it made. */
export function modeInBundle(protocols: readonly SaProtocol[], protocol: SaProtocol, mode: Mode): Mode {
  return protocol === BUNDLE.find((one) => protocols.includes(one)) ? mode : 'transport';
}

/** Everything the datapath must be told to run one SA. */
export interface SaParameters {
  readonly spi: Spi;
  readonly protocol: SaProtocol;
  readonly mode: Mode;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly suite: EspSuite;
  /** Key and salt, as KEYMAT has them. */
  readonly encrKey: Secret;
  readonly integKey: Secret | undefined;
  readonly extendedSequence: boolean;
  /** Packets; 0: no replay check. */
  readonly replayWindow: number;
  readonly reqid: number;
  /** Octets that an inner packet in tunnel mode is padded up to (RFC 4303 §2.7); absent: none. */
  readonly tfcPadding?: number | undefined;
  /** UDP encapsulation (RFC 3948): the ports at source and destination. */
  readonly encapsulation: { readonly source: Endpoint; readonly destination: Endpoint } | undefined;
  readonly lifetime: { readonly soft: Lifetime; readonly hard: Lifetime };
  /** What may go through it, seen from this end; empty: all that its policy says. */
  readonly selectors: { readonly source: readonly TrafficSelector[]; readonly destination: readonly TrafficSelector[] };
}
