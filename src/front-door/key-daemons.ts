/** Commands about SAs, to whichever key daemon a selector, policy, remote or peer belongs to: who asks need not know which protocol it is. */

import type { Knowledge } from '../keying/status.ts';
import type { DaemonName } from '../runtime/run-dir.ts';
import { ask } from './ask.ts';
import { EXIT, Exit } from './exit-codes.ts';

export const KEY_DAEMONS = ['iked', 'kinkd'] as const satisfies readonly DaemonName[];

/**
 * Asks those daemons that the name means something to, and puts their results together. Throws Exit as `ask` does: where none knows the
 * name, with iked's sentence, which lists what there is.
 */
export async function askKeyDaemons(
  directory: string,
  verb: 'initiate' | 'terminate' | 'rekey',
  args: { readonly name: string; readonly what?: 'ike' | 'child' },
  timeoutMs?: number,
): Promise<unknown> {
  const concerned = await whoKnows(directory, verb, args.name);
  const results = await Promise.all(concerned.map((daemon) => ask(daemon, directory, verb, args, timeoutMs)));
  return results.reduce(joined);
}

async function whoKnows(directory: string, verb: string, name: string): Promise<readonly DaemonName[]> {
  const concerned: DaemonName[] = [];
  for (const daemon of KEY_DAEMONS) {
    try {
      const { serves, holds } = (await ask(daemon, directory, 'knows', { name })) as Knowledge;
      if (verb === 'initiate' ? serves > 0 : serves + holds > 0) concerned.push(daemon);
    } catch (error) {
      // kinkd runs only where a policy has KINK.
      if (!(error instanceof Exit) || error.code !== EXIT.notRunning) throw error;
    }
  }
  return concerned.length > 0 ? concerned : ['iked'];
}

/** Lists are appended and numbers added. */
function joined(a: unknown, b: unknown): unknown {
  const [one, two] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const members = new Set([...Object.keys(one), ...Object.keys(two)]);
  return Object.fromEntries(
    [...members].map((member) => {
      const [x, y] = [one[member], two[member]];
      if (Array.isArray(x) && Array.isArray(y)) return [member, [...x, ...y]];
      return [member, typeof x === 'number' && typeof y === 'number' ? x + y : (x ?? y)];
    }),
  );
}
