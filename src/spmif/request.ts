/** The commands of spmif as values (racoon2's, reference §3.3, and CONFIG): words compared as prefixes without regard to case, as racoon2 does. */

import type { Ends } from '../ipsec/policy.ts';
import { IpAddress } from '../net/address.ts';
import { type Prefix, parsePrefix } from '../net/prefix.ts';

export interface PolicyArguments {
  readonly selector: string;
  readonly mode: 'transport' | 'tunnel';
  readonly source: Prefix;
  readonly destination: Prefix;
  readonly endpoints: { readonly source: IpAddress; readonly destination: IpAddress } | undefined;
}

export type Request =
  | { readonly verb: 'login'; readonly digest: string }
  | { readonly verb: 'quit' }
  | { readonly verb: 'slid'; readonly policyId: number }
  /** `lifetime` in seconds, 0: none. */
  | ({ readonly verb: 'policy-add'; readonly lifetime: number } & PolicyArguments)
  /** Without arguments behind the selector: all policies of the selector. */
  | ({ readonly verb: 'policy-delete' } & (PolicyArguments | { readonly selector: string; readonly mode: undefined }))
  | { readonly verb: 'policy-dump' }
  | { readonly verb: 'fqdn-query'; readonly address: IpAddress }
  | { readonly verb: 'fqdn-list' }
  | { readonly verb: 'fqdn-change' | 'ns' | 'stat' }
  /** Ends in the named selector's direction; those of its mirror are the reverse. */
  | { readonly verb: 'migrate'; readonly selector: string; readonly old: Ends; readonly new: Ends }
  | { readonly verb: 'config-subscribe'; readonly daemon: string }
  | { readonly verb: 'config-prepared' | 'config-committed'; readonly generation: number }
  | { readonly verb: 'config-rejected'; readonly generation: number; readonly reason: string };

/** Why a line is no request: the code and the sentence to answer with. */
export interface Refusal {
  readonly code: 500 | 502;
  readonly text: string;
}

type Reader = (words: readonly string[], rest: string) => Request | string;

/** Command words, and what reads the words behind them. A string returned is the syntax that was expected. */
const COMMANDS: readonly (readonly [command: string, read: Reader])[] = [
  ['LOGIN', ([digest]) => (digest === undefined ? 'LOGIN <digest>' : { verb: 'login', digest })],
  ['QUIT', () => ({ verb: 'quit' })],
  ['EXIT', () => ({ verb: 'quit' })],
  ['SLID', ([id]) => whole(id, (policyId) => ({ verb: 'slid', policyId })) ?? 'SLID <policy id>'],
  [
    'POLICY ADD',
    (words) => policyAdd(words) ?? 'POLICY ADD <selector> <lifetime> TUNNEL|TRANSPORT <src/len> <dst/len> [<sa-src> <sa-dst>]',
  ],
  [
    'POLICY DELETE',
    (words) => policyDelete(words) ?? 'POLICY DELETE <selector> [TUNNEL|TRANSPORT <src/len> <dst/len> [<sa-src> <sa-dst>]]',
  ],
  ['POLICY DUMP', () => ({ verb: 'policy-dump' })],
  ['FQDN QUERY', ([text]) => fqdnQuery(text) ?? 'FQDN QUERY <address>'],
  ['FQDN LIST', () => ({ verb: 'fqdn-list' })],
  ['FQDN ADD', () => ({ verb: 'fqdn-change' })],
  ['FQDN DELETE', () => ({ verb: 'fqdn-change' })],
  ['NS', () => ({ verb: 'ns' })],
  ['STAT', () => ({ verb: 'stat' })],
  ['MIGRATE', (words) => migrate(words) ?? 'MIGRATE <selector> <old-src> <old-dst> <new-src> <new-dst>'],
  ['CONFIG SUBSCRIBE', ([daemon]) => (daemon === undefined ? 'CONFIG SUBSCRIBE <daemon>' : { verb: 'config-subscribe', daemon })],
  [
    'CONFIG PREPARED',
    ([n]) => whole(n, (generation) => ({ verb: 'config-prepared', generation })) ?? 'CONFIG PREPARED <generation>',
  ],
  [
    'CONFIG COMMITTED',
    ([n]) => whole(n, (generation) => ({ verb: 'config-committed', generation })) ?? 'CONFIG COMMITTED <generation>',
  ],
  [
    'CONFIG REJECTED',
    ([n], rest) =>
      whole(n, (generation) => ({ verb: 'config-rejected', generation, reason: rest.replace(/^\d+ */, '') })) ??
      'CONFIG REJECTED <generation> <reason>',
  ],
];

export function readRequest(line: string): Request | Refusal {
  const words = line.trim().split(/[ \t]+/);
  for (const [command, read] of COMMANDS) {
    const parts = command.split(' ');
    if (!parts.every((part, i) => words[i] !== undefined && words[i]!.toUpperCase().startsWith(part))) continue;
    const rest = line.trim().replace(new RegExp(`^(\\S+[ \\t]*){${parts.length}}`), '');
    const request = read(words.slice(parts.length), rest);
    return typeof request === 'string' ? { code: 500, text: `syntax: ${request}` } : request;
  }
  return { code: 502, text: `unknown command "${line.slice(0, 40)}"` };
}

function whole(text: string | undefined, make: (value: number) => Request): Request | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? make(Number(text)) : undefined;
}

function fqdnQuery(text: string | undefined): Request | undefined {
  const address = IpAddress.parse(text ?? '');
  return address === undefined ? undefined : { verb: 'fqdn-query', address };
}

/** racoon2's library sends these five words; its server wanted a sixth and never took any. */
function migrate([selector, ...texts]: readonly string[]): Request | undefined {
  const addresses = texts.flatMap((text) => IpAddress.parse(text) ?? []);
  const [oldSource, oldDestination, source, destination] = addresses;
  if (selector === undefined || texts.length !== 4 || addresses.length !== 4) return undefined;
  const old = { source: oldSource!, destination: oldDestination! };
  const to = { source: source!, destination: destination! };
  if (old.source.family !== old.destination.family || to.source.family !== to.destination.family) return undefined;
  return { verb: 'migrate', selector, old, new: to };
}

function policyAdd([selector, lifetime, ...words]: readonly string[]): Request | undefined {
  if (selector === undefined || lifetime === undefined || !/^\d{1,10}$/.test(lifetime)) return undefined;
  const policy = policyArguments(selector, words);
  return policy === undefined ? undefined : { verb: 'policy-add', lifetime: Number(lifetime), ...policy };
}

function policyDelete([selector, ...words]: readonly string[]): Request | undefined {
  if (selector === undefined) return undefined;
  if (words.length === 0) return { verb: 'policy-delete', selector, mode: undefined };
  const policy = policyArguments(selector, words);
  return policy === undefined ? undefined : { verb: 'policy-delete', ...policy };
}

function policyArguments(selector: string, [modeText, src, dst, saSrc, saDst]: readonly string[]): PolicyArguments | undefined {
  const mode = modeText?.toLowerCase();
  const source = parsePrefix(src ?? '');
  const destination = parsePrefix(dst ?? '');
  if ((mode !== 'tunnel' && mode !== 'transport') || source === undefined || destination === undefined) return undefined;
  const from = IpAddress.parse(saSrc ?? '');
  const to = IpAddress.parse(saDst ?? '');
  if (mode === 'tunnel' && (from === undefined || to === undefined)) return undefined;
  return {
    selector,
    mode,
    source,
    destination,
    endpoints: from === undefined || to === undefined ? undefined : { source: from, destination: to },
  };
}
