/** Runs one machine: inputs in, outputs to its shell, and one timer for everything it waits for. */

import type { Event } from '../event.ts';
import type { Instant, Machine } from '../machine.ts';

export interface Driven<In> {
  /** Hands in one input and carries out all it causes, in order. Re-entrant calls wait their turn. */
  put(input: In): void;
  stop(): void;
}

export interface DriveOptions<In, Out> {
  readonly machine: Machine<In, Out>;
  readonly now: () => Instant;
  /** The input that lets the machine see that time has passed. */
  readonly tick: In;
  /** Carries out one output. What it throws is reported and does not stop the rest. */
  readonly perform: (output: Out) => void;
  /** Where a fault of ours goes: the machine threw, or an output could not be carried out. */
  readonly report: (event: Event) => void;
}

/** setTimeout's longest delay; a later deadline is approached in steps. */
const LONGEST_DELAY_MS = 2 ** 31 - 1;

export function drive<In, Out>({ machine, now, tick, perform, report }: DriveOptions<In, Out>): Driven<In> {
  const waiting: In[] = [];
  let running = false;
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;

  function step(input: In): void {
    let outputs: readonly Out[];
    try {
      outputs = machine.handle(input, now());
    } catch (error) {
      report(fault('machine-fault', error));
      return;
    }
    for (const output of outputs) {
      try {
        perform(output);
      } catch (error) {
        report(fault('output-failed', error));
      }
    }
  }

  function put(input: In): void {
    if (stopped) return;
    waiting.push(input);
    if (running) return;
    running = true;
    while (waiting.length > 0 && !stopped) step(waiting.shift()!);
    running = false;
    arm();
  }

  function arm(): void {
    clearTimeout(timer);
    const at = machine.wakeAt();
    if (stopped || at === undefined) return;
    const delay = Math.min(LONGEST_DELAY_MS, Math.max(0, Math.ceil(at - now().mono)));
    timer = setTimeout(() => put(tick), delay);
  }

  arm();
  return {
    put,
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

function fault(name: string, error: unknown): Event {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const where =
    error instanceof Error
      ? (error.stack ?? '')
          .split('\n')
          .slice(1, 4)
          .map((line) => line.trim())
      : [];
  return { name, severity: 'error', message: text, where };
}
