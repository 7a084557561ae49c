/** Packets cut anywhere, in any order, with gaps, repetitions and overlaps, many at a time: what comes whole is what was sent, and nothing is lost unnamed. */

import { expect, test } from 'vitest';
import { cat, u16be, u32be } from '../../../src/bytes/bytes.ts';
import { WAITS, WHOLE } from '../../../src/datapath/fragments.ts';
import { IpPacket } from '../../../src/net/ip-packet.ts';
import { type Numbers, numbers } from '../../support/mutate.ts';
import { at, Node, udpPacket } from '../../unit/datapath/pair.ts';

const ROUNDS = 300;
const V6 = { source: 'fd00:1::1', destination: 'fd00:2::2' };

interface Piece {
  readonly id: number;
  readonly bytes: Uint8Array;
}

/** How a packet is to be treated on its way. */
type Treatment = 'fair' | 'gap' | 'repeated' | 'overlap';

function cut(packet: Uint8Array, id: number, treatment: Treatment, random: Numbers): Piece[] {
  const is4 = packet[0]! >> 4 === 4;
  const header = packet.slice(0, is4 ? 20 : 40);
  const payload = packet.slice(header.length);
  const pieces: Piece[] = [];
  const put = (from: number, to: number) => {
    const more = to < payload.length;
    const body = payload.slice(from, to);
    const field = is4 ? (from / 8) | (more ? 0x2000 : 0) : from | (more ? 1 : 0);
    const bytes = is4 ? cat(header, body) : cat(header, Uint8Array.of(17, 0), u16be(field), u32be(id), body);
    if (is4) bytes.set(cat(u16be(bytes.length), u16be(id), u16be(field)), 2);
    else bytes.set(cat(u16be(bytes.length - 40), Uint8Array.of(44)), 4);
    pieces.push({ id, bytes });
  };
  for (let from = 0; from < payload.length; ) {
    const to = Math.min(payload.length, from + 8 * (1 + random(40)));
    put(from, to);
    if (treatment === 'overlap' && from > 0 && to < payload.length && pieces.length === 2)
      put(from, to + 8 > payload.length ? to - 8 : to + 8);
    from = to;
  }
  if (treatment === 'gap') pieces.splice(random(pieces.length), 1);
  if (treatment === 'repeated') pieces.push(pieces[random(pieces.length)]!);
  return pieces;
}

function shuffle<T>(list: T[], random: Numbers): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const k = random(i + 1);
    [list[i], list[k]] = [list[k]!, list[i]!];
  }
  return list;
}

test(`${ROUNDS} rounds of packets in pieces`, { timeout: 60_000 }, () => {
  const random = numbers(7112);
  const node = new Node();
  const { fragments, drops } = node.engine.core;
  const subject = fragments.inbound;
  const to = node.engine.inputs.buffer[0]!;
  const packet = new IpPacket(node.arena);
  let sent = 0;
  let passed = 0;
  const seen = new Map<string, number>();
  for (let round = 0; round < ROUNDS; round++) {
    const mono = at(round * 1000).mono;
    const originals = new Map<number, { treatment: Treatment; whole: Uint8Array }>();
    const pieces: Piece[] = [];
    for (let i = 0; i < 8; i++) {
      const id = 1 + round * 8 + i;
      const payload = new Uint8Array(100 + random(2000)).map(() => random(256));
      const whole = udpPacket(payload, { ...(random(2) === 0 ? V6 : {}), dontFragment: false, id });
      const treatment = (['fair', 'fair', 'gap', 'repeated', 'overlap'] as const)[random(5)]!;
      const its = cut(whole, id, treatment, random);
      const hasOverlap = treatment === 'overlap' && its.length > 3;
      originals.set(id, { treatment: treatment === 'overlap' && !hasOverlap ? 'fair' : treatment, whole });
      pieces.push(...its);
    }
    for (const { id, bytes } of shuffle(pieces, random)) {
      sent++;
      node.arena.set(bytes, to);
      expect(packet.read(to, bytes.length)).toBe(true);
      if (!packet.fragment) {
        passed++;
        continue;
      }
      const { treatment, whole } = originals.get(id)!;
      const foretold = subject.prospect(bytes, viewOf(bytes), 1);
      const outcome = subject.add(packet, 1, mono);
      expect(outcome).toBe(foretold.outcome);
      if (outcome === WAITS) continue;
      if (outcome === WHOLE) {
        const made = node.arena.slice(to, to + subject.compose(to));
        expect(made).toEqual(whole);
        expect(foretold.whole).toEqual(whole);
        expect(treatment).not.toBe('gap');
        passed += subject.parts.length;
        originals.set(id, { treatment, whole });
        seen.set(treatment, (seen.get(treatment) ?? 0) + 1);
      } else drops.count(outcome);
    }
    subject.expire(mono);
    expect(passed + subject.held + drops.total).toBe(sent);
  }
  subject.expire(at(10_000_000).mono);
  expect([subject.held, subject.size, passed + drops.total]).toEqual([0, 0, sent]);
  for (const treatment of ['fair', 'repeated']) expect(seen.get(treatment)).toBeGreaterThan(100);
  for (const name of ['fragmentOverlap', 'reassemblyTimeout'] as const) expect(drops.of(name)).toBeGreaterThan(100);
});

function viewOf(bytes: Uint8Array): IpPacket {
  const view = new IpPacket(bytes);
  view.read(0, bytes.length);
  return view;
}
