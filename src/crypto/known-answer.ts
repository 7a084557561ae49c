/** One fixed ESP packet for each suite, which a PacketCipher must reproduce before it may touch traffic. */

import { equal, fromHex } from '../bytes/bytes.ts';
import { Secret } from '../bytes/secret.ts';
import type { EspSuite, PacketCipher } from './packet-cipher.ts';
import { ENCR, type EncrName, encrKeymatBytes, INTEG, type IntegName, suiteText } from './transforms.ts';

/** Octets of arena that the test works in. */
export const KNOWN_ANSWER_BYTES = 128;

const TEXT_BYTES = 32;
const HEADER = Uint8Array.of(0xc0, 0xff, 0xee, 0x01, 0, 0, 1, 2);

/**
 * Suite, high half of the sequence number (-1: not extended), and the text and ICV that must come of SPI c0ffee01, sequence number
 * 258 and the keys, IVs and text of `pattern`. Computed with Python's `cryptography`, XCBC by hand from RFC 3566.
 */
// biome-ignore format: a table
const ANSWERS: readonly (readonly [EncrName, number, IntegName | 'none', number, string])[] = [
  ['aes_gcm_16', 128, 'none', -1, 'c0a3dccf8d5bf010bdebd3eb92403cfada0684a947e634023cbeef77f673eac2d1bc681e5df48a8b0ed871541c566949'],
  ['aes_gcm_16', 192, 'none', -1, '27e46f1d9895e4c0c19927ea28ab8228bd37bfdb9942f87f4ca6a39958e2e4ed7a6a7fc227bdad370a71272f75980690'],
  ['aes_gcm_16', 256, 'none', -1, 'b232392c967cf23fe6a31de996d49713e250db58d533aab07d75c24107cea938ba6d6b63bab46f4dd0d890d6010b161a'],
  ['aes_gcm_16', 256, 'none', 7, 'b232392c967cf23fe6a31de996d49713e250db58d533aab07d75c24107cea938993230a51f37e6d087733e7a8b4b4581'],
  ['chacha20_poly1305', 0, 'none', -1, 'cd9c0e42d9a57af3e65a65a2bff71a54f3d1788ebf1d6846a2f9c213b35227bce806df13b0eb1c1ec5343fd953b5b8dc'],
  ['chacha20_poly1305', 0, 'none', 7, 'cd9c0e42d9a57af3e65a65a2bff71a54f3d1788ebf1d6846a2f9c213b35227bcf4de2969076ae9cb9aa3fc6a69a7c136'],
  ['aes_cbc', 128, 'hmac_sha2_256', -1, '6d6db3da4118248fe4d8d0cb7c720f71e04a798960207e249e53539bbd8ba1720e4e4a0ce8802b2bc3772bb12ed6444b'],
  ['aes_cbc', 128, 'hmac_sha2_256', 7, '6d6db3da4118248fe4d8d0cb7c720f71e04a798960207e249e53539bbd8ba1722042c0f27d4d815970a9ec0128dfdfdb'],
  ['aes_cbc', 192, 'hmac_sha2_384', -1, '3d928e5cd7f1d57a03cdd4a3df8b189336710deaf78ce5a1f6be5f7048afd4a70178b22f11efb7bf83d04cc11ee3585bb4ac5ed1140963b2'],
  ['aes_cbc', 256, 'hmac_sha2_512', -1, '54e41f273a022318a5dcf94bdb3b3cf5b87dfa273da88eca6bbd78ae31f77ae318accc8d9c68259d74e38dcab33311c16f6763ec987eda8d5e8d36f8afd6141b'],
  ['aes_cbc', 256, 'hmac_sha1', -1, '54e41f273a022318a5dcf94bdb3b3cf5b87dfa273da88eca6bbd78ae31f77ae33833fb6ee558a2dd8fb2d2c9'],
  ['aes_cbc', 128, 'aes_xcbc', -1, '6d6db3da4118248fe4d8d0cb7c720f71e04a798960207e249e53539bbd8ba172eb66d17b796a4b6af94147c1'],
  ['aes_cbc', 128, 'aes_cmac', 7, '6d6db3da4118248fe4d8d0cb7c720f71e04a798960207e249e53539bbd8ba1727e3078cd1e7fc9d14b3d5c9d'],
  ['aes_ctr', 128, 'hmac_sha2_256', -1, '35f33cd03c8f99f1f2ab73822a28a40990f38cbffd2b8040edbb635b2290ec2a8ab434e5bbe204db7c23f3d6d6496f17'],
  ['aes_ctr', 192, 'hmac_sha1', -1, 'd8893afab8cb204e304868810c45f57577b43f6de8e5949091c9975a987b52f87c148f3231367490515ad541'],
  ['aes_ctr', 256, 'hmac_sha2_512', 7, 'd4440d69dedb1369a7f23107fb1b65d4e262695ce60c826fb6f3ad59260447c3e690d513b63fbca6e5544dc94bd077127e0db178fb1ead139e4ec0353b7849e3'],
  ['null_enc', 0, 'hmac_sha2_256', -1, '01060b10151a1f24292e33383d42474c51565b60656a6f74797e83888d92979c729611a32d217576d8026758ecf6e231'],
  ['null_enc', 0, 'aes_xcbc', 7, '01060b10151a1f24292e33383d42474c51565b60656a6f74797e83888d92979c9d705d726536d7b57ac90d1b'],
  ['3des_cbc', 0, 'hmac_sha1', -1, 'f8f9173ee2d7c8be2070cfde7e016c4998a2fd12c9056b656f13e8fa2f9c7b0fa6d5f755a48cd25fa09c95f4'],
  ['aes_gcm_12', 128, 'none', -1, 'c0a3dccf8d5bf010bdebd3eb92403cfada0684a947e634023cbeef77f673eac2d1bc681e5df48a8b0ed87154'],
  ['aes_gcm_12', 192, 'none', 7, '27e46f1d9895e4c0c19927ea28ab8228bd37bfdb9942f87f4ca6a39958e2e4edd434778cd9b0db8b35034b35'],
  ['aes_gcm_12', 256, 'none', -1, 'b232392c967cf23fe6a31de996d49713e250db58d533aab07d75c24107cea938ba6d6b63bab46f4dd0d890d6'],
  ['aes_gcm_8', 128, 'none', 7, 'c0a3dccf8d5bf010bdebd3eb92403cfada0684a947e634023cbeef77f673eac2946dbd2872e696a3'],
  ['aes_gcm_8', 192, 'none', -1, '27e46f1d9895e4c0c19927ea28ab8228bd37bfdb9942f87f4ca6a39958e2e4ed7a6a7fc227bdad37'],
  ['aes_gcm_8', 256, 'none', -1, 'b232392c967cf23fe6a31de996d49713e250db58d533aab07d75c24107cea938ba6d6b63bab46f4d'],
  ['aes_ccm_16', 128, 'none', -1, '7169723e7d25eb94eb677f0b6ff409ea68af806700d9689a74d7055eb666a21c524e611fd4d1298c365b10321c4a31a0'],
  ['aes_ccm_16', 192, 'none', 7, 'c06ff667285010eab5c9e78e5601eb2bc515b6b62d48e0f95bdf86053bf299bec2f13dd7113a5c0e33407aaba83ee4fc'],
  ['aes_ccm_16', 256, 'none', -1, 'e0e98008764fe42a1fab0713122a4876a33fc4faa69605e387f3b8d7d28c1c9ddb1e4722b7a7d560fb91f278a170812f'],
  ['aes_ccm_12', 128, 'none', 7, '7169723e7d25eb94eb677f0b6ff409ea68af806700d9689a74d7055eb666a21c8d8a0d35d10cde1d0e440310'],
  ['aes_ccm_12', 192, 'none', -1, 'c06ff667285010eab5c9e78e5601eb2bc515b6b62d48e0f95bdf86053bf299be02720a32eb5231b80d9b7bb7'],
  ['aes_ccm_12', 256, 'none', -1, 'e0e98008764fe42a1fab0713122a4876a33fc4faa69605e387f3b8d7d28c1c9d1c74b108305bf2f8ca0616de'],
  ['aes_ccm_8', 128, 'none', -1, '7169723e7d25eb94eb677f0b6ff409ea68af806700d9689a74d7055eb666a21cc7f0b3e6fd580df2'],
  ['aes_ccm_8', 192, 'none', -1, 'c06ff667285010eab5c9e78e5601eb2bc515b6b62d48e0f95bdf86053bf299bebc4c40f6928141ad'],
  ['aes_ccm_8', 256, 'none', 7, 'e0e98008764fe42a1fab0713122a4876a33fc4faa69605e387f3b8d7d28c1c9d393f14374ae9975a'],
  ['aes_gcm_16_iiv', 128, 'none', -1, '1228a732c4db747fe332d14b15da9305019a2fc2e49f2a0eecd7a1ecc5133151c3e4f63bf50f3760b8b9cbc4dce7fd12'],
  ['aes_gcm_16_iiv', 192, 'none', 7, '6f0af4ae4aedcc77404bce445a0913904d010e3a7332e6d53d449e0deb4375b1b2068531ff90cbf3180e24aa4f5af699'],
  ['aes_gcm_16_iiv', 256, 'none', 7, '9c17ae193748f2b4b6f2d2edf00e483a3bf11267d46d0ca27138e0b0a82271f206b74066ffec692b1f53f26925803888'],
  ['aes_ccm_8_iiv', 128, 'none', -1, 'cf0efc0fbc515d2dd914ace37172267ab9df7b0b609926e3cca7e381cab1ce1bca8358148f83a13f'],
  ['aes_ccm_8_iiv', 192, 'none', -1, '2d146c724876863b89a0760ffbda8817ea308ae441eae5582183baed1b59d060a9d3fa61267b4014'],
  ['aes_ccm_8_iiv', 256, 'none', 7, '1910f8365a0035347eb35e6dd727a156dfcdc27ad223a7eeb2af667ee8dba9be85a61c18f0213d69'],
  ['chacha20_poly1305_iiv', 0, 'none', -1, '566825363e2c1e8c9d8a4c6f8916925177e040c0b9e112c21712daeb776bb2048a3234004099c0ba49e7f4ff84d19e71'],
  ['chacha20_poly1305_iiv', 0, 'none', 7, '4f90d4dda5cb7a818c82f502f17ba3b4920e89442debc90b79c7680ee84145d3094a315530a6229bef54779280c534ba'],
  ['null_auth_aes_gmac', 128, 'none', -1, '01060b10151a1f24292e33383d42474c51565b60656a6f74797e83888d92979c220582ff7c5b1289df8865570653eb75'],
  ['null_auth_aes_gmac', 192, 'none', 7, '01060b10151a1f24292e33383d42474c51565b60656a6f74797e83888d92979cf1a0ceb672983b206181654fa76ccdbf'],
  ['null_auth_aes_gmac', 256, 'none', -1, '01060b10151a1f24292e33383d42474c51565b60656a6f74797e83888d92979ca5a38eff6e66e2e9876bbd1386c19bf0'],
  ['camellia_cbc', 128, 'hmac_sha2_256', -1, '22fd5f7cc924457dc0a76444a056cfb1e5062d3a40200e02a199dacbdba859acde96b0d4c31ea7630a73f55249073f60'],
  ['camellia_cbc', 192, 'hmac_sha1', 7, '15cf1d8e5d50023ec0a4bdcbe38d5c93b63c8c052a43e99ed0ea6a6f84e4eb48127306678f9c1b48ac55a045'],
  ['camellia_cbc', 256, 'hmac_sha2_256', -1, '2e0153f45d3ca43ee7973e51ea2824c8f7ef52c30ca38e7e1eeaf7a8d23ab7641babea61774e513d358c7d82a898e340'],
  ['des_cbc', 0, 'hmac_md5', -1, '7119b02eb8e3a618fd63770f2312d0195fe2c77f67cdfba52c251c52ea0c89387dca8f4838e5798425593d5c'],
  ['aes_cbc', 128, 'hmac_md5', 7, '6d6db3da4118248fe4d8d0cb7c720f71e04a798960207e249e53539bbd8ba1721b38e5c1539427d1f0fdb428'],
  ['null_enc', 0, 'aes_128_gmac', -1, '01060b10151a1f24292e33383d42474c51565b60656a6f74797e83888d92979c091623303d4a576408dfe11872e14c06e8c1cca8957088c1'],
  ['null_enc', 0, 'aes_192_gmac', 7, '01060b10151a1f24292e33383d42474c51565b60656a6f74797e83888d92979c091623303d4a5764a3300aa1e89a2fb7eda2f3ecb3b2e17c'],
  ['null_enc', 0, 'aes_256_gmac', -1, '01060b10151a1f24292e33383d42474c51565b60656a6f74797e83888d92979c091623303d4a57645a305cecf3dcc672715c00a9ccce6a3a'],
];

/** Seals and opens each known packet that `cipher` supports in `arena` at `arenaOffset`; one sentence for each failure, none if all is well. */
export function knownAnswerTest(cipher: PacketCipher, arena: Uint8Array, arenaOffset: number): string[] {
  const failures: string[] = [];
  for (const [encr, keyBits, integ, sequenceHigh, answer] of ANSWERS) {
    const suite = { encr, keyBits, integ };
    if (!cipher.supports(suite)) continue;
    let failure: string | undefined;
    try {
      failure = tryOne(cipher, arena, arenaOffset, suite, sequenceHigh, fromHex(answer)!);
    } catch (error) {
      failure = `threw ${String(error)}`;
    }
    const what = suiteText(encr, encr === 'null_enc' ? 0 : keyBits, integ);
    if (failure !== undefined) failures.push(`${cipher.name}, ${what}${sequenceHigh === -1 ? '' : ' with ESN'}: ${failure}`);
  }
  return failures;
}

/** The suites the test knows, for those who count what a cipher supports. */
export const KNOWN_SUITES: readonly EspSuite[] = ANSWERS.map(([encr, keyBits, integ]) => ({ encr, keyBits, integ }));

function tryOne(
  cipher: PacketCipher,
  arena: Uint8Array,
  at: number,
  suite: EspSuite,
  sequenceHigh: number,
  answer: Uint8Array,
): string | undefined {
  const iv = pattern(ENCR[suite.encr].iv, 13, 9);
  const text = pattern(TEXT_BYTES, 5, 1);
  const textAt = at + HEADER.length + iv.length;
  const end = textAt + answer.length;
  const ofIcv = pattern(suite.integ === 'none' ? 0 : INTEG[suite.integ].iv, 13, 9);
  const write = (content: Uint8Array) => {
    arena.set(HEADER, at);
    arena.set(iv, at + HEADER.length);
    arena.fill(0, textAt, end);
    arena.set(ofIcv, textAt + TEXT_BYTES);
    arena.set(content, textAt);
  };
  const sealing = cipher.create(suite, 'seal', ...keys(suite));
  const opening = cipher.create(suite, 'open', ...keys(suite));
  try {
    for (const time of ['first', 'second']) {
      write(text);
      if (!cipher.seal(sealing, at, TEXT_BYTES, sequenceHigh)) return `refused to seal the ${time} time`;
      if (!equal(arena.subarray(textAt, end), answer)) return `sealed to wrong octets the ${time} time`;
      if (!cipher.open(opening, at, TEXT_BYTES, sequenceHigh)) return `refused to open the right packet the ${time} time`;
      if (!equal(arena.subarray(textAt, textAt + TEXT_BYTES), text)) return `opened to wrong octets the ${time} time`;
    }
    for (let flipped = at; flipped < end; flipped++) {
      write(answer);
      arena[flipped]! ^= 1 << (flipped & 7);
      if (cipher.open(opening, at, TEXT_BYTES, sequenceHigh))
        return `opened a packet with a flipped bit in octet ${flipped - at}`;
    }
    write(answer);
    if (cipher.open(opening, at, TEXT_BYTES, sequenceHigh + 1))
      return 'opened a packet under a wrong high half of the sequence number';
    return undefined;
  } finally {
    cipher.destroy(sealing);
    cipher.destroy(opening);
    arena.fill(0, at, end);
  }
}

/** Fresh secrets each time, since `create` may take them over. */
function keys({ encr, keyBits, integ }: EspSuite): [Secret, Secret | undefined] {
  const encrKey = new Secret(pattern(encrKeymatBytes(encr, keyBits) ?? 0, 7, 3));
  return [encrKey, integ === 'none' ? undefined : new Secret(pattern(INTEG[integ].keyBytes, 11, 5))];
}

function pattern(length: number, step: number, start: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * step + start) & 0xff);
}
