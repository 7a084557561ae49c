/** The addresses of this host, and word of their changes. */

import { networkInterfaces } from 'node:os';
import type { LocalAddress } from '../config/expand.ts';
import { IpAddress } from '../net/address.ts';

/** All addresses of all interfaces that are up. A link-local IPv6 address has its interface as zone. */
export function localAddresses(): LocalAddress[] {
  const found: LocalAddress[] = [];
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    for (const { address, family } of addresses ?? []) {
      const parsed = IpAddress.parse(family === 'IPv6' && address.startsWith('fe80') ? `${address}%${name}` : address);
      if (parsed !== undefined) found.push({ address: parsed, interface: name });
    }
  }
  return found;
}

const LOOK_AGAIN_MS = 2_000;

/** Calls back with the addresses whenever they have changed since the last look. */
export function watchLocalAddresses(onChange: (addresses: LocalAddress[]) => void): { close(): void } {
  let known = JSON.stringify(localAddresses());
  const timer = setInterval(() => {
    const now = localAddresses();
    const text = JSON.stringify(now);
    if (text === known) return;
    known = text;
    onChange(now);
  }, LOOK_AGAIN_MS);
  timer.unref();
  return { close: () => clearInterval(timer) };
}
