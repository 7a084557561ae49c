/** Delete payloads of IPsec SAs, RFC 2408 §3.15: one a protocol, each with the SPIs that its sender receives on. */

import type { NamedSa, SaProtocol } from '../ipsec/sa.ts';
import { DOI } from './doi.ts';
import { IPSEC_PROTOCOL, ipsecProtocol, readSpi, spiOctets } from './ipsec-transforms.ts';
import type { PayloadOf } from './payloads.ts';

/** The payloads that say that these SAs are gone. */
export function deletions(sas: readonly NamedSa[]): PayloadOf<'Delete'>[] {
  const protocols = new Set(sas.map(({ protocol }) => protocol));
  return [...protocols].map((protocol) => ({
    type: 'Delete',
    doi: DOI.IPSEC,
    protocol: IPSEC_PROTOCOL[protocol],
    spis: sas.filter((sa) => sa.protocol === protocol).map(({ spi }) => spiOctets(protocol, spi)),
  }));
}

/** The SA that one SPI of a Delete payload names, or undefined where it names none. */
export function deletedSa(protocol: number, octets: Uint8Array): NamedSa | undefined {
  const known: SaProtocol | undefined = ipsecProtocol(protocol);
  const spi = known === undefined ? undefined : readSpi(known, octets);
  return known === undefined || spi === undefined ? undefined : { protocol: known, spi };
}
