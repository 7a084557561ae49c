/** One face over both kinds of node, charon and Tanuki, for tests that rekey, crash and count: the pair `suites.ts` describes, child `net4`. */
import type { Charon } from './charon.ts';
import { waitUntil } from './process.ts';
import type { Tanuki } from './tanuki.ts';

export type Node = {
  readonly rekey: (what: 'child' | 'ike') => Promise<void>;
  /** `SPI in/SPI out` of every installed child `net4`. */
  readonly childSpis: () => Promise<readonly string[]>;
  /** `SPIi/SPIr` of every established IKE SA. */
  readonly ikeSpis: () => Promise<readonly string[]>;
  /** Every SA that it still lists, in whatever state. */
  readonly everything: () => Promise<{ ike: number; children: number }>;
};

export const tanukiNode = (tanuki: Tanuki): Node => ({
  rekey: (what) => tanuki.rekey('net4', what),
  childSpis: async () =>
    (await tanuki.children()).filter(({ selector }) => isOf(selector, 'net4')).map(({ spiIn, spiOut }) => `${spiIn}/${spiOut}`),
  ikeSpis: async () => (await tanuki.ikeSas()).map(({ name }) => name.replace(/^v2:/, '')),
  everything: async () => {
    const { ikeSas, childSas } = await tanuki.status();
    return { ike: ikeSas.length, children: childSas.length };
  },
});

export const charonNode = (charon: Charon): Node => ({
  rekey: (what) => charon.rekey(what === 'child' ? { child: 'net4' } : { ike: 'peer' }),
  childSpis: async () =>
    (await charon.children()).filter(({ name }) => name === 'net4').map(({ spiIn, spiOut }) => `${spiIn}/${spiOut}`),
  ikeSpis: async () => (await charon.ikeSas()).map(({ spiInitiator, spiResponder }) => `${spiInitiator}/${spiResponder}`),
  everything: async () => {
    const sas = await charon.sas();
    return { ike: sas.length, children: sas.flatMap(({ children }) => children).length };
  },
});

/** Whether Tanuki's selector name is that of a pair's child: the inbound half of a selector has `.in` behind it. */
export function isOf(selector: string, child: string): boolean {
  return selector === child || selector === `${child}.in`;
}

/** Begins rekeying at every node of `by` and waits (20 s) until both sides hold one new SA of the kind, and the same one. */
export async function rekeyOnce(what: 'child' | 'ike', by: readonly Node[], ours: Node, theirs: Node): Promise<void> {
  const view = (node: Node) => (what === 'child' ? node.childSpis() : node.ikeSpis());
  const mirrored = (spis: string | undefined) => (what === 'child' ? spis?.split('/').reverse().join('/') : spis);
  const before = await view(ours);
  await Promise.all(by.map((node) => node.rekey(what)));
  let seen = '';
  await waitUntil(
    async () => {
      const [here, there] = [await view(ours), await view(theirs)];
      seen = JSON.stringify({ before, here, there });
      return here.length === 1 && there.length === 1 && !before.includes(here[0]!) && mirrored(here[0]) === there[0];
    },
    20,
    () => `one new ${what} SA, the same on both sides: ${seen}`,
    100,
  );
}

/** Waits (30 s, deleted SAs linger at charon) until each side lists one IKE SA and `children` children, and gives what they list. */
export async function leftovers(ours: Node, theirs: Node, children = 1): Promise<{ ours: object; theirs: object }> {
  const clean = JSON.stringify({ ike: 1, children });
  let left = { ours: {}, theirs: {} };
  const look = async () => {
    left = { ours: await ours.everything(), theirs: await theirs.everything() };
    return JSON.stringify(left.ours) === clean && JSON.stringify(left.theirs) === clean;
  };
  return waitUntil(look, 30, 'a clean pair').then(
    () => left,
    () => left,
  );
}
