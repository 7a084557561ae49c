/** `/metrics`: what `tanuki status` says as numbers, in the text format of Prometheus, with its names and units. */

import { Counter, Gauge, Registry } from 'prom-client';
import type { Event } from '../event.ts';
import { type Endpoint, sameEndpoint, showEndpoint } from '../net/address.ts';
import { type Page, servePage } from '../runtime/http-page.ts';
import { type SuiteStatus, statusOf } from './status.ts';

const PATH = '/metrics';

/** The page of one run directory at the endpoint that the policy file names, or at none. */
export class MetricsDoor {
  readonly #runDir: string;
  readonly #report: (event: Event) => void;
  #at: Endpoint | undefined;
  #door: { close(): Promise<void> } | undefined;
  #changing: Promise<void> = Promise.resolve();

  constructor(runDir: string, report: (event: Event) => void) {
    this.#runDir = runDir;
    this.#report = report;
  }

  /** Serves there from now on. What cannot be opened is told, and tried again by the next call. */
  follow(endpoint: Endpoint | undefined): Promise<void> {
    this.#changing = this.#changing.then(() => this.#follow(endpoint));
    return this.#changing;
  }

  async #follow(endpoint: Endpoint | undefined): Promise<void> {
    const same = endpoint === undefined ? this.#at === undefined : this.#at !== undefined && sameEndpoint(endpoint, this.#at);
    if (same) return;
    await this.#door?.close();
    this.#door = this.#at = undefined;
    if (endpoint === undefined) return;
    try {
      this.#door = await servePage(endpoint, PATH, async () => pageOf(await statusOf(this.#runDir)));
      this.#at = endpoint;
      this.#report({ name: 'metrics-up', severity: 'info', message: `${PATH} is served at ${showEndpoint(endpoint)}` });
    } catch (error) {
      this.#report({
        name: 'metrics-failed',
        severity: 'error',
        message: `interface { metrics … }: ${(error as Error).message}`,
      });
    }
  }
}

/** Made anew each time: every figure is one of the status, and none is kept here. */
export async function pageOf(status: SuiteStatus): Promise<Page> {
  const registry = new Registry();
  const { counter, gauge } = into(registry);
  const { datapath } = status;
  const daemons = status.daemons.map((daemon) => ({ labels: { daemon: daemon.name }, ...daemon }));
  gauge(
    'tanuki_daemon_up',
    'Whether the daemon answers.',
    daemons.map(({ labels, answers }) => [labels, answers ? 1 : 0]),
  );
  counter(
    'tanuki_daemon_restarts_total',
    'How often the supervisor has started it again.',
    daemons.map((d) => [d.labels, d.restarts]),
  );
  gauge('tanuki_problems', 'What is wrong now, as `tanuki status` names it.', [[{}, status.problems.length]]);
  if (status.generation !== undefined)
    gauge('tanuki_configuration_generation', 'Of the policy files that are in force.', [[{}, status.generation]]);
  gauge(
    'tanuki_ike_sas',
    'IKE SAs by state.',
    countBy(status.ikeSas, ({ state }) => ({ state })),
  );
  gauge('tanuki_kink_peers', 'Principals that there are SAs of KINK with.', [[{}, status.kinkPeers.length]]);
  gauge(
    'tanuki_child_sas',
    'Pairs of negotiated SAs.',
    countBy(status.childSas, ({ state, protocol, mode }) => ({ state, protocol, mode })),
  );
  if (datapath !== undefined) {
    const ways = (['inbound', 'outbound'] as const).map((direction) => ({ labels: { direction }, ...datapath[direction] }));
    gauge(
      'tanuki_datapath_sas',
      'SAs of the datapath.',
      ways.map(({ labels, sas }) => [labels, sas]),
    );
    counter(
      'tanuki_datapath_packets_total',
      'Packets that SAs have carried, gone ones too.',
      ways.map((way) => [way.labels, way.packets]),
    );
    counter(
      'tanuki_datapath_bytes_total',
      'Octets of the IP packets in them.',
      ways.map(({ labels, bytes }) => [labels, bytes]),
    );
    counter('tanuki_datapath_acquires_total', 'SAs that packets asked for (ACQUIRE).', [[{}, datapath.acquires]]);
    gauge('tanuki_datapath_held_packets', 'Packets that wait for SAs.', [[{}, datapath.held]]);
    gauge('tanuki_datapath_held_fragments', 'Fragments that wait for the rest of their packets.', [[{}, datapath.fragments]]);
    const drops = Object.entries(status.drops);
    counter(
      'tanuki_datapath_drops_total',
      'Packets dropped, by the names of `tanuki status`.',
      drops.map(([reason, n]) => [{ reason }, n]),
    );
    gauge('tanuki_datapath_info', 'What device and cipher there are.', [
      [{ device: status.device?.kind ?? 'none', name: status.device?.name ?? '', cipher: status.cipher ?? 'none' }, 1],
    ]);
  }
  counter(
    'tanuki_policy_packets_total',
    'Packets that a policy has decided about.',
    status.policies.map(({ id, direction, action, selector, packets }) => [
      { id: `${id}`, direction, action, selector },
      packets,
    ]),
  );
  return { type: registry.contentType, body: await registry.metrics() };
}

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

function into(registry: Registry) {
  const options = (name: string, help: string, samples: readonly Sample[]) => ({
    name,
    help,
    labelNames: Object.keys(samples[0]?.[0] ?? {}),
    registers: [registry],
  });
  return {
    gauge(name: string, help: string, samples: readonly Sample[]) {
      const metric = new Gauge(options(name, help, samples));
      for (const [labels, value] of samples) metric.set(labels, value);
    },
    counter(name: string, help: string, samples: readonly Sample[]) {
      const metric = new Counter(options(name, help, samples));
      for (const [labels, value] of samples) metric.inc(labels, value);
    },
  };
}

function countBy<T>(things: readonly T[], labelsOf: (thing: T) => Readonly<Record<string, string>>): Sample[] {
  const counts = new Map<string, [Readonly<Record<string, string>>, number]>();
  for (const thing of things) {
    const labels = labelsOf(thing);
    const sample = counts.get(JSON.stringify(labels)) ?? [labels, 0];
    sample[1]++;
    counts.set(JSON.stringify(labels), sample);
  }
  return [...counts.values()];
}
