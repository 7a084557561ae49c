/** Drives the kernel's SAD and SPD through the built `Xfrm`, in whatever kernel and namespace this runs: one command a line of JSON on standard input, one answer a line. */
import { readFileSync } from 'node:fs';

const dist = new URL('../../../dist/src/', import.meta.url);
const load = (path) => import(new URL(path, dist).href);
const [{ Secret }, { UNLIMITED }, { IpAddress }, { parsePrefix }, { libcDoor }, { Xfrm, XfrmMonitor }] = await Promise.all(
  [
    'bytes/secret.js',
    'ipsec/lifetime.js',
    'net/address.js',
    'net/prefix.js',
    'runtime/native/index.js',
    'runtime/netlink/xfrm.js',
  ].map(load),
);
const { open: libc, why } = libcDoor();
if (libc === undefined) throw new Error(why);
const xfrm = new Xfrm(libc);
const monitor = new XfrmMonitor(libc);

const address = (text) => IpAddress.parse(text);
const ends = ({ source, destination }) => ({ source: address(source), destination: address(destination) });
const key = (text) => new Secret(Uint8Array.from(Buffer.from(text, 'hex')));
const ports = (sa) =>
  sa.ports && {
    source: { address: address(sa.source), port: sa.ports[0] },
    destination: { address: address(sa.destination), port: sa.ports[1] },
  };
const saOf = ({ hard = UNLIMITED, soft = UNLIMITED, encrKey, integKey, ...sa }) => ({
  seq: 0,
  selector: undefined,
  selectors: { source: [], destination: [] },
  ours: true,
  ...sa,
  ...ends(sa),
  encapsulation: ports(sa),
  lifetime: { hard, soft },
  encrKey: key(encrKey),
  integKey: integKey === undefined ? undefined : key(integKey),
});
const selectorOf = ({ source, destination, protocol = 0 }) => ({
  source: parsePrefix(source),
  destination: parsePrefix(destination),
  protocol,
  sourcePort: 0,
  destinationPort: 0,
});
const policyOf = ({ selector, templates = [], ...policy }) => ({
  id: 0,
  priority: 100,
  ...policy,
  selector: selectorOf(selector),
  templates: templates.map(({ endpoints, ...template }) => ({
    level: 'unique',
    ...template,
    endpoints: endpoints && ends(endpoints),
  })),
});

const COMMANDS = {
  addSa: (sa) => xfrm.addSa(saOf(sa)),
  updateSa: (sa) => xfrm.updateSa(saOf(sa)),
  deleteSa: (sa) => xfrm.deleteSa({ ...sa, ...ends(sa) }),
  sa: (sa) => xfrm.sa({ ...sa, ...ends(sa) }),
  sas: () => xfrm.sas(),
  allocateSpi: ({ min, max, ...sa }) => xfrm.allocateSpi({ seq: 0, ...sa, ...ends(sa) }, { min, max }),
  moveSa: ({ to, ...sa }) => xfrm.moveSa({ ...sa, ...ends(sa) }, ends(to), ports(to)),
  addPolicy: ({ replace = false, ...policy }) => xfrm.addPolicy(policyOf(policy), { replace }),
  policy: (policy) => xfrm.policy(policyOf(policy)),
  policies: () => xfrm.policies(),
  deletePolicy: (policy) => xfrm.deletePolicy(policyOf(policy)),
  removeOurs: () => xfrm.removeOurs(),
  news: () => monitor.news().news,
  /** Waits (15 s at most) until there is so much news of this kind. */
  await: async ([kind, count]) => {
    const end = Date.now() + 15_000;
    const found = [];
    while (Date.now() < end) {
      found.push(...monitor.news().news.filter((one) => one.kind === kind));
      if (found.length >= count) return found;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`${found.length} of ${count} ${kind} within 15 s`);
  },
};

for (const line of readFileSync(process.argv[2] ?? 0, 'utf8')
  .split('\n')
  .filter((text) => text !== '')) {
  const [name, argument] = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await COMMANDS[name](argument)) ?? null };
  } catch (error) {
    answer = { error: error.message, code: error.code };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
xfrm.close();
monitor.close();
