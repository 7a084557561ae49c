/** UNIX stream sockets between our own processes: listen privately, connect and reconnect, bound what waits to be sent. */

import { chmodSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { SystemError } from '../errors.ts';
import { type PeerCheck, peerCheck } from './peer-check.ts';

/** One end of a byte stream: a socket, or an end of `link()`. */
export interface Channel {
  /** Writes bytes in order; `sent` is called when they have left. A channel whose other end does not read is closed once `QUEUE_BYTES` wait. */
  send(bytes: Uint8Array, sent?: () => void): void;
  close(): void;
  /** The bytes that wait to be read by the other end. */
  readonly queuedBytes: number;
}

export interface ChannelEvents {
  readonly onData: (bytes: Uint8Array) => void;
  readonly onClose: (why: string) => void;
}

/** What may wait for a reader that does not read. */
export const QUEUE_BYTES = 8 * 1024 * 1024;

/** Accepts connections of this user and of root at `path`, which is mode 0600 in a directory that is made 0700 where it is missing. */
export async function listen(
  path: string,
  onConnect: (channel: Channel, socket: Socket) => ChannelEvents,
  admits: PeerCheck = peerCheck(() => {}),
): Promise<{ close(): Promise<void> }> {
  attempt('make the directory of', path, () => mkdirSync(dirname(path), { recursive: true, mode: 0o700 }));
  await removeStale(path);
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    if (!admits(socket, path)) {
      socket.destroy();
      return;
    }
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    const channel = channelOf(socket);
    attach(socket, onConnect(channel, socket));
  });
  // The socket is made within the call: nothing else sees this mask.
  const mask = process.umask(0o177);
  const ready = listening(server, path);
  process.umask(mask);
  await ready;
  chmodSync(path, 0o600);
  return {
    close: () =>
      new Promise((resolve) => {
        for (const socket of open) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

/** Connects once. Rejects with a SystemError that names the path. */
export function connect(path: string, events: (channel: Channel) => ChannelEvents): Promise<Channel> {
  return new Promise((resolve, reject) => {
    const socket = netConnect(path);
    socket.once('error', (error: NodeJS.ErrnoException) => reject(cannot('connect to', path, error)));
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      const channel = channelOf(socket);
      attach(socket, events(channel));
      resolve(channel);
    });
  });
}

const RECONNECT_FIRST_MS = 20;
const RECONNECT_LAST_MS = 50;

/** Connects, and again whenever the connection is lost, until closed. `onUp` comes with each new connection. */
export function keepConnected(path: string, onUp: (channel: Channel) => ChannelEvents): { close(): void } {
  let closed = false;
  let current: Channel | undefined;
  let timer: NodeJS.Timeout | undefined;
  let delay = RECONNECT_FIRST_MS;
  const again = () => {
    current = undefined;
    if (closed) return;
    timer = setTimeout(attempt, delay);
    delay = Math.min(RECONNECT_LAST_MS, delay * 2);
  };
  const attempt = () => {
    connect(path, (channel) => {
      delay = RECONNECT_FIRST_MS;
      current = channel;
      const events = onUp(channel);
      return {
        onData: events.onData,
        onClose(why) {
          events.onClose(why);
          again();
        },
      };
    }).then((channel) => {
      if (closed) channel.close();
    }, again);
  };
  attempt();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      current?.close();
    },
  };
}

function channelOf(socket: Socket): Channel {
  return {
    send(bytes, sent) {
      if (socket.destroyed) return;
      socket.write(bytes, sent === undefined ? undefined : (error) => error ?? sent());
      if (socket.writableLength > QUEUE_BYTES) socket.destroy(new Error('the other end does not read'));
    },
    close() {
      socket.end();
      socket.destroySoon();
    },
    get queuedBytes() {
      return socket.writableLength;
    },
  };
}

/** The same octets as a Uint8Array: `slice` of a Buffer would not copy, and the machines count on it that it does. */
export function plain(chunk: Buffer): Uint8Array {
  return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
}

function attach(socket: Socket, { onData, onClose }: ChannelEvents): void {
  let why = 'closed by the other end';
  socket.on('data', (chunk: Buffer) => onData(plain(chunk)));
  socket.on('error', (error) => {
    why = error.message;
  });
  socket.on('close', () => onClose(why));
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(cannot('listen on', path, error)));
    server.listen(path, () => resolve());
  });
}

/** Removes a socket that nobody listens on any more; one that answers belongs to a running daemon and stays. */
async function removeStale(path: string): Promise<void> {
  let isSocket: boolean;
  try {
    isSocket = lstatSync(path).isSocket();
  } catch {
    return; // nothing there: the usual case
  }
  if (!isSocket)
    throw new SystemError(
      `${path} is in the way: it exists and is no socket; remove it or choose another run directory`,
      'EEXIST',
    );
  const alive = await connect(path, () => ({ onData: () => {}, onClose: () => {} })).then(
    (channel) => {
      channel.close();
      return true;
    },
    () => false,
  );
  if (alive)
    throw new SystemError(
      `another daemon listens on ${path}; stop it first (tanuki down) or choose another --run-dir`,
      'EADDRINUSE',
    );
  attempt('take the place of', path, () => unlinkSync(path));
}

function attempt(what: string, path: string, action: () => void): void {
  try {
    action();
  } catch (error) {
    throw cannot(what, path, error as NodeJS.ErrnoException);
  }
}

function cannot(what: string, path: string, error: NodeJS.ErrnoException): SystemError {
  return new SystemError(`cannot ${what} ${path}: ${error.message}`, error.code);
}
