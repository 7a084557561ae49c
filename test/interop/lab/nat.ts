/** A NAT between the lab's two hosts: whatever leaves `a` comes to `b` from the NAT's address and a port of its choice. */
import { cable, type Lab } from './namespaces.ts';

/** What `b` sees of `a`. */
export const NAT_ADDRESS = '198.18.2.254';
/** Ports that the NAT gives away, none of which is IKE's own. */
const PORTS = '20000-29999';

/** Joins `a` and `b` of a lab without a link; IPv4 alone. `b` cannot begin. */
export async function natBetween(lab: Lab): Promise<void> {
  const { a, b } = lab;
  const nat = await lab.other('nat');
  await cable(a, 'eth0', nat, 'inside');
  await cable(nat, 'outside', b, 'eth0');
  await nat.ip('address add 198.18.1.254/24 dev inside');
  await nat.ip(`address add ${NAT_ADDRESS}/24 dev outside`);
  for (const [host, link] of [
    [a, 1],
    [b, 2],
  ] as const) {
    await host.ip(`address add 198.18.${link}.1/24 dev eth0`);
    await host.ip(`address add ${host.addresses.outer.v4}/32 dev eth0`);
    await nat.ip(`route add ${host.addresses.outer.v4}/32 via 198.18.${link}.1`);
  }
  await a.ip(`route add default via 198.18.1.254 src ${a.addresses.outer.v4}`);
  for (const words of [
    'add table ip nat',
    'add chain ip nat out { type nat hook postrouting priority srcnat; }',
    `add rule ip nat out oifname outside meta l4proto udp masquerade to :${PORTS}`,
    'add rule ip nat out oifname outside masquerade',
  ])
    await nat.must(['nft', words]);
}
