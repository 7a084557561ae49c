/**
 * The worker thread of `backend xfrm`: PF_KEY server, the kernel's SAD and SPD, what the kernel tells, and the encapsulation port. It speaks with the main
 * thread as the packet worker does (`worker-messages.ts`), and waits in poll(2) for the same reasons; no packet comes through it.
 */

import { existsSync, readFileSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { ControlPlane } from '../datapath-process/control-plane.ts';
import { type EngineStatus, KEEPALIVE_OCTET } from '../datapath-process/engine-host.ts';
import { IkeQueue, networkOf } from '../datapath-process/ike-queue.ts';
import { type FromWorker, type ToWorker, type WorkerStart, waitingMessages } from '../datapath-process/worker-messages.ts';
import { SystemError } from '../errors.ts';
import type { Event } from '../event.ts';
import { earliest, type Instant } from '../machine.ts';
import { SadbError } from '../pfkey/message.ts';
import { EncapFramer, writeEncapFrame } from '../runtime/encap-frame.ts';
import { Arena, bootMilliseconds, drain, type Libc, libcDoor, PollTable } from '../runtime/native/index.ts';
import { Xfrm, XfrmMonitor } from '../runtime/netlink/xfrm.ts';
import { EncapSockets } from './encap-sockets.ts';
import { bypasses, TunnelRoutes } from './host-rules.ts';
import { probe } from './probe.ts';
import { dropsSince, kernelDrops, statusOf } from './status.ts';
import { XfrmVerbs } from './verbs.ts';

const KEEPALIVE = Uint8Array.of(KEEPALIVE_OCTET);
const STATISTICS = '/proc/net/xfrm_stat';
/** Octets handed out to one PF_KEY client whose sending is not yet reported. */
const IN_FLIGHT = 256 * 1024;
/** How long a predecessor's policies may stay where none comes, and how long after the last that came. */
const HOLD_MS = 10_000;
const QUIET_MS = 300;

class XfrmWorker {
  readonly #start: WorkerStart;
  readonly #libc: Libc;
  readonly #xfrm: Xfrm;
  readonly #monitor: XfrmMonitor;
  readonly #verbs: XfrmVerbs;
  readonly #control: ControlPlane;
  readonly #sockets: EncapSockets;
  readonly #routes: TunnelRoutes;
  readonly #poll: PollTable;
  readonly #slots: { readonly wake: number; readonly news: number; readonly host: number };
  readonly #ike = new IkeQueue();
  readonly #framer = new EncapFramer();
  readonly #dropsBefore: ReadonlyMap<string, number>;
  #answers: FromWorker[] = [];
  #ikeDropped = 0;
  #stopping = false;
  #holdUntil: number | undefined;
  #generation = 0;

  /** Throws SystemError where the kernel is of no use; sockets that cannot be had are told in `problems`. */
  constructor(start: WorkerStart, libc: Libc, problems: string[]) {
    const { settings, wakeFd, port } = start;
    this.#start = start;
    this.#libc = libc;
    this.#xfrm = new Xfrm(libc);
    const leftovers = { sas: this.#xfrm.sas(), policies: this.#xfrm.policies() };
    probe(this.#xfrm);
    this.#monitor = new XfrmMonitor(libc);
    this.#verbs = new XfrmVerbs(this.#xfrm);
    this.#verbs.adopt(leftovers, this.#instant());
    for (const policy of bypasses(settings.unmatched)) this.#verbs.policies.putOwn(policy);
    if (leftovers.sas.length + leftovers.policies.length > 0) this.#holdUntil = this.#instant().mono + HOLD_MS;
    const tell = (message: FromWorker) => port.postMessage(message);
    this.#control = new ControlPlane({
      dialect: 'tanuki',
      inFlight: IN_FLIGHT,
      verbs: this.#verbs,
      announce: () => undefined,
      send: (client, bytes) => this.#answers.push({ kind: 'pfkey', client, bytes }),
      close: (client) => this.#answers.push({ kind: 'pfkey-close', client }),
      report: (event) => tell({ kind: 'event', event: refusalLoud(event) }),
    });
    this.#sockets = new EncapSockets(libc, settings, problems);
    this.#routes = new TunnelRoutes(libc);
    this.#dropsBefore = kernelDrops(readStatistics());
    const { fds } = this.#sockets;
    this.#poll = new PollTable(libc, new Arena(libc, 4096), 3 + fds.length);
    this.#slots = {
      wake: this.#poll.add(wakeFd),
      news: this.#poll.add(this.#monitor.fd),
      host: this.#poll.add(this.#routes.monitorFd),
    };
    for (const fd of fds) this.#poll.add(fd);
  }

  /** Until it is told to stop. */
  run(): void {
    while (!this.#stopping) {
      const due = earliest(this.#verbs.wakeAt(), this.#holdUntil);
      const now = this.#instant().mono;
      this.#poll.wait(due === undefined ? -1 : Math.max(0, Math.min(Math.ceil(due - now), 60_000)));
      if (this.#poll.events(this.#slots.wake) !== 0 && drain(this.#libc, this.#start.wakeFd)) {
        for (const message of waitingMessages(this.#start.port)) this.#take(message);
      }
      if (this.#poll.events(this.#slots.news) !== 0) this.#hear();
      if (this.#poll.events(this.#slots.host) !== 0) this.#routes.hostChanged();
      this.#sockets.receive((path, bytes) => {
        const frame = writeEncapFrame({ kind: 'ike', path, bytes });
        if (!this.#ike.put(networkOf(path.remote.address.bytes), frame)) this.#ikeDropped++;
      });
      this.#settle();
    }
    this.#close();
  }

  #hear(): void {
    const { news, lost } = this.#monitor.news();
    this.#orReport(() => this.#verbs.heard(news, this.#instant()));
    if (lost) this.#orReport(() => this.#verbs.resynchronise());
  }

  /** What fails without a client who asked for it is told. */
  #orReport(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof SystemError || error instanceof SadbError)) throw error;
      this.#report('kernel-refused', error.message);
    }
  }

  #settle(): void {
    const now = this.#instant();
    this.#orReport(() => this.#verbs.tick(now));
    for (const message of this.#verbs.drain()) this.#control.handle({ kind: 'notify', message }, now);
    this.#sweep(now.mono);
    this.#followPolicies();
    for (const answer of this.#answers) this.#tell(answer);
    this.#answers = [];
    for (let frame = this.#ike.next(); frame !== undefined; frame = this.#ike.next())
      this.#tell({ kind: 'encap', frames: frame });
  }

  /** A predecessor's routes stay as long as its policies. */
  #followPolicies(): void {
    const { policies } = this.#verbs;
    if (this.#holdUntil !== undefined) return;
    for (const { message } of this.#routes.follow(policies.generation, () => policies.all))
      this.#report('routes-failed', `${message}; traffic may not reach its tunnel`);
  }

  #sweep(mono: number): void {
    const { generation } = this.#verbs.policies;
    if (this.#holdUntil === undefined) return;
    if (generation !== this.#generation) this.#holdUntil = Math.min(this.#holdUntil, mono + QUIET_MS);
    this.#generation = generation;
    if (mono < this.#holdUntil) return;
    this.#holdUntil = undefined;
    this.#orReport(() => this.#verbs.sweep());
  }

  #take(message: ToWorker): void {
    switch (message.kind) {
      case 'pfkey':
        this.#control.handle(message.input, this.#instant());
        return;
      case 'encap':
        for (const frame of this.#framer.put(message.frames)) {
          if (frame.kind === 'ike') this.#sockets.send(frame.path, frame.bytes, true);
          else this.#sockets.send(frame.path, KEEPALIVE, false);
        }
        return;
      case 'ike-taken':
        this.#ike.taken(message.count);
        return;
      case 'ping': {
        const why = `backend xfrm: the kernel carries every packet of this host, so ask it: ping ${message.request.address}`;
        return this.#tell({ kind: 'refused', id: message.id, why });
      }
      case 'status':
        return this.#tell({ kind: 'status', id: message.id, status: this.#status() });
      case 'trace': {
        const why =
          'backend xfrm: the kernel decides about packets and does not explain itself; see: ip xfrm policy, ip -s xfrm state';
        return this.#tell({ kind: 'refused', id: message.id, why });
      }
      case 'capture': {
        const why = 'backend xfrm: packets do not come by here; see: tcpdump, before and after the kernel has protected them';
        return this.#tell({ kind: 'refused', id: message.id, why });
      }
      case 'stop':
        this.#stopping = true;
    }
  }

  #status(): EngineStatus {
    const drops = {
      ...dropsSince(this.#dropsBefore, kernelDrops(readStatistics())),
      ikeQueueFull: this.#ikeDropped,
      noSocket: this.#sockets.failed,
    };
    return {
      ...statusOf(this.#verbs),
      drops: Object.fromEntries(Object.entries(drops).filter(([, count]) => count > 0)),
      clients: this.#control.clients,
    };
  }

  #close(): void {
    for (const { message } of this.#routes.close()) this.#report('routes-left', message);
    this.#orReport(() => this.#xfrm.removeOurs());
    this.#sockets.close();
    this.#monitor.close();
    this.#xfrm.close();
  }

  #instant(): Instant {
    return { mono: bootMilliseconds(this.#libc), wall: Date.now() };
  }

  #report(name: string, message: string): void {
    this.#tell({ kind: 'event', event: { name, severity: 'error', message } });
  }

  #tell(message: FromWorker): void {
    this.#start.port.postMessage(message);
  }
}

/** What a kernel cannot do is more than one client's business. */
function refusalLoud(event: Event): Event {
  return event.name === 'pfkey-request-refused' && event.message.includes('use the embedded engine')
    ? { ...event, severity: 'error' }
    : event;
}

/** Nothing where the kernel keeps none (CONFIG_XFRM_STATISTICS). */
function readStatistics(): string {
  return existsSync(STATISTICS) ? readFileSync(STATISTICS, 'utf8') : '';
}

function main(start: WorkerStart): void {
  const problems: string[] = [];
  let worker: XfrmWorker;
  try {
    const { open: libc, why } = libcDoor();
    if (libc === undefined) throw new SystemError(why);
    worker = new XfrmWorker(start, libc, problems);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    start.port.postMessage({ kind: 'failed', why: error.message } satisfies FromWorker);
    start.port.close();
    return;
  }
  start.port.postMessage({ kind: 'ready', problems } satisfies FromWorker);
  worker.run();
  start.port.postMessage({ kind: 'stopped' } satisfies FromWorker);
  start.port.close();
}

main(workerData as WorkerStart);
