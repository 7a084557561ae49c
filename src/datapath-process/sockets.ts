/** The worker's sockets: UDP encapsulation, raw ESP and AH, and whole packets for what is bypassed; IPv4 and IPv6, all with the suite's mark. */

import { SystemError } from '../errors.ts';
import type { Family } from '../net/address.ts';
import {
  close,
  IPPROTO_AH,
  IPPROTO_ESP,
  IPPROTO_RAW,
  type Libc,
  type OpenSocket,
  openIcmp,
  openRaw,
  openUdp,
  type SocketOptions,
} from '../runtime/native/index.ts';
import { MARK } from './plan.ts';
import type { DatapathSettings } from './ports.ts';
import type { FamilySockets, Sockets } from './sender.ts';

const BUFFER_BYTES = 4 * 1024 * 1024;
/** A host without IPv6 is no problem. */
const NO_FAMILY = ['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EPROTONOSUPPORT'];

/** Opens what can be opened; the rest is told in `problems`. */
export function openSockets(libc: Libc, settings: DatapathSettings, problems: string[]): Sockets {
  return { 4: openFamily(libc, 4, settings, problems), 6: openFamily(libc, 6, settings, problems) };
}

export function closeSockets(libc: Libc, sockets: Sockets): void {
  for (const { udp, raw, ah, icmp, whole } of [sockets[4], sockets[6]]) {
    for (const socket of [udp, raw, ah, icmp, whole]) if (socket !== undefined) close(libc, socket.fd);
  }
}

function openFamily(libc: Libc, family: Family, { datapath }: DatapathSettings, problems: string[]): FamilySockets {
  const options: SocketOptions = {
    family,
    mark: MARK,
    packetInfo: true,
    trafficClass: true,
    // Whatever ICMP tells the kernel, which believes it unseen, is not for us: the engine decides what is too long, and who may fragment it.
    mtuDiscover: 'omit',
    receiveBufferBytes: BUFFER_BYTES,
    sendBufferBytes: BUFFER_BYTES,
  };
  const attempt = (open: () => OpenSocket): OpenSocket | undefined => {
    try {
      return open();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      if (family === 4 || !NO_FAMILY.includes(error.code ?? '')) problems.push(error.message);
      return undefined;
    }
  };
  return {
    udp: attempt(() => openUdp(libc, { ...options, port: datapath.encapPort, coalesce: true })),
    raw: attempt(() => openRaw(libc, IPPROTO_ESP, options)),
    ah: attempt(() => openRaw(libc, IPPROTO_AH, { ...options, extensionHeaders: true })),
    icmp: attempt(() => openIcmp(libc, family)),
    whole: attempt(() => openRaw(libc, IPPROTO_RAW, { family, mark: MARK, sendBufferBytes: BUFFER_BYTES })),
  };
}
