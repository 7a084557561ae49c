/** Nanoseconds that OpenSSL takes to seal and to open one ESP packet through FFI: `npm run build && node test/bench/evp.mjs`. Median of 200 short runs, and the best. */

import { Secret } from '../../dist/src/bytes/secret.js';
import { ENCR, encrKeymatBytes, INTEG, suiteText } from '../../dist/src/crypto/transforms.js';
import { Arena, libcDoor, packetCipher } from '../../dist/src/runtime/native/index.js';

const { open: libc, why } = libcDoor();
if (libc === undefined) throw new Error(why);
const arena = new Arena(libc, 1 << 20);
const { open: cipher, why: noCipher } = packetCipher(libc, arena);
if (cipher === undefined) throw new Error(noCipher);
const at = arena.reserve(4096);
const copyAt = arena.reserve(4096);

function measure(run) {
  const rounds = [];
  for (let round = 0; round < 200; round++) {
    const since = process.hrtime.bigint();
    for (let i = 0; i < 1000; i++) if (!run()) throw new Error('the cipher failed');
    rounds.push(Number(process.hrtime.bigint() - since) / 1000);
  }
  rounds.sort((a, b) => a - b);
  return `${rounds[100].toFixed(0).padStart(6)} (${rounds[0].toFixed(0)})`;
}

const SUITES = [
  { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
  { encr: 'aes_gcm_16', keyBits: 256, integ: 'none' },
  { encr: 'chacha20_poly1305', keyBits: 0, integ: 'none' },
  { encr: 'aes_cbc', keyBits: 128, integ: 'hmac_sha2_256' },
  { encr: 'aes_ctr', keyBits: 128, integ: 'hmac_sha1' },
  { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' },
  { encr: 'aes_cbc', keyBits: 128, integ: 'aes_xcbc' },
  { encr: 'aes_cbc', keyBits: 128, integ: 'aes_cmac' },
];

console.log(`ns a packet, median (best)${' '.repeat(22)}octets  seal            open and copy back`);
for (const suite of SUITES) {
  const encrKey = () => new Secret(new Uint8Array(encrKeymatBytes(suite.encr, suite.keyBits)).fill(1));
  const integKey = () => (suite.integ === 'none' ? undefined : new Secret(new Uint8Array(INTEG[suite.integ].keyBytes).fill(2)));
  const sealing = cipher.create(suite, 'seal', encrKey(), integKey());
  const opening = cipher.create(suite, 'open', encrKey(), integKey());
  for (const textBytes of [64, 1408]) {
    const seal = measure(() => cipher.seal(sealing, at, textBytes, -1));
    cipher.seal(sealing, at, textBytes, -1);
    const end = at + 8 + ENCR[suite.encr].iv + textBytes + 64;
    arena.bytes.copyWithin(copyAt, at, end);
    const open = measure(() => {
      arena.bytes.copyWithin(at, copyAt, copyAt + end - at);
      return cipher.open(opening, at, textBytes, -1);
    });
    console.log(
      `${suiteText(suite.encr, suite.keyBits, suite.integ).padEnd(46)}${String(textBytes).padStart(8)}  ${seal}  ${open}`,
    );
  }
}
