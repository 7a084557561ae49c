/**
 * The native doors: what the host lets us do beyond Node, and why not where it does not. Importing this never fails and loads
 * koffi only when a door is tried. The packet loop it is made for, one thread, nothing allocated in it:
 *
 *     const { open: libc, why } = libcDoor();                    // no libc: log `why`, use memory devices and dgram
 *     const arena = new Arena(libc, 64 << 20);
 *     const cipher = packetCipher(libc, arena);                  // Door<PacketCipher>: tested, or says why not
 *     const slots = arena.reserve(64 * 65536, 4096);
 *     const tun = openTun(libc, arena, 'tanuki%d');              // tun.offloads.header: VNET_HDR_BYTES precede each packet
 *     const udp = openUdp(libc, { family: 4, port: 4500, mark: 0x7a, packetInfo: true, coalesce: true, receiveBufferBytes: 4 << 20 });
 *     const inbox = new MessageTable(libc, arena, 64);
 *     for (let slot = 0; slot < 64; slot++) inbox.buffer(slot, slots + slot * 65536, 65536);
 *     const outbox = new MessageTable(libc, arena, 64, 64);      // up to 64 pieces a message: the kernel's limit of segments
 *     const poll = new Epoll(libc, arena, 4);
 *     const [wakeSlot, tunSlot, udpSlot] = [poll.add(wakeFd), poll.add(tun.fd), poll.add(udp.fd)];
 *     for (;;) {
 *       poll.wait(timeout);
 *       if (poll.events(wakeSlot) !== 0 && drain(libc, wakeFd)) control();   // receiveMessageOnPort until empty; may return
 *       if (poll.events(udpSlot) & POLLIN) {
 *         const received = inbox.receive(udp.fd, 64);            // < 0: -errno, count it
 *         for (let slot = 0; slot < received; slot++)            // segmentBytes > 0: length / segmentBytes datagrams lie in one buffer
 *           engine.unprotect(inbox.nameAt(slot), inbox.localAt[slot], inbox.length(slot), inbox.segmentBytes[slot]);
 *         pieces.clear();                                        // virtio_net_hdr, first packet, payloads coalesced behind it
 *         pieces.add(headerAt, VNET_HDR_BYTES); pieces.add(packetAt, bytes); tun.writev(pieces.at, pieces.count);
 *       }
 *       if (poll.events(tunSlot) & POLLIN) {
 *         for (let n; (n = tun.read(slots, 65536)) > 0; ) {      // one TSO frame gives some 45 ESP packets
 *           outbox.begin(0, peerSockaddrAt, 16);                 // written once by writeSockaddr
 *           while (outbox.add(0, espAt, espBytes)) next();       // all of one size, only the last may be shorter
 *           outbox.control(0, 4, udp.segments ? espBytes : 0, -1, -1);
 *           const sent = outbox.send(udp.fd, 0, 1);              // 0: full, poll for POLLOUT; < 0: -errno, drop slot 0 and go on
 *         }
 *       }
 *     }
 *
 * The owner thread makes `wakeFd` (`createEventFd`), posts its message, then calls `kick`. It also kicks before
 * `worker.terminate()`, which hangs otherwise. An inherited device is taken over by `adoptTun`.
 */

import { accessSync, constants } from 'node:fs';
import { CipherPair } from '../../crypto/cipher-pair.ts';
import { KNOWN_ANSWER_BYTES, knownAnswerTest } from '../../crypto/known-answer.ts';
import type { PacketCipher } from '../../crypto/packet-cipher.ts';
import { AesGcmCipher, gcmRoutines } from './aes-gcm.ts';
import type { Arena } from './arena.ts';
import { missingCapability } from './credentials.ts';
import { type Door, tryDoor } from './door.ts';
import { EvpCipher } from './evp.ts';
import { evp } from './evp-library.ts';
import { type Libc, libc as libcDoor } from './libc.ts';

export { AesGcmCipher, type GcmRoutines, gcmRoutines } from './aes-gcm.ts';
export { Arena } from './arena.ts';
export { bootMilliseconds } from './clock.ts';
export { credentialsOf, hasCapability, missingCapability } from './credentials.ts';
export type { Door } from './door.ts';
export { EvpCipher } from './evp.ts';
export { close, type Libc, libc as libcDoor, systemError } from './libc.ts';
export { CMSGHDR_BYTES, IOVEC_BYTES, MessageTable, writeIovec } from './messages.ts';
export { NetlinkSocket } from './netlink.ts';
export { createEventFd, drain, Epoll, kick, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, PollTable } from './poll.ts';
export * from './sockets.ts';
export { adoptTun, openTun, Pieces, Tun, type TunOffloads, VNET, VNET_FLAG, VNET_GSO, VNET_HDR_BYTES } from './tun.ts';

/**
 * OpenSSL on the packets of `arena`, if it passes the known-answer test now: AES-GCM by its routines where those pass, too, all else by EVP. Otherwise the
 * reason, and node:crypto is next.
 */
export function packetCipher(libc: Libc, arena: Arena): Door<PacketCipher> {
  const { open, why } = evp(libc);
  if (open === undefined) return { open, why };
  const at = arena.reserve(KNOWN_ANSWER_BYTES);
  const whole = new EvpCipher(open, arena);
  const failures = knownAnswerTest(whole, arena.bytes, at);
  if (failures.length > 0) return { open: undefined, why: `${open.version} fails the known-answer test: ${failures[0]}` };
  const { open: routines } = gcmRoutines(libc);
  const gcm = routines === undefined ? undefined : new AesGcmCipher(libc, routines, arena);
  const isRight = gcm !== undefined && knownAnswerTest(gcm, arena.bytes, at).length === 0;
  return { open: isRight ? new CipherPair(gcm, whole) : whole };
}

/** One line of the log and of `status`. */
export interface DoorReport {
  readonly door: 'system calls' | 'openssl' | 'tun' | 'raw sockets' | 'routes and rules';
  readonly open: boolean;
  /** What is behind an open door, or why it is shut and what would open it. */
  readonly detail: string;
}

/** All doors as they are now, without opening a device or a socket. */
export function doorReports(): readonly DoorReport[] {
  const { open: libc, why } = libcDoor();
  const shut = (missing: string | undefined) => (libc === undefined ? why : missing);
  const report = (door: DoorReport['door'], missing: string | undefined, detail: string): DoorReport => ({
    door,
    open: missing === undefined,
    detail: missing ?? detail,
  });
  const openssl: Door<{ readonly version: string }> = libc === undefined ? { open: undefined, why: why ?? '' } : evp(libc);
  const tunDevice = tryDoor(() => accessSync('/dev/net/tun', constants.R_OK | constants.W_OK));
  const tunMissing = missingCapability('CAP_NET_ADMIN', 'a TUN device') ?? tunDevice.why;
  return [
    report('system calls', shut(undefined), `koffi ${libc?.koffi.version ?? ''}`),
    report('openssl', openssl.why, openssl.open?.version ?? ''),
    report('tun', shut(tunMissing), '/dev/net/tun'),
    report('raw sockets', shut(missingCapability('CAP_NET_RAW', 'a raw socket for ESP without UDP')), 'IPv4 and IPv6'),
    report('routes and rules', shut(missingCapability('CAP_NET_ADMIN', 'setting routes and rules')), 'rtnetlink'),
  ];
}
