/** Every policy that the package ships loads, with exactly the warnings that are listed here. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compile, memoryFiles, show } from '../../../src/config/index.ts';

const ROOT = join(import.meta.dirname, '../../../policies');

function policyFiles(folder: string): string[] {
  return readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.conf'))
    .map((name) => join(folder, name));
}

/** Read by way of the files that include them, whose variables they use. */
const PARTS = ['quickstart/common.conf'];
const FILES_THERE = [...policyFiles('.'), ...policyFiles('quickstart')].sort();
const NAMES = FILES_THERE.filter((name) => !PARTS.includes(name));
const TEXTS = Object.fromEntries(FILES_THERE.map((name) => [`/policies/${name}`, readFileSync(join(ROOT, name), 'utf8')]));
const FILES = memoryFiles(TEXTS, { TANUKI_RUN_DIR: '/run/tanuki' });

/** Findings other than notes, by file. What is not listed has none. */
const FINDINGS: Readonly<Record<string, readonly string[]>> = {};

function findingsOf(name: string, files = FILES) {
  const { config, diagnostics } = compile(`/policies/${name}`, files);
  const findings = diagnostics
    .filter(({ severity }) => severity !== 'note')
    .map(
      ({ file, line, column, severity, message }) =>
        `${file.replace('/policies/', '')}:${line}:${column}: ${severity}: ${message}`,
    );
  return { config, findings, text: diagnostics.map(show).join('\n') };
}

test.each(NAMES)('%s loads', (name) => {
  const { config, findings, text } = findingsOf(name);
  expect(findings).toEqual(FINDINGS[name] ?? []);
  expect(config, text).toBeDefined();
});

describe.each(['ikev2', 'ikev1', 'kink'] as const)('the quick start over %s', (kmp) => {
  const files = memoryFiles({ ...TEXTS, '/policies/quickstart/protocol.conf': `setval { PROTOCOL ${kmp}; };` });
  const node = (name: string) => {
    const { config, findings } = findingsOf(`quickstart/${name}.conf`, files);
    expect(findings).toEqual([]);
    return config!;
  };

  test('speaks it and nothing else, and both nodes mean the same tunnel', () => {
    const [a, b] = [node('a'), node('b')];
    for (const { remotes } of [a, b]) {
      const { name: _, acceptableKmp, ...blocks } = remotes[0]!;
      expect(acceptableKmp).toEqual([kmp]);
      expect(Object.keys(blocks).filter((word) => blocks[word as keyof typeof blocks] !== undefined)).toEqual([kmp]);
    }
    const [mine, theirs] = [a.selectors[0]!, b.selectors[0]!];
    expect(mine.source).toEqual(theirs.destination);
    expect(mine.policy.mySaAddress).toEqual({ ...theirs.policy.peersSaAddress });
    expect(mine.policy.peersSaAddress).toEqual({ ...theirs.policy.mySaAddress });
    expect(a.interface.kink).toHaveLength(kmp === 'kink' ? 1 : 0);
    if (kmp === 'kink') {
      expect(a.remotes[0]!.kink!.peersPrincipal).toBe(b.remotes[0]!.kink!.myPrincipal);
      expect(a.kerberos).toMatchObject({ realm: 'QUICKSTART.EXAMPLE', keytab: '/policies/quickstart/a.example.keytab' });
    }
  });
});

describe('the files of Mobile IPv6 (RFC 4877 §6)', () => {
  const [node, agent] = ['mobile-node.conf', 'home-agent.conf'].map((name) => findingsOf(name).config!);
  const protecting = (config: typeof node, direction: string) =>
    config!.selectors
      .filter((selector) => selector.direction === direction && selector.policy.action === 'protect')
      .map(({ source, destination, protocol, sourcePort, reqid, policy }) => ({
        ...{ source, destination, protocol, sourcePort, reqid },
        mode: policy.mode,
      }));

  test('what one sends is what the other expects, in both directions', () => {
    expect(protecting(node, 'outbound')).toEqual(protecting(agent, 'inbound'));
    expect(protecting(node, 'inbound')).toEqual(protecting(agent, 'outbound'));
  });

  test('the node sends updates, solicitations and test inits, and gets their answers', () => {
    const types = (direction: string) => protecting(node, direction).map(({ protocol, sourcePort }) => [protocol, sourcePort]);
    expect(types('outbound')).toEqual([
      [135, 5],
      [58, 146],
      [135, 1],
      [0, 0],
    ]);
    expect(types('inbound')).toEqual([
      [135, 6],
      [58, 147],
      [135, 3],
      [0, 0],
    ]);
  });

  test('payload comes last, so that the node does not cut its own registration off', () => {
    const orders = node!.selectors.map(({ name, order }) => [name.replace('.in', ''), order] as const);
    const payload = orders.find(([name]) => name === 'payload')![1];
    for (const [name, order] of orders) if (name !== 'payload') expect(order).toBeLessThan(payload);
  });
});
