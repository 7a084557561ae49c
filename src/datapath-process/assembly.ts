/** One engine with its PF_KEY side, as both hosts use it: put together from the settings, told in the shape of `status`. */

import { announce } from '../datapath/announce.ts';
import { Datapath } from '../datapath/datapath.ts';
import { LinuxVerbs } from '../datapath/linux-strict.ts';
import { EngineVerbs } from '../datapath/verbs.ts';
import type { Event } from '../event.ts';
import { zlibCompressor } from '../runtime/deflate.ts';
import { systemRandom } from '../runtime/random.ts';
import { ControlPlane } from './control-plane.ts';
import type { EngineStatus } from './engine-host.ts';
import type { PacketMemory } from './packet-memory.ts';
import type { DatapathSettings } from './ports.ts';

/** Octets handed out to one PF_KEY client whose sending is not yet reported; what comes after them waits in its bounded queue. */
const IN_FLIGHT = 256 * 1024;

export interface Assembly {
  readonly engine: Datapath;
  readonly control: ControlPlane;
  snapshot(): Omit<EngineStatus, 'device' | 'clients'>;
}

export interface AssemblyOptions {
  readonly settings: DatapathSettings;
  readonly memory: PacketMemory;
  /** Input slots, 64 KiB each. */
  readonly slots: number;
  readonly coalesce: boolean;
  readonly outputs?: number;
  readonly outputBytes?: number;
}

/** What the PF_KEY side does with its clients. */
export interface ClientDoor {
  readonly send: (client: number, bytes: Uint8Array) => void;
  readonly close: (client: number) => void;
  readonly report: (event: Event) => void;
}

export function assemble(options: AssemblyOptions, clients: ClientDoor): Assembly {
  const { settings, memory, slots, coalesce } = options;
  const { limits, datapath, unmatched } = settings;
  const engine = new Datapath({
    arena: memory.bytes,
    reserve: memory.reserve,
    checksum: memory.checksum,
    cipher: memory.cipher,
    random: systemRandom,
    slots,
    coalesce,
    unmatched,
    heldPackets: limits.heldPacketsPerPolicy,
    compressor: zlibCompressor,
    ahAlignment: datapath.ahPadding === 'linux' ? 8 : 4,
    outerHeader: { df: datapath.df, dscp: datapath.dscp },
    pmtuFloor: datapath.pmtuFloor,
    mssClamp: datapath.mssClamp,
    icmpErrors: datapath.icmpErrors,
    decapDscp: datapath.decapDscp,
    ...(options.outputs === undefined ? {} : { outputs: options.outputs }),
    ...(options.outputBytes === undefined ? {} : { outputBytes: options.outputBytes }),
  });
  const strict = datapath.dialect === 'linux-strict' ? new LinuxVerbs(engine, { random: systemRandom }) : undefined;
  const control = new ControlPlane({
    ...clients,
    dialect: datapath.dialect,
    inFlight: IN_FLIGHT,
    verbs: strict ?? new EngineVerbs(engine, { random: systemRandom }),
    announce: strict === undefined ? announce : (effect) => strict.announce(effect),
  });
  return { engine, control, snapshot: () => snapshotOf(engine, control, memory.cipher.name) };
}

function snapshotOf(engine: Datapath, control: ControlPlane, cipher: string): Omit<EngineStatus, 'device' | 'clients'> {
  const { sas, policies, drops, held, fragments, totals } = engine.status();
  return {
    cipher,
    drops,
    totals: { ...totals, held, fragments, acquires: control.acquires },
    policies: policies.map(({ id, direction, selector, action, priority, reqid, hits }) => ({
      id,
      direction,
      selector,
      action,
      priority,
      reqid,
      packets: hits,
    })),
    sas: sas.map((sa) => ({
      spi: sa.spi,
      protocol: sa.protocol,
      direction: sa.direction === 'inbound' ? 'inbound' : 'outbound',
      state: sa.state,
      mode: sa.mode,
      source: sa.source,
      destination: sa.destination,
      reqid: sa.reqid,
      suite: sa.suite,
      encapsulated: sa.encapsulation !== undefined,
      packets: sa.packets,
      bytes: sa.bytes,
      sequence: sa.sequence,
    })),
  };
}
