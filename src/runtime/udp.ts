/** UDP sockets by Node's own means: one per local address, so that an answer leaves from the address that was asked. */

import { createSocket, type Socket } from 'node:dgram';
import { SystemError } from '../errors.ts';
import { type Endpoint, IpAddress, showEndpoint } from '../net/address.ts';
import { plain } from './unix-socket.ts';

export interface UdpSocket {
  readonly local: Endpoint;
  send(bytes: Uint8Array, remote: Endpoint): void;
  close(): Promise<void>;
}

export interface UdpEvents {
  readonly onDatagram: (bytes: Uint8Array, remote: Endpoint, local: Endpoint) => void;
  /** An error of the running socket: sending failed, the interface went away. */
  readonly onError: (error: SystemError) => void;
}

/** Binds to one address and port (0: one of the system's choice). Rejects with a SystemError that says what to do. */
export function bindUdp(local: Endpoint, events: UdpEvents): Promise<UdpSocket> {
  return new Promise((resolve, reject) => {
    const v6 = local.address.family === 6;
    const socket: Socket = createSocket({ type: v6 ? 'udp6' : 'udp4', ipv6Only: v6, recvBufferSize: 4 * 1024 * 1024 });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.close();
      reject(new SystemError(bindFailure(local, error), error.code));
    });
    socket.bind(local.port, local.address.toString(), () => {
      socket.removeAllListeners('error');
      const bound: Endpoint = { address: local.address, port: socket.address().port };
      socket.on('error', (error: NodeJS.ErrnoException) =>
        events.onError(new SystemError(`UDP socket ${showEndpoint(bound)}: ${error.message}`, error.code)),
      );
      socket.on('message', (bytes, { address, port }) => {
        const from = IpAddress.parse(address);
        if (from !== undefined) events.onDatagram(plain(bytes), { address: from, port }, bound);
      });
      resolve({
        local: bound,
        send(bytes, remote) {
          socket.send(bytes, remote.port, remote.address.toString(), (error) => {
            if (error)
              events.onError(
                new SystemError(
                  `cannot send to ${showEndpoint(remote)}: ${error.message}`,
                  (error as NodeJS.ErrnoException).code,
                ),
              );
          });
        },
        close: () => new Promise((done) => socket.close(() => done())),
      });
    });
  });
}

function bindFailure(local: Endpoint, { code, message }: NodeJS.ErrnoException): string {
  const where = `UDP ${showEndpoint(local)}`;
  if (code === 'EADDRINUSE')
    return `${where} is in use by another program; stop it (then: tanuki reload), or write another port in interface (ike … port, or datapath { encap_port })`;
  if (code === 'EACCES')
    return `${where} needs a privilege: ports below 1024 are for root or CAP_NET_BIND_SERVICE; run as root or write a higher port in interface { ike … }`;
  if (code === 'EADDRNOTAVAIL') return `${where}: this host has no such address; correct interface { ike … }`;
  return `cannot bind ${where}: ${message}`;
}
