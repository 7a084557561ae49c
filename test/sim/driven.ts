/** Runs one machine on virtual time as the real shells do: an input at a time, its outputs in order, a tick when it asks for one. */

import type { Machine } from '../../src/machine.ts';
import type { Timeline } from './clock.ts';

export interface DrivenOptions<In, Out> {
  readonly name: string;
  readonly machine: Machine<In, Out>;
  readonly clock: Timeline;
  readonly tick: In;
  readonly perform: (output: Out) => void;
  /** A breach of the contract of machines. */
  readonly breach: (what: string) => void;
}

/** Ticks at one and the same millisecond, or within a second, that are no busy loop yet. */
const MOST_TICKS_AT_ONCE = 20;
const MOST_TICKS_A_SECOND = 500;

export class Driven<In, Out> {
  readonly #options: DrivenOptions<In, Out>;
  readonly #waiting: In[] = [];
  #running = false;
  #stopped = false;
  #alarm = 0;
  #alarmAt: number | undefined;
  #tickedAt = -1;
  #ticks = 0;
  #second = -1;
  #inSecond = 0;

  constructor(options: DrivenOptions<In, Out>) {
    this.#options = options;
  }

  put(input: In): void {
    if (this.#stopped) return;
    this.#waiting.push(input);
    if (this.#running) return;
    this.#running = true;
    while (this.#waiting.length > 0 && !this.#stopped) this.#step(this.#waiting.shift()!);
    this.#running = false;
    this.#arm();
  }

  stop(): void {
    this.#stopped = true;
  }

  #step(input: In): void {
    const { machine, clock, perform, breach, name } = this.#options;
    let outputs: readonly Out[];
    try {
      outputs = machine.handle(input, clock.now());
    } catch (error) {
      breach(`${name} threw: ${error instanceof Error ? error.stack : String(error)}`);
      this.#stopped = true;
      return;
    }
    for (const output of outputs) perform(output);
  }

  #arm(): void {
    const { machine, clock } = this.#options;
    if (this.#stopped) return;
    const at = machine.wakeAt();
    if (at === this.#alarmAt && at !== undefined && at > clock.mono) return;
    this.#alarmAt = at;
    const alarm = ++this.#alarm;
    // A deadline that is over is due at the next millisecond, as with real timers.
    if (at !== undefined && at !== Number.POSITIVE_INFINITY)
      clock.at(at <= clock.mono ? clock.mono + 1 : at, () => this.#tick(alarm));
  }

  #tick(alarm: number): void {
    if (alarm !== this.#alarm || this.#stopped) return;
    this.#alarmAt = undefined;
    this.#countTick();
    this.put(this.#options.tick);
  }

  #countTick(): void {
    const { clock, breach, name } = this.#options;
    this.#ticks = clock.mono === this.#tickedAt ? this.#ticks + 1 : 1;
    this.#tickedAt = clock.mono;
    const second = Math.floor(clock.mono / 1000);
    this.#inSecond = second === this.#second ? this.#inSecond + 1 : 1;
    this.#second = second;
    if (this.#ticks <= MOST_TICKS_AT_ONCE && this.#inSecond <= MOST_TICKS_A_SECOND) return;
    breach(`${name} loops: wakeAt() asks for ${this.#inSecond} ticks within a second`);
    this.#stopped = true;
  }
}
