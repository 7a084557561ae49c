/** Addresses, ports, protocols and identities as the files write them (macros and names included). */

import { IpAddress } from '../net/address.ts';
import { MESSAGE_TYPES } from '../net/message-types.ts';
import { bitsOf, firstAddress } from '../net/prefix.ts';
import type { AddressMacro, AddressPool, AddressSpec, IdentityConfig } from './config.ts';
import { quoted, type Span } from './diagnostics.ts';
import { bodyOf, type Cursor, type Kind, kind, parseNumber } from './kinds.ts';
import { besideFile } from './load.ts';

export const MACROS: readonly AddressMacro[] = [
  'MY_IP',
  'MY_IPV4',
  'MY_IPV6',
  'MY_IPV6_GLOBAL',
  'MY_IPV6_LINKLOCAL',
  'MY_HOA',
  'IP_ANY',
  'IP_RW',
];

/** Ports by name: those that a policy may speak of. */
export const SERVICES: Readonly<Record<string, number>> = {
  ...{
    ftp: 21,
    ssh: 22,
    telnet: 23,
    smtp: 25,
    domain: 53,
    bootps: 67,
    bootpc: 68,
    tftp: 69,
    http: 80,
    kerberos: 88,
    pop3: 110,
    sunrpc: 111,
  },
  ...{
    ntp: 123,
    imap: 143,
    imap2: 143,
    snmp: 161,
    bgp: 179,
    ldap: 389,
    https: 443,
    isakmp: 500,
    syslog: 514,
    'dhcpv6-client': 546,
  },
  ...{
    'dhcpv6-server': 547,
    ldaps: 636,
    kink: 910,
    l2tp: 1701,
    l2f: 1701,
    radius: 1812,
    nfs: 2049,
    'ipsec-nat-t': 4500,
    sip: 5060,
  },
};

/** Protocols by name, IANA's numbers with the spellings of /etc/protocols. */
export const PROTOCOLS: Readonly<Record<string, number>> = {
  ...{
    any: 0,
    icmp: 1,
    igmp: 2,
    ipencap: 4,
    ipip: 4,
    tcp: 6,
    egp: 8,
    udp: 17,
    ipv6: 41,
    'ipv6-route': 43,
    'ipv6-frag': 44,
    rsvp: 46,
    gre: 47,
  },
  ...{
    esp: 50,
    ah: 51,
    icmpv6: 58,
    'ipv6-icmp': 58,
    'ipv6-nonxt': 59,
    'ipv6-opts': 60,
    ospf: 89,
    etherip: 97,
    pim: 103,
    ipcomp: 108,
  },
  ...{ vrrp: 112, l2tp: 115, sctp: 132, 'mobility-header': 135, mh: 135, udplite: 136, 'mpls-in-ip': 137, dccp: 33 },
};

/** Which forms of an address a directive takes. */
export interface AddressForms {
  readonly names: boolean;
  readonly macros: readonly AddressMacro[];
  readonly ports: boolean;
  readonly prefixes: boolean;
}

const EVERYWHERE: AddressForms = { names: true, macros: MACROS, ports: true, prefixes: true };
export const LOCAL: AddressForms = { ...EVERYWHERE, prefixes: false };
export const PEER: AddressForms = { ...EVERYWHERE, prefixes: false };
export const TRAFFIC: AddressForms = EVERYWHERE;
export const TUNNEL_END: AddressForms = { names: false, macros: MACROS, ports: false, prefixes: false };
export const LITERAL: AddressForms = { names: false, macros: [], ports: false, prefixes: false };
export const SERVER: AddressForms = { names: false, macros: ['MY_IP', 'MY_IPV4', 'MY_IPV6'], ports: true, prefixes: false };

export const LISTENER: AddressForms = { names: false, macros: [], ports: true, prefixes: false };

/** `ADDR[/PREFIX] [port PORT]`. */
export function address(forms: AddressForms): Kind<AddressSpec> {
  const syntax = `ADDRESS${forms.prefixes ? '[/N]' : ''}${forms.ports ? ' [port PORT]' : ''}`;
  return kind(syntax, (cursor) => {
    const word = cursor.text('an address');
    if (word === undefined) return undefined;
    let written = word.text;
    const next = cursor.peek();
    if (next?.kind === 'atom' && /^\/\d+$/.test(next.text)) written += cursor.text('a prefix length')?.text ?? '';
    const spec = parseAddress(written, word.atom.span, forms, cursor);
    const port = cursor.take({ word: 'port' }) ? portAt(cursor, forms) : 0;
    return spec === undefined || port === undefined ? undefined : { ...spec, port };
  });
}

function portAt(cursor: Cursor, forms: AddressForms): number | undefined {
  const word = cursor.text('a port');
  if (word === undefined) return undefined;
  const value = word.text === 'any' ? 0 : Object.hasOwn(SERVICES, word.text) ? SERVICES[word.text] : parseNumber(word.text);
  if (!forms.ports) {
    cursor.reader.report.error(word.atom.span, 'a port has no meaning here', 'leave it out');
    return undefined;
  }
  if (value !== undefined && value >= 0 && value <= 65535) return value;
  const near = cursor.reader.report.near(word.text, Object.keys(SERVICES));
  const hint =
    near === undefined || /^\d/.test(word.text)
      ? 'a number from 0 to 65535, a service, or `any`'
      : `did you mean ${quoted(near)}?`;
  cursor.reader.report.error(word.atom.span, `${quoted(word.text)} is no port`, hint);
  return undefined;
}

function parseAddress(written: string, span: Span, forms: AddressForms, cursor: Cursor): AddressSpec | undefined {
  const { report } = cursor.reader;
  const slash = written.indexOf('/');
  const base = slash < 0 ? written : written.slice(0, slash);
  const lengthText = slash < 0 ? undefined : written.slice(slash + 1);
  const fail = (message: string, hint?: string) => report.error(span, message, hint);
  if (lengthText !== undefined && !forms.prefixes)
    return void fail('a prefix has no meaning here', `write the address alone: ${base}`);

  const literal = IpAddress.parse(base);
  const most = literal === undefined ? 128 : bitsOf(literal.family);
  const prefixLength = lengthText === undefined ? undefined : /^\d{1,3}$/.test(lengthText) ? Number(lengthText) : -1;
  if (prefixLength !== undefined && (prefixLength < 0 || prefixLength > most)) {
    return void fail(`${quoted(`/${lengthText}`)} is no prefix length`, `a number from 0 to ${most}`);
  }
  if (literal !== undefined) {
    const length = prefixLength ?? most;
    const network = firstAddress({ address: literal, length });
    if (!network.equals(literal)) {
      report.warning(span, `the address has bits beyond its prefix; they do not count`, `write ${network}/${length}`);
    }
    return { kind: 'literal', address: network.toString(), prefixLength: length, port: 0 };
  }
  const percent = base.indexOf('%');
  const name = percent < 0 ? base : base.slice(0, percent);
  const macro = name === 'IP_UNSPECIFIED' ? 'IP_ANY' : MACROS.find((candidate) => candidate === name);
  if (macro !== undefined) {
    const device = percent < 0 ? undefined : base.slice(percent + 1);
    if (!forms.macros.includes(macro)) return void fail(`${quoted(macro)} has no meaning here`, macroHint(forms));
    if (device !== undefined && (device === '' || macro.startsWith('IP_')))
      return void fail(`${quoted(base)} is no address`, `write ${macro}`);
    return { kind: 'macro', macro, interface: device, prefixLength: prefixLength ?? 0, port: 0 };
  }
  const near = cursor.reader.report.near(name, forms.macros);
  if (/^(?:MY|IP)_/i.test(base) || (near !== undefined && /^[A-Z][A-Z0-9_%]*$/.test(base))) {
    fail(`there is no address macro ${quoted(base)}`, near === undefined ? macroHint(forms) : `did you mean ${quoted(near)}?`);
    return undefined;
  }
  if (!/^[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})$/.test(base) || /^[\d.]+$/.test(base) || prefixLength !== undefined) {
    return void fail(`${quoted(written)} is no address`, addressHint(forms));
  }
  if (!forms.names) return void fail(`${quoted(base)} is a name, and an address is expected`, addressHint(forms));
  return { kind: 'fqdn', name: base, port: 0 };
}

function macroHint(forms: AddressForms): string {
  return forms.macros.length === 0 ? 'write a numeric address' : `one of ${forms.macros.join(', ')}, or a numeric address`;
}

function addressHint(forms: AddressForms): string {
  return `for example 192.0.2.1${forms.prefixes ? ', 10.1.0.0/16' : ''}, 2001:db8::1${forms.macros.length === 0 ? '' : `, ${forms.macros[0]}`}`;
}

/** The text of one literal address, canonical. */
export const literalAddress: Kind<string> = kind('ADDRESS', (cursor) => {
  const spec = address(LITERAL).read(cursor.peek() === undefined ? [] : [cursor.peek()!], cursor.place, cursor.reader);
  if (spec !== undefined) cursor.atom('an address');
  return spec?.kind === 'literal' ? spec.address : undefined;
});

/** Where spmd listens: `unix "path"`. A TCP address is racoon2's debug build's, and has no effect. */
export const spmdSocket: Kind<string> = {
  syntax: 'unix PATH',
  read(items, at, reader) {
    const [first] = items;
    if (first?.kind === 'atom' && first.text === 'unix') return path.read(items.slice(1), first.span, reader);
    if (address(LOCAL).read(items, at, reader) !== undefined) {
      reader.report.warning(
        first?.span ?? at,
        'the address has no effect: spmd listens on a UNIX socket',
        'write spmd unix "PATH";',
      );
    }
    return undefined;
  },
};

/** A file's path; a relative one starts at the folder of the file that says it. */
export const path: Kind<string> = kind('PATH', (cursor) => {
  const word = cursor.text('a path');
  if (word?.text !== '') return word === undefined ? undefined : besideFile(word.atom.span.source.file, word.text);
  cursor.reader.report.error(word.atom.span, 'the path is empty', 'name a file');
  return undefined;
});

const IDENTITY_TYPES = ['ipaddr', 'fqdn', 'email', 'keyid', 'x509_subject'] as const;

/** `TYPE [file|tag] VALUE`. */
export const identity: Kind<IdentityConfig> = kind(
  'ipaddr ADDRESS | fqdn NAME | email NAME | keyid [file|tag] VALUE | x509_subject PATH',
  (cursor) => {
    const { report } = cursor.reader;
    const word = cursor.text(`an identity's type, one of ${IDENTITY_TYPES.join(', ')},`);
    if (word === undefined) return undefined;
    const type = IDENTITY_TYPES.find((candidate) => candidate === word.text);
    if (type === undefined) {
      const near = cursor.reader.report.near(word.text, IDENTITY_TYPES);
      const hint =
        near === undefined
          ? `for example ${IpAddress.parse(word.text) === undefined ? 'fqdn' : 'ipaddr'} "${word.text}"`
          : `did you mean ${quoted(near)}?`;
      report.error(word.atom.span, `${quoted(word.text)} is no type of identity`, hint);
      return undefined;
    }
    const place = cursor.place;
    const qualifier = cursor.take({ word: 'tag' }) ? 'tag' : cursor.take({ word: 'file' }) ? 'file' : undefined;
    if (qualifier !== undefined && type !== 'keyid')
      report.warning(place, `${quoted(qualifier)} has no effect on an identity of type ${type}`, 'leave it out');
    const value = cursor.text('the identity');
    if (value === undefined) return undefined;
    if (value.text === '') {
      report.error(value.atom.span, 'the identity is empty', 'write a value');
      return undefined;
    }
    const file = type === 'x509_subject' || (type === 'keyid' && qualifier !== 'tag');
    if (file) return { type, value: besideFile(value.atom.span.source.file, value.text), file };
    if (type !== 'ipaddr') return { type, value: value.text, file };
    const literal = IpAddress.parse(value.text);
    if (literal === undefined) {
      report.error(
        value.atom.span,
        `${quoted(value.text)} is no numeric address`,
        'an identity of another type: fqdn, email, keyid',
      );
      return undefined;
    }
    return { type, value: literal.toString(), file };
  },
);

/** What `upper_layer_protocol` says: a protocol and up to two numbers. */
export interface UpperLayer {
  readonly protocol: number;
  readonly first: number | undefined;
  readonly second: number | undefined;
}

/** `PROTO [TYPE [CODE]]`, the type by number or by name. */
export const upperLayer: Kind<UpperLayer> = kind('PROTOCOL [TYPE [CODE]]', (cursor) => {
  const protocol = protocolAt(cursor);
  if (protocol === undefined) return undefined;
  const numbers: (number | undefined)[] = [undefined, undefined];
  for (let i = 0; i < 2 && cursor.more; i++) {
    const word = cursor.text('a number');
    if (word === undefined) return undefined;
    const names = i === 0 ? (MESSAGE_TYPES[protocol] ?? {}) : {};
    const value = Object.hasOwn(names, word.text) ? names[word.text] : parseNumber(word.text);
    if (value === undefined || value < 0 || value > 255) {
      const near = cursor.reader.report.near(word.text, Object.keys(names));
      cursor.reader.report.error(
        word.atom.span,
        `${quoted(word.text)} is no ICMP or Mobility Header type or code`,
        near === undefined ? 'a number from 0 to 255, or the name of a type' : `did you mean ${quoted(near)}?`,
      );
      return undefined;
    }
    numbers[i] = value;
  }
  return { protocol, first: numbers[0], second: numbers[1] };
});

/** A protocol alone. */
export const protocol: Kind<number> = kind('PROTOCOL', protocolAt);

/** A number by C's rules (a leading 0 is octal), or a name. */
function protocolAt(cursor: Cursor): number | undefined {
  const word = cursor.text('a protocol');
  if (word === undefined) return undefined;
  if (Object.hasOwn(PROTOCOLS, word.text)) return PROTOCOLS[word.text];
  const value = /^0[0-7]+$/.test(word.text) ? Number.parseInt(word.text, 8) : parseNumber(word.text);
  if (value !== undefined && value >= 0 && value <= 255) return value;
  const near = cursor.reader.report.near(word.text, Object.keys(PROTOCOLS));
  const hint = near === undefined ? 'a number from 0 to 255, or a name such as tcp, udp, icmp' : `did you mean ${quoted(near)}?`;
  cursor.reader.report.error(word.atom.span, `${quoted(word.text)} is no protocol`, hint);
  return undefined;
}

/** The body of `addresspool`: `START - END;` statements of one family each. */
export const ranges: Kind<AddressPool['ranges']> = {
  syntax: '{ START - END; … }',
  read(items, at, reader) {
    const found: { start: string; end: string }[] = [];
    for (const statement of bodyOf(items, at, reader) ?? []) {
      const range = rangeKind.read(statement.items, statement.span, reader);
      if (range !== undefined) found.push(range);
    }
    return found;
  },
};

const rangeKind = kind('START - END', (cursor) => {
  const place = cursor.place;
  const start = cursor.text('the first address');
  if (start === undefined) return undefined;
  const { report } = cursor.reader;
  if (!cursor.take('-')) {
    const glued = start.text.includes('-') ? `put spaces around the dash: ${start.text.replace('-', ' - ')}` : undefined;
    report.error(cursor.more ? cursor.place : start.atom.span, 'a range is written START - END', glued);
    return undefined;
  }
  const end = cursor.text('the last address');
  if (end === undefined) return undefined;
  const first = IpAddress.parse(start.text);
  const last = IpAddress.parse(end.text);
  const wrong = first === undefined ? start : last === undefined ? end : undefined;
  if (first !== undefined && last !== undefined && first.family === last.family && first.compare(last) <= 0) {
    return { start: first.toString(), end: last.toString() };
  }
  const message =
    wrong === undefined ? 'the range does not lead upwards within one family' : `${quoted(wrong.text)} is no numeric address`;
  report.error(wrong?.atom.span ?? place, message);
  return undefined;
});
