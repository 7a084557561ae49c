/** Where two of our parts meet: one listens, others dial. A socket between processes, a link within one. */

import type { Socket } from 'node:net';
import { link } from './link.ts';
import type { PeerCheck } from './peer-check.ts';
import { type Channel, type ChannelEvents, keepConnected, listen } from './unix-socket.ts';

/** What comes of a connection that was accepted; `socket` is there where a kernel is between. */
export type Accept = (channel: Channel, socket: Socket | undefined) => ChannelEvents;

export interface Door {
  listen(accept: Accept): Promise<{ close(): Promise<void> }>;
  /** Connects, and again whenever the connection is lost, until closed; `onUp` comes with each new connection. */
  dial(onUp: (channel: Channel) => ChannelEvents): { close(): void };
}

/** A door that is a UNIX socket. */
export function socketDoor(path: string, admits?: PeerCheck): Door {
  return {
    listen: (accept) => listen(path, accept, admits),
    dial: (onUp) => keepConnected(path, onUp),
  };
}

const REDIAL_MS = 20;

/** A door within one process. */
export function linkDoor(): Door {
  let accept: Accept | undefined;
  const open = new Set<Channel>();
  return {
    async listen(onConnect) {
      accept = onConnect;
      return {
        async close() {
          accept = undefined;
          for (const channel of open) channel.close();
        },
      };
    },
    dial(onUp) {
      let closed = false;
      let current: Channel | undefined;
      let timer: NodeJS.Timeout | undefined;
      const attempt = () => {
        if (accept === undefined) {
          timer = setTimeout(attempt, REDIAL_MS);
          return;
        }
        const answer = accept;
        link(
          (channel) => {
            current = channel;
            const events = onUp(channel);
            return {
              onData: events.onData,
              onClose(why) {
                events.onClose(why);
                if (!closed) timer = setTimeout(attempt, REDIAL_MS);
              },
            };
          },
          (channel) => {
            open.add(channel);
            const events = answer(channel, undefined);
            return {
              onData: events.onData,
              onClose(why) {
                open.delete(channel);
                events.onClose(why);
              },
            };
          },
        );
      };
      timer = setTimeout(attempt, 0);
      return {
        close() {
          closed = true;
          clearTimeout(timer);
          current?.close();
        },
      };
    },
  };
}
