/** An exception in the packet worker of a process that knows nothing of tests: Node's inspector puts it there, so that the product needs no door for it. */
import { fileURLToPath } from 'node:url';
import type { Namespace } from './namespaces.ts';

const INSPECTOR = fileURLToPath(new URL('./inspector.mjs', import.meta.url));

/** The next packet throws in the worker of the process `pid`, which runs in `host`. Gives the time (`Date.now`) from which on that is so. */
export async function throwInPacketWorker(host: Namespace, pid: number): Promise<number> {
  return Number(await host.must([process.execPath, INSPECTOR, `${pid}`]));
}
