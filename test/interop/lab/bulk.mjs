/**
 * A TCP transfer whose every octet is checked. `bulk.mjs serve ADDRESS PORT` answers one connection with the SHA-256 of what it got;
 * `bulk.mjs send FROM ADDRESS PORT OCTETS MBIT` sends pseudo-random octets (MBIT 0: as fast as it goes) and prints one JSON line; SIGINT ends
 * it before OCTETS are sent.
 */
import { createCipheriv, createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';

const [, , role, ...words] = process.argv;
if (role === 'serve') serve(words[0], Number(words[1]));
else if (role === 'send') await send(words[0], words[1], Number(words[2]), Number(words[3]), Number(words[4]));
else throw new Error(`expected "serve" or "send", found ${role}`);

function serve(address, port) {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash('sha256');
    socket.on('data', (data) => hash.update(data));
    socket.on('end', () => socket.end(hash.digest('hex')));
    socket.on('close', () => server.close());
  });
  server.listen(port, address, () => console.log('listening'));
}

async function send(from, address, port, octets, mbit) {
  const stream = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16));
  const zeros = Buffer.alloc(16 * 1024);
  const hash = createHash('sha256');
  const socket = connect({ host: address, port, localAddress: from });
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  let answer = '';
  socket.on('data', (data) => {
    answer += data;
  });
  const closed = new Promise((resolve, reject) => socket.once('close', resolve).once('error', reject));
  const began = performance.now();
  let sent = 0;
  let asked = false;
  process.once('SIGINT', () => {
    asked = true;
  });
  while (sent < octets && !asked) {
    const piece = stream.update(zeros.subarray(0, Math.min(zeros.length, octets - sent)));
    hash.update(piece);
    sent += piece.length;
    if (!socket.write(piece)) await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), closed]);
    const ahead = mbit === 0 ? 0 : (sent * 8) / (mbit * 1000) - (performance.now() - began);
    if (ahead > 1) await new Promise((resolve) => setTimeout(resolve, ahead));
  }
  socket.end();
  await closed;
  const seconds = (performance.now() - began) / 1000;
  console.log(JSON.stringify({ octets: sent, seconds, intact: answer === hash.digest('hex') }));
}
