/** Selectors of a policy as traffic selectors: types of messages (RFC 7296 §3.13.1, RFC 4877 §6.1). */

import { describe, expect, test } from 'vitest';
import { compile, memoryFiles } from '../../../src/config/index.ts';
import { ChildPolicies } from '../../../src/keying/child-policy.ts';

function child(protocol: string) {
  const text = `remote r { ikev2 { pre_shared_key k; }; }; policy p { remote_index r; ipsec_mode transport; };
    selector s { direction both; src 2001:db8::1; dst 2001:db8::a; upper_layer_protocol ${protocol}; policy_index p; };`;
  const { config } = compile('/t.conf', memoryFiles({ '/t.conf': text }));
  const { local, peer } = new ChildPolicies(config!, []).child('s')!;
  const ports = ([one]: typeof local) => [one!.startPort, one!.endPort];
  expect([local, peer].map(({ length }) => length)).toEqual([1, 1]);
  return { local: ports(local), peer: ports(peer) };
}

describe('each end offers what it sends', () => {
  const ANY = [0, 0xffff];
  test.each([
    ['mh bu', [0x0500, 0x0500], [0x0600, 0x0600]],
    ['mh ba', [0x0600, 0x0600], [0x0500, 0x0500]],
    ['mh hoti', [0x0100, 0x0100], [0x0300, 0x0300]],
    ['mh', ANY, ANY],
    ['icmpv6 146', [0x9200, 0x92ff], [0x9300, 0x93ff]],
    ['icmpv6 128', [0x8000, 0x80ff], ANY],
    ['icmpv6 1 3', [0x0103, 0x0103], ANY],
    ['tcp', ANY, ANY],
  ])('%s', (protocol, local, peer) => expect(child(protocol)).toEqual({ local, peer }));
});
