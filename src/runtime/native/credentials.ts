/**
 * Who we are and who connected: capabilities of this process (capabilities(7)) and the credentials of a UNIX peer (unix(7),
 * SO_PEERCRED).
 */

import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { SystemError } from '../../errors.ts';
import type { Libc } from './libc.ts';
import { peerCredentials } from './sockets.ts';

/** The capabilities that any part of the suite needs, by bit. */
export const CAPABILITY = { CAP_NET_BIND_SERVICE: 10, CAP_NET_ADMIN: 12, CAP_NET_RAW: 13 } as const;

export type Capability = keyof typeof CAPABILITY;

/** Whether this process has the capability in effect. True for root where the host has no /proc to ask. */
export function hasCapability(capability: Capability): boolean {
  let status: string;
  try {
    status = readFileSync('/proc/self/status', 'latin1');
  } catch {
    return process.geteuid?.() === 0;
  }
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return effective !== undefined && ((BigInt(`0x${effective}`) >> BigInt(CAPABILITY[capability])) & 1n) === 1n;
}

/**
 * A sentence for the log where the capability is missing: what cannot be done, who we are, what to do. Undefined where it is
 * there.
 */
export function missingCapability(capability: Capability, forWhat: string): string | undefined {
  if (hasCapability(capability)) return undefined;
  const uid = process.geteuid?.() ?? -1;
  return `${forWhat} needs ${capability}, which this process (user ${uid}) does not have: run it as root, or with the capability`;
}

/**
 * Process, user and group of the other end of a connected UNIX socket. Throws SystemError where Node holds no descriptor for it.
 */
export function credentialsOf(libc: Libc, socket: Socket): { pid: number; uid: number; gid: number } {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  if (typeof fd !== 'number' || fd < 0) throw new SystemError('ask who connected: the connection is closed already');
  return peerCredentials(libc, fd);
}
