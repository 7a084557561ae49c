/** Who may connect to a socket of ours: this user and root, by the credentials that the kernel has of the other end (SO_PEERCRED, unix(7)). */

import type { Socket } from 'node:net';
import { SystemError } from '../errors.ts';
import type { Event } from '../event.ts';
import { credentialsOf, type Door, type Libc, libcDoor } from './native/index.ts';

/** Whether the connection that was accepted at `path` may stay. */
export type PeerCheck = (socket: Socket, path: string) => boolean;

/** A check that reports whom it turns away, and once where it cannot ask the kernel: then the modes of socket and directory alone protect. */
export function peerCheck(report: (event: Event) => void, door: () => Door<Libc> = libcDoor): PeerCheck {
  let told = false;
  return (socket, path) => {
    const { open: libc, why } = door();
    const me = process.geteuid?.();
    if (libc === undefined || me === undefined) {
      if (!told) {
        told = true;
        const message = `who connects cannot be asked for (${why ?? 'no user ids here'}): mode 0600 in a directory of mode 0700 keeps others out`;
        report({ name: 'peer-unchecked', severity: 'debug', message });
      }
      return true;
    }
    const peer = tryCredentials(() => credentialsOf(libc, socket));
    if (peer === undefined) return false;
    if (peer.uid === me || peer.uid === 0) return true;
    const message = `${path}: a process of user ${peer.uid} (${peer.pid}) was turned away; only user ${me} and root may connect`;
    report({ name: 'peer-refused', severity: 'warning', message, uid: peer.uid, pid: peer.pid });
    return false;
  };
}

/** Undefined where the connection has ended already. */
function tryCredentials<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch (error) {
    if (error instanceof SystemError) return undefined;
    throw error;
  }
}
