/** The policy file of each simulated node: one remote, policy and set of selectors for each of its pairs. */

import type { Kmp } from '../../src/config/config.ts';
import type { Choices, Pair } from './scenario.ts';

export function policyText(index: number, pairs: readonly Pair[], choices: Choices): string {
  return [
    interfaceText(index, choices),
    kerberosText(choices),
    defaultsText(choices),
    ...pairs.map((pair) => pairText(index, pair, choices)),
    `ipsec esp_ikev2 { sa_index esp_ikev2; ${choices.esn ? 'ext_sequence on; ' : ''}replay_window ${choices.window}; };`,
    `ipsec esp_older { sa_index esp_older; replay_window ${choices.window}; };`,
    `sa esp_ikev2 { sa_protocol esp; esp_enc_alg { ${choices.esp}; }; esp_auth_alg { hmac_sha2_256; }; };`,
    `sa esp_older { sa_protocol esp; esp_enc_alg { ${choices.olderEsp}; }; esp_auth_alg { hmac_sha2_256; }; };`,
  ].join('\n');
}

/** Where a node is at home. */
export function home(index: number, { family }: Choices): string {
  return family === 4 ? `192.0.2.${index + 1}` : `2001:db8::${index + 1}`;
}

/** A host behind a node for its `nth` selector, or the node. */
export function innerHost(index: number, nth: number, choices: Choices): string {
  if (choices.transport) return home(index, choices);
  return choices.inner === 4 ? `10.${index + 1}.${nth}.7` : `fd00:${index + 1}:${nth}::7`;
}

export function selectorName(a: number, b: number, nth: number): string {
  return `net-${a}-${b}-${nth}`;
}

export const REALM = 'SIM.EXAMPLE';

/** The instance in a node's principal, `kink/n0.example@SIM.EXAMPLE`. */
export function principalText(name: string): string {
  return `kink/${name}.example@${REALM}`;
}

function network(index: number, nth: number, { inner }: Choices): string {
  return inner === 4 ? `10.${index + 1}.${nth}.0/24` : `fd00:${index + 1}:${nth}::/64`;
}

function interfaceText(index: number, choices: Choices): string {
  const own = choices.movers === 'none' ? `"${home(index, choices)}"` : 'MY_IP';
  return `interface { ike ${own}; kink ${own}; datapath { device memory; encapsulation ${choices.encapsulated ? 'force' : 'auto'}; }; };`;
}

function kerberosText(choices: Choices): string {
  return `kerberos { realm "${REALM}"; kdc "192.0.2.250"; keytab "sim.keytab"; clock_skew ${choices.clockSkewSeconds} sec; };`;
}

function defaultsText(choices: Choices): string {
  const packets = choices.childPackets === 0 ? '' : `ipsec_sa_lifetime_packets ${choices.childPackets};`;
  const shared = `
      max_retry_to_send ${choices.retries};
      interval_to_send 1 sec;
      kmp_sa_nego_time_limit 40 sec;
      need_pfs ${choices.pfs ? 'on' : 'off'};`;
  const ike = `${shared}
      kmp_sa_lifetime_time ${choices.ikeSeconds} sec;
      force_encapsulation ${choices.encapsulated ? 'on' : 'off'};
      pre_shared_key "sim.psk";`;
  return `default {
    remote {
      ikev2 {${ike}
        dpd_delay ${choices.dpdSeconds} sec;
        kmp_enc_alg { ${choices.ike}; };
        kmp_hash_alg { hmac_sha2_256; };
        kmp_prf_alg { hmac_sha2_256; };
        kmp_dh_group { ${choices.group}; };
      };
      ikev1 {${ike}
        dpd_delay ${choices.dpdSeconds} sec;
        dpd_retry 2 sec;
        dpd_maxfail ${choices.retries};
        kmp_enc_alg { aes128_cbc; };
        kmp_hash_alg { sha2_256; };
        kmp_dh_group { ecp256; };
      };
      kink {${shared}
        kmp_dh_group { ecp256; };
      };
    };
    ipsec { ipsec_sa_lifetime_time ${choices.childSeconds} sec; ${packets} };
  };`;
}

/** One node's half of a pair: the remote, its selectors and their policy. */
function pairText(index: number, pair: Pair, choices: Choices): string {
  const { a, b, kmps } = pair;
  const peer = index === a ? b : a;
  const mine = index === a ? kmps.a : kmps.b;
  const starts = choices.initiators === 'both-start' || (choices.initiators === 'one-start' && index === a);
  const passive = pair.bIsPassive && index === b;
  const where = (node: number, nth: number) => (choices.transport ? home(node, choices) : network(node, nth, choices));
  const selectors = Array.from(
    { length: choices.selectors },
    (_, nth) =>
      `selector ${selectorName(a, b, nth)} { direction both; src "${where(index, nth)}"; dst "${where(peer, nth)}"; policy_index p${peer}; };`,
  );
  const ends = choices.transport ? '' : `my_sa_ipaddr "${home(index, choices)}"; peers_sa_ipaddr "${home(peer, choices)}";`;
  const common = `${passive ? 'passive on;' : ''}
      peers_ipaddr ${choices.movers === 'none' || choices.atHomeOnly ? `"${home(peer, choices)}"` : 'IP_RW'};`;
  const identities = `my_id fqdn n${index}.example; peers_id fqdn n${peer}.example;`;
  const blocks: Record<Kmp, string> = {
    ikev2: `ikev2 { ${common} ${identities} };`,
    ikev1: `ikev1 { ${common} ${identities} };`,
    kink: `kink { ${common} my_principal "${principalText(`n${index}`)}"; peers_principal "${principalText(`n${peer}`)}"; };`,
  };
  const onlyV2 = [...kmps.a, ...kmps.b].every((kmp) => kmp === 'ikev2');
  return `remote n${peer} {
      acceptable_kmp { ${mine.map((kmp) => `${kmp};`).join(' ')} };
      ${mine.map((kmp) => blocks[kmp]).join('\n')}
    };
    ${selectors.join('\n')}
    policy p${peer} {
      remote_index n${peer};
      ipsec_index ${onlyV2 ? 'esp_ikev2' : 'esp_older'};
      ipsec_mode ${choices.transport ? 'transport' : 'tunnel'};
      ipsec_level unique;
      ${ends}
      initiate ${starts ? 'start' : 'demand'};
    };`;
}
