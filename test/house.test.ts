/** Keeps the import arrows of the house (docs/architecture.md): reads the import lines and says where a misplaced one would belong. */

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Rooms from top to bottom. A file belongs to the first whose pattern it matches. */
const ROOMS = [
  {
    name: 'bins and whole suites',
    pattern: /^(src\/(cli|suite|quickstart)\.ts|src\/quickstart\/.*|(spmd|iked|kinkd|src\/datapath-process)\/cli\.ts)$/,
  },
  { name: 'front door', pattern: /^src\/front-door\// },
  {
    name: 'shells',
    pattern:
      /^((spmd|iked|kinkd)\/(daemon|credentials|node-krb5|ticket-sources|index|datapath-link)\.ts|src\/datapath-(process|xfrm)\/)/,
  },
  { name: 'runtime', pattern: /^src\/runtime\// },
  { name: 'iked', pattern: /^iked\// },
  { name: 'spmd', pattern: /^spmd\// },
  { name: 'kinkd', pattern: /^kinkd\// },
  { name: 'datapath', pattern: /^src\/datapath\// },
  { name: 'keying', pattern: /^src\/keying\// },
  { name: 'isakmp', pattern: /^src\/isakmp\// },
  { name: 'pfkey', pattern: /^src\/pfkey\// },
  { name: 'spmif', pattern: /^src\/spmif\// },
  { name: 'config', pattern: /^src\/config\// },
  { name: 'ipsec', pattern: /^src\/ipsec\// },
  { name: 'crypto', pattern: /^src\/crypto\// },
  { name: 'net', pattern: /^src\/net\// },
  { name: 'asn1', pattern: /^src\/asn1\// },
  { name: 'wire', pattern: /^src\/wire\// },
  { name: 'ground', pattern: /^src\/(bytes\/|machine\.ts|errors\.ts|event\.ts)/ },
  { name: 'public names', pattern: /^src\/(index|pfkey)\.ts$/ },
] as const;

const GROUND = ['wire', 'ground'];
const MECHANISMS = ['net', 'crypto', 'asn1', ...GROUND];
const PROTOCOLS = ['pfkey', 'spmif', 'config', 'ipsec', ...MECHANISMS];
const CORES = ['iked', 'spmd', 'kinkd', 'datapath', 'keying', 'isakmp', ...PROTOCOLS];

/** What each room may import, itself apart. */
const ARROWS: Record<(typeof ROOMS)[number]['name'], readonly string[]> = {
  'bins and whole suites': ['front door', 'shells', 'runtime', ...CORES],
  'front door': ['bins and whole suites', 'shells', 'runtime', ...CORES],
  shells: ['runtime', ...CORES],
  runtime: PROTOCOLS,
  iked: ['keying', 'isakmp', ...PROTOCOLS],
  spmd: PROTOCOLS,
  kinkd: ['keying', 'isakmp', ...PROTOCOLS],
  datapath: ['pfkey', 'ipsec', ...MECHANISMS],
  keying: ['isakmp', ...PROTOCOLS],
  isakmp: ['ipsec', ...MECHANISMS],
  pfkey: ['ipsec', ...MECHANISMS],
  spmif: ['config', 'ipsec', ...MECHANISMS],
  config: ['ipsec', ...MECHANISMS],
  ipsec: MECHANISMS,
  crypto: GROUND,
  net: GROUND,
  asn1: GROUND,
  wire: ['ground'],
  ground: [],
  'public names': [...CORES, 'runtime', 'shells', 'front door', 'bins and whole suites'],
};

/** Who may reach outside the process. */
const DOORS_TO_NODE = ['bins and whole suites', 'front door', 'shells', 'runtime'];
const CRYPTO_DOORS = /^src\/crypto\/(engine-native|packet-cipher-node)\.ts$/;

interface Import {
  readonly file: string;
  readonly line: number;
  readonly target: string;
}

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  const found: Import[] = [];
  for (const match of text.matchAll(/^(?:import|export)\b[^;]*?\bfrom '([^']+)'|\bimport\('([^']+)'\)|^import '([^']+)'/gm)) {
    const target = (match[1] ?? match[2] ?? match[3])!;
    const line = text.slice(0, match.index).split('\n').length;
    found.push({ file, line, target: target.startsWith('.') ? normalize(join(dirname(file), target)) : target });
  }
  return found;
}

function roomOf(file: string): (typeof ROOMS)[number]['name'] | undefined {
  return ROOMS.find(({ pattern }) => pattern.test(file))?.name;
}

const files = ['src', 'spmd', 'iked', 'kinkd'].flatMap((folder) => {
  try {
    return sources(folder);
  } catch {
    return []; // a daemon that is not built yet
  }
});

describe('the house rule', () => {
  test('every file has a room', () => {
    expect(files.filter((file) => roomOf(file) === undefined)).toEqual([]);
    expect(files.length).toBeGreaterThan(50);
  });

  test('imports go down', () => {
    const misplaced: string[] = [];
    for (const { file, line, target } of files.flatMap(importsOf)) {
      if (/^[@a-z]/.test(target) && !target.endsWith('.ts')) continue;
      const from = roomOf(file)!;
      const to = roomOf(target);
      if (to === undefined || to === from || ARROWS[from].includes(to)) continue;
      misplaced.push(
        `${file}:${line} (${from}) may not know ${target} (${to}): move what it needs to a room both may see, or hand it in`,
      );
    }
    expect(misplaced).toEqual([]);
  });

  test('no daemon knows another', () => {
    const daemon = (file: string) => /^(iked|spmd|kinkd)\//.exec(file)?.[1] ?? /^src\/(datapath-process)\//.exec(file)?.[1];
    const crossing = files.flatMap(importsOf).filter(({ file, target }) => {
      const [from, to] = [daemon(file), daemon(target)];
      return from !== undefined && to !== undefined && from !== to;
    });
    expect(crossing).toEqual([]);
  });

  test('ikev1 and ikev2 do not know each other', () => {
    const crossing = files
      .flatMap(importsOf)
      .filter(
        ({ file, target }) =>
          /^iked\/ikev[12]\//.test(file) && /^iked\/ikev[12]\//.test(target) && file.slice(0, 10) !== target.slice(0, 10),
      );
    expect(crossing).toEqual([]);
  });

  test('only the runtime and the shells reach Node', () => {
    const reaching = files
      .flatMap(importsOf)
      .filter(({ target }) => target.startsWith('node:') || target === 'koffi')
      .filter(({ file }) => !DOORS_TO_NODE.includes(roomOf(file)!) && !CRYPTO_DOORS.test(file))
      .map(
        ({ file, line, target }) =>
          `${file}:${line} imports ${target}: only src/runtime, the shells and the native crypto engine do`,
      );
    expect(reaching).toEqual([]);
  });

  test('pointers stay in src/runtime/native', () => {
    const pointing = files
      .flatMap(importsOf)
      .filter(({ file, target }) => target === 'koffi' && !file.startsWith('src/runtime/native/'));
    expect(pointing).toEqual([]);
  });
});
