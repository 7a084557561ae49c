/** The process of spmd of a simulated host. */

import type { SpmdInput, SpmdOutput } from '../../spmd/ports.ts';
import { Spmd } from '../../spmd/spmd.ts';
import type { Config } from '../../src/config/config.ts';
import type { LocalAddress } from '../../src/config/expand.ts';
import type { Timeline } from './clock.ts';
import { Driven } from './driven.ts';
import { type PfkeyHost, PfkeyPort } from './link.ts';

export interface SpmdHost extends PfkeyHost {
  readonly clock: Timeline;
  readonly config: Config;
  readonly addresses: readonly LocalAddress[];
  nextPid(): number;
  toSpmifClient(client: number, bytes: Uint8Array): void;
  onOutput(what: 'event' | 'reply', value: unknown): void;
  breach(what: string): void;
}

export class SpmdNode {
  readonly port: PfkeyPort;
  readonly #host: SpmdHost;
  #driven: Driven<SpmdInput, SpmdOutput> | undefined;

  constructor(host: SpmdHost) {
    this.#host = host;
    this.port = new PfkeyPort(host);
  }

  get running(): boolean {
    return this.#driven !== undefined;
  }

  start(): void {
    const { clock, chance, config } = this.#host;
    const pid = this.#host.nextPid();
    this.#driven = new Driven<SpmdInput, SpmdOutput>({
      name: 'spmd',
      machine: new Spmd({ pid, random: chance.fork().bytes, firstGeneration: pid * 1000 }),
      clock,
      tick: { kind: 'tick' },
      perform: (output) => this.#says(output),
      breach: (what) => this.#host.breach(what),
    });
    this.tellAddresses();
    this.put({ kind: 'configure', id: 1, config, password: undefined, confirmSeconds: 0 });
    this.port.open({ put: (input) => this.put(input) });
  }

  kill(): void {
    if (this.#driven === undefined) return;
    this.#driven.stop();
    this.#driven = undefined;
    this.port.close();
  }

  put(input: SpmdInput): void {
    this.#driven?.put(input);
  }

  tellAddresses(): void {
    this.put({ kind: 'addresses', addresses: this.#host.addresses });
  }

  #says(output: SpmdOutput): void {
    const host = this.#host;
    switch (output.kind) {
      case 'pfkey':
        return this.port.send(output.message);
      case 'spmif':
        return host.toSpmifClient(output.client, output.bytes);
      case 'datapath':
        return this.put({ kind: 'datapath', problem: undefined });
      case 'event':
        return host.onOutput('event', output.event);
      case 'reply':
        host.onOutput('reply', output);
        if (!output.ok) host.breach(`spmd answered ${output.error}`);
        return;
      case 'spmif-close':
        return host.breach(`spmd closed spmif: ${output.why}`);
      default:
    }
  }
}
