/** One page served by HTTP, for programs that ask for it again and again. */

import { createServer, type Server } from 'node:http';
import { SystemError } from '../errors.ts';
import { type Endpoint, showEndpoint } from '../net/address.ts';

export interface Page {
  readonly type: string;
  readonly body: string;
}

/** Who asks is few; more are not served. */
const MOST_CONNECTIONS = 16;
const HEADERS_MS = 5_000;

/** Serves `path` at `endpoint`; a page that cannot be made is answered with 503 and why. Throws SystemError where it cannot listen. */
export async function servePage(
  endpoint: Endpoint,
  path: string,
  page: () => Promise<Page>,
): Promise<{ close(): Promise<void> }> {
  /** Who asks while one is being made gets the same. */
  let making: Promise<Page> | undefined;
  const server = createServer({ headersTimeout: HEADERS_MS, requestTimeout: HEADERS_MS }, (request, response) => {
    const end = (status: number, type: string, body: string) => {
      response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
      response.end(request.method === 'HEAD' ? undefined : body);
    };
    const plain = 'text/plain; charset=utf-8';
    if (request.url?.split('?')[0] !== path) return end(404, plain, `there is nothing but ${path}\n`);
    if (request.method !== 'GET' && request.method !== 'HEAD') return end(405, plain, 'expected GET\n');
    making ??= page().finally(() => {
      making = undefined;
    });
    making.then(
      ({ type, body }) => end(200, type, body),
      (error: unknown) => end(503, plain, `${error instanceof Error ? error.message : String(error)}\n`),
    );
  });
  server.maxConnections = MOST_CONNECTIONS;
  await listen(server, endpoint);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, { address, port }: Endpoint): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(new SystemError(`cannot listen on ${showEndpoint({ address, port })}: ${error.message}`, error.code)),
    );
    server.listen(port, `${address}`, () => resolve());
  });
}
