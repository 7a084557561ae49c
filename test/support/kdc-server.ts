/** The stand-in KDC on real sockets of 127.0.0.1, with the faults that a test asks for. */

import { createSocket } from 'node:dgram';
import { createServer, type Socket } from 'node:net';
import { krbErrorCode } from '../../kinkd/krb5/errors.ts';
import { Keytab } from '../../kinkd/krb5/keytab.ts';
import { KrbError, principalName } from '../../kinkd/krb5/messages.ts';
import { ticketGranter } from '../../kinkd/krb5/principal.ts';
import { StandInKdc } from '../../kinkd/krb5/stand-in-kdc.ts';
import { cat, readU32be, u32be } from '../../src/bytes/bytes.ts';
import { HOSTA, HOSTB, REALM } from './kerberos.ts';
import { seededRandom } from './random.ts';

/** What happens to a request by UDP; by TCP all are answered. */
export type UdpFault = 'none' | 'silent' | 'too-big' | 'garbage';

export async function kdcServer({ lifeSeconds = 36_000, wall = Date.now }: { lifeSeconds?: number; wall?: () => number } = {}) {
  const random = seededRandom(88);
  const hosta = StandInKdc.principalKeys(HOSTA, [20, 18], random);
  const everyone = [...hosta, ...StandInKdc.principalKeys(HOSTB, [20, 19, 18, 17], random)];
  /** A KDC that was set up anew: its own key is another. */
  const anew = () =>
    new StandInKdc(
      REALM,
      new Keytab([...everyone, ...StandInKdc.principalKeys(ticketGranter(REALM), [20], random)]),
      random,
      lifeSeconds,
    );
  const state = { kdc: anew(), fault: 'none' as UdpFault, lose: 0, asked: { udp: 0, tcp: 0 } };

  const udp = createSocket('udp4');
  udp.on('message', (request, { port, address }) => {
    state.asked.udp += 1;
    if (state.fault === 'silent' || state.lose-- > 0) return;
    const answer = state.fault === 'none' ? state.kdc.answer(Uint8Array.from(request), wall()) : faulty(state.fault);
    udp.send(answer, port, address);
  });
  await new Promise<void>((resolve) => udp.bind(0, '127.0.0.1', resolve));
  const { port } = udp.address();
  const connections = new Set<Socket>();
  const tcp = createServer((socket) => {
    connections.add(socket);
    socket.on('error', () => connections.delete(socket));
    socket.on('data', (chunk) => {
      state.asked.tcp += 1;
      const answer = state.kdc.answer(Uint8Array.from(chunk).subarray(4, 4 + readU32be(chunk)), wall());
      // In two pieces, as a network may deliver it.
      const framed = cat(u32be(answer.length), answer);
      socket.write(framed.subarray(0, 7));
      setImmediate(() => socket.write(framed.subarray(7)));
    });
  });
  await new Promise<void>((resolve) => tcp.listen(port, '127.0.0.1', resolve));
  return {
    state,
    address: { host: '127.0.0.1', port },
    keysOfHosta: hosta,
    restartAnew: () => {
      state.kdc = anew();
    },
    async close() {
      for (const socket of connections) socket.destroy();
      await Promise.all([new Promise<void>((done) => udp.close(done)), new Promise((done) => tcp.close(done))]);
    },
  };
}

function faulty(fault: 'too-big' | 'garbage'): Uint8Array {
  if (fault === 'garbage') return Uint8Array.of(0x7e, 3, 1, 2, 3);
  const granter = ticketGranter(REALM);
  const errorCode = krbErrorCode('KRB_ERR_RESPONSE_TOO_BIG');
  return KrbError.write({ stime: 1, susec: 0, errorCode, realm: REALM, sname: principalName(granter) });
}
