/** MIGRATE on spmif (racoon2, reference §3.3): the tunnels of a selector and its mirror get other ends; answered when the datapath has answered for all. */

import type { SelectorConfig } from '../src/config/config.ts';
import { type Ends, sameEnds } from '../src/ipsec/policy.ts';
import type { Instant } from '../src/machine.ts';
import { errnoName } from '../src/pfkey/registry.ts';
import { CODE } from '../src/spmif/protocol.ts';
import type { Request } from '../src/spmif/request.ts';
import type { Installer, InstallerOutput } from './installer.ts';
import type { TableEntry } from './policy-table.ts';
import { mirrorOf } from './reqids.ts';

type Migrate = Extract<Request, { verb: 'migrate' }>;

/** What a command is answered with. */
export interface Answer {
  readonly client: number;
  readonly ticket: number;
  readonly code: number;
  readonly text: string;
}

interface Open {
  readonly client: number;
  readonly ticket: number;
  awaited: number;
  readonly failures: string[];
}

export class Migrations {
  readonly #installer: Installer;
  readonly #open = new Map<number, Open>();
  #next = 1;

  constructor(installer: Installer) {
    this.#installer = installer;
  }

  /** Asks the datapath. Nothing to ask: the answer at once. */
  begin(
    { client, ticket }: Pick<Open, 'client' | 'ticket'>,
    asked: Migrate,
    selectors: readonly SelectorConfig[],
    entries: readonly TableEntry[],
    now: Instant,
  ): readonly InstallerOutput[] | Answer {
    const answer = (code: number, text: string): Answer => ({ client, ticket, code, text });
    if (!this.#installer.synchronised) return answer(CODE.failed, 'the datapath is not connected');
    const selector = selectors.find(({ name }) => name === asked.selector);
    if (selector === undefined) return answer(CODE.noSuch, `there is no selector ${asked.selector}`);
    const mirror = mirrorOf(selector, selectors)?.name;
    const candidates = entries.flatMap((entry) => {
      if (entry.selector === selector.name) return this.#endsOf(entry, asked.old, asked.new);
      return entry.selector === mirror ? this.#endsOf(entry, reverse(asked.old), reverse(asked.new)) : [];
    });
    const { source, destination } = asked.old;
    if (candidates.length === 0)
      return answer(CODE.failed, `no installed policy of ${asked.selector} has SAs from ${source} to ${destination}`);
    const due = candidates.filter(({ isThere }) => !isThere);
    if (due.length === 0) return answer(CODE.done, 'OK');
    const request = this.#next++;
    this.#open.set(request, { client, ticket, awaited: due.length, failures: [] });
    return due.flatMap(({ key, old, to }) => this.#installer.migrate(key, old, to, request, now));
  }

  /** The datapath's answer for one entry; the last one answers the command. */
  answered({ request, key, errno }: Extract<InstallerOutput, { kind: 'migrated' }>): Answer | undefined {
    const open = this.#open.get(request);
    if (open === undefined) return undefined;
    if (errno !== 0) open.failures.push(`${key}: ${errnoName(errno)}`);
    if (--open.awaited > 0) return undefined;
    this.#open.delete(request);
    const { client, ticket, failures } = open;
    return failures.length === 0
      ? { client, ticket, code: CODE.done, text: 'OK' }
      : { client, ticket, code: CODE.failed, text: `the datapath refused to move ${failures.join(', ')}` };
  }

  /** An installed entry that is at the old ends, or at the new ones already. A transport policy has none of its own. */
  #endsOf({ key }: TableEntry, old: Ends, to: Ends): { key: string; old: Ends; to: Ends; isThere: boolean }[] {
    const there = this.#installer.installed.get(key);
    const template = there?.policy.templates[0];
    if (there?.state !== 'installed' || template === undefined) return [];
    const { endpoints } = template;
    if (endpoints === undefined || sameEnds(endpoints, old)) return [{ key, old, to, isThere: false }];
    return sameEnds(endpoints, to) ? [{ key, old, to, isThere: true }] : [];
  }
}

function reverse({ source, destination }: Ends): Ends {
  return { source: destination, destination: source };
}
