/** Which host the settings get: the memory device in this thread, the packet worker on a TUN device, or the worker of the kernel's own ESP; and what closed doors cost. */

import { SystemError } from '../errors.ts';
import { clock } from '../runtime/clock.ts';
import { type DoorReport, doorReports } from '../runtime/native/index.ts';
import { systemRandom } from '../runtime/random.ts';
import { assemble } from './assembly.ts';
import { Capture } from './capture.ts';
import { CapturedEngine } from './captured-engine.ts';
import type { EngineHost, HostEvents } from './engine-host.ts';
import { MEMORY_SLOTS, startMemoryHost } from './memory-host.ts';
import { packetMemory } from './packet-memory.ts';
import type { DatapathSettings } from './ports.ts';
import { startWorkerHost } from './tun-host.ts';

/** The memory device's slots, the outputs of one batch, and the known-answer test. */
const MEMORY_OCTETS = 4 * 1024 * 1024;

const EMBEDDED = 'the embedded engine needs nothing of the kernel: interface { datapath { backend embedded; } }';

/** Starts the host that the settings ask for. What is missing is told in `problems`, one sentence each; a host runs all the same. */
export async function startEngineHost(settings: DatapathSettings, events: HostEvents, problems: string[]): Promise<EngineHost> {
  const { backend, device } = settings.datapath;
  if (backend === 'embedded' && device === 'memory') return memoryHost(settings, events, problems, 'memory');
  try {
    return await startWorkerHost(settings, events, problems);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const remedy = 'until that is mended nothing is protected; without privilege: interface { datapath { device memory; } }';
    if (backend === 'embedded') problems.push(`there is no TUN device: ${error.message}; ${remedy}`);
    else problems.push(`backend xfrm: ${error.message}; until that is mended nothing is protected; ${EMBEDDED}`);
    return memoryHost(settings, events, problems, 'none');
  }
}

async function memoryHost(
  settings: DatapathSettings,
  events: HostEvents,
  problems: string[],
  kind: 'memory' | 'none',
): Promise<EngineHost> {
  const memory = await packetMemory(settings.datapath.cipher, MEMORY_OCTETS, problems);
  const { engine, control, snapshot } = assemble(
    { settings, memory, slots: MEMORY_SLOTS, coalesce: false },
    { send: events.onPfkey, close: events.onPfkeyClose, report: events.report },
  );
  const [high, low] = systemRandom(2);
  const capture = new Capture();
  const options = {
    settings,
    engine: new CapturedEngine(engine, capture, memory.bytes),
    capture,
    arena: memory.bytes,
    control,
    snapshot,
    trace: engine.trace.bind(engine),
    now: clock(memory.boottime),
    events,
    kind,
    identifier: (high! << 8) | low!,
  };
  return startMemoryHost(options, problems);
}

/** What each closed door costs. */
const COST: Readonly<Record<DoorReport['door'], string>> = {
  'system calls': 'no TUN device and no raw sockets: the memory device only',
  openssl: 'packets are protected through node:crypto, several times slower',
  tun: 'no TUN device: traffic of this host is not protected, only that of memory devices',
  'raw sockets': 'ESP travels in UDP only, whether or not there is a NAT',
  'routes and rules': 'traffic is not diverted into the TUN device by itself',
};

/** The doors to the system that are closed, each with its reason and what it costs. */
export function closedDoors(): readonly string[] {
  return doorReports()
    .filter(({ open }) => !open)
    .map(({ door, detail }) => `${door}: ${detail} (${COST[door]})`);
}
