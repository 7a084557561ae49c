/** What the sender is told of an outbound packet that is dropped (RFC 4301 §5.1.1). */

import { describe, expect, test } from 'vitest';
import { VNET_HDR_BYTES } from '../../../src/datapath/slots.ts';
import { at, ipPacket, NOW, Node, policyOf, pseudoHeader, selectorOf, slowSum, templateOf, udpPacket } from './pair.ts';

const V4 = { source: '10.1.0.1', destination: '10.2.0.1' };
const V6 = { source: 'fd00:1::1', destination: 'fd00:2::1' };
const FAMILIES = [
  [4, V4, [3, 13], [3, 1]],
  [6, V6, [1, 1], [1, 3]],
] as const;

/** Type and code of the one error, whose addresses and checksums are right and which quotes the packet. */
function errorAbout(node: Node, packet: Uint8Array): number[] {
  const [frame, ...more] = node.frames();
  expect(more).toEqual([]);
  const error = frame!.packet;
  expect(frame!.header).toEqual(new Uint8Array(VNET_HDR_BYTES));
  const v4 = error[0]! >> 4 === 4;
  const icmp = error.slice(v4 ? 20 : 40);
  const [source, destination, end] = v4 ? [12, 16, 20] : [8, 24, 40];
  expect(error.slice(source, destination)).toEqual(packet.slice(destination, end));
  expect(error.slice(destination, end)).toEqual(packet.slice(source, destination));
  expect(icmp.slice(8)).toEqual(packet);
  expect(slowSum(icmp, v4 ? new Uint8Array(0) : pseudoHeader(error, 58, icmp.length))).toBe(0xffff);
  return [...icmp.slice(0, 2)];
}

describe.each(FAMILIES)('IPv%d', (family, ends, prohibited, unreachable) => {
  const packet = udpPacket(new Uint8Array(40), ends);

  test('a policy forbids it: administratively prohibited', () => {
    const node = new Node({ icmpErrors: true });
    node.engine.addPolicy(policyOf({ selector: selectorOf({}, family), action: 'discard', templates: [] }), NOW);
    expect(node.protect([packet])).toEqual([]);
    expect(node.drop(0)).toBe('discard');
    expect(errorAbout(node, packet)).toEqual(prohibited);
  });

  test('no policy matches, and the rest is forbidden: the same', () => {
    const node = new Node({ icmpErrors: true, unmatched: 'discard' });
    node.protect([packet]);
    expect(node.drop(0)).toBe('unmatched');
    expect(errorAbout(node, packet)).toEqual(prohibited);
  });

  test('no SA could be made: unreachable, from the next packet on until it is asked for again', () => {
    const node = new Node({ icmpErrors: true });
    node.engine.addPolicy(policyOf({ selector: selectorOf({}, family), templates: [templateOf()] }), NOW);
    node.protect([packet]);
    expect(node.frames()).toEqual([]);
    const { acquires } = node.engine.core;
    acquires.fail(acquires.pending[0]!, NOW);
    node.protect([packet], at(10));
    expect(node.drop(0)).toBe('acquireFailed');
    expect(errorAbout(node, packet)).toEqual(unreachable);
  });

  test('not where it is switched off, nor about an error, nor more than a hundred a second', () => {
    const forbids = (icmpErrors: boolean) => {
      const node = new Node({ icmpErrors });
      node.engine.addPolicy(policyOf({ selector: selectorOf({}, family), action: 'discard', templates: [] }), NOW);
      return node;
    };
    const silent = forbids(false);
    silent.protect([packet]);
    expect(silent.frames()).toEqual([]);
    const node = forbids(true);
    node.protect([ipPacket(family === 4 ? 1 : 58, Uint8Array.of(family === 4 ? 3 : 1, 1, 0, 0, 0, 0, 0, 0), ends)]);
    expect(node.frames()).toEqual([]);
    let told = 0;
    for (let i = 0; i < 1000; i++) {
      node.protect([packet], at(i));
      told += node.frames().length;
    }
    expect(node.drop(0)).toBe('discard');
    expect(told).toBeGreaterThan(100);
    expect(told).toBeLessThanOrEqual(150);
  });
});
