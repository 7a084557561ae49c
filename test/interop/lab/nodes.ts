/** One face over both kinds of node, charon and Tanuki, for tests that rekey, crash and count: the pair `suites.ts` describes, child `net4`. */
import type { Charon } from './charon.ts';
import { waitUntil } from './process.ts';
import type { Tanuki } from './tanuki.ts';

export type Node = {
  readonly rekey: (what: 'child' | 'ike') => Promise<void>;
  /** `SPI in/SPI out` of every installed child `net4`. */
  readonly childSpis: () => Promise<readonly string[]>;
  /** `SPIi/SPIr` of every established IKE SA, the first four octets of each, as Tanuki names it. */
  readonly ikeSpis: () => Promise<readonly string[]>;
  /** No exchange of its own is under way and no SA is coming or going (what is only listed for a while after its end does not count). */
  readonly settled: () => Promise<boolean>;
  /** Every SA that it still lists, in whatever state. */
  readonly everything: () => Promise<{ ike: number; children: number }>;
};

export const tanukiNode = (tanuki: Tanuki): Node => ({
  rekey: (what) => tanuki.rekey('net4', what),
  childSpis: async () =>
    (await tanuki.children()).filter(({ selector }) => isOf(selector, 'net4')).map(({ spiIn, spiOut }) => `${spiIn}/${spiOut}`),
  ikeSpis: async () => (await tanuki.ikeSas()).map(({ name }) => name.replace(/^v\d:/, '')),
  settled: async () => {
    const { ikeSas, childSas } = await tanuki.status();
    // IKEv1 leaves what was replaced for a while, with nothing under way.
    const replaced = (ike: string, state: string) => ike.startsWith('v1:') && (state === 'replaced' || state === 'rekeyed');
    return (
      ikeSas.every(({ name, state }) => state === 'established' || replaced(name, state)) &&
      childSas.every(({ ikeSa, state }) => state === 'installed' || replaced(ikeSa, state))
    );
  },
  everything: async () => {
    const { ikeSas, childSas } = await tanuki.status();
    return { ike: ikeSas.length, children: childSas.length };
  },
});

export const charonNode = (charon: Charon): Node => ({
  rekey: (what) => charon.rekey(what === 'child' ? { child: 'net4' } : { ike: 'peer' }),
  childSpis: async () =>
    (await charon.children()).filter(({ name }) => name === 'net4').map(({ spiIn, spiOut }) => `${spiIn}/${spiOut}`),
  ikeSpis: async () =>
    (await charon.ikeSas()).map(({ spiInitiator, spiResponder }) => `${spiInitiator.slice(0, 8)}/${spiResponder.slice(0, 8)}`),
  settled: async () => {
    const sas = await charon.sas();
    const quiet = sas.every(({ state, tasks }) => (state === 'ESTABLISHED' || state === 'REKEYED') && tasks.length === 0);
    // In IKEv1 a rekeyed child stays until whoever made its successor deletes it.
    const rests = (version: number, state: string) =>
      state === 'INSTALLED' || state === 'DELETED' || (version === 1 && state === 'REKEYED');
    return quiet && sas.every(({ version, children }) => children.every(({ state }) => rests(version, state)));
  },
  everything: async () => {
    const sas = await charon.sas();
    return { ike: sas.length, children: sas.flatMap(({ children }) => children).length };
  },
});

/** Whether Tanuki's selector name is that of a pair's child: the inbound half of a selector has `.in` behind it. */
export function isOf(selector: string, child: string): boolean {
  return selector === child || selector === `${child}.in`;
}

/**
 * Begins rekeying at every node of `by` and waits (20 s) until both sides hold one new SA of the kind, the same one, and nothing else is
 * under way. The last matters: charon ignores a response that comes while it works on a request with the same message id ("ignoring
 * request with ID 0, already processing"), so that one of two crossing exchanges takes a retransmission (4 s), and an IKE SA rekeyed
 * meanwhile leaves the redundant child of that exchange behind for good. A redundant IKE SA of the same origin stays listed as REKEYED for
 * 30 s.
 */
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
      const renewed = here.length === 1 && there.length === 1 && !before.includes(here[0]!) && mirrored(here[0]) === there[0];
      return renewed && (await ours.settled()) && theirs.settled();
    },
    20,
    () => `one new ${what} SA, the same on both sides: ${seen}`,
    100,
  );
}

/** Waits (45 s, redundant and deleted SAs linger at charon) until each side lists `ike` IKE SAs and `children` children, and gives what they list. */
export async function leftovers(ours: Node, theirs: Node, children = 1, ike = 1): Promise<{ ours: object; theirs: object }> {
  const clean = JSON.stringify({ ike, children });
  let left = { ours: {}, theirs: {} };
  const look = async () => {
    left = { ours: await ours.everything(), theirs: await theirs.everything() };
    return JSON.stringify(left.ours) === clean && JSON.stringify(left.theirs) === clean;
  };
  return waitUntil(look, 45, 'a clean pair').then(
    () => left,
    () => left,
  );
}
