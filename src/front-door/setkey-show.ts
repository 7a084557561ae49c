/** SAs and policies as setkey(8) prints them: two addresses, and indented lines about what is between them. Keys are not printed. */

import { encrBySadb, integBySadb } from '../crypto/transforms.ts';
import type { SadbAddress, SadbLifetime, SadbMessage } from '../pfkey/message.ts';
import { IPSEC_DIR, IPSEC_LEVEL, IPSEC_MODE, IPSEC_POLICY, IPSEC_ULPROTO_ANY, SADB_SASTATE } from '../pfkey/registry.ts';

const SATYPE: Readonly<Record<number, string>> = { 2: 'ah', 3: 'esp', 9: 'ipcomp' };
const PROTOCOL: Readonly<Record<number, string>> = { 50: 'esp', 51: 'ah', 108: 'ipcomp' };

export function showSadb(message: SadbMessage): string {
  return message.policy === undefined ? showSa(message) : showPolicy(message);
}

function showSa({ satype, sa, source, destination, sa2, ...rest }: SadbMessage): string {
  const { nattSourcePort, nattDestinationPort, lifetimeCurrent, lifetimeHard, lifetimeSoft } = rest;
  const port = (n: number | undefined) => (n === undefined ? '' : `[${n}]`);
  const spi = sa?.spi ?? 0;
  const reqid = sa2?.reqid ?? 0;
  const encr = encrBySadb(sa?.encrypt ?? 0);
  const integ = integBySadb(sa?.auth ?? 0);
  const lines = [
    `${source?.address}${port(nattSourcePort)} ${destination?.address}${port(nattDestinationPort)}`,
    `\t${SATYPE[satype] ?? satype}${nattSourcePort === undefined ? '' : '-udp'} mode=${nameOf(IPSEC_MODE, sa2?.mode)} spi=${spi}(0x${spi.toString(16).padStart(8, '0')}) reqid=${reqid}(0x${reqid.toString(16).padStart(8, '0')})`,
    ...(encr === undefined ? [] : [`\tE: ${encr.replaceAll('_', '-')}`]),
    ...(integ === undefined ? [] : [`\tA: ${integ.replaceAll('_', '-')}`]),
    `\treplay=${rest.window ?? sa?.replay ?? 0} state=${nameOf(SADB_SASTATE, sa?.state)}`,
    ...life(lifetimeCurrent, lifetimeHard, lifetimeSoft),
  ];
  return lines.join('\n');
}

function showPolicy({ source, destination, policy, kmAddress, lifetimeHard }: SadbMessage): string {
  const { type, direction, id, priority, requests } = policy!;
  const protocol = source?.protocol === IPSEC_ULPROTO_ANY ? 'any' : String(source?.protocol);
  const action = type === IPSEC_POLICY.IPSEC ? 'ipsec' : type === IPSEC_POLICY.DISCARD ? 'discard' : 'none';
  const directions: Readonly<Record<number, string>> = {
    [IPSEC_DIR.INBOUND]: 'in',
    [IPSEC_DIR.OUTBOUND]: 'out',
    [IPSEC_DIR.FWD]: 'fwd',
  };
  const lines = [
    `${range(source)} ${range(destination)} ${protocol}`,
    `\t${directions[direction] ?? direction} prio ${priority} ${action}`,
    ...requests.map(({ protocol: number, mode, level, reqid, addresses }) => {
      const ends = addresses === undefined ? '' : `${addresses.source.address}-${addresses.destination.address}`;
      const suffix = reqid === 0 ? '' : `:${reqid}`;
      return `\t${PROTOCOL[number] ?? number}/${nameOf(IPSEC_MODE, mode)}/${ends}/${nameOf(IPSEC_LEVEL, level)}${suffix}`;
    }),
    ...(kmAddress === undefined ? [] : [`\tkeys between ${kmAddress.local.address} and ${kmAddress.remote.address}`]),
    ...(lifetimeHard === undefined || lifetimeHard.addtime === 0 ? [] : [`\tlifetime: ${lifetimeHard.addtime}(s)`]),
    `\tspid=${id}`,
  ];
  return lines.join('\n');
}

function range(address: SadbAddress | undefined): string {
  if (address === undefined) return '?';
  return `${address.address}/${address.prefixLength}[${address.port === 0 ? 'any' : address.port}]`;
}

function life(current: SadbLifetime | undefined, hard: SadbLifetime | undefined, soft: SadbLifetime | undefined): string[] {
  if (current === undefined) return [];
  const limit = (of: SadbLifetime | undefined, member: 'addtime' | 'bytes') => of?.[member] ?? 0;
  const created = new Date(current.addtime * 1000).toISOString();
  return [
    `\tcreated: ${created} hard: ${limit(hard, 'addtime')}(s) soft: ${limit(soft, 'addtime')}(s)`,
    `\tcurrent: ${current.bytes}(bytes) hard: ${limit(hard, 'bytes')}(bytes) soft: ${limit(soft, 'bytes')}(bytes) allocated: ${current.allocations}`,
  ];
}

function nameOf(table: Readonly<Record<string, number>>, value: number | undefined): string {
  const found = Object.entries(table).find(([, number]) => number === value)?.[0];
  return found?.toLowerCase() ?? String(value);
}
