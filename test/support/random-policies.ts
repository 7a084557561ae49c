/** Random policy sets, SAs and packets over a small world, so that they meet; in the words of the brute-force reading and of the engine. */

import { cat, u16be } from '../../src/bytes/bytes.ts';
import type { Policy, PolicyDirection, Template } from '../../src/ipsec/policy.ts';
import type { SaParameters } from '../../src/ipsec/sa.ts';
import type { TrafficSelector } from '../../src/ipsec/selector.ts';
import { type Family, IpAddress } from '../../src/net/address.ts';
import type { Prefix } from '../../src/net/prefix.ts';
import { ipPacket, saOf } from '../unit/datapath/pair.ts';
import type { Numbers } from './mutate.ts';
import type { Range, SadRule, SaSelector, SpdRule, Wanted } from './rfc4301.ts';

const HOSTS = {
  4: ['10.1.0.1', '10.1.0.2', '10.2.0.1', '10.2.0.2', '192.0.2.1', '192.0.2.2'],
  6: ['fd00:1::1', 'fd00:1::2', 'fd00:2::1', 'fd00:2::2', '2001:db8::1', '2001:db8::2'],
} as const;
const LENGTHS = { 4: [0, 0, 8, 15, 16, 24, 31, 32], 6: [0, 0, 16, 32, 48, 64, 127, 128] } as const;
const PROTOCOLS = [0, 0, 0, 1, 6, 17, 17, 58, 132, 135] as const;
const PORTS = [0, 0, 0, 80, 1000] as const;
const TYPES = [0, 0, 5, 8, 128] as const;

export class World {
  readonly #random: Numbers;
  /** Each packet has an identification of its own: no two are fragments of one. */
  #id = 0;

  constructor(random: Numbers) {
    this.#random = random;
  }

  one<T>(of: readonly T[]): T {
    return of[this.#random(of.length)]!;
  }

  chance(of: number): boolean {
    return this.#random(of) === 0;
  }

  number(below: number): number {
    return this.#random(below);
  }

  family(): Family {
    return this.chance(3) ? 6 : 4;
  }

  host(family: Family): IpAddress {
    return IpAddress.parse(this.one(HOSTS[family]))!;
  }

  prefix(family: Family): Prefix {
    return { address: this.host(family), length: this.one(LENGTHS[family]) };
  }

  /** `reqids` there are. */
  policy(reqids: number): Policy {
    const family = this.family();
    const direction = this.one<PolicyDirection>(['outbound', 'outbound', 'inbound', 'inbound', 'forward']);
    const action = this.one<Policy['action']>(['protect', 'protect', 'protect', 'protect', 'bypass', 'discard']);
    const protocol = this.one(PROTOCOLS);
    const isTyped = [1, 58, 135].includes(protocol);
    const port = () => (protocol === 0 ? 0 : this.one(isTyped ? TYPES : PORTS));
    return {
      id: 0,
      direction,
      action,
      priority: this.number(4),
      selector: {
        source: this.prefix(family),
        destination: this.prefix(family),
        protocol,
        sourcePort: port(),
        destinationPort: isTyped ? 0 : port(),
      },
      templates: action === 'protect' ? this.templates(reqids, family) : [],
    };
  }

  templates(reqids: number, family: Family): Template[] {
    const first = this.template(reqids, this.chance(4) ? 'ah' : 'esp', family);
    if (first.mode === 'beet' || !this.chance(5)) return [first];
    // AH over ESP (RFC 4301 §4.4.1), or a tunnel in transport mode between its ends.
    const second = this.template(reqids, first.protocol === 'esp' ? 'ah' : 'esp', family);
    if (first.protocol === 'ah') return [{ ...second, mode: 'transport' }, first];
    return [first, { ...second, mode: 'transport' }];
  }

  template(reqids: number, protocol: Template['protocol'], family: Family): Template {
    const mode = this.chance(3) ? 'transport' : protocol === 'esp' && this.chance(4) ? 'beet' : 'tunnel';
    const source = this.host(family);
    const destination = this.host(family);
    return {
      protocol,
      mode,
      level: this.one(['use', 'require', 'require', 'unique', 'unique'] as const),
      reqid: this.chance(6) ? 0 : 1 + this.number(reqids),
      endpoints: mode !== 'transport' && this.chance(2) ? { source, destination } : undefined,
    };
  }

  /** One of the world's hosts that is in the prefix; any where none is. */
  #hostIn(prefix: Prefix): IpAddress {
    const { family } = prefix.address;
    const { from, to } = rangeOf(prefix);
    const within = HOSTS[family]
      .map((text) => IpAddress.parse(text)!)
      .filter((host) => from <= numberOf(host) && numberOf(host) <= to);
    return within.length === 0 ? this.host(family) : this.one(within);
  }

  /** An SA such as the policy's template asks for; in transport mode between hosts that the policy is about. */
  sa(spi: number, { selector }: Policy, { protocol, mode, reqid, endpoints }: Template, reqids: number): SaParameters {
    const family = endpoints?.source.family ?? selector.source.address.family;
    const isTyped = [1, 58, 135].includes(selector.protocol) || this.chance(4);
    const narrow = (): TrafficSelector[] => {
      if (!this.chance(isTyped ? 2 : 5)) return [];
      const { address, length } = this.prefix(family);
      const [start, end] = endsOf({ address, length });
      const selected = selector.protocol || (isTyped ? this.one([1, 58, 135]) : this.one([0, 0, 6, 17]));
      const startPort =
        selected === 0 || this.chance(2)
          ? 0
          : isTyped
            ? 256 * (selector.sourcePort || this.one([5, 8, 128]))
            : this.one([80, 1000]);
      const endPort = startPort === 0 ? 65535 : isTyped ? startPort + 255 : startPort + this.number(3);
      return [{ protocol: selected, startPort, endPort, start, end }];
    };
    const host = (prefix: Prefix): TrafficSelector[] => {
      const inner = this.#hostIn(prefix);
      return [{ protocol: 0, startPort: 0, endPort: 65535, start: inner, end: inner }];
    };
    const selectors =
      mode === 'beet'
        ? { source: host(selector.source), destination: host(selector.destination) }
        : { source: narrow(), destination: narrow() };
    return saOf({
      spi,
      protocol,
      mode,
      suite:
        protocol === 'ah'
          ? { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha1' }
          : { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
      reqid: reqid === 0 ? 1 + this.number(reqids) : reqid,
      source: endpoints?.source ?? this.#hostIn(selector.source),
      destination: endpoints?.destination ?? this.#hostIn(selector.destination),
      selectors,
    });
  }

  /** A packet; mostly one that the policy, where one is given, might be about. */
  packet(aim?: Policy): Uint8Array {
    const selector = this.chance(4) ? undefined : aim?.selector;
    const family = selector?.source.address.family ?? this.family();
    const protocol = selector?.protocol || this.one([1, 6, 17, 17, 17, 58, 132, 135, 47]);
    const port = (wanted: number | undefined, of: readonly number[]) => (wanted && !this.chance(8) ? wanted : this.one(of));
    const types = [0, 5, 6, 8, 128];
    const [source, destination] = [selector?.sourcePort, selector?.destinationPort];
    const transport = new Uint8Array(
      this.chance(12) ? this.number(4) : 8 + (this.chance(2) ? 8 * this.number(8) : this.number(60)),
    );
    const ports =
      protocol === 1 || protocol === 58
        ? Uint8Array.of(port(source, types), this.number(2))
        : protocol === 135
          ? Uint8Array.of(59, 0, port(source, types))
          : cat(u16be(port(source, [80, 81, 1000])), u16be(port(destination, [80, 81, 1000])));
    transport.set(ports.subarray(0, transport.length));
    const [from, to] =
      selector === undefined
        ? [this.host(family), this.host(family)]
        : [this.#hostIn(selector.source), this.#hostIn(selector.destination)];
    const packet = ipPacket(protocol, transport, {
      source: `${from}`,
      destination: `${to}`,
      id: ++this.#id & 0xffff,
      dontFragment: this.chance(2),
    });
    return family === 4 ? this.#rough4(packet) : this.#rough6(packet, protocol);
  }

  #rough4(packet: Uint8Array): Uint8Array {
    if (this.chance(8)) {
      packet[6] = this.one([0x20, 0x20, 0x00, 0x3f]);
      packet[7] = this.one([0, 1, 185]);
    }
    if (this.chance(6)) {
      const options = this.one([Uint8Array.of(1, 1, 1, 0), Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0), Uint8Array.of(148, 4, 0, 0)]);
      const longer = cat(packet.slice(0, 20), options, packet.slice(20));
      longer[0] = 0x45 + options.length / 4;
      longer.set(u16be(longer.length), 2);
      return this.#broken(longer);
    }
    return this.#broken(packet);
  }

  /** Extension headers in the order of RFC 8200 §4.1. */
  #rough6(packet: Uint8Array, protocol: number): Uint8Array {
    const kinds = [0, 44, 60].filter(() => this.chance(6));
    const headers = kinds.map((kind, i) => {
      const next = kinds[i + 1] ?? protocol;
      if (kind !== 44) return Uint8Array.of(next, 0, 1, 4, 0, 0, 0, 0);
      const id = ++this.#id;
      return Uint8Array.of(next, 0, 0, this.one([0, 1, 8, 9]), 0, 0, id >> 8, id & 0xff);
    });
    const longer = cat(packet.slice(0, 40), ...headers, packet.slice(40));
    longer[6] = kinds[0] ?? protocol;
    longer.set(u16be(longer.length - 40), 4);
    return this.#broken(longer);
  }

  #broken(packet: Uint8Array): Uint8Array {
    if (!this.chance(40)) return packet;
    if (this.chance(2)) return packet.slice(0, this.number(packet.length));
    packet[0] = this.number(256);
    return packet;
  }
}

/** What the brute-force reading calls a policy. */
export function spdRule(name: number, { direction, action, priority, selector, templates }: Policy): SpdRule {
  const any = (port: number) => (port === 0 ? undefined : port);
  return {
    name,
    direction: direction === 'outbound' ? 'out' : direction === 'inbound' ? 'in' : 'forward',
    priority,
    source: rangeOf(selector.source),
    destination: rangeOf(selector.destination),
    protocol: any(selector.protocol),
    sourcePort: any(selector.sourcePort),
    destinationPort: any(selector.destinationPort),
    action,
    wanted: templates.map(
      ({ protocol, mode, level, reqid, endpoints }): Wanted => ({
        protocol: protocol === 'ah' ? 'ah' : 'esp',
        mode,
        optional: level === 'use',
        reqid,
        unique: level === 'unique',
        ends: endpoints && [numberOf(endpoints.source), numberOf(endpoints.destination)],
      }),
    ),
  };
}

export function sadRule(sa: SaParameters, direction: 'out' | 'in', age: number, dying: boolean, left: number): SadRule {
  const selectors = (list: readonly TrafficSelector[]): SaSelector[] =>
    list.map(({ start, end, protocol, startPort, endPort }) => ({
      addresses: { version: start.family, from: numberOf(start), to: numberOf(end) },
      protocol: protocol === 0 ? undefined : protocol,
      ports: [startPort, endPort],
    }));
  return {
    spi: sa.spi,
    direction,
    protocol: sa.protocol === 'ah' ? 'ah' : 'esp',
    mode: sa.mode,
    reqid: sa.reqid,
    version: sa.source.family,
    source: numberOf(sa.source),
    destination: numberOf(sa.destination),
    sources: selectors(sa.selectors.source),
    destinations: selectors(sa.selectors.destination),
    age,
    dying,
    left,
  };
}

function numberOf(address: IpAddress): bigint {
  return address.bytes.reduce((value, octet) => value * 256n + BigInt(octet), 0n);
}

function rangeOf({ address, length }: Prefix): Range {
  const bits = address.family === 4 ? 32 : 128;
  const size = 1n << BigInt(bits - length);
  const from = numberOf(address) & ~(size - 1n);
  return { version: address.family, from, to: from + size - 1n };
}

function endsOf(prefix: Prefix): [IpAddress, IpAddress] {
  const { version, from, to } = rangeOf(prefix);
  const octets = (value: bigint) =>
    IpAddress.of(
      Uint8Array.from({ length: version === 4 ? 4 : 16 }, (_, i) =>
        Number((value >> BigInt(8 * ((version === 4 ? 3 : 15) - i))) & 255n),
      ),
    );
  return [octets(from), octets(to)];
}
