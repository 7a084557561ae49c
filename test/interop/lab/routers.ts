/** Two routers between the lab's two hosts, with a narrow link in the middle, and an outsider beside the first: for path MTUs (RFC 1191, RFC 8201). */
import { cable, type Lab, type Namespace } from './namespaces.ts';

/** Joins `a` and `b` of a lab without a link: `a` - left - right - b, the middle link carries `mtu` octets. */
export async function narrowBetween(lab: Lab, mtu: number): Promise<{ left: Namespace; outsider: Namespace }> {
  const { a, b } = lab;
  const left = await lab.other('left');
  const right = await lab.other('right');
  const outsider = await lab.other('outsider');
  await cable(a, 'eth0', left, 'near');
  await cable(left, 'middle', right, 'middle');
  await cable(right, 'near', b, 'eth0');
  await cable(outsider, 'eth0', left, 'aside');
  for (const router of [left, right]) await router.ip(`link set middle mtu ${mtu}`);
  await link(a, 'eth0', left, 'near', 1);
  await link(left, 'middle', right, 'middle', 2);
  await link(b, 'eth0', right, 'near', 3);
  await link(outsider, 'eth0', left, 'aside', 4);
  for (const [host, network] of [
    [a, 1],
    [b, 3],
  ] as const) {
    const { v4, v6 } = host.addresses.outer;
    await host.ip(`address add ${v4}/32 dev eth0`);
    await host.ip(`address add ${v6}/128 dev eth0 nodad`);
    await host.ip(`route add default via 198.18.${network}.2 src ${v4}`);
    await host.ip(`-6 route add default via fd18:${network}::2 src ${v6}`);
  }
  const { v4: a4, v6: a6 } = a.addresses.outer;
  const { v4: b4, v6: b6 } = b.addresses.outer;
  await left.ip(`route add ${a4}/32 via 198.18.1.1`);
  await left.ip(`-6 route add ${a6}/128 via fd18:1::1`);
  await left.ip('route add default via 198.18.2.2');
  await left.ip('-6 route add default via fd18:2::2');
  await right.ip(`route add ${b4}/32 via 198.18.3.1`);
  await right.ip(`-6 route add ${b6}/128 via fd18:3::1`);
  await right.ip('route add default via 198.18.2.1');
  await right.ip('-6 route add default via fd18:2::1');
  await outsider.ip('route add default via 198.18.4.2');
  await outsider.ip('-6 route add default via fd18:4::2');
  return { left, outsider };
}

async function link(one: Namespace, device: string, other: Namespace, otherDevice: string, network: number): Promise<void> {
  for (const [host, name, number] of [
    [one, device, 1],
    [other, otherDevice, 2],
  ] as const) {
    await host.ip(`address add 198.18.${network}.${number}/24 dev ${name}`);
    await host.ip(`address add fd18:${network}::${number}/64 dev ${name} nodad`);
  }
}
