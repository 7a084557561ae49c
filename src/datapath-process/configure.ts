/** spmd's hand on the datapath: what a configuration means for it, told over control.sock, and again whenever the datapath was started anew. */

import type { Config } from '../config/config.ts';
import { expandEndpoints, type LocalAddress } from '../config/expand.ts';
import { type ControlClient, controlClient } from '../runtime/control.ts';
import type { DatapathSettings } from './ports.ts';

/** RFC 7296 §2, RFC 4430 §3. */
const KEY_PORTS = [500, 910];

export function datapathSettings(config: Config, local: readonly LocalAddress[]): DatapathSettings {
  const ike = config.interface.ike.flatMap((spec) => expandEndpoints(spec, local));
  const ports = new Set(
    [...KEY_PORTS, ...ike.map(({ port }) => port), config.interface.datapath.encapPort].filter((port) => port !== 0),
  );
  return {
    datapath: config.interface.datapath,
    limits: config.interface.limits,
    logging: config.logging,
    keyPorts: [...ports].sort((a, b) => a - b),
    localAddresses: [...new Set(ike.map(({ address }) => `${address}`))],
    unmatched: config.unmatched,
  };
}

export interface DatapathLink {
  /** Tells the settings now and after each restart. Resolves with what is wrong with them there; rejects where they were refused. */
  configure(settings: DatapathSettings): Promise<readonly string[]>;
  close(): void;
}

const RETRY_FIRST_MS = 20;
const RETRY_LAST_MS = 500;

/** `path`: the datapath's control.sock. `onProblems`: what it said after a restart of its own. */
export function datapathLink(path: string, onProblems: (problems: readonly string[]) => void): DatapathLink {
  let closed = false;
  let client: ControlClient | undefined;
  let settings: DatapathSettings | undefined;
  let delay = RETRY_FIRST_MS;
  let waiting: (() => void)[] = [];

  async function tell(to: ControlClient): Promise<readonly string[]> {
    const { problems } = (await to.ask('configure', { settings })) as { problems: readonly string[] };
    return problems;
  }

  async function keep(): Promise<void> {
    while (!closed) {
      try {
        await once();
        delay = RETRY_FIRST_MS;
      } catch {
        // it does not run yet, or no more: tried again below
      }
      client = undefined;
      await new Promise((resolve) => setTimeout(resolve, delay));
      delay = Math.min(RETRY_LAST_MS, delay * 2);
    }
  }

  /** One connection, from its beginning to its end. */
  async function once(): Promise<void> {
    let ended: () => void = () => {};
    const end = new Promise<void>((resolve) => {
      ended = resolve;
    });
    const connected = await controlClient(path, undefined, () => ended());
    if (settings !== undefined) onProblems(await tell(connected));
    client = connected;
    for (const go of waiting.splice(0)) go();
    await end;
  }

  void keep();
  return {
    async configure(next) {
      settings = next;
      if (client === undefined) await new Promise<void>((resolve) => waiting.push(resolve));
      if (closed || client === undefined) throw new Error('the datapath is not there');
      // A connection that came up meanwhile has told them already; to say them twice changes nothing.
      return tell(client);
    },
    close() {
      closed = true;
      for (const go of waiting) go();
      waiting = [];
      client?.close();
    },
  };
}
