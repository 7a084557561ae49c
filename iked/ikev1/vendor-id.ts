/** Vendor IDs: what a peer can do besides RFC 2409 (RFC 3947 §3.1, RFC 3706 §5.1), and what real peers send. */

import { compare, fromHex } from '../../src/bytes/bytes.ts';
import { all, type Payload, type PayloadOf } from '../../src/isakmp/payloads.ts';

/** Names and octets. Some vendors append a version to theirs: a longer one that begins so is taken for it. */
const VENDOR_ID = {
  'RFC 3947': '4a131c81070358455c5728f20e95452f',
  DPD: 'afcad71368a1f1c96b8696fc77570100',
  'draft-ietf-ipsec-nat-t-ike-00': '4485152d18b6bbcd0be8a8469579ddcc',
  'draft-ietf-ipsec-nat-t-ike-02': 'cd60464335df21f87cfdb2fc68b6a448',
  'draft-ietf-ipsec-nat-t-ike-02\\n': '90cb80913ebb696e086381b5ec427b1f',
  'draft-ietf-ipsec-nat-t-ike-03': '7d9419a65310ca6f2c179d9215529d56',
  XAUTH: '09002689dfd6b712',
  Unity: '12f5f28c457168a9702d9fe274cc',
  FRAGMENTATION: '4048b7d56ebce88525e7de7f00d6c2d3',
  strongSwan: '882fe56d6fd20dbc2251613b2ebe5beb',
  KAME: '7003cbc1097dbe9c2600ba6983bc8b35',
  'MS NT5': '1e2b516905991c7d7c96fcbfb587e461',
  Libreswan: '4f45',
} as const;

export type VendorName = keyof typeof VENDOR_ID;

const OCTETS = Object.entries(VENDOR_ID).map(([name, digits]) => ({ name: name as VendorName, octets: fromHex(digits)! }));

export function vendorId(name: VendorName): PayloadOf<'VendorId'> {
  return { type: 'VendorId', data: OCTETS.find((entry) => entry.name === name)!.octets };
}

/** The name of a vendor ID, or undefined. */
export function vendorName(data: Uint8Array): VendorName | undefined {
  return OCTETS.find(({ octets }) => compare(data.subarray(0, octets.length), octets) === 0)?.name;
}

/** Whether the sender of these payloads says that it can do what the name stands for. Of DPD any minor version serves. */
export function announces(payloads: readonly Payload[], name: 'RFC 3947' | 'DPD'): boolean {
  const { octets } = OCTETS.find((entry) => entry.name === name)!;
  const counts = name === 'DPD' ? octets.length - 1 : octets.length;
  return all(payloads, 'VendorId').some(
    ({ data }) => data.length === octets.length && compare(data.subarray(0, counts), octets.subarray(0, counts)) === 0,
  );
}
