/** setkey's language: statements to PF_KEY messages. The words are those of setkey(8); `migrate` is ours. Total: any text gives messages or a SetkeyError. */

import { Secret } from '../bytes/secret.ts';
import { ENCR, type EncrName, type EncrRow, INTEG, type IntegName } from '../crypto/transforms.ts';
import { UNLIMITED } from '../ipsec/lifetime.ts';
import type { Ends, KmAddress, Policy, PolicyDirection, PolicyLevel, PolicySelector, Template } from '../ipsec/policy.ts';
import type { Mode, SaParameters, SaProtocol } from '../ipsec/sa.ts';
import { IpAddress } from '../net/address.ts';
import { saIdTo, saToAdd, satypeOf } from '../pfkey/convert.ts';
import { type Movement, migrateToSadb } from '../pfkey/convert-migrate.ts';
import { policyToSpdAdd, policyToSpdDelete, policyToSpdUpdate } from '../pfkey/convert-policy.ts';
import { type SadbMessage, sadb } from '../pfkey/message.ts';
import { SetkeyError, statementsOf, type Word, Words } from './setkey-words.ts';

export interface Statement {
  readonly verb: string;
  readonly line: number;
  readonly column: number;
  readonly message: SadbMessage;
}

/** All statements of a text. Throws SetkeyError for the first that is wrong. */
export function readSetkey(text: string): Statement[] {
  return statementsOf(text).map((words) => {
    const first = words[0]!;
    if (first.quoted || !Object.hasOwn(VERBS, first.text))
      throw new SetkeyError(first, `expected a command (${Object.keys(VERBS).join(', ')}), found "${first.text}"`);
    const message = VERBS[first.text]!(new Words(words, 1));
    return { verb: first.text, line: first.line, column: first.column, message };
  });
}

const VERBS: Readonly<Record<string, (words: Words) => SadbMessage>> = {
  add,
  get: (words) => named('GET', words),
  delete: (words) => named('DELETE', words),
  dump: (words) => sadb('DUMP', { satype: anyProtocol(words) }),
  flush: (words) => sadb('FLUSH', { satype: anyProtocol(words) }),
  spdadd: (words) => policyToSpdAdd(policyIn(words)),
  spdupdate: (words) => policyToSpdUpdate(policyIn(words)),
  spddelete,
  spddump: (words) => alone('X_SPDDUMP', words),
  spdflush: (words) => alone('X_SPDFLUSH', words),
  migrate,
};

const PROTOCOL: Readonly<Record<string, SaProtocol>> = { esp: 'esp', 'esp-udp': 'esp', ah: 'ah', ipcomp: 'ipcomp' };
const MODE: Readonly<Record<string, Mode>> = { transport: 'transport', tunnel: 'tunnel', any: 'transport' };
const DIRECTION: Readonly<Record<string, PolicyDirection>> = { in: 'inbound', out: 'outbound', fwd: 'forward' };
/** setkey's names, and behind them ours. */
const ENCRYPTION: Readonly<Record<string, EncrName>> = {
  'aes-cbc': 'aes_cbc',
  'rijndael-cbc': 'aes_cbc',
  'aes-ctr': 'aes_ctr',
  'aes-gcm-16': 'aes_gcm_16',
  'aes-gcm-12': 'aes_gcm_12',
  'aes-gcm-8': 'aes_gcm_8',
  'aes-gcm-16-iiv': 'aes_gcm_16_iiv',
  'aes-ccm-16': 'aes_ccm_16',
  'aes-ccm-12': 'aes_ccm_12',
  'aes-ccm-8': 'aes_ccm_8',
  'aes-ccm-8-iiv': 'aes_ccm_8_iiv',
  'null-aes-gmac': 'null_auth_aes_gmac',
  'camellia-cbc': 'camellia_cbc',
  'chacha20-poly1305': 'chacha20_poly1305',
  'chacha20-poly1305-iiv': 'chacha20_poly1305_iiv',
  '3des-cbc': '3des_cbc',
  'des-cbc': 'des_cbc',
  null: 'null_enc',
};
const AUTHENTICATION: Readonly<Record<string, IntegName>> = {
  'hmac-sha1': 'hmac_sha1',
  'hmac-sha256': 'hmac_sha2_256',
  'hmac-sha2-256': 'hmac_sha2_256',
  'hmac-sha384': 'hmac_sha2_384',
  'hmac-sha2-384': 'hmac_sha2_384',
  'hmac-sha512': 'hmac_sha2_512',
  'hmac-sha2-512': 'hmac_sha2_512',
  'aes-xcbc-mac': 'aes_xcbc',
  'aes-cmac': 'aes_cmac',
  'aes-128-gmac': 'aes_128_gmac',
  'aes-192-gmac': 'aes_192_gmac',
  'aes-256-gmac': 'aes_256_gmac',
  'hmac-md5': 'hmac_md5',
};

function alone(type: 'X_SPDDUMP' | 'X_SPDFLUSH', words: Words): SadbMessage {
  words.end();
  return sadb(type);
}

function anyProtocol(words: Words): number {
  const satype = words.next === undefined ? 0 : satypeOf(words.choice(PROTOCOL, 'a protocol'));
  words.end();
  return satype;
}

/** Numeric addresses only: `-n` is how it is. `-4` and `-6` say what the addresses say. */
function skipFamily(words: Words): void {
  while (words.next !== undefined && /^-[46n]+$/.test(words.next.text)) words.skip();
}

function named(type: 'GET' | 'DELETE', words: Words): SadbMessage {
  skipFamily(words);
  const source = words.address('the source');
  const destination = sameFamily(words, source, 'the destination');
  const protocol = words.choice(PROTOCOL, 'a protocol');
  const spi = words.number('an SPI', 1, 0xffff_ffff);
  words.end();
  return saIdTo(type, { spi, protocol, destination }, source);
}

function sameFamily(words: Words, source: IpAddress, what: string): IpAddress {
  const at = words.next;
  const address = words.address(what);
  return address.family === source.family ? address : words.fail(`${what} in the family of ${source}`, at);
}

interface AddOptions {
  readonly mode?: Mode;
  readonly replayWindow?: number;
  readonly reqid?: number;
  readonly hardSeconds?: number;
  readonly softSeconds?: number;
  readonly hardBytes?: number;
  readonly softBytes?: number;
  readonly encryption?: { readonly encr: EncrName; readonly keyBits: number; readonly key: Uint8Array };
  readonly integrity?: { readonly integ: IntegName; readonly key: Uint8Array };
}

const ADD_OPTIONS: Readonly<Record<string, (words: Words) => AddOptions>> = {
  '-m': (words) => ({ mode: words.choice(MODE, 'a mode') }),
  '-r': (words) => ({ replayWindow: words.number('a replay window', 0, 0xffff) }),
  '-u': (words) => ({ reqid: words.number('a reqid', 0, 0xffff_ffff) }),
  '-lh': (words) => ({ hardSeconds: words.number('seconds', 0, 0xffff_ffff) }),
  '-ls': (words) => ({ softSeconds: words.number('seconds', 0, 0xffff_ffff) }),
  '-bh': (words) => ({ hardBytes: words.number('octets', 0, Number.MAX_SAFE_INTEGER) }),
  '-bs': (words) => ({ softBytes: words.number('octets', 0, Number.MAX_SAFE_INTEGER) }),
  '-E': (words) => ({ encryption: encryptionIn(words) }),
  '-A': (words) => ({ integrity: integrityIn(words) }),
};

/** `add SRC DST PROTOCOL SPI [-m MODE] [-r WINDOW] [-u REQID] [-lh S] [-ls S] [-bh OCTETS] [-bs OCTETS] -E ALGORITHM KEY [-A ALGORITHM KEY]`. */
function add(words: Words): SadbMessage {
  skipFamily(words);
  const source = words.endpoint('the source');
  const at = words.next;
  const destination = words.endpoint('the destination');
  if (destination.address.family !== source.address.family) words.fail(`the destination in the family of ${source.address}`, at);
  const kind = words.next;
  const protocol = words.choice(PROTOCOL, 'a protocol');
  const spi = words.number('an SPI', 1, 0xffff_ffff);
  let said: AddOptions = {};
  while (words.next !== undefined) {
    const option = words.word('an option');
    if (option.quoted || !Object.hasOwn(ADD_OPTIONS, option.text))
      words.fail(`an option (${Object.keys(ADD_OPTIONS).join(', ')})`, option);
    said = { ...said, ...ADD_OPTIONS[option.text]!(words) };
  }
  const { mode = 'transport', encryption, integrity, replayWindow = 0, reqid = 0 } = said;
  if (protocol === 'esp' && encryption === undefined) words.fail('-E with an algorithm and a key');
  if (protocol === 'ah' && integrity === undefined) words.fail('-A with an algorithm and a key');
  const udp = kind?.text === 'esp-udp';
  const end = ({ address, port }: typeof source) => ({ address, port: port || 4500 });
  const parameters: SaParameters = {
    spi,
    protocol,
    mode,
    source: source.address,
    destination: destination.address,
    suite: { encr: encryption?.encr ?? 'null_enc', keyBits: encryption?.keyBits ?? 0, integ: integrity?.integ ?? 'none' },
    encrKey: new Secret(encryption?.key ?? new Uint8Array(0)),
    integKey: integrity === undefined ? undefined : new Secret(integrity.key),
    extendedSequence: false,
    replayWindow,
    reqid,
    encapsulation: udp ? { source: end(source), destination: end(destination) } : undefined,
    lifetime: {
      soft: { ...UNLIMITED, seconds: said.softSeconds ?? 0, bytes: said.softBytes ?? 0 },
      hard: { ...UNLIMITED, seconds: said.hardSeconds ?? 0, bytes: said.hardBytes ?? 0 },
    },
    selectors: { source: [], destination: [] },
  };
  return saToAdd(parameters);
}

function encryptionIn(words: Words): { encr: EncrName; keyBits: number; key: Uint8Array } {
  const encr = words.choice(ENCRYPTION, 'an encryption algorithm');
  const row: EncrRow = ENCR[encr];
  if (row.bits.length === 0) {
    // setkey wants a key for `null` too: an empty one in quotation marks.
    if (words.next?.quoted === true) words.skip();
    return { encr, keyBits: 0, key: new Uint8Array(0) };
  }
  const at = words.next;
  const key = words.key();
  const keyBits = (key.length - row.salt) * 8;
  const lengths = row.bits.map((bits) => bits / 8 + row.salt);
  if (!row.bits.includes(keyBits)) words.fail(`a key of ${lengths.join(', ')} octets`, hidden(at!, key));
  return { encr, keyBits: row.keyLength ? keyBits : 0, key };
}

function integrityIn(words: Words): { integ: IntegName; key: Uint8Array } {
  const integ = words.choice(AUTHENTICATION, 'an authentication algorithm');
  const at = words.next;
  const key = words.key();
  const { keyBytes } = INTEG[integ];
  if (key.length !== keyBytes) words.fail(`a key of ${keyBytes} octets`, hidden(at!, key));
  return { integ, key };
}

/** A key is never shown. */
function hidden(word: Word, key: Uint8Array): Word {
  return { ...word, text: `${key.length} octets` };
}

/** `SRC DST PROTOCOL`: the selector of a policy. A type goes where the source port is, a code where the destination port is. */
function selectorIn(words: Words): PolicySelector {
  skipFamily(words);
  const source = words.range('the source');
  const at = words.next;
  const destination = words.range('the destination');
  if (destination.prefix.address.family !== source.prefix.address.family)
    words.fail(`the destination in the family of ${source.prefix.address}`, at);
  const { protocol, type, code } = words.upperLayer();
  return {
    source: source.prefix,
    destination: destination.prefix,
    protocol,
    sourcePort: type ?? source.port,
    destinationPort: code ?? destination.port,
  };
}

function directionIn(words: Words): PolicyDirection {
  const flag = words.word('-P and a direction');
  if (flag.text !== '-P') words.fail('-P and a direction', flag);
  return words.choice(DIRECTION, 'a direction');
}

/** `-P DIRECTION [prio N] discard | none | ipsec REQUEST…`. */
function policyIn(words: Words): Policy {
  const selector = selectorIn(words);
  const direction = directionIn(words);
  let priority = 0;
  if (words.next?.text === 'prio' || words.next?.text === 'priority') {
    words.skip();
    priority = words.number('a priority', 0, 0xffff_ffff);
  }
  const action = words.choice({ discard: 'discard', none: 'bypass', ipsec: 'protect' } as const, 'what to do');
  const templates: Template[] = [];
  if (action === 'protect')
    do templates.push(requestIn(words));
    while (words.next !== undefined);
  words.end();
  return { id: 0, selector, direction, action, priority, templates };
}

function spddelete(words: Words): SadbMessage {
  const selector = selectorIn(words);
  const direction = directionIn(words);
  words.end();
  return policyToSpdDelete({ selector, direction });
}

/** `esp/tunnel/192.0.2.1-192.0.2.2/unique:1`, `esp/transport//require`. `withEnds`: transport mode names its addresses too. */
function requestIn(words: Words, withEnds = false): Template {
  const word = words.word('a request');
  const form = 'a request as PROTOCOL/MODE/SRC-DST/LEVEL';
  const [protocolText = '', modeText = '', endsText = '', levelText = 'default', ...more] = word.text.split('/');
  const [levelName = '', reqidText] = levelText.split(':');
  const levels: Readonly<Record<string, PolicyLevel>> = { default: 'default', use: 'use', require: 'require', unique: 'unique' };
  const known = (table: object, name: string) => Object.hasOwn(table, name);
  if (more.length > 0 || !known(PROTOCOL, protocolText) || protocolText === 'esp-udp') words.fail(form, word);
  if ((modeText !== 'tunnel' && modeText !== 'transport') || !known(levels, levelName)) words.fail(form, word);
  if (reqidText !== undefined && (levelName !== 'unique' || !/^\d{1,10}$/.test(reqidText) || Number(reqidText) > 0xffff_ffff))
    words.fail(`${form}, with unique:REQID`, word);
  const ends = endsText.split('-').flatMap((text) => IpAddress.parse(text) ?? []);
  const [source, destination] = ends;
  const needed = modeText === 'tunnel' || withEnds;
  if (needed && (ends.length !== 2 || endsText.split('-').length !== 2 || source!.family !== destination!.family))
    words.fail(`${form} with two addresses of one family`, word);
  return {
    protocol: PROTOCOL[protocolText]!,
    mode: modeText,
    level: levels[levelName]!,
    reqid: Number(reqidText ?? 0),
    endpoints: needed ? { source: source!, destination: destination! } : undefined,
  };
}

/** `migrate SRC DST PROTOCOL -P DIRECTION ipsec OLD NEW [OLD NEW]… [-k LOCAL REMOTE]`: where SAs ended, where they end now, and where IKE talks. */
function migrate(words: Words): SadbMessage {
  const selector = selectorIn(words);
  const direction = directionIn(words);
  words.choice({ ipsec: true }, 'ipsec and pairs of requests');
  const movements: Movement[] = [];
  do movements.push(movementIn(words));
  while (words.next !== undefined && words.option === undefined);
  let kmAddress: KmAddress | undefined;
  if (words.option === '-k') {
    words.skip();
    const local = words.endpoint('the local address of IKE');
    const at = words.next;
    const remote = words.endpoint('the remote address of IKE');
    if (remote.address.family !== local.address.family) words.fail(`an address in the family of ${local.address}`, at);
    kmAddress = { local, remote };
  }
  words.end();
  return migrateToSadb({ selector, direction, movements, kmAddress });
}

function movementIn(words: Words): Movement {
  const old = requestIn(words, true);
  const at = words.next;
  const to = requestIn(words, true);
  if (to.protocol !== old.protocol || to.mode !== old.mode || to.reqid !== old.reqid)
    words.fail('a request of the same protocol, mode and reqid', at);
  const ends = ({ endpoints }: Template): Ends => endpoints!;
  return { protocol: old.protocol, mode: old.mode, reqid: old.reqid, old: ends(old), new: ends(to) };
}
