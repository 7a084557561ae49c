import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { withProgress } from '../../../src/front-door/progress.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function stream(isTTY: boolean) {
  const written: string[] = [];
  return { isTTY, written, write: (text: string) => written.push(text) };
}

function after<T>(ms: number, value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(() => resolve(value), ms));
}

test('a terminal shows a long wait with its seconds, and nothing of it stays', async () => {
  const terminal = stream(true);
  const work = withProgress('initiate net', after(2_600, 'up'), terminal);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(await work).toBe('up');
  expect(terminal.written).toEqual([
    '\r\u001b[2Kinitiate net … 0 s',
    '\r\u001b[2Kinitiate net … 1 s',
    '\r\u001b[2Kinitiate net … 2 s',
    '\r\u001b[2K',
  ]);
});

test('a short wait, and a stream that is no terminal, show nothing; a failure comes through', async () => {
  const [terminal, pipe] = [stream(true), stream(false)];
  const short = withProgress('x', after(100, 1), terminal);
  const piped = withProgress('x', after(5_000, 2), pipe);
  const failed = withProgress(
    'x',
    after(1_000, 0).then(() => Promise.reject(new Error('refused'))),
    terminal,
  );
  const outcome = expect(failed).rejects.toThrow('refused');
  await vi.advanceTimersByTimeAsync(200);
  expect(terminal.written).toEqual([]);
  await vi.advanceTimersByTimeAsync(6_000);
  await outcome;
  expect([await short, await piped]).toEqual([1, 2]);
  expect(pipe.written).toEqual([]);
  expect(terminal.written.at(-1)).toBe('\r\u001b[2K');
});
