/** The argument of the verb `configure`, read from what came over control.sock: nothing else reaches a host. */

import { IpAddress } from '../net/address.ts';
import type { DatapathSettings } from './ports.ts';

type Check = (value: unknown) => boolean;
type Checks<T> = { readonly [Name in keyof T]-?: Check };

const text: Check = (value) => typeof value === 'string';
const path: Check = (value) => value === undefined || (typeof value === 'string' && value !== '');
const count: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const port: Check = (value) => count(value) && (value as number) <= 65_535;
const flag: Check = (value) => typeof value === 'boolean';
const address: Check = (value) => typeof value === 'string' && IpAddress.parse(value) !== undefined;
const oneOf =
  (...words: readonly string[]): Check =>
  (value) =>
    words.includes(value as string);
const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);

const DATAPATH: Checks<DatapathSettings['datapath']> = {
  device: oneOf('tun', 'memory'),
  name: text,
  mtu: port,
  encapPort: port,
  encapsulation: oneOf('auto', 'force'),
  addresses: listOf(address),
  cipher: oneOf('auto', 'openssl', 'noble'),
  df: oneOf('copy', 'set', 'clear'),
  pmtuFloor: port,
  mssClamp: flag,
  icmpErrors: flag,
  dscp: (value) => value === 'copy' || (count(value) && (value as number) <= 63),
  decapDscp: flag,
  spin: count,
  dialect: oneOf('tanuki', 'linux-strict'),
  ahPadding: oneOf('rfc', 'linux'),
  backend: oneOf('embedded', 'xfrm'),
};
const LIMITS: Checks<DatapathSettings['limits']> = {
  halfOpenSas: count,
  cookieThreshold: count,
  ikeSas: count,
  childSasPerIkeSa: count,
  heldPacketsPerPolicy: count,
};
const LOGGING: Checks<DatapathSettings['logging']> = {
  level: oneOf('debug', 'info', 'notice', 'warning', 'error'),
  destination: text,
  format: oneOf('text', 'json'),
};
const SETTINGS: Checks<DatapathSettings> = {
  datapath: (value) => isOf(value, DATAPATH, 'datapath.'),
  limits: (value) => isOf(value, LIMITS, 'limits.'),
  logging: (value) => isOf(value, LOGGING, 'logging.'),
  keyPorts: listOf(port),
  localAddresses: listOf(address),
  unmatched: oneOf('bypass', 'discard'),
  pfkey: path,
};

/** Throws Error with the name of the member that is missing or wrong. */
export function readSettings(value: unknown): DatapathSettings {
  if (!isOf(value, SETTINGS, '')) throw new Error('configure: expected "settings": what spmd tells the datapath, an object');
  return value as DatapathSettings;
}

function isOf<T>(value: unknown, checks: Checks<T>, within: string): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  for (const [name, check] of Object.entries(checks) as [string, Check][]) {
    const member = Object.hasOwn(value, name) ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
    if (!check(member)) {
      const found = JSON.stringify(member)?.slice(0, 60) ?? 'nothing';
      throw new Error(`configure: settings.${within}${name} is not what spmd would tell the datapath; found ${found}`);
    }
  }
  return true;
}
