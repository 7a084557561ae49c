/** A kernel of tables instead of netlink: what `XfrmVerbs` asks for is kept, and refused as Linux refuses. */

import type { Kernel } from '../../src/datapath-xfrm/kernel.ts';
import { SystemError } from '../../src/errors.ts';
import { type Policy, samePolicySelector } from '../../src/ipsec/policy.ts';
import type { SaId } from '../../src/ipsec/sa.ts';
import type { XfrmPolicyInfo } from '../../src/runtime/netlink/xfrm-policy.ts';
import type { XfrmSa, XfrmSaInfo } from '../../src/runtime/netlink/xfrm-sa.ts';

const CURRENT = { bytes: 0, packets: 0, added: 1_700_000_000, used: 0 };

export class FakeKernel implements Kernel {
  readonly installed = new Map<string, XfrmSa & { current: XfrmSaInfo['current'] }>();
  spd: (Policy & { readonly seconds: number })[] = [];
  readonly larvals = new Set<string>();
  /** What the next requests are refused with. */
  refusal: SystemError | undefined;
  readonly #taken = new WeakMap<Uint8Array, XfrmSa & { current: XfrmSaInfo['current'] }>();
  #index = 0;

  addSa(sa: XfrmSa): void {
    this.#refuse();
    if (this.installed.has(name(sa))) throw new SystemError('add SA: file already exists', 'EEXIST');
    this.installed.set(name(sa), { ...copyOfKeys(sa), current: CURRENT });
  }
  updateSa(sa: XfrmSa): void {
    this.#refuse();
    const there = this.installed.get(name(sa));
    if (there === undefined && !this.larvals.delete(name(sa))) throw new SystemError('update SA: no such process', 'ESRCH');
    this.installed.set(name(sa), { ...copyOfKeys(sa), current: there?.current ?? CURRENT });
  }
  deleteSa(id: SaId): void {
    if (!this.installed.delete(name(id)) && !this.larvals.delete(name(id))) throw new SystemError('delete SA', 'ESRCH');
  }
  moveSa(...words: Parameters<Kernel['moveSa']>): void {
    this.putSa(this.takeSa(...words));
  }
  takeSa(
    id: SaId,
    { source, destination }: Parameters<Kernel['takeSa']>[1],
    encapsulation: Parameters<Kernel['takeSa']>[2],
  ): Uint8Array {
    const there = this.installed.get(name(id));
    if (there === undefined) throw new SystemError('take out SA', 'ESRCH');
    this.installed.delete(name(id));
    const taken = Uint8Array.of(1);
    this.#taken.set(taken, { ...there, source, destination, encapsulation });
    return taken;
  }
  putSa(taken: Uint8Array): void {
    this.#refuse();
    const sa = this.#taken.get(taken)!;
    this.installed.set(name(sa), sa);
  }
  hasKeys({ encrKey, ...sa }: Parameters<Kernel['hasKeys']>[0]): boolean {
    const there = this.installed.get(name(sa));
    return there !== undefined && `${there.encrKey.reveal()}` === `${encrKey.reveal()}`;
  }
  sa(id: SaId): XfrmSaInfo | undefined {
    const sa = this.installed.get(name(id));
    if (sa !== undefined) return infoOf(sa);
    return this.larvals.has(name(id)) ? ({ ...id } as XfrmSaInfo) : undefined;
  }
  sas(): XfrmSaInfo[] {
    return [...this.installed.values()].map(infoOf);
  }
  allocateSpi(
    { protocol, destination }: Parameters<Kernel['allocateSpi']>[0],
    { min, max }: { min: number; max: number },
  ): number {
    this.#refuse();
    for (let spi = min; spi <= max; spi++) {
      const id = name({ spi, protocol, destination });
      if (this.larvals.has(id) || this.installed.has(id)) continue;
      this.larvals.add(id);
      return spi;
    }
    throw new SystemError('find an SPI', 'ENOENT');
  }
  addPolicy(policy: Policy, { seconds = 0, replace = false }: Parameters<Kernel['addPolicy']>[1] = {}): number {
    this.#refuse();
    const there = this.#find(policy);
    if (there !== undefined && !replace) throw new SystemError('add policy: file already exists', 'EEXIST');
    const id = there?.id ?? 8 * ++this.#index + { inbound: 0, outbound: 1, forward: 2 }[policy.direction];
    this.spd = [...this.spd.filter((one) => one !== there), { ...policy, id, seconds }];
    return id;
  }
  deletePolicy(policy: Pick<Policy, 'selector' | 'direction'>): void {
    const there = this.#find(policy);
    if (there === undefined) throw new SystemError('delete policy', 'ENOENT');
    this.spd = this.spd.filter((one) => one !== there);
  }
  policies(): XfrmPolicyInfo[] {
    return this.spd.map((policy) => ({ ...policy, current: CURRENT, ours: true }));
  }
  removeOurs(): void {
    this.spd = [];
    this.installed.clear();
  }

  #find({ selector, direction }: Pick<Policy, 'selector' | 'direction'>) {
    return this.spd.find((one) => one.direction === direction && samePolicySelector(one.selector, selector));
  }
  #refuse(): void {
    const { refusal } = this;
    if (refusal !== undefined) throw refusal;
  }
}

function copyOfKeys(sa: XfrmSa): XfrmSa {
  const copy = <K extends XfrmSa['integKey']>(key: K) => key?.slice(0, key.length);
  return { ...sa, encrKey: copy(sa.encrKey)!, integKey: copy(sa.integKey) };
}

function infoOf(sa: XfrmSa & { current: XfrmSaInfo['current'] }): XfrmSaInfo {
  const { encapsulation } = sa;
  return {
    ...sa,
    direction: sa.direction,
    tfcPadding: sa.tfcPadding ?? 0,
    encapsulation: encapsulation && {
      sourcePort: encapsulation.source.port,
      destinationPort: encapsulation.destination.port,
    },
    sequence: { outbound: 0, inbound: 0 },
  };
}

function name({ spi, protocol, destination }: SaId): string {
  return `${protocol} ${spi} ${destination}`;
}
