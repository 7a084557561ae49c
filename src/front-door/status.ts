/** `tanuki status`: what all daemons of a run directory say, put together, as one value and as a page of text. */

import type { IkedStatus, IkeSaStatus } from '../../iked/ports.ts';
import type { AssociationStatus, KinkdStatus } from '../../kinkd/ports.ts';
import type { DatapathSaStatus, DatapathStatus } from '../datapath-process/ports.ts';
import type { ChildSaStatus } from '../keying/status.ts';
import type { DaemonName } from '../runtime/run-dir.ts';
import type { ChildStatus } from '../runtime/supervisor.ts';
import { ask } from './ask.ts';
import { Exit } from './exit-codes.ts';

export interface SuiteStatus {
  readonly daemons: readonly DaemonStatus[];
  readonly generation: number | undefined;
  readonly ikeSas: readonly (Omit<IkeSaStatus, 'children'> & { readonly childSas: number })[];
  /** What there is with the principals of KINK. */
  readonly kinkPeers: readonly (Omit<AssociationStatus, 'children'> & { readonly childSas: number })[];
  /** Each with the counters of its two SAs in the datapath. */
  readonly childSas: readonly ChildSa[];
  readonly policies: DatapathStatus['policies'];
  readonly drops: DatapathStatus['drops'];
  readonly datapath: DatapathStatus['totals'] | undefined;
  readonly device: DatapathStatus['device'] | undefined;
  readonly cipher: string | undefined;
  /** What is wrong now, each a sentence that says what to do. */
  readonly problems: readonly string[];
}

export interface DaemonStatus {
  readonly name: string;
  readonly answers: boolean;
  readonly pid: number | undefined;
  readonly restarts: number;
  readonly lastExit: string | undefined;
}

export interface ChildSa extends ChildSaStatus {
  /** The IKE SA or the KINK peer that it was negotiated with. */
  readonly ikeSa: string;
  readonly remote: string | undefined;
  readonly packetsIn: number;
  readonly bytesIn: number;
  readonly packetsOut: number;
  readonly bytesOut: number;
}

/** Asks every daemon; one that does not answer is reported as such. Throws Exit `notRunning` where none does. */
export async function statusOf(directory: string): Promise<SuiteStatus> {
  const failures = new Map<DaemonName, Exit>();
  const from = async <T>(daemon: DaemonName): Promise<T | undefined> => {
    try {
      return (await ask(daemon, directory, 'status')) as T;
    } catch (error) {
      if (!(error instanceof Exit)) throw error;
      failures.set(daemon, error);
      return undefined;
    }
  };
  const [front, datapath, spmd, iked, kinkd] = await Promise.all([
    from<{ daemons: ChildStatus[] }>('tanuki'),
    from<DatapathStatus>('datapath'),
    from<{ generation?: number; problems?: string[] }>('spmd'),
    from<IkedStatus>('iked'),
    from<KinkdStatus>('kinkd'),
  ]);
  if (failures.size === 5) throw failures.get('tanuki')!;
  const names = expected(front?.daemons, failures);
  const problems = [
    ...names.flatMap((daemon) => (failures.has(daemon) ? [`${daemon} does not answer: ${failures.get(daemon)!.message}`] : [])),
    ...(datapath?.problems ?? []),
    ...(spmd?.problems ?? []),
    ...[...(iked?.failures ?? []), ...(kinkd?.failures ?? [])].map(
      ({ subject, why, at }) => `${subject}: ${why} (${new Date(at).toISOString()})`,
    ),
  ];
  const counters = new Map((datapath?.sas ?? []).map((sa) => [`${sa.direction} ${sa.spi}`, sa]));
  return {
    daemons: names.map((name) => daemonOf(name, front?.daemons, failures)),
    generation: spmd?.generation,
    ikeSas: (iked?.ikeSas ?? []).map(({ children, ...sa }) => ({ ...sa, childSas: children.length })),
    kinkPeers: (kinkd?.peers ?? []).map(({ children, ...peer }) => ({ ...peer, childSas: children.length })),
    childSas: [...(iked?.ikeSas ?? []), ...(kinkd?.peers ?? [])].flatMap((peer) =>
      peer.children.map((child) => withCounters(peer, child, counters)),
    ),
    policies: datapath?.policies ?? [],
    drops: datapath?.drops ?? {},
    datapath: datapath?.totals,
    device: datapath?.device,
    cipher: datapath?.cipher,
    problems,
  };
}

/** kinkd runs only where a policy has KINK. */
function expected(children: readonly ChildStatus[] | undefined, failures: ReadonlyMap<DaemonName, Exit>) {
  const kinkd = children?.some(({ name }) => name === 'kinkd') === true || !failures.has('kinkd');
  return (['datapath', 'spmd', 'iked', 'kinkd'] as const).filter((name) => name !== 'kinkd' || kinkd);
}

function daemonOf(
  name: DaemonName,
  children: readonly ChildStatus[] | undefined,
  failures: ReadonlyMap<DaemonName, Exit>,
): DaemonStatus {
  const child = children?.find((one) => one.name === name);
  return { name, answers: !failures.has(name), pid: child?.pid, restarts: child?.restarts ?? 0, lastExit: child?.lastExit };
}

function withCounters(
  peer: Pick<IkeSaStatus, 'name' | 'remote'>,
  child: ChildSaStatus,
  counters: ReadonlyMap<string, DatapathSaStatus>,
): ChildSa {
  const inbound = counters.get(`inbound ${child.spiIn}`);
  const outbound = counters.get(`outbound ${child.spiOut}`);
  return {
    ...child,
    ikeSa: peer.name,
    remote: peer.remote,
    packetsIn: inbound?.packets ?? 0,
    bytesIn: inbound?.bytes ?? 0,
    packetsOut: outbound?.packets ?? 0,
    bytesOut: outbound?.bytes ?? 0,
  };
}

/** The page that people read. */
export function showStatus(status: SuiteStatus): string {
  const lines: string[] = [];
  const section = (title: string, rows: readonly string[], none: string) =>
    lines.push(title, ...(rows.length > 0 ? rows : [none]).map((row) => `  ${row}`), '');
  section(
    'Daemons',
    status.daemons.map(({ name, answers, pid, restarts, lastExit }) => {
      const restarted =
        restarts === 0 ? '' : `, started again ${restarts} time${restarts === 1 ? '' : 's'} (last end: ${lastExit})`;
      return `${name.padEnd(9)} ${answers ? 'answers' : 'DOES NOT ANSWER'}${pid === undefined ? '' : `, pid ${pid}`}${restarted}`;
    }),
    'none',
  );
  const { device } = status;
  if (device !== undefined)
    section(
      'Datapath',
      [
        device.kind === 'kernel'
          ? "the kernel's own ESP and AH (backend xfrm)"
          : `${device.kind} device ${device.name}, MTU ${device.mtu}, cipher ${status.cipher}`,
      ],
      '',
    );
  section('IKE SAs', status.ikeSas.flatMap(ikeLines), 'none');
  if (status.kinkPeers.length > 0) section('KINK peers', status.kinkPeers.flatMap(kinkLines), 'none');
  section('Child SAs', status.childSas.flatMap(childLines), 'none');
  section(
    'Policies',
    status.policies.map(
      (policy) =>
        `${policy.direction.padEnd(8)} ${policy.action.padEnd(7)} ${policy.selector} (priority ${policy.priority}, reqid ${policy.reqid}, ${policy.packets} packets)`,
    ),
    'none',
  );
  section(
    'Drops',
    Object.entries(status.drops).map(([reason, count]) => `${reason}: ${count}`),
    'none',
  );
  section('Problems', status.problems, 'none');
  return `${lines.join('\n').trimEnd()}\n`;
}

function ikeLines(sa: SuiteStatus['ikeSas'][number]): string[] {
  return [
    `${sa.name} ${sa.state}, remote ${sa.remote ?? '?'}, ${sa.role}, ${sa.local} - ${sa.peer}${sa.nat === 'none' ? '' : `, NAT: ${sa.nat}`}`,
    `  ${sa.myId ?? '?'} - ${sa.peerId ?? '?'}, ${sa.suite ?? 'no suite yet'}, up ${duration(sa.ageMs)}${rekey(sa.rekeyInMs)}, ${sa.childSas} child SA${sa.childSas === 1 ? '' : 's'}`,
  ];
}

function kinkLines(peer: SuiteStatus['kinkPeers'][number]): string[] {
  const offset = peer.clockOffsetMs === 0 ? '' : `, its clock ${Math.round(peer.clockOffsetMs / 1000)} s ahead`;
  const epoch = peer.epoch === undefined ? 'not heard yet' : `epoch ${peer.epoch}`;
  return [
    `${peer.name}, remote ${peer.remote}, ${peer.local} - ${peer.peer}`,
    `  ${peer.myPrincipal} - ${peer.peersPrincipal}, ${epoch}${offset}, ${peer.outstanding} command${peer.outstanding === 1 ? '' : 's'} outstanding, ${peer.childSas} child SA${peer.childSas === 1 ? '' : 's'}`,
  ];
}

function childLines(child: ChildSa): string[] {
  return [
    `${child.selector} ${child.state}, ${child.protocol} ${child.mode}, SPI in ${child.spiIn} out ${child.spiOut}, ${child.suite}${child.encapsulated ? ', in UDP' : ''}`,
    `  ${child.localSelectors.join(', ')} === ${child.peerSelectors.join(', ')}`,
    `  in ${child.packetsIn} packets, ${child.bytesIn} octets; out ${child.packetsOut} packets, ${child.bytesOut} octets; up ${duration(child.ageMs)}${rekey(child.rekeyInMs)}`,
  ];
}

function rekey(inMs: number | undefined): string {
  return inMs === undefined ? '' : `, rekey in ${duration(inMs)}`;
}

function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}
