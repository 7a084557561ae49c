/** THE TABLE of notify types, RFC 7296 §3.10.1 and its extensions: number, data, RFC, and what the operator is to be told of each. */

import { fromUtf8, hex, readU32be } from '../../src/bytes/bytes.ts';
import { keByIkev2 } from '../../src/crypto/transforms.ts';
import { WireError } from '../../src/errors.ts';
import { printable } from '../../src/wire/dump.ts';
import { nameOf } from '../../src/wire/registry.ts';
import { PAYLOAD, type Payload, type PayloadOf, PROTOCOL } from './payloads.ts';

/**
 * What the notification data are: `none`, a `payload` type (1 octet), a KE `group` (2), a `count` (4), a `message-id` (4), a `digest` (SHA-1, 20),
 * a `cookie` (1 to 64), or octets of `any` meaning.
 */
export type NotifyData = 'none' | 'payload' | 'group' | 'count' | 'message-id' | 'digest' | 'cookie' | 'any';

export interface NotifyRow {
  /** Below 16384 an error, else a status (RFC 7296 §3.10.1). */
  readonly number: number;
  readonly data: NotifyData;
  readonly rfc: string;
  /** What the sender means, as the end of "the peer says that …". */
  readonly means: string;
  /** Possible causes, as an operator could check them; empty for status types that need no action. */
  readonly causes: readonly string[];
}

export const NOTIFY = {
  UNSUPPORTED_CRITICAL_PAYLOAD: {
    number: 1,
    data: 'payload',
    rfc: 'RFC 7296 §2.5',
    means: 'it does not know a payload that was marked critical',
    causes: ['the peer is older than an extension that is switched on here'],
  },
  INVALID_IKE_SPI: {
    number: 4,
    data: 'none',
    rfc: 'RFC 7296 §2.21.4',
    means: 'it has no IKE SA with these SPIs',
    causes: ['the peer was restarted', 'it gave the SA up while we were unreachable'],
  },
  INVALID_MAJOR_VERSION: {
    number: 5,
    data: 'any',
    rfc: 'RFC 7296 §2.5',
    means: 'it does not speak IKEv2',
    causes: ['the peer is set to IKEv1 only', 'another service answers on this port'],
  },
  INVALID_SYNTAX: {
    number: 7,
    data: 'none',
    rfc: 'RFC 7296 §2.21.3',
    means: 'it could not make sense of a message, or refuses it for a reason that it keeps to itself',
    causes: [
      'the peer has no configuration for our address or identity',
      'one of the two programs has a fault: its log says more',
    ],
  },
  INVALID_MESSAGE_ID: {
    number: 9,
    data: 'message-id',
    rfc: 'RFC 7296 §2.3',
    means: 'a message ID was outside its window',
    causes: ['one side went back to an older state, such as a restored virtual machine'],
  },
  INVALID_SPI: {
    number: 11,
    data: 'any',
    rfc: 'RFC 7296 §1.5',
    means: 'it got an ESP or AH packet for an SA that it does not have',
    causes: ['the peer was restarted or deleted the SA, and its DELETE was lost'],
  },
  NO_PROPOSAL_CHOSEN: {
    number: 14,
    data: 'none',
    rfc: 'RFC 7296 §2.7',
    means: 'none of the algorithms (or modes) that we offered is acceptable',
    causes: [
      'encryption, integrity, PRF, group or key length differ between the two configurations',
      'the group is listed for the IKE SA but not for the child SA (PFS), or the reverse',
      'one side wants transport mode, ESN or another protocol (ESP, AH)',
      'the peer has no connection for this pair of addresses',
    ],
  },
  INVALID_KE_PAYLOAD: {
    number: 17,
    data: 'group',
    rfc: 'RFC 7296 §1.3',
    means: 'it wants another key exchange group than the one that was sent',
    causes: ['its first choice of group differs from ours; the exchange is repeated with its own'],
  },
  AUTHENTICATION_FAILED: {
    number: 24,
    data: 'none',
    rfc: 'RFC 7296 §2.21.2',
    means: 'it does not accept that we are who we claim to be',
    causes: [
      'the pre-shared keys differ (a newline or an encoding in the key file counts)',
      'our my_id is not what the peer expects, or the peer has no key for it',
      'the peer wants another authentication method',
    ],
  },
  SINGLE_PAIR_REQUIRED: {
    number: 34,
    data: 'none',
    rfc: 'RFC 7296 §2.9',
    means: 'it accepts traffic selectors for a single pair of addresses only',
    causes: ['the peer makes one SA for each pair of hosts (level unique on its side)'],
  },
  NO_ADDITIONAL_SAS: {
    number: 35,
    data: 'none',
    rfc: 'RFC 7296 §1.3',
    means: 'it wants no more child SAs in this IKE SA',
    causes: ['the peer has reached a limit', 'it supports one child SA for each IKE SA'],
  },
  INTERNAL_ADDRESS_FAILURE: {
    number: 36,
    data: 'none',
    rfc: 'RFC 7296 §3.15.4',
    means: 'it could not assign an inner address',
    causes: ['its address pool is used up', 'it has no pool for our identity'],
  },
  FAILED_CP_REQUIRED: {
    number: 37,
    data: 'none',
    rfc: 'RFC 7296 §2.19',
    means: 'it requires a configuration request (CP), and there was none',
    causes: ['the peer takes us for a remote-access client: ask for an address, or change its connection'],
  },
  TS_UNACCEPTABLE: {
    number: 38,
    data: 'none',
    rfc: 'RFC 7296 §2.9',
    means: 'none of the traffic that we proposed is covered by its policy',
    causes: [
      'source and destination networks, protocol or ports differ between the two configurations',
      'one side has IPv4 selectors, the other IPv6',
      'a host behind a NAT proposes its private address',
    ],
  },
  INVALID_SELECTORS: {
    number: 39,
    data: 'any',
    rfc: 'RFC 7296 §3.10.1',
    means: 'a packet came through an SA whose selectors do not cover it, and was dropped',
    causes: ['the policies of the two sides overlap in different ways', 'a packet was sent through the SA of another policy'],
  },
  UNACCEPTABLE_ADDRESSES: {
    number: 40,
    data: 'none',
    rfc: 'RFC 4555 §4.2',
    means: 'it does not accept the new addresses of the IKE SA',
    causes: ['the policy of the peer ties us to fixed addresses'],
  },
  UNEXPECTED_NAT_DETECTED: {
    number: 41,
    data: 'none',
    rfc: 'RFC 4555 §4.2',
    means: 'a NAT changed addresses that were declared unchangeable',
    causes: ['a NAT is between the peers although NO_NATS_ALLOWED was sent'],
  },
  TEMPORARY_FAILURE: {
    number: 43,
    data: 'none',
    rfc: 'RFC 7296 §2.25',
    means: 'it cannot serve the request at the moment',
    causes: ['both sides rekey or delete at the same time: the request is repeated after a pause'],
  },
  CHILD_SA_NOT_FOUND: {
    number: 44,
    data: 'none',
    rfc: 'RFC 7296 §2.25',
    means: 'it does not have the child SA that was to be rekeyed',
    causes: ['the peer deleted the SA at the same moment, or lost it: a new one is negotiated'],
  },
  INITIAL_CONTACT: {
    number: 16384,
    data: 'none',
    rfc: 'RFC 7296 §2.4',
    means: 'this is its only IKE SA with us',
    causes: ['the peer was started anew: SAs of before are deleted here'],
  },
  SET_WINDOW_SIZE: {
    number: 16385,
    data: 'count',
    rfc: 'RFC 7296 §2.3',
    means: 'it can keep several requests of ours',
    causes: [],
  },
  ADDITIONAL_TS_POSSIBLE: {
    number: 16386,
    data: 'none',
    rfc: 'RFC 7296 §2.9',
    means: 'more traffic selectors than those agreed on are possible in another child SA',
    causes: ['its policy covers what was proposed in several pieces'],
  },
  IPCOMP_SUPPORTED: { number: 16387, data: 'any', rfc: 'RFC 7296 §2.22', means: 'it can compress', causes: [] },
  NAT_DETECTION_SOURCE_IP: {
    number: 16388,
    data: 'digest',
    rfc: 'RFC 7296 §2.23',
    means: 'this is the digest of the address it sends from',
    causes: [],
  },
  NAT_DETECTION_DESTINATION_IP: {
    number: 16389,
    data: 'digest',
    rfc: 'RFC 7296 §2.23',
    means: 'this is the digest of the address it sends to',
    causes: [],
  },
  COOKIE: {
    number: 16390,
    data: 'cookie',
    rfc: 'RFC 7296 §2.6',
    means: 'it wants proof that our address is ours before it spends effort',
    causes: ['the peer is under load, or always asks: the request is repeated with the cookie'],
  },
  USE_TRANSPORT_MODE: { number: 16391, data: 'none', rfc: 'RFC 7296 §1.3.1', means: 'it wants transport mode', causes: [] },
  HTTP_CERT_LOOKUP_SUPPORTED: {
    number: 16392,
    data: 'none',
    rfc: 'RFC 7296 §3.6',
    means: 'it can fetch certificates by URL',
    causes: [],
  },
  REKEY_SA: { number: 16393, data: 'none', rfc: 'RFC 7296 §1.3.3', means: 'the new child SA replaces this one', causes: [] },
  ESP_TFC_PADDING_NOT_SUPPORTED: {
    number: 16394,
    data: 'none',
    rfc: 'RFC 7296 §1.3.1',
    means: 'it does not take packets with traffic-flow padding',
    causes: [],
  },
  NON_FIRST_FRAGMENTS_ALSO: {
    number: 16395,
    data: 'none',
    rfc: 'RFC 7296 §1.3.1',
    means: 'fragments other than the first may use the SA too',
    causes: [],
  },
  MOBIKE_SUPPORTED: { number: 16396, data: 'none', rfc: 'RFC 4555 §4.2', means: 'it speaks MOBIKE', causes: [] },
  ADDITIONAL_IP4_ADDRESS: {
    number: 16397,
    data: 'any',
    rfc: 'RFC 4555 §4.2',
    means: 'it has a further IPv4 address',
    causes: [],
  },
  ADDITIONAL_IP6_ADDRESS: {
    number: 16398,
    data: 'any',
    rfc: 'RFC 4555 §4.2',
    means: 'it has a further IPv6 address',
    causes: [],
  },
  NO_ADDITIONAL_ADDRESSES: {
    number: 16399,
    data: 'none',
    rfc: 'RFC 4555 §4.2',
    means: 'it has no further addresses',
    causes: [],
  },
  UPDATE_SA_ADDRESSES: { number: 16400, data: 'none', rfc: 'RFC 4555 §4.2', means: 'the SAs move to new addresses', causes: [] },
  COOKIE2: { number: 16401, data: 'any', rfc: 'RFC 4555 §4.2', means: 'the path is being tested', causes: [] },
  NO_NATS_ALLOWED: {
    number: 16402,
    data: 'any',
    rfc: 'RFC 4555 §4.2',
    means: 'the addresses must not be changed on the way',
    causes: [],
  },
  AUTH_LIFETIME: {
    number: 16403,
    data: 'count',
    rfc: 'RFC 4478 §3',
    means: 'we must authenticate again in so many seconds',
    causes: [],
  },
  MULTIPLE_AUTH_SUPPORTED: {
    number: 16404,
    data: 'none',
    rfc: 'RFC 4739 §3.1',
    means: 'it can authenticate more than once',
    causes: [],
  },
  ANOTHER_AUTH_FOLLOWS: {
    number: 16405,
    data: 'none',
    rfc: 'RFC 4739 §3.2',
    means: 'it is going to authenticate once more',
    causes: [],
  },
  REDIRECT_SUPPORTED: { number: 16406, data: 'none', rfc: 'RFC 5685 §4', means: 'it can be sent to another gateway', causes: [] },
  REDIRECT: {
    number: 16407,
    data: 'any',
    rfc: 'RFC 5685 §5',
    means: 'another gateway is to be used',
    causes: ['the gateway is being relieved'],
  },
  EAP_ONLY_AUTHENTICATION: {
    number: 16417,
    data: 'none',
    rfc: 'RFC 5998 §3',
    means: 'it would do with EAP in both directions',
    causes: [],
  },
  CHILDLESS_IKEV2_SUPPORTED: {
    number: 16418,
    data: 'none',
    rfc: 'RFC 6023 §3',
    means: 'it makes IKE SAs without a child SA',
    causes: [],
  },
  IKEV2_FRAGMENTATION_SUPPORTED: {
    number: 16430,
    data: 'none',
    rfc: 'RFC 7383 §2.3',
    means: 'it can take messages in fragments',
    causes: [],
  },
  SIGNATURE_HASH_ALGORITHMS: {
    number: 16431,
    data: 'any',
    rfc: 'RFC 7427 §4',
    means: 'these are the hashes it takes in signatures',
    causes: [],
  },
  USE_PPK: { number: 16435, data: 'none', rfc: 'RFC 8784 §3', means: 'it can mix a post-quantum preshared key in', causes: [] },
  INTERMEDIATE_EXCHANGE_SUPPORTED: {
    number: 16438,
    data: 'none',
    rfc: 'RFC 9242 §3.1',
    means: 'it knows IKE_INTERMEDIATE',
    causes: [],
  },
  USE_BEET_MODE: {
    number: 40961,
    data: 'none',
    rfc: 'private, strongSwan',
    means: 'it wants BEET mode',
    causes: [],
  },
} as const satisfies Record<string, NotifyRow>;

export type NotifyName = keyof typeof NOTIFY;

const BY_NUMBER: ReadonlyMap<number, NotifyName> = new Map(
  (Object.keys(NOTIFY) as NotifyName[]).map((name) => [NOTIFY[name].number, name]),
);

/** First number of the status types. */
const STATUS = 16384;

/** Octets of each kind of data, fewest and most. */
const OCTETS: Readonly<Record<NotifyData, readonly [number, number]>> = {
  none: [0, 0],
  payload: [1, 1],
  group: [2, 2],
  count: [4, 4],
  'message-id': [4, 4],
  digest: [20, 20],
  cookie: [1, 64],
  any: [0, 0xffff],
};

export function isErrorNotify(type: number): boolean {
  return type < STATUS;
}

/** `COOKIE`, or the number of a type that is not in the table. */
export function notifyName(type: number): NotifyName | `${number}` {
  return BY_NUMBER.get(type) ?? `${type}`;
}

export function isNotifyName(name: string): name is NotifyName {
  return Object.hasOwn(NOTIFY, name);
}

/** The notify payload to answer with; the data are the caller's. */
export function notify(
  name: NotifyName,
  data: Uint8Array = new Uint8Array(0),
  about: { readonly protocol: number; readonly spi: Uint8Array } = { protocol: PROTOCOL.none, spi: new Uint8Array(0) },
): PayloadOf<'Notify'> {
  return { type: 'Notify', protocol: about.protocol, spi: about.spi, notify: NOTIFY[name].number, data };
}

/** The first notify of a type, or undefined. */
export function findNotify(payloads: readonly Payload[], name: NotifyName): PayloadOf<'Notify'> | undefined {
  return payloads.find(
    (payload): payload is PayloadOf<'Notify'> => payload.type === 'Notify' && payload.notify === NOTIFY[name].number,
  );
}

/** The first error notify, or undefined. One that is not in the table is an error all the same (RFC 7296 §3.10.1). */
export function findError(payloads: readonly Payload[]): PayloadOf<'Notify'> | undefined {
  return payloads.find((payload): payload is PayloadOf<'Notify'> => payload.type === 'Notify' && isErrorNotify(payload.notify));
}

/** The data of a notify whose data are a number. Throws WireError where they have another size than the table says. */
export function notifyNumber({ notify: type, data }: PayloadOf<'Notify'>): number {
  checkNotifyData(type, data);
  if (data.length > 4) throw new WireError(`${notifyName(type)} carries ${data.length} octets, expected a number of at most 4`);
  return data.reduce((number, octet) => number * 256 + octet, 0);
}

/** Throws WireError where a notify of the table has data of a size that it cannot have. Those without data are not held to it. */
export function checkNotifyData(type: number, data: Uint8Array): void {
  const name = BY_NUMBER.get(type);
  if (name === undefined || NOTIFY[name].data === 'none') return;
  const [fewest, most] = OCTETS[NOTIFY[name].data];
  if (data.length >= fewest && data.length <= most) return;
  throw new WireError(
    `${name} carries ${data.length} octets of data, expected ${fewest === most ? fewest : `${fewest} to ${most}`}`,
  );
}

/** The data of a notify as people read it, or '' where there is nothing to read. */
export function notifyDetail({ notify: type, protocol, spi, data }: PayloadOf<'Notify'>): string {
  const about = spi.length === 0 ? '' : `${nameOf(PROTOCOL, protocol)} ${hex(spi)}`;
  const name = BY_NUMBER.get(type);
  const kind: NotifyData = name === undefined ? 'any' : NOTIFY[name].data;
  const [fewest, most] = OCTETS[kind];
  if (data.length < fewest || data.length > most) return about;
  switch (kind) {
    case 'group':
      return keByIkev2((data[0]! << 8) | data[1]!) ?? `group ${(data[0]! << 8) | data[1]!}`;
    case 'payload':
      return `payload type ${nameOf(PAYLOAD, data[0]!)}`;
    case 'count':
    case 'message-id':
      return String(readU32be(data));
    default:
      return about;
  }
}

/**
 * For the log of the side that was refused: names the notify, what the peer means, what we had sent and what may be wrong.
 * `sent` is what the refusal was about, in words: `aes_gcm_16-256 | prf_hmac_sha2_256 | x25519`.
 */
export function explainNotify(payload: PayloadOf<'Notify'>, sent?: string): string {
  const name = BY_NUMBER.get(payload.notify);
  const detail = notifyDetail(payload);
  const heard = `${notifyName(payload.notify)}${detail === '' ? '' : ` (${detail})`}`;
  const told = sent === undefined ? '' : `; we had sent ${sent}`;
  if (name === undefined) {
    const kind = isErrorNotify(payload.notify) ? 'an error that is unknown here' : 'a status that is unknown here';
    const text = readable(payload.data);
    return `the peer sent notify ${heard}, ${kind}${text === '' ? '' : ` ("${text}")`}${told}`;
  }
  const { means, causes, rfc }: NotifyRow = NOTIFY[name];
  const why = causes.length === 0 ? '' : `. Possible causes: ${causes.join('; ')}`;
  return `the peer sent ${heard} (${rfc}): it says that ${means}${told}${why}`;
}

/** Some peers put a sentence into private notifies. */
function readable(data: Uint8Array): string {
  return data.length > 0 && data.length <= 200 && data.every((octet) => octet >= 0x20 && octet < 0x7f)
    ? printable(fromUtf8(data))
    : '';
}
