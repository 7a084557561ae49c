/** Four namespaces for a node that moves: `mn` on one of two access links, a router on each, and the correspondent's gateway `gw` behind both. */
import { cable, type Family, type Host, Lab, type LabOptions, type Namespace } from './namespaces.ts';

/** Where the mobile node can be: a device and an address of its own there. */
export type Place = { readonly link: 1 | 2; readonly address: Record<Family, string> };

/** On the first link, on the second, and on the first again under another address. RFC 5737 and RFC 3849. */
export const PLACES = {
  first: { link: 1, address: { v4: '192.0.2.10', v6: '2001:db8:1::10' } },
  second: { link: 2, address: { v4: '203.0.113.10', v6: '2001:db8:2::10' } },
  third: { link: 1, address: { v4: '192.0.2.20', v6: '2001:db8:1::20' } },
} as const satisfies Record<string, Place>;

/** The gateway's address, the same for both links. */
export const GATEWAY: Record<Family, string> = { v4: '198.51.100.1', v6: '2001:db8:f::1' };

const ROUTER = {
  1: { v4: '192.0.2.1', v6: '2001:db8:1::1' },
  2: { v4: '203.0.113.1', v6: '2001:db8:2::1' },
} as const;

/** The lab's `a` is the mobile node and its `b` the gateway; their inner addresses are those of every lab. */
export class Roaming {
  readonly lab: Lab;
  #at: Place = PLACES.first;

  private constructor(lab: Lab) {
    this.lab = lab;
  }

  get mn(): Host {
    return this.lab.a;
  }
  get gw(): Host {
    return this.lab.b;
  }
  get place(): Place {
    return this.#at;
  }

  /** Makes everything; the mobile node is at the first place. */
  static async open(options: Omit<LabOptions, 'link'>): Promise<Roaming> {
    const roaming = new Roaming(await Lab.open({ ...options, link: false }));
    try {
      const { mn, gw } = roaming;
      await gw.ip(`address add ${GATEWAY.v4}/32 dev lo`);
      await gw.ip(`address add ${GATEWAY.v6}/128 dev lo nodad`);
      for (const link of [1, 2] as const) await accessLink(link, mn, await roaming.lab.other(`r${link}`), gw);
      await roaming.#arrive(PLACES.first);
    } catch (error) {
      await roaming.lab.close();
      throw error;
    }
    return roaming;
  }

  /** The old address goes, then the new one comes. Nobody is told. */
  async move(to: Place): Promise<void> {
    const { link, address } = this.#at;
    await this.mn.ip(`address del ${address.v4}/24 dev eth${link}`);
    await this.mn.ip(`address del ${address.v6}/64 dev eth${link}`);
    await this.#arrive(to);
  }

  async #arrive(place: Place): Promise<void> {
    const { link, address } = place;
    await this.mn.ip(`address add ${address.v4}/24 dev eth${link}`);
    await this.mn.ip(`address add ${address.v6}/64 dev eth${link} nodad`);
    for (const family of ['v4', 'v6'] as const)
      await this.mn.ip(`-${family[1]} route replace default via ${ROUTER[link][family]} dev eth${link}`);
    this.#at = place;
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}

async function accessLink(link: 1 | 2, mn: Host, router: Namespace, gw: Host): Promise<void> {
  const { v4, v6 } = ROUTER[link];
  await cable(mn, `eth${link}`, router, 'eth0');
  await cable(router, 'eth1', gw, `eth${link}`);
  await router.ip(`address add ${v4}/24 dev eth0`);
  await router.ip(`address add ${v6}/64 dev eth0 nodad`);
  await router.ip(`address add 198.18.${link}.1/24 dev eth1`);
  await router.ip(`address add 2001:db8:e${link}::1/64 dev eth1 nodad`);
  await gw.ip(`address add 198.18.${link}.2/24 dev eth${link}`);
  await gw.ip(`address add 2001:db8:e${link}::2/64 dev eth${link} nodad`);
  await router.ip(`route add ${GATEWAY.v4}/32 via 198.18.${link}.2`);
  await router.ip(`-6 route add ${GATEWAY.v6}/128 via 2001:db8:e${link}::2`);
  await gw.ip(`route add ${v4.replace(/1$/, '0')}/24 via 198.18.${link}.1`);
  await gw.ip(`-6 route add ${v6.replace(/1$/, '')}/64 via 2001:db8:e${link}::1`);
}
