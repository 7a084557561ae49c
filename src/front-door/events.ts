/** `tanuki events`: the events of all daemons, as they happen, until interrupted. */

import type { Event } from '../event.ts';
import { textLine } from '../runtime/log-sink.ts';
import type { DaemonName } from '../runtime/run-dir.ts';
import { connectTo } from './ask.ts';
import { Exit } from './exit-codes.ts';

const DAEMONS: readonly DaemonName[] = ['datapath', 'spmd', 'iked', 'kinkd'];

/** Prints until SIGINT, or until the last daemon has gone. Throws Exit `notRunning` where none answers. */
export async function events(directory: string, json: boolean): Promise<void> {
  const show = (daemon: string) => (event: Event) =>
    void process.stdout.write(
      `${json ? JSON.stringify({ daemon, at: new Date().toISOString(), ...event }) : textLine(daemon, event, new Date())}\n`,
    );
  const ended: Promise<void>[] = [];
  const refusals: Exit[] = [];
  for (const daemon of DAEMONS) {
    try {
      let gone: () => void = () => {};
      ended.push(
        new Promise((resolve) => {
          gone = resolve;
        }),
      );
      const client = await connectTo(daemon, directory, show(daemon), () => gone());
      await client.ask('events');
    } catch (error) {
      if (!(error instanceof Exit)) throw error;
      refusals.push(error);
      ended.pop();
    }
  }
  if (ended.length === 0) throw refusals[0]!;
  await Promise.all(ended);
}
