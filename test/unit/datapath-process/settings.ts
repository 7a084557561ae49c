/** What spmd would tell the datapath: a memory device. */

import type { DatapathSettings } from '../../../src/datapath-process/ports.ts';

export function datapathSettings(
  datapath: Partial<DatapathSettings['datapath']> = {},
  localAddresses: readonly string[] = [],
): DatapathSettings {
  return {
    datapath: {
      device: 'memory',
      name: 'tanuki0',
      mtu: 0,
      encapPort: 0,
      encapsulation: 'auto',
      addresses: ['10.1.0.1'],
      cipher: 'auto',
      df: 'copy',
      pmtuFloor: 1280,
      mssClamp: true,
      icmpErrors: true,
      dscp: 'copy',
      decapDscp: false,
      spin: 0,
      dialect: 'tanuki',
      ahPadding: 'rfc',
      backend: 'embedded',
      ...datapath,
    },
    limits: { halfOpenSas: 100, cookieThreshold: 50, ikeSas: 1000, childSasPerIkeSa: 10, heldPacketsPerPolicy: 16 },
    logging: { level: 'info', destination: 'stderr', format: 'text' },
    keyPorts: [500, 4500],
    localAddresses,
    unmatched: 'bypass',
  };
}
