/** Several SAs for one packet: in which order they are applied, asked for and demanded (RFC 4301 §4.4.2, §5.2). */
import { describe, expect, test } from 'vitest';
import { INPUT } from '../../../src/datapath/slots.ts';
import type { Policy, Template } from '../../../src/ipsec/policy.ts';
import type { SaParameters } from '../../../src/ipsec/sa.ts';
import { copyOf, ip, ipPacket, NOW, Node, policyOf, saOf, seeded, selectorOf, templateOf, udpPacket } from './pair.ts';

const ENDS = { source: ip('192.0.2.1'), destination: ip('192.0.2.2') };
const HOSTS = { source: '192.0.2.1', destination: '192.0.2.2' };
const NULL_SHA = { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' } as const;

const esp = saOf({ spi: 0x1001, mode: 'transport', reqid: 11 });
const ah = saOf({ spi: 0x1002, mode: 'transport', reqid: 12, protocol: 'ah', suite: NULL_SHA });

function template({ protocol, mode, reqid, source, destination }: SaParameters, changes: Partial<Template> = {}): Template {
  const endpoints = mode === 'tunnel' ? { source, destination } : undefined;
  return templateOf({ protocol, mode, reqid, endpoints, ...changes });
}

function nodes(sas: readonly SaParameters[], templates: readonly Template[] = sas.map((sa) => template(sa))) {
  const a = new Node();
  const b = new Node();
  const policy = (direction: Policy['direction']) => policyOf({ direction, selector: selectorOf(), templates: [...templates] });
  a.engine.addPolicy(policy('outbound'), NOW);
  b.engine.addPolicy(policy('inbound'), NOW);
  for (const sa of sas) {
    a.engine.addSa(copyOf(sa), NOW);
    b.engine.addSa(copyOf(sa), NOW, 'inbound');
  }
  return { a, b };
}

const open = (b: Node, bytes: Uint8Array, kind: number = INPUT.ah) =>
  b.unprotect([{ bytes, path: 0, trafficClass: 0 }], kind).map(({ packet }) => packet);

describe('AH around ESP', () => {
  test('transport mode: the first template is applied first', () => {
    const { a, b } = nodes([esp, ah]);
    const inner = udpPacket(seeded(4)(200), HOSTS);
    expect(a.protect([inner])).toEqual([]);
    const [wire] = a.clears();
    expect([wire![9], wire![20]]).toEqual([51, 50]);
    expect(open(b, wire!)).toEqual([inner]);
    expect(b.engine.status().sas.map(({ protocol, packets, direction }) => [protocol, packets, direction])).toEqual([
      ['esp', 1, 'inbound'],
      ['ah', 1, 'inbound'],
    ]);
  });

  test('an ESP tunnel in AH between its ends', () => {
    const tunnel = saOf({ spi: 0x2001, mode: 'tunnel', reqid: 11 });
    const { a, b } = nodes([tunnel, ah]);
    const inner = udpPacket(seeded(4)(200));
    a.protect([inner]);
    expect(open(b, a.clears()[0]!)).toEqual([inner]);
  });

  test('a tunnel in a tunnel', () => {
    const first = saOf({ spi: 0x3001, mode: 'tunnel', reqid: 11 });
    const second = saOf({ spi: 0x3002, mode: 'tunnel', reqid: 12, protocol: 'ah', suite: NULL_SHA });
    const { a, b } = nodes([first, second]);
    const inner = udpPacket(seeded(4)(90), { source: 'fd00:1::1', destination: 'fd00:2::2' });
    a.engine.addPolicy(policyOf({ selector: selectorOf({}, 6), templates: [template(first), template(second)] }), NOW);
    b.engine.addPolicy(
      policyOf({ direction: 'inbound', selector: selectorOf({}, 6), templates: [template(first), template(second)] }),
      NOW,
    );
    a.protect([inner]);
    expect(open(b, a.clears()[0]!)).toEqual([inner]);
  });
});

describe('what a policy demands', () => {
  test('a packet through one SA of two, or through one more, is refused', () => {
    const inner = udpPacket(new Uint8Array(20), HOSTS);
    const both = [template(esp), template(ah)];
    const sent = (sas: readonly SaParameters[]) => {
      const { a } = nodes(sas);
      const [wire] = a.protect([inner]);
      return wire === undefined ? a.clears()[0]! : ipPacket(50, wire.bytes, HOSTS);
    };
    const outcome = (sas: readonly SaParameters[], templates: readonly Template[]) => {
      const { b } = nodes([esp, ah], templates);
      const wire = sent(sas);
      const taken = open(b, wire, wire[9] === 51 ? INPUT.ah : INPUT.rawWithHeader);
      return taken.length === 1 ? 'taken' : b.drop(0);
    };
    expect(outcome([esp, ah], both)).toBe('taken');
    expect(outcome([esp], both)).toBe('policyMismatch');
    expect(outcome([ah], both)).toBe('policyMismatch');
    expect(outcome([esp, ah], [template(esp)])).toBe('policyMismatch');
    expect(outcome([esp, ah], [template(ah)])).toBe('policyMismatch');
    // What is used where it is there need not be there.
    expect(outcome([esp], [template(esp), template(ah, { level: 'use' })])).toBe('taken');
  });

  test('each SA that is missing is asked for once; the packet leaves when all are there', () => {
    const { a, b } = nodes([esp, ah]);
    for (const sa of [...a.engine.core.sad.all]) a.engine.removeSa(sa);
    const inner = udpPacket(new Uint8Array(20), HOSTS);
    a.protect([inner]);
    a.protect([inner]);
    const asked = () => a.engine.drain().flatMap((effect) => (effect.kind === 'acquire' ? [effect] : []));
    expect(asked().map(({ template: { protocol, reqid }, seq }) => [protocol, reqid, seq])).toEqual([
      ['ah', 12, 1],
      ['esp', 11, 2],
    ]);
    a.engine.addSa(copyOf(esp), NOW);
    while (a.engine.hasReleasable) a.engine.releaseHeld(NOW);
    expect(a.clears()).toEqual([]);
    a.engine.addSa(copyOf(ah), NOW);
    const sent: Uint8Array[] = [];
    while (a.engine.hasReleasable) {
      a.engine.releaseHeld(NOW);
      sent.push(...a.clears());
    }
    expect(sent.length).toBe(2);
    expect(asked()).toEqual([]);
    for (const wire of sent) expect(open(b, wire)).toEqual([inner]);
    expect(a.engine.drops.toJSON()).toEqual({});
  });

  test('in a tunnel, the SA around it is asked for between the tunnel ends', () => {
    const tunnel = saOf({ spi: 0x2001, mode: 'tunnel', reqid: 11, ...ENDS });
    const { a } = nodes([tunnel, ah]);
    for (const sa of [...a.engine.core.sad.all]) if (sa.parameters.protocol === 'ah') a.engine.removeSa(sa);
    a.protect([udpPacket(new Uint8Array(20))]);
    const [effect] = a.engine.drain();
    expect(effect).toMatchObject({ kind: 'acquire', template: { protocol: 'ah', endpoints: ENDS } });
  });

  test('an SA whose packets are used up ends, and the bundle waits for another', () => {
    const short = { ...ah, lifetime: { soft: ah.lifetime.soft, hard: { seconds: 0, bytes: 0, packets: 2 } } };
    const { a } = nodes([esp, short]);
    const inner = udpPacket(new Uint8Array(20), HOSTS);
    a.protect([inner, inner]);
    expect(a.clears().length).toBe(2);
    a.protect([inner]);
    expect(a.clears()).toEqual([]);
    expect(a.engine.drain().map(({ kind }) => kind)).toEqual(['expire', 'acquire']);
  });
});
