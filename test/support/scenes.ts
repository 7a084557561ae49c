/** Scenes that the ladders of both versions of IKE play in: traffic while something happens, and a NAT between the nodes. */

import { IpAddress, type Path } from '../../src/net/address.ts';
import { type IkeNode, LAN_A, LAN_B, type Net, type PairOptions, pair } from './ike-pair.ts';

/** A packet each way every 5 ms while `ms` pass. Tells how many were lost. */
export function traffic(a: IkeNode, b: IkeNode, net: Net, ms: number): number {
  for (let at = 0; at < ms; at += 5) {
    net.after(at, () => {
      a.packet(b);
      b.packet(a);
    });
  }
  net.run(ms + 1000);
  return a.lost + b.lost;
}

const INSIDE = '10.0.0.1';
export const OUTSIDE = IpAddress.parse('198.51.100.7')!;

/** Two gateways, the first behind a NAT that moves its ports up by `ports.base`. */
export function natted({ a = {}, b = {} }: PairOptions = {}) {
  const made = pair({
    a: { address: INSIDE, peer: '192.0.2.2', children: [{ local: LAN_A, peer: LAN_B }], ...a },
    b: { peer: `${OUTSIDE}`, ...b },
  });
  const ports = { base: 20_000 };
  const translate = (path: Path): Path => {
    if (`${path.local.address}` === INSIDE) return { ...path, local: { address: OUTSIDE, port: ports.base + path.local.port } };
    if (path.remote.address.equals(OUTSIDE))
      return { ...path, remote: { address: IpAddress.parse(INSIDE)!, port: path.remote.port - ports.base } };
    return path;
  };
  made.net.translate = (path) => {
    if (path.remote.address.equals(OUTSIDE) && path.remote.port < ports.base) return undefined;
    return translate(path);
  };
  return { ...made, ports };
}
