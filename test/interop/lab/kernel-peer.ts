/** The embedded engine in a namespace against a guest kernel's own ESP and AH across a tap: the same SAs given to both, by PF_KEY and by `ip xfrm`. */
import { join } from 'node:path';
import { ENCR, type EncrName, INTEG, type IntegName } from '../../../src/crypto/transforms.ts';
import type { DatapathSettings } from '../../../src/datapath-process/ports.ts';
import type { Mode } from '../../../src/ipsec/sa.ts';
import { DatapathNode, ENCAP_PORT, type StaticPair, saOf, settings } from './datapath.ts';
import { Lab } from './namespaces.ts';
import { waitUntil } from './process.ts';
import { ping } from './traffic.ts';
import { UmlGuest } from './uml.ts';

export type Version = 'v4' | 'v6';
type Side = 'left' | 'right';

/** What the kernel calls the integrity algorithms that it has. */
export const KERNEL_AUTH: Partial<Record<IntegName, string>> = {
  hmac_sha1: 'hmac(sha1)',
  hmac_sha2_256: 'hmac(sha256)',
  hmac_sha2_384: 'hmac(sha384)',
  hmac_sha2_512: 'hmac(sha512)',
  aes_xcbc: 'xcbc(aes)',
  aes_cmac: 'cmac(aes)',
  hmac_md5: 'hmac(md5)',
};

/** The same for ciphers; those with an ICV are its AEADs. */
export const KERNEL_ENCR: Partial<Record<EncrName, string>> = {
  aes_gcm_16: 'rfc4106(gcm(aes))',
  aes_gcm_12: 'rfc4106(gcm(aes))',
  aes_gcm_8: 'rfc4106(gcm(aes))',
  aes_ccm_16: 'rfc4309(ccm(aes))',
  aes_ccm_12: 'rfc4309(ccm(aes))',
  aes_ccm_8: 'rfc4309(ccm(aes))',
  null_auth_aes_gmac: 'rfc4543(gcm(aes))',
  chacha20_poly1305: 'rfc7539esp(chacha20,poly1305)',
  aes_cbc: 'cbc(aes)',
  aes_ctr: 'rfc3686(ctr(aes))',
  camellia_cbc: 'cbc(camellia)',
  '3des_cbc': 'cbc(des3_ede)',
  des_cbc: 'cbc(des)',
  null_enc: 'ecb(cipher_null)',
};

const hex = (key: Uint8Array) => (key.length === 0 ? '""' : `0x${Buffer.from(key).toString('hex')}`);

const bitsOf = (version: Version) => (version === 'v4' ? 32 : 128);

/** A state as iproute2 takes it; AH's flag `align4` is what RFC 4302 §2.6 asks for and what is not the kernel's default. */
export function xfrmState(pair: StaticPair, from: Side, to: Side, flags = ''): string {
  const sa = saOf(pair, from, to);
  const { spi, mode, source, destination, suite, integKey, encrKey, protocol, extendedSequence } = sa;
  const sel = mode === 'beet' ? `sel src ${pair.inner[from]} dst ${pair.inner[to]}` : '';
  const { encr, integ } = suite;
  const cipher = `'${KERNEL_ENCR[encr]}' ${hex(encrKey.reveal())}`;
  const mac =
    integ === 'none' ? '' : `auth-trunc '${KERNEL_AUTH[integ]}' ${hex(integKey!.reveal())} ${8 * INTEG[integ].icvBytes}`;
  const algorithm = integ === 'none' ? `aead ${cipher} ${8 * ENCR[encr].icv}` : protocol === 'ah' ? mac : `enc ${cipher} ${mac}`;
  const words = [...(extendedSequence ? ['esn'] : []), ...(flags === '' ? [] : [flags])];
  const flag = `${words.length > 0 ? `flag ${words.join(' ')}` : ''} replay-window ${extendedSequence ? 64 : 32}`;
  const nowhere = source.family === 4 ? '0.0.0.0' : '::';
  const encap = sa.encapsulation === undefined ? '' : `encap espinudp ${ENCAP_PORT} ${ENCAP_PORT} ${nowhere}`;
  return `ip xfrm state add src ${source} dst ${destination} proto ${protocol} spi ${spi} reqid ${pair.spi} mode ${mode} ${flag} ${algorithm} ${encap} ${sel}`;
}

/** Policies for a packet that goes through all the pairs, innermost first. */
export function xfrmPolicies(pairs: readonly StaticPair[]): string {
  const { inner } = pairs[0]!;
  const policy = (dir: 'in' | 'out' | 'fwd', from: Side, to: Side) => {
    const templates = pairs.map((pair) => {
      const { source, destination, protocol, mode } = saOf(pair, from, to);
      return `tmpl src ${source} dst ${destination} proto ${protocol} reqid ${pair.spi} mode ${mode}`;
    });
    return `ip xfrm policy add src ${inner[from]} dst ${inner[to]} dir ${dir} priority 100 ${templates.join(' ')}`;
  };
  // Neighbours are found in clear: what went through the tunnel would come from another device.
  const discovery = [135, 136].flatMap((type) =>
    ['in', 'out'].map((dir) => `ip xfrm policy add src ::/0 dst ::/0 proto ipv6-icmp type ${type} dir ${dir} priority 1`),
  );
  // What is in UDP is checked as it arrives, before it is opened.
  const encapsulated = ['0.0.0.0/0', '::/0'].map(
    (all) => `ip xfrm policy add src ${all} dst ${all} proto udp sport ${ENCAP_PORT} dport ${ENCAP_PORT} dir in priority 1`,
  );
  return [...discovery, ...encapsulated, policy('out', 'right', 'left'), policy('in', 'left', 'right')].join('\n');
}

export class KernelPeer {
  readonly lab: Lab;
  readonly guest: UmlGuest;
  engine: DatapathNode;
  #spi = 0x2000;

  private constructor(lab: Lab, guest: UmlGuest, engine: DatapathNode) {
    this.lab = lab;
    this.guest = guest;
    this.engine = engine;
  }

  static async open(label: string): Promise<KernelPeer> {
    const lab = await Lab.open({ link: false, label });
    const guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
    return new KernelPeer(lab, guest, (await DatapathNode.start(lab.a, join(lab.dir, 'a'), settings())).node);
  }

  async close(): Promise<void> {
    await this.engine.stop();
    await this.guest.close();
    await this.lab.close();
  }

  /** The engine again, configured otherwise. */
  async restart(overrides: Partial<DatapathSettings['datapath']>): Promise<void> {
    await this.engine.stop();
    this.engine = (await DatapathNode.start(this.lab.a, join(this.lab.dir, 'a'), settings(overrides))).node;
  }

  /** The guest's UDP sockets that the kernel takes ESP from (RFC 3948), for as long as it runs. */
  async listenInUdp(): Promise<void> {
    await this.guest.must(`cat > /tmp/encap.py <<'PYTHON'
import socket, time
sockets = []
for family, address in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, ${ENCAP_PORT}))
    s.setsockopt(socket.IPPROTO_UDP, 100, 2)  # UDP_ENCAP, UDP_ENCAP_ESPINUDP
    sockets.append(s)
open('/tmp/encap.ready', 'w').close()
while True:
    time.sleep(3600)
PYTHON
      (/usr/bin/python3 /tmp/encap.py > /tmp/encap.out 2>&1 < /dev/null &)
      for i in $(seq 200); do [ -e /tmp/encap.ready ] && exit 0; sleep 0.05; done; cat /tmp/encap.out; exit 1`);
  }

  /** A pair of SAs that nobody else has. */
  pairOf(mode: Mode, outer: Version, inner: Version, security: StaticPair['security'], encapsulated = false): StaticPair {
    const [left, right] = [this.lab.a.addresses, this.lab.b.addresses];
    const bits = bitsOf(outer);
    this.#spi += 2;
    return {
      mode,
      encapsulated,
      outer: { left: left.outer[outer], right: right.outer[outer] },
      inner:
        mode === 'tunnel'
          ? { left: left.net[inner], right: right.net[inner] }
          : mode === 'beet'
            ? { left: `${left.inner[inner]}/${bitsOf(inner)}`, right: `${right.inner[inner]}/${bitsOf(inner)}` }
            : { left: `${left.outer[outer]}/${bits}`, right: `${right.outer[outer]}/${bits}` },
      spi: this.#spi,
      ...(security === undefined ? {} : { security }),
    };
  }

  /** Gives both sides the SAs and policies of a pair. */
  async install(pair: StaticPair, flags = ''): Promise<void> {
    await this.engine.install(pair, 'left');
    await this.guest.must(`set -e
      ${xfrmState(pair, 'left', 'right', flags)}
      ${xfrmState(pair, 'right', 'left', flags)}
      ${xfrmPolicies([pair])}`);
  }

  async clear(): Promise<void> {
    await this.engine.flush();
    await this.guest.must(
      'kill $(pidof iperf3) 2>/dev/null; ip xfrm state flush; ip xfrm policy flush; ip -4 route flush table 0 proto 99; ip -6 route flush table 0 proto 99; true',
    );
  }

  /** The same between the inner IPv4 addresses with options (a route to be recorded, RFC 791 §3.1) that come back. */
  async passesWithOptions(): Promise<boolean> {
    const { lab } = this;
    const program = lab.a.spawn([
      'ping',
      '-n',
      '-R',
      '-c',
      '3',
      '-i',
      '0.2',
      '-I',
      lab.a.addresses.inner.v4,
      lab.b.addresses.inner.v4,
    ]);
    await waitUntil(
      () => program.finished,
      15,
      () => `pings with options; so far ${program.stdout}${program.stderr}`,
    );
    const route = program.stdout.split('RR:')[1] ?? '';
    return / 3 received/.test(program.stdout) && route.includes(lab.b.addresses.inner.v4);
  }

  /** Pings, small and large, through what is installed; whether each SA carried them. */
  async passes(mode: Mode, outer: Version, inner: Version): Promise<boolean[]> {
    const { lab, guest, engine } = this;
    const to = mode !== 'transport' ? lab.b.addresses.inner[inner] : lab.b.addresses.outer[outer];
    const from = mode !== 'transport' ? { from: lab.a.addresses.inner[inner] } : {};
    if (mode !== 'transport')
      await guest.must(
        `ip ${inner === 'v6' ? '-6' : ''} route replace ${lab.a.addresses.net[inner]} dev vec0 src ${lab.b.addresses.inner[inner]} proto 99`,
      );
    // Neighbours have to be found first.
    await ping(lab.a, to, 1, from);
    const before = (await engine.status()).drops;
    for (const [count, size] of [
      [3, undefined],
      [2, 1200],
    ] as const) {
      const { received, errors } = await ping(lab.a, to, count, size === undefined ? from : { ...from, size });
      if (received !== count || errors.length > 0)
        throw new Error(
          `${received} of ${count} pings came back; ${errors.join('; ')}; drops: ${JSON.stringify((await engine.status()).drops)}`,
        );
    }
    const { drops, sas } = await engine.status();
    if (JSON.stringify(drops) !== JSON.stringify(before))
      throw new Error(`dropped meanwhile: ${JSON.stringify(before)}, then ${JSON.stringify(drops)}`);
    return sas.map(({ packets }) => packets >= 5);
  }
}
