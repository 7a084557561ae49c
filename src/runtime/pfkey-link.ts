/** A daemon's connection to the datapath: PF_KEY messages as values, dialled again whenever it is lost. */

import { readSadb, SadbError, SadbFramer, type SadbMessage, writeSadb } from '../pfkey/message.ts';
import type { Shell } from './shell.ts';
import type { Channel } from './unix-socket.ts';

/** What a machine takes of its connection. */
export type PfkeyInput =
  | { readonly kind: 'pfkey'; readonly message: SadbMessage }
  | { readonly kind: 'pfkey-link'; readonly up: boolean };

export interface PfkeyLink {
  /** Nothing leaves while the connection is down: the machine knows, and resynchronises when it is up. */
  send(message: SadbMessage): void;
  close(): void;
}

export function pfkeyLink({ doors, report }: Pick<Shell, 'doors' | 'report'>, put: (input: PfkeyInput) => void): PfkeyLink {
  let current: Channel | undefined;
  const dialled = doors.pfkey.dial((channel) => {
    const framer = new SadbFramer();
    current = channel;
    put({ kind: 'pfkey-link', up: true });
    return {
      onData(bytes) {
        try {
          for (const message of framer.push(bytes)) put({ kind: 'pfkey', message: readSadb(message) });
        } catch (error) {
          if (!(error instanceof SadbError)) throw error;
          const message = `the datapath does not speak PF_KEY: ${error.message}`;
          report({ name: 'pfkey-broken', severity: 'error', message });
          channel.close();
        }
      },
      onClose() {
        current = undefined;
        put({ kind: 'pfkey-link', up: false });
      },
    };
  });
  return { send: (message) => current?.send(writeSadb(message)), close: () => dialled.close() };
}
