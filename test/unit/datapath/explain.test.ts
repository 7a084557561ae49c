/** What `tanuki trace` tells of single packets; that it is what the engine does is proven by the property test beside it. */

import { describe, expect, test } from 'vitest';
import { probePacket } from '../../../src/datapath/probe.ts';
import { readTrace } from '../../../src/datapath-process/trace-request.ts';
import { showTrace } from '../../../src/front-door/trace.ts';
import { UNLIMITED } from '../../../src/ipsec/lifetime.ts';
import { ip, NOW, Node, pair, policyOf, saOf, selectorOf, templateOf, udpPacket } from './pair.ts';

const net = (text: string, length: number) => ({ address: ip(text), length });
const probe = {
  source: ip('10.1.0.1'),
  destination: ip('10.2.0.2'),
  protocol: 17,
  sourcePort: 1000,
  destinationPort: 53,
  octets: 64,
};

describe('outbound', () => {
  test('names the policy, the SA and the way of a protected packet, and changes nothing', () => {
    const { a } = pair(
      saOf({
        encapsulation: {
          source: { address: ip('192.0.2.1'), port: 4500 },
          destination: { address: ip('192.0.2.2'), port: 4500 },
        },
      }),
    );
    const before = JSON.stringify(a.engine.status());
    const result = a.engine.trace(probePacket(probe), 'outbound');
    expect(showTrace(result).split('\n')).toEqual([
      'outbound: 10.1.0.1 -> 10.2.0.2 protocol 17 port 1000 -> 53, 64 octets: protected',
      '  policy 1 (priority 100) is about it: 0.0.0.0/0 -> 0.0.0.0/0: protect esp/tunnel//unique:1',
      '  it goes through SA c0ffee01 (esp tunnel, 192.0.2.1 -> 192.0.2.2, reqid 1, mature)',
      '  it leaves by UDP 192.0.2.1[4500] -> 192.0.2.2[4500]',
    ]);
    expect(result[0]).toMatchObject({ fate: 'protected', drop: undefined, policy: { id: 1 }, sas: [{ spi: 'c0ffee01' }] });
    expect(JSON.stringify(a.engine.status())).toBe(before);
  });

  test('a discard policy before the one that protects', () => {
    const { a } = pair();
    a.engine.addPolicy(
      policyOf({ action: 'discard', priority: 1, selector: selectorOf({ destination: net('10.2.0.0', 24), protocol: 17 }) }),
      NOW,
    );
    expect(a.engine.trace(probePacket(probe), 'outbound')[0]).toMatchObject({
      fate: 'dropped',
      drop: 'discard',
      policy: { action: 'discard' },
    });
    expect(a.engine.trace(probePacket({ ...probe, protocol: 6 }), 'outbound')[0]).toMatchObject({ fate: 'protected' });
  });

  test('no SA: it would wait; asked for already; refused', () => {
    const node = new Node();
    node.engine.addPolicy(policyOf(), NOW);
    const told = () => node.engine.trace(probePacket(probe), 'outbound')[0]!;
    expect(told()).toMatchObject({ fate: 'waits' });
    expect(told().steps.at(-1)).toBe('key management is asked for one: it waits');
    expect(node.engine.drain()).toEqual([]);
    node.protect([udpPacket(new Uint8Array(4))]);
    expect(told().steps.at(-1)).toBe('key management was asked for one already: it waits');
    const { acquires } = node.engine.core;
    acquires.fail(acquires.pending[0]!, NOW);
    expect(told()).toMatchObject({ fate: 'dropped', drop: 'acquireFailed' });
  });

  test('an SA at its hard limit is passed over, and stays until a packet ends it', () => {
    const { a } = pair(saOf({ lifetime: { soft: UNLIMITED, hard: { ...UNLIMITED, packets: 1 } } }));
    a.protect([udpPacket(new Uint8Array(4))]);
    const [told] = a.engine.trace(probePacket(probe), 'outbound');
    expect(told).toMatchObject({ fate: 'waits', sas: [] });
    expect(told!.steps[0]).toContain('has reached a hard limit');
    expect([...a.engine.core.sad.all]).toHaveLength(1);
  });

  test('transport mode and a fragment: it waits for the others, the last of which brings the whole on its way', () => {
    const { a } = pair(saOf({ mode: 'transport' }));
    const packet = probePacket({ ...probe, source: ip('192.0.2.1'), destination: ip('192.0.2.2') });
    const [first, last] = [packet.slice(0, 20 + 24), packet.slice(0, 20 + 24)];
    for (const fragment of [first, last]) fragment[3] = fragment.length;
    first[6] = 0x20;
    last[7] = 3;
    const told = () => a.engine.trace(last, 'outbound')[0]!;
    expect(told()).toMatchObject({ fate: 'waits', steps: [expect.stringContaining('it is a fragment'), expect.any(String)] });
    a.protect([first]);
    expect(told()).toMatchObject({ fate: 'protected', sas: [{ mode: 'transport' }] });
    expect(a.protect([last])).toHaveLength(1);
  });
});

test('inbound: in clear it is refused, through the SA that its policy asks for it is delivered, through another it is not', () => {
  const { b } = pair();
  b.engine.addSa(saOf({ spi: 0x2000, reqid: 9 }), NOW, 'inbound');
  expect(b.engine.trace(probePacket(probe), 'inbound').map(({ fate, drop, sas }) => [fate, drop, sas[0]?.spi])).toEqual([
    ['dropped', 'clearText', undefined],
    ['delivered', undefined, 'c0ffee01'],
    ['dropped', 'policyMismatch', '00002000'],
  ]);
});

test('the arguments of the verb: an echo request by default, and what is wrong is said', () => {
  const { packet, direction } = readTrace({ source: '2001:db8::1', destination: '2001:db8::2' });
  expect([direction, packet[6], packet[40]]).toEqual(['outbound', 58, 128]);
  expect(
    readTrace({ source: '10.0.0.1', destination: '10.0.0.2', protocol: 6, destinationPort: 443 }).packet.slice(20, 24),
  ).toEqual(Uint8Array.of(0xc0, 0, 1, 187));
  for (const [args, says] of [
    [{}, 'expected "source": a numeric address, found undefined'],
    [{ source: '10.0.0.1', destination: '::1' }, 'two addresses of one family'],
    [{ source: '10.0.0.1', destination: '10.0.0.2', protocol: 256 }, '"protocol": a whole number from 0 to 255, found 256'],
    [{ source: '10.0.0.1', destination: '10.0.0.2', protocol: 1, sourcePort: 256 }, '"sourcePort": a whole number from 0 to 255'],
    [{ source: '10.0.0.1', destination: '10.0.0.2', octets: 1e6 }, '"octets"'],
  ] as const)
    expect(() => readTrace(args)).toThrow(says);
});

test('a template text is as setkey(8) writes it', () => {
  const { engine } = new Node();
  engine.addPolicy(
    policyOf({
      templates: [
        templateOf({ endpoints: { source: ip('192.0.2.1'), destination: ip('192.0.2.2') }, level: 'require', reqid: 0 }),
      ],
    }),
    NOW,
  );
  expect(engine.trace(probePacket(probe), 'outbound')[0]!.steps[0]).toContain('protect esp/tunnel/192.0.2.1-192.0.2.2/require');
});
