/** The directives of `interface`, `datapath`, `limits`, `logging` and `resolver`: what belongs to the host and not to a peer. */

import { address, LISTENER, LOCAL, literalAddress, path, SERVER, spmdSocket } from './addresses.ts';
import { block, directive } from './blocks.ts';
import { boolean, choice, integer, listOf, pattern, text } from './kinds.ts';

export const DATAPATH = {
  title: 'datapath { }',
  doc: 'The ESP engine: the embedded one, or the kernel.',
  words: {
    backend: directive({
      is: choice(['embedded', 'xfrm']),
      default: 'embedded',
      by: ['datapath'],
      doc: "Who protects packets: the engine of this suite, or the Linux kernel's own ESP and AH (docs/xfrm.md). Of the words below the kernel takes `encap_port` and `encapsulation`.",
    }),
    device: directive({
      is: choice(['tun', 'memory']),
      default: 'tun',
      by: ['datapath'],
      doc: 'Where clear packets come from and go to: a TUN device (needs CAP_NET_ADMIN), or memory, which needs no privilege.',
    }),
    name: directive({
      is: pattern('NAME', /^[A-Za-z0-9_.-]{1,15}$/),
      default: 'tanuki0',
      by: ['datapath'],
      doc: 'Name of the TUN device.',
    }),
    mtu: directive({
      is: integer(0, 65535),
      default: '0',
      by: ['datapath'],
      doc: 'MTU of the device; 0 derives it from the path.',
    }),
    encap_port: directive({
      is: integer(1, 65535),
      default: '4500',
      by: ['datapath', 'iked'],
      doc: 'Local UDP port of encapsulated ESP (RFC 3948).',
    }),
    encapsulation: directive({
      is: choice(['auto', 'force']),
      default: 'auto',
      by: ['datapath', 'iked'],
      doc: 'ESP in UDP only behind a NAT, or always.',
    }),
    addresses: directive({
      is: listOf(literalAddress),
      by: ['datapath'],
      doc: 'Addresses that a memory device answers pings for.',
    }),
    cipher: directive({
      is: choice(['auto', 'openssl', 'noble']),
      default: 'auto',
      by: ['datapath'],
      doc: 'Which engine protects packets.',
    }),
    df: directive({
      is: choice(['copy', 'set', 'clear']),
      default: 'copy',
      by: ['datapath'],
      doc: "Don't-fragment in the outer IPv4 header: as the packet inside has it, always, or never (for paths that lose ICMP).",
    }),
    pmtu_floor: directive({
      is: integer(576, 9000),
      default: '1280',
      by: ['datapath'],
      doc: "No ICMP message makes a path's MTU smaller; a path that says less gets packets that routers may fragment.",
    }),
    mss_clamp: directive({
      is: boolean,
      default: 'on',
      by: ['datapath'],
      doc: "Whether TCP's MSS option, either way, is lowered to what the path carries.",
    }),
    icmp_errors: directive({
      is: boolean,
      default: 'on',
      by: ['datapath'],
      doc: 'Whether who sends what a policy forbids, or what no SA can be made for, is told so by ICMP (RFC 4301 §5.1.1), a hundred times a second at most.',
    }),
    dscp: directive({
      is: pattern('copy | N', /^(copy|[0-9]|[1-5][0-9]|6[0-3])$/),
      default: 'copy',
      by: ['datapath'],
      doc: "DSCP in a tunnel's outer header: as the packet inside has it, or this number (0 to 63), which tells nothing of the packet.",
    }),
    decap_dscp: directive({
      is: boolean,
      default: 'off',
      by: ['datapath'],
      doc: 'Whether packets that leave a tunnel take the DSCP of its outer header, for networks that mark on the way.',
    }),
    spin: directive({
      is: integer(0, 10_000),
      default: '0',
      by: ['datapath'],
      doc: 'Microseconds for which the packet thread looks for the next packet before it sleeps: answers come sooner, for processor time.',
    }),
    dialect: directive({
      is: choice(['tanuki', 'linux-strict']),
      default: 'tanuki',
      by: ['datapath'],
      doc: 'Whether PF_KEY repeats the quirks of the Linux kernel.',
    }),
    ah_padding: directive({
      is: choice(['rfc', 'linux']),
      default: 'rfc',
      by: ['datapath'],
      doc: 'AH of IPv4 with SHA-2: the least padding (RFC 4302 §3.3.3.2.1), or up to eight octets, which Linux wants unless its SA has `align4`.',
    }),
  },
} as const;

export const INTERFACE = {
  title: 'interface { }',
  doc: 'Local addresses, sockets and the datapath. Once in a configuration.',
  words: {
    ike: directive({
      is: listOf(address(LOCAL)),
      default: 'MY_IP',
      by: ['iked'],
      doc: 'Local addresses of IKE; port 500 unless one is written.',
    }),
    kink: directive({
      is: listOf(address(LOCAL)),
      by: ['kinkd'],
      doc: 'Local addresses of KINK, where a remote speaks it; port 910 unless one is written. Without it, `MY_IP`.',
    }),
    spmd: directive({
      is: listOf(spmdSocket),
      by: ['spmd'],
      doc: 'A further socket of spmd, for others than the daemons, which use `spmif.sock` in the run directory. A directory that is missing is made, mode 0700.',
    }),
    spmd_password: directive({
      is: path,
      by: ['spmd'],
      doc: "File with the password of racoon2's LOGIN, asked for at the socket that `spmd` names. Whatever the socket, only this user and root may connect.",
    }),
    pfkey: directive({
      is: path,
      by: ['datapath'],
      doc: 'A further PF_KEY socket, for others than the daemons, which use `pfkey.sock` in the run directory. A directory that is missing is made, mode 0700.',
    }),
    metrics: directive({
      is: address(LISTENER),
      by: ['tanuki'],
      doc: 'Where `tanuki up` serves `/metrics` for Prometheus, to whoever can connect; port 9500 unless one is written. Without it, nowhere.',
    }),
    application_bypass: directive({
      is: boolean,
      default: 'on',
      by: ['datapath', 'iked'],
      doc: 'Whether IKE packets pass by the policies.',
    }),
    datapath: directive({ is: block(DATAPATH), by: ['datapath'], doc: 'The ESP engine: the embedded one, or the kernel.' }),
  },
} as const;

export const LIMITS = {
  title: 'limits { }',
  doc: 'Bounds of tables and queues. Once in a configuration.',
  words: {
    half_open_sas: directive({
      is: integer(1, 1_000_000),
      default: '1000',
      by: ['iked'],
      doc: 'IKE SAs that may be half open at a time.',
    }),
    cookie_threshold: directive({
      is: integer(0, 1_000_000),
      default: '20',
      by: ['iked'],
      doc: 'Half-open IKE SAs from which on a COOKIE is demanded (RFC 7296 §2.6).',
    }),
    ike_sas: directive({ is: integer(1, 1_000_000), default: '10000', by: ['iked'], doc: 'IKE SAs at a time.' }),
    child_sas_per_ike_sa: directive({ is: integer(1, 100_000), default: '256', by: ['iked'], doc: 'Child SAs of one IKE SA.' }),
    held_packets_per_policy: directive({
      is: integer(0, 1000),
      default: '16',
      by: ['datapath'],
      doc: 'Packets that wait for the SA that they asked for.',
    }),
  },
} as const;

export const LOGGING = {
  title: 'logging { }',
  doc: 'What is logged, where and how. Once in a configuration.',
  words: {
    level: directive({
      is: choice(['debug', 'info', 'notice', 'warning', 'error']),
      default: 'info',
      by: ['all'],
      doc: 'The least severity that is logged.',
    }),
    destination: directive({ is: text, default: 'stderr', by: ['all'], doc: '`stderr`, or the path of a file.' }),
    format: directive({
      is: choice(['text', 'json']),
      default: 'text',
      by: ['all'],
      doc: 'Lines for people, or one JSON object a line.',
    }),
  },
} as const;

export const RESOLVER = {
  title: 'resolver { }',
  doc: "spmd's DNS proxy, which learns the addresses of names in selectors. Once in a configuration.",
  words: {
    resolver: directive({
      is: boolean,
      default: 'off',
      by: ['spmd'],
      doc: 'Whether the proxy runs. It is not built yet: `on` has no effect.',
    }),
    nameserver: directive({
      is: listOf(address(SERVER)),
      by: ['spmd'],
      doc: 'Servers that it asks; port 53 unless one is written.',
    }),
    dns_query: directive({
      is: listOf(address(SERVER)),
      by: ['spmd'],
      doc: 'Local addresses that it answers on; port 53 unless one is written.',
    }),
  },
} as const;
