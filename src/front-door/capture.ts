/** `tanuki capture`: inner and outer packets of the datapath, as they pass, in a pcapng file. */

import { open } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { LONGEST_SNAP } from '../datapath-process/capture-request.ts';
import type { CaptureAnswer } from '../datapath-process/ports.ts';
import { type CaptureInterface, pcapngHead, pcapngPacket } from '../net/pcapng.ts';
import { connectTo } from './ask.ts';
import { EXIT, Exit } from './exit-codes.ts';

export interface CaptureOptions {
  readonly runDir: string;
  /** `-`: standard output. */
  readonly file: string;
  readonly count?: number | undefined;
  readonly seconds?: number | undefined;
  readonly snapLength?: number | undefined;
  readonly only?: CaptureInterface | undefined;
  readonly address?: string | undefined;
  /** Hexadecimal, as `status` shows it. */
  readonly spi?: string | undefined;
  readonly dropped?: boolean | undefined;
}

export interface Captured {
  readonly file: string;
  readonly packets: number;
  /** Packets that found no room between two questions. */
  readonly lost: number;
}

/** Between two questions to the datapath. */
const INTERVAL_MS = 100;

/** Runs until SIGINT, SIGTERM, `count` packets or `seconds`. Throws Exit. */
export async function capture(options: CaptureOptions): Promise<Captured> {
  const { runDir, file, count = Number.POSITIVE_INFINITY, seconds = Number.POSITIVE_INFINITY } = options;
  const snapLength = options.snapLength ?? LONGEST_SNAP;
  const toStdout = file === '-';
  if (toStdout && process.stdout.isTTY)
    throw new Exit(EXIT.usage, 'capture: expected a file, or standard output that is not a terminal');
  const client = await connectTo('datapath', runDir);
  const ask = (step: string, args = {}) => client.ask('capture', { step, ...args }) as Promise<CaptureAnswer>;
  const stop = new AbortController();
  const interrupted = () => stop.abort();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, interrupted);
  let sink: Sink | undefined;
  let packets = 0;
  let lost = 0;
  try {
    const { address, spi, dropped, only } = options;
    const asked = { snapLength, address, interface: only, droppedOnly: dropped, spi: spi === undefined ? undefined : spiOf(spi) };
    await ask('begin', asked);
    try {
      sink = toStdout ? standardOutput() : await fileSink(file);
      await sink.write(pcapngHead(snapLength));
      const until = performance.now() + seconds * 1000;
      for (let last = false; !last; ) {
        const patience = Math.min(INTERVAL_MS, until - performance.now());
        if (patience > 0) await delay(patience, undefined, { signal: stop.signal }).catch(() => undefined);
        // What passed before it was stopped belongs to it.
        last = stop.signal.aborted || sink.isClosed() || performance.now() >= until;
        const answer = await ask('take');
        lost += answer.lost;
        for (const packet of answer.packets.slice(0, count - packets))
          await sink.write(pcapngPacket({ ...packet, bytes: Buffer.from(packet.bytes, 'base64') }));
        packets = Math.min(count, packets + answer.packets.length);
        last ||= packets === count;
      }
    } finally {
      await ask('end');
    }
  } catch (error) {
    throw error instanceof Exit ? error : new Exit(EXIT.refused, (error as Error).message);
  } finally {
    await sink?.close();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, interrupted);
    client.close();
  }
  return { file, packets, lost };
}

export function showCaptured({ file, packets, lost }: Captured): string {
  const losses = lost === 0 ? '' : `, ${lost} lost (they came faster than they could be taken: a filter or --snap-length helps)`;
  return `${packets} packets in ${file === '-' ? 'standard output' : file}${losses}\n`;
}

interface Sink {
  write(bytes: Uint8Array): Promise<void>;
  /** Nobody reads any more: what is written goes nowhere. */
  isClosed(): boolean;
  close(): Promise<void>;
}

async function fileSink(path: string): Promise<Sink> {
  const file = await open(path, 'w', 0o600);
  return { write: (bytes) => file.writeFile(bytes), isClosed: () => false, close: () => file.close() };
}

/** Who reads may be slow, and may have read enough (EPIPE). */
function standardOutput(): Sink {
  let closed = false;
  process.stdout.on('error', () => {
    closed = true;
  });
  return {
    write: (bytes) => new Promise((resolve) => (closed ? resolve() : process.stdout.write(bytes, () => resolve()))),
    isClosed: () => closed,
    close: async () => {},
  };
}

function spiOf(text: string): number {
  const [, digits] = /^(?:0x)?([0-9a-f]{1,8})$/i.exec(text) ?? [];
  if (digits === undefined)
    throw new Exit(EXIT.usage, `capture: expected an SPI of up to eight hexadecimal digits, found "${text}"`);
  return Number.parseInt(digits, 16);
}
