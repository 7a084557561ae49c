// Reaches into a running Node process by its inspector, in the namespace where it listens: `node inspector.mjs PID`. Makes the next packet throw in its worker.
import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const PORT = 9229;
/** What the packet loop and the engine cannot do without: an index into a table is asked for once a packet. */
const POISON = `
  DataView.prototype.getInt32 = () => { throw new Error('injected by a test'); };
  DataView.prototype.getUint16 = DataView.prototype.getInt32;
  'poisoned';
`;

process.kill(Number(process.argv[2]), 'SIGUSR1');
const [target] = await targets();
const socket = await open(new URL(target.webSocketDebuggerUrl).pathname);
const worker = await new Promise((resolve, reject) => {
  socket.onMessage((message) => {
    if (message.method === 'NodeWorker.attachedToWorker') resolve(message.params.sessionId);
  });
  socket.send({ id: 1, method: 'NodeWorker.enable', params: { waitForDebuggerOnStart: false } });
  setTimeout(() => reject(new Error('the process has no worker')), 5000).unref();
});
process.stdout.write(`${Date.now()}\n`);
const expression = { id: 1, method: 'Runtime.evaluate', params: { expression: POISON } };
socket.send({
  id: 2,
  method: 'NodeWorker.sendMessageToWorker',
  params: { sessionId: worker, message: JSON.stringify(expression) },
});
await new Promise((resolve) => {
  socket.onMessage((message) => {
    if (message.method === 'NodeWorker.receivedMessageFromWorker' && message.params.message.includes('poisoned')) resolve();
  });
  socket.onEnd(resolve);
  setTimeout(resolve, 3000).unref();
});
process.exit(0);

async function targets() {
  for (let attempt = 0; attempt < 100; attempt++) {
    const answer = await fetch(`http://127.0.0.1:${PORT}/json/list`).catch(() => undefined);
    if (answer?.ok) return answer.json();
    await delay(20);
  }
  throw new Error(`no inspector answers at port ${PORT}`);
}

/** As much of RFC 6455 as the inspector needs: text frames, ours masked. */
function open(path) {
  return new Promise((resolve, reject) => {
    const key = randomBytes(16).toString('base64');
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    const stream = connect(PORT, '127.0.0.1');
    let buffered = Buffer.alloc(0);
    let upgraded = false;
    let ended = () => {};
    const listeners = [];
    stream.write(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${PORT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n\r\n`,
    );
    stream.on('error', reject);
    stream.on('close', () => ended());
    stream.on('data', (bytes) => {
      buffered = Buffer.concat([buffered, bytes]);
      if (!upgraded) {
        const end = buffered.indexOf('\r\n\r\n');
        if (end < 0) return;
        if (!buffered.subarray(0, end).toString().includes(accept)) return reject(new Error(buffered.toString()));
        upgraded = true;
        buffered = buffered.subarray(end + 4);
        resolve({
          send: (message) => stream.write(frame(JSON.stringify(message))),
          onMessage: (listener) => listeners.push(listener),
          onEnd: (then) => {
            ended = then;
          },
        });
      }
      for (;;) {
        if (buffered.length < 2) return;
        const short = buffered[1] & 0x7f;
        const headerBytes = short === 126 ? 4 : short === 127 ? 10 : 2;
        if (buffered.length < headerBytes) return;
        const length = short === 126 ? buffered.readUInt16BE(2) : short === 127 ? Number(buffered.readBigUInt64BE(2)) : short;
        if (buffered.length < headerBytes + length) return;
        const text = buffered.subarray(headerBytes, headerBytes + length).toString();
        buffered = buffered.subarray(headerBytes + length);
        for (const listener of listeners) listener(JSON.parse(text));
      }
    });
  });
}

function frame(text) {
  const body = Buffer.from(text);
  const header =
    body.length < 126 ? Buffer.from([0x81, 0x80 | body.length]) : Buffer.from([0x81, 0xfe, body.length >> 8, body.length & 255]);
  const mask = randomBytes(4);
  return Buffer.concat([header, mask, body.map((octet, i) => octet ^ mask[i % 4])]);
}
