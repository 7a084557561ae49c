/** Policies on Mobility Header types and ICMP types and codes: the same numbers from the policy file to the SPD, to IKEv2's selectors, and to the packets. */

import { describe, expect, test } from 'vitest';
import { Peers } from '../../../iked/peers.ts';
import { entriesOf } from '../../../spmd/policy-table.ts';
import { INPUT } from '../../../src/datapath/slots.ts';
import { showPolicySelector } from '../../../src/ipsec/policy.ts';
import { showSelector } from '../../../src/ipsec/selector.ts';
import { policyToSpdAdd, selectorOf as selectorIn } from '../../../src/pfkey/convert-policy.ts';
import { readSadb, writeSadb } from '../../../src/pfkey/message.ts';
import { configOf, LOCAL } from '../spmd/rig.ts';
import { copyOf, GCM, ip, ipPacket, NOW, Node, pair, policyOf, saOf, selectorOf, templateOf } from './pair.ts';

const [HoA, HA] = ['2001:db8:1::1', '2001:db8:1::a'] as const;
const mobility = (type: number) => ipPacket(135, Uint8Array.of(59, 0, type, 0, 0, 0, 0, 0), { source: HoA, destination: HA });
const icmpv6 = (type: number, code: number) =>
  ipPacket(58, Uint8Array.of(type, code, 0, 0, 0, 1, 0, 1), { source: HoA, destination: HA }, 2);

const FILE = (protocol: string) => `
  remote peer { acceptable_kmp ikev2; ikev2 { peers_ipaddr ${HA}; my_id fqdn "a"; peers_id fqdn "b"; kmp_auth_method psk; pre_shared_key "/x"; }; };
  policy tr { action auto_ipsec; remote_index peer; ipsec_mode transport; ipsec_index esp; ipsec_level unique; };
  ipsec esp { sa_index s; };
  sa s { sa_protocol esp; esp_enc_alg aes_gcm_16; };
  selector s { direction outbound; src ${HoA}; dst ${HA}; upper_layer_protocol ${protocol}; policy_index tr; };
`;

describe('from the policy file', () => {
  test.each([
    ['mh 5', `${HoA}[5] -> ${HA} proto 135`, 0x0500, 0x0500],
    ['ipv6-icmp 146', `${HoA}[146] -> ${HA} proto 58`, 0x9200, 0x92ff],
    ['ipv6-icmp 128 3', `${HoA}[128] -> ${HA}[3] proto 58`, 0x8003, 0x8003],
  ])('%s', (protocol, shown, startPort, endPort) => {
    const config = configOf(FILE(protocol));
    const [entry] = entriesOf(config, LOCAL, new Map([['s', 1]])).entries.filter(({ selector }) => selector === 's');
    expect(showPolicySelector(entry!.policy.selector)).toBe(shown);
    const read = selectorIn(readSadb(writeSadb(policyToSpdAdd(entry!.policy))));
    expect(showPolicySelector(read)).toBe(shown);
    const peers = new Peers({ config, psks: new Map() }, LOCAL);
    const [child] = peers.policies.all;
    expect(child!.local.map((ts) => ({ protocol: ts.protocol, startPort: ts.startPort, endPort: ts.endPort }))).toEqual([
      { protocol: read.protocol, startPort, endPort },
    ]);
    expect(showSelector(child!.local[0]!)).toContain(HoA);
  });
});

describe('to the packets', () => {
  test.each([
    ['Mobility Header type', { protocol: 135, sourcePort: 5 }, mobility(5), [mobility(6), mobility(0), icmpv6(5, 0)]],
    ['ICMPv6 type', { protocol: 58, sourcePort: 146 }, icmpv6(146, 0), [icmpv6(147, 0), icmpv6(135, 0), mobility(146)]],
    [
      'ICMPv6 type and code',
      { protocol: 58, sourcePort: 128, destinationPort: 3 },
      icmpv6(128, 3),
      [icmpv6(128, 0), icmpv6(3, 128)],
    ],
  ] as const)('%s selects outbound packets, and an SA of it brings in nothing else', (_, selector, wanted, others) => {
    const template = templateOf({ mode: 'transport' });
    const sa = saOf({ mode: 'transport', source: ip(HoA), destination: ip(HA), suite: GCM });
    const node = new Node();
    node.engine.addPolicy(policyOf({ selector: selectorOf(selector, 6), templates: [template] }), NOW);
    node.engine.addSa(copyOf(sa), NOW);
    expect(node.protect([wanted])).toHaveLength(1);
    for (const other of others) expect([node.protect([other]).length, node.clears().length]).toEqual([0, 1]);

    // A sender that puts everything into the SA, and a receiver whose inbound policy wants this type only.
    const { a, b } = pair(sa);
    for (const entry of b.engine.core.spd.entries()) b.engine.removePolicy(entry);
    b.engine.addPolicy(policyOf({ direction: 'inbound', selector: selectorOf(selector, 6), templates: [template] }), NOW);
    const arrives = (packet: Uint8Array) => {
      const [wire] = a.protect([packet]);
      b.engine.inputs.localFamily[0] = 0;
      return b.unprotect([wire!], INPUT.raw).map((frame) => frame.packet);
    };
    expect(arrives(wanted)).toEqual([wanted]);
    for (const other of others) {
      expect(arrives(other)).toEqual([]);
      expect(b.drop(0)).toBe('policyMismatch');
    }
  });
});
