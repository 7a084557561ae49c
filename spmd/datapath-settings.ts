/** What the datapath's process is to know of the configuration beyond its policies. */

import type { Config } from '../src/config/config.ts';
import type { DatapathSettings } from '../src/config/datapath-settings.ts';
import { expandEndpoints, type LocalAddress } from '../src/config/expand.ts';

const IKE_PORT = 500;
const KINK_PORT = 910;

export function settingsOf({ interface: host, logging, unmatched }: Config, local: readonly LocalAddress[]): DatapathSettings {
  const ports = [...host.ike.map(({ port }) => port || IKE_PORT), ...host.kink.map(({ port }) => port || KINK_PORT)];
  const addresses = host.ike.flatMap((spec) => expandEndpoints(spec, local)).map(({ address }) => address.toString());
  return {
    datapath: host.datapath,
    limits: host.limits,
    logging,
    keyPorts: [...new Set(ports)],
    localAddresses: [...new Set(addresses)],
    unmatched,
    pfkey: host.pfkey,
  };
}
