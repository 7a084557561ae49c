/** The configuration of a key daemon that has got none yet. */

import type { Config } from './config.ts';

/** Nobody is served. */
export const NOTHING: Config = {
  interface: {
    ike: [],
    kink: [],
    spmd: undefined,
    spmdPassword: undefined,
    pfkey: undefined,
    metrics: undefined,
    applicationBypass: true,
    datapath: {
      device: 'memory',
      name: '',
      mtu: 0,
      encapPort: 4500,
      encapsulation: 'auto',
      addresses: [],
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
    },
    limits: { halfOpenSas: 0, cookieThreshold: 0, ikeSas: 0, childSasPerIkeSa: 0, heldPacketsPerPolicy: 0 },
  },
  logging: { level: 'info', destination: 'stderr', format: 'text' },
  kerberos: { backend: 'auto', realm: undefined, kdcs: [], keytab: '/etc/krb5.keytab', clockSkew: 300_000 },
  remotes: [],
  selectors: [],
  unmatched: 'bypass',
  resolver: { on: false, nameservers: [], dnsQuery: [] },
  addressPools: [],
};
