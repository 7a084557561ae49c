/** The nesting inside an SA payload: proposals, transforms and their attributes, RFC 7296 §3.3.1 to §3.3.5. */

import {
  PROTOCOL_ID,
  type Proposal,
  type ProposalProtocol,
  TRANSFORM_TYPE,
  type Transform,
  type TransformType,
} from '../../src/ipsec/proposal.ts';
import { readSubstructure, readTransforms, writeSubstructures } from '../../src/isakmp/substructure.ts';
import type { Codec } from '../../src/wire/codec.ts';
import type { Reader } from '../../src/wire/reader.ts';
import { knownName } from '../../src/wire/registry.ts';
import type { Writer } from '../../src/wire/writer.ts';

/** Transform attribute types, RFC 7296 §3.3.5: there is one. */
const KEY_LENGTH = 14;
/** Attribute format bit: set for type/value, clear for type/length/value. */
const AF = 0x8000;

/** All proposals of an SA payload, in their order. Proposals for a protocol that we do not know are left out: none of them can be chosen. */
export const Proposals: Codec<readonly Proposal[]> = {
  read: (from) => {
    const proposals: Proposal[] = [];
    let more = true;
    for (let n = 1; more; n++) {
      const entry = readSubstructure(from, 'proposal', n);
      more = entry.more;
      const proposal = readProposal(entry.body);
      if (proposal !== undefined) proposals.push(proposal);
    }
    return proposals;
  },
  write: (to, proposals) => {
    writeSubstructures(to, 'proposal', proposals, (proposal) => writeProposal(to, proposal));
  },
};

function readProposal(from: Reader): Proposal | undefined {
  const number = from.u8();
  const protocol: ProposalProtocol | undefined = knownName(PROTOCOL_ID, from.u8());
  const spiBytes = from.u8();
  const count = from.u8();
  const spi = from.bytes(spiBytes);
  const transforms = readTransforms(from, count, readTransform);
  return protocol === undefined ? undefined : { number, protocol, spi, transforms };
}

function writeProposal(to: Writer, { number, protocol, spi, transforms }: Proposal): void {
  to.u8(number);
  to.u8(PROTOCOL_ID[protocol]);
  to.u8(spi.length);
  to.u8(transforms.length);
  to.bytes(spi);
  writeSubstructures(to, 'transform', transforms, (transform) => writeTransform(to, transform));
}

function readTransform(from: Reader): Transform {
  const typeNumber = from.u8();
  from.skip(1);
  const type: TransformType | number = knownName(TRANSFORM_TYPE, typeNumber) ?? typeNumber;
  const id = from.u16();
  let keyBits: number | undefined;
  const otherAttributes: { type: number; value: Uint8Array }[] = [];
  while (from.left > 0) {
    const attribute = from.u16();
    if (attribute === (KEY_LENGTH | AF) && keyBits === undefined) keyBits = from.u16();
    else otherAttributes.push({ type: attribute, value: from.bytes(attribute >= AF ? 2 : from.u16()) });
  }
  return {
    type,
    id,
    ...(keyBits === undefined ? {} : { keyBits }),
    ...(otherAttributes.length === 0 ? {} : { otherAttributes }),
  };
}

function writeTransform(to: Writer, { type, id, keyBits, otherAttributes = [] }: Transform): void {
  to.u8(typeof type === 'number' ? type : TRANSFORM_TYPE[type]);
  to.u8(0);
  to.u16(id);
  if (keyBits !== undefined) {
    to.u16(KEY_LENGTH | AF);
    to.u16(keyBits);
  }
  for (const attribute of otherAttributes) {
    to.u16(attribute.type);
    if (attribute.type < AF) to.u16(attribute.value.length);
    to.bytes(attribute.value);
  }
}
