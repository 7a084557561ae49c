/** The nesting inside an SA payload: proposals, transforms and their attributes, RFC 7296 §3.3.1 to §3.3.5. */

import {
  PROTOCOL_ID,
  type Proposal,
  type ProposalProtocol,
  TRANSFORM_TYPE,
  type Transform,
  type TransformType,
} from '../../src/ipsec/proposal.ts';
import type { Codec } from '../../src/wire/codec.ts';
import type { Reader } from '../../src/wire/reader.ts';
import { knownName } from '../../src/wire/registry.ts';
import type { Writer } from '../../src/wire/writer.ts';

/** Transform attribute types, RFC 7296 §3.3.5: there is one. */
const KEY_LENGTH = 14;
/** Attribute format bit: set for type/value, clear for type/length/value. */
const AF = 0x8000;
/** "Last Substruc" where another of its kind follows. */
const MORE = { proposal: 2, transform: 3 } as const;
/** Octets in front of a proposal's SPI, and in front of a transform's attributes. */
const HEADER = 8;

/** All proposals of an SA payload, in their order. Proposals for a protocol that we do not know are left out: none of them can be chosen. */
export const Proposals: Codec<readonly Proposal[]> = {
  read: (from) => {
    const proposals: Proposal[] = [];
    let more = true;
    for (let n = 1; more; n++) {
      const entry = substructure(from, 'proposal', n);
      more = entry.more;
      const proposal = readProposal(entry.body);
      if (proposal !== undefined) proposals.push(proposal);
    }
    return proposals;
  },
  write: (to, proposals) => {
    proposals.forEach((proposal, i) => {
      writeSubstructure(to, i + 1 < proposals.length ? MORE.proposal : 0, () => writeProposal(to, proposal));
    });
  },
};

/** The part that both nested structures begin with: last-or-more, RESERVED, length of the whole. */
function substructure(from: Reader, kind: keyof typeof MORE, n: number): { more: boolean; body: Reader } {
  const at = from.at;
  const last = from.u8();
  from.skip(1);
  const length = from.u16();
  if (last !== 0 && last !== MORE[kind]) from.fail(`"Last Substruc" of ${kind} ${n} is 0 or ${MORE[kind]}, not ${last}`, at);
  if (length < HEADER) from.fail(`${kind} ${n} has a length of ${length} octets, less than its header of ${HEADER}`, at + 2);
  const body = from.part(length - 4, `${kind} ${n}`);
  return { more: last !== 0, body };
}

function writeSubstructure(to: Writer, last: number, body: () => void): void {
  const at = to.length;
  to.u8(last);
  to.u8(0);
  to.u16(0);
  body();
  to.patch(at + 2, 2, to.length - at);
}

function readProposal(from: Reader): Proposal | undefined {
  const number = from.u8();
  const protocol: ProposalProtocol | undefined = knownName(PROTOCOL_ID, from.u8());
  const spiBytes = from.u8();
  const count = from.u8();
  const spi = from.bytes(spiBytes);
  const transforms: Transform[] = [];
  let more = count > 0;
  for (let n = 1; more; n++) {
    const entry = substructure(from, 'transform', n);
    more = entry.more;
    transforms.push(readTransform(entry.body));
    if (more !== n < count) from.fail(`announces ${count} transforms, but number ${n} is ${more ? 'not ' : ''}the last`);
  }
  from.finish();
  return protocol === undefined ? undefined : { number, protocol, spi, transforms };
}

function writeProposal(to: Writer, { number, protocol, spi, transforms }: Proposal): void {
  to.u8(number);
  to.u8(PROTOCOL_ID[protocol]);
  to.u8(spi.length);
  to.u8(transforms.length);
  to.bytes(spi);
  transforms.forEach((transform, i) => {
    writeSubstructure(to, i + 1 < transforms.length ? MORE.transform : 0, () => writeTransform(to, transform));
  });
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
