/** A network namespace of this test process's own: whatever a test does to links and routes dies with the process. */

import { isMainThread } from 'node:worker_threads';
import { hasCapability } from '../../../../src/runtime/native/credentials.ts';
import { check, close, type Libc, libc as libcDoor } from '../../../../src/runtime/native/libc.ts';
import { Rtnetlink } from '../../../../src/runtime/netlink/rtnetlink.ts';

const CLONE_NEWNET = 0x40000000;

/** Moves this thread to a fresh namespace with `lo` up. Undefined when done, else why it cannot be. */
export function enterNamespace(): string | undefined {
  const { open: libc, why } = libcDoor();
  if (libc === undefined) return why;
  if (!isMainThread) return 'the tests run in worker threads, which share the namespace of their process';
  if (!hasCapability('CAP_NET_ADMIN')) return 'it needs root';
  const unshare: (flags: number) => number = libc.self.func('unshare', 'int', ['int']);
  if (unshare(CLONE_NEWNET) !== 0) return `no network namespace: errno ${libc.errno()}`;
  raiseLoopback(libc);
  return undefined;
}

/** Makes a second namespace beside the present one, runs `within` in it, and comes back. */
export async function inAnotherNamespace<T>(libc: Libc, within: () => Promise<T>): Promise<T> {
  const setns: (fd: number, type: number) => number = libc.self.func('setns', 'int', ['int', 'int']);
  const unshare: (flags: number) => number = libc.self.func('unshare', 'int', ['int']);
  const home = check(libc, libc.open('/proc/thread-self/ns/net', 0), 'open the namespace');
  try {
    check(libc, unshare(CLONE_NEWNET), 'make a network namespace');
    raiseLoopback(libc);
    return await within();
  } finally {
    check(libc, setns(home, CLONE_NEWNET), 'go back to the first namespace');
    close(libc, home);
  }
}

function raiseLoopback(libc: Libc): void {
  const rtnetlink = new Rtnetlink(libc);
  rtnetlink.setLink(rtnetlink.link('lo')!.index, { up: true });
  rtnetlink.close();
}
