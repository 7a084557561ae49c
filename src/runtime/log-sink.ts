/** Events to log lines: text for people, JSON (pino) for machines, on standard error or in a file. */

import pino from 'pino';
import type { Event, Severity } from '../event.ts';
import { printable } from '../wire/dump.ts';

export interface LogOptions {
  /** Least severity that is written. */
  readonly level: Severity;
  /** `stderr` or the path of a file that is appended to. */
  readonly destination: string;
  readonly format: 'text' | 'json';
}

export interface LogSink {
  write(event: Event): void;
  /** Takes over other options, as a reload may ask. */
  configure(options: LogOptions): void;
  close(): void;
}

/** pino's numbers for our severities; `notice` lies between its info and warn. */
const RANK = { debug: 20, info: 30, notice: 35, warning: 40, error: 50 } as const;

/** `daemon` names the writer in each line. */
export function logSink(daemon: string, initial: LogOptions): LogSink {
  let options = initial;
  let stream = open(options.destination);
  let json = jsonLogger(daemon, stream);
  return {
    write(event) {
      if (RANK[event.severity] < RANK[options.level]) return;
      if (options.format === 'text') return void stream.write(`${textLine(daemon, event, new Date())}\n`);
      const { message, severity, ...details } = event;
      json[severity](details, message);
    },
    configure(next) {
      if (next.destination !== options.destination) {
        stream.end();
        stream = open(next.destination);
        json = jsonLogger(daemon, stream);
      }
      options = next;
    },
    close: () => stream.flushSync(),
  };
}

function open(destination: string) {
  return pino.destination({ dest: destination === 'stderr' ? 2 : destination, sync: true, mkdir: true, mode: 0o600 });
}

function jsonLogger(daemon: string, stream: ReturnType<typeof open>) {
  return pino(
    { customLevels: RANK, useOnlyCustomLevels: true, level: 'debug', base: { daemon }, timestamp: pino.stdTimeFunctions.isoTime },
    stream,
  );
}

/** `2026-11-22T19:39:28.123Z iked notice child-sa-up: sentence key=value …`; values with blanks are quoted, control characters escaped. */
export function textLine(daemon: string, { name, severity, message, ...details }: Event, at: Date): string {
  const pairs = Object.entries(details)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${show(value!)}`);
  return `${at.toISOString()} ${daemon} ${severity} ${name}: ${[printable(message), ...pairs].join(' ')}`;
}

function show(value: string | number | boolean | readonly string[]): string {
  const text = Array.isArray(value) ? value.join(', ') : String(value);
  return /^[\w./:[\]@+-]*$/.test(text) ? text : JSON.stringify(text);
}
