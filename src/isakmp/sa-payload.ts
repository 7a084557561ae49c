/** The SA payload of ISAKMP: DOI, situation, proposals and their transforms, RFC 2408 §3.4 to §3.6, RFC 2407 §4.6.1. */

import { NONE } from '../bytes/bytes.ts';
import type { Codec } from '../wire/codec.ts';
import type { Reader } from '../wire/reader.ts';
import type { Writer } from '../wire/writer.ts';
import { type Attribute, Attributes } from './attributes.ts';
import { DOI, SIT_IDENTITY_ONLY } from './doi.ts';
import { readSubstructure, readTransforms, writeSubstructures } from './substructure.ts';

/** One way to protect something: all its attributes belong together, unlike IKEv2's. */
export interface Transform {
  readonly number: number;
  /** The protocol's transform identifier; 1 (KEY_IKE) in phase 1. */
  readonly id: number;
  readonly attributes: readonly Attribute[];
}

/** One protocol with the transforms to choose one from. Proposals with the same number belong together: all or none. */
export interface Proposal {
  readonly number: number;
  readonly protocol: number;
  readonly spi: Uint8Array;
  readonly transforms: readonly Transform[];
}

export interface SecurityAssociation {
  readonly doi: number;
  readonly situation: number;
  readonly proposals: readonly Proposal[];
  /** What follows a DOI or a situation that is not understood here: its shape is theirs to say. */
  readonly unread: Uint8Array;
}

/** RFC 2408 §3.4. Only the IPsec DOI with SIT_IDENTITY_ONLY is read further; others are kept as octets. */
export const SecurityAssociation: Codec<SecurityAssociation> = {
  read: (from) => {
    const doi = from.u32();
    if (doi !== DOI.IPSEC) return { doi, situation: 0, proposals: [], unread: from.rest() };
    const situation = from.u32();
    if (situation !== SIT_IDENTITY_ONLY) return { doi, situation, proposals: [], unread: from.rest() };
    const proposals: Proposal[] = [];
    let more = true;
    for (let n = 1; more; n++) {
      const entry = readSubstructure(from, 'proposal', n);
      more = entry.more;
      proposals.push(readProposal(entry.body));
    }
    return { doi, situation, proposals, unread: NONE };
  },
  write: (to, { doi, situation, proposals, unread }) => {
    to.u32(doi);
    if (doi === DOI.IPSEC) to.u32(situation);
    writeSubstructures(to, 'proposal', proposals, (proposal) => writeProposal(to, proposal));
    to.bytes(unread);
  },
};

function readProposal(from: Reader): Proposal {
  const number = from.u8();
  const protocol = from.u8();
  const spiBytes = from.u8();
  const count = from.u8();
  const spi = from.bytes(spiBytes);
  return { number, protocol, spi, transforms: readTransforms(from, count, readTransform) };
}

function writeProposal(to: Writer, { number, protocol, spi, transforms }: Proposal): void {
  to.u8(number);
  to.u8(protocol);
  to.u8(spi.length);
  to.u8(transforms.length);
  to.bytes(spi);
  writeSubstructures(to, 'transform', transforms, (transform) => {
    to.u8(transform.number);
    to.u8(transform.id);
    to.zeros(2);
    Attributes.write(to, transform.attributes);
  });
}

function readTransform(from: Reader): Transform {
  const number = from.u8();
  const id = from.u8();
  from.skip(2);
  return { number, id, attributes: Attributes.read(from) };
}
