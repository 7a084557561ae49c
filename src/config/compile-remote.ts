/** `remote` sections to `RemoteConfig`: which protocols are spoken with the peer, and the block of each. */

import { type Block, settle } from './blocks.ts';
import { compileIkev1, compileIkev2, compileKink, KMP_NAMES, valuesOf } from './compile-kmp.ts';
import type { AddressSpec, KerberosConfig, Kmp, RemoteConfig } from './config.ts';
import { type Diagnostics, quoted } from './diagnostics.ts';
import type { Placed } from './kinds.ts';
import { IKEV1, IKEV2, KINK, type REMOTE } from './schema.ts';
import { KMPS } from './schema-remote.ts';
import type { Named, Sections } from './sections.ts';

type Remote = Named<typeof REMOTE.words>;

export function compileRemote(remote: Remote, sections: Sections, kerberos: KerberosConfig, report: Diagnostics): RemoteConfig {
  const common = sections.default?.entries.remote?.value;
  const spoken = acceptable(remote, sections);
  noteUnspoken(remote, spoken, sections, report);
  const speaks = (kmp: Kmp) => spoken.some(({ value }) => value === kmp) && hasBlock(kmp);
  /** Where the block is, and what it inherits. */
  const place = (kmp: Kmp) => remote.block.entries[kmp]?.at ?? remote.at;
  const own = remote.block.entries;
  const inherited = common?.entries;
  const blocks = {
    ikev2: speaks('ikev2')
      ? compileIkev2(settle(IKEV2, place('ikev2'), own.ikev2?.value, inherited?.ikev2?.value), remote, report)
      : undefined,
    ikev1: speaks('ikev1')
      ? compileIkev1(settle(IKEV1, place('ikev1'), own.ikev1?.value, inherited?.ikev1?.value), remote, report)
      : undefined,
    kink: speaks('kink')
      ? compileKink(settle(KINK, place('kink'), own.kink?.value, inherited?.kink?.value), remote, kerberos, report)
      : undefined,
  };
  const acceptableKmp = [...new Set(valuesOf(spoken))].filter((kmp) => blocks[kmp] !== undefined);
  return { name: remote.name, acceptableKmp, ...blocks };

  /** IKEv2 needs no block to be spoken of: its own errors say what is missing. */
  function hasBlock(kmp: Kmp): boolean {
    return kmp === 'ikev2' || own[kmp] !== undefined || inherited?.[kmp] !== undefined;
  }
}

/**
 * The protocols of a remote, the one that initiates first. An inherited list is for remotes that have a block for what is in it;
 * without any list, the blocks tell.
 */
function acceptable(remote: Remote, sections: Sections): readonly Placed<Kmp>[] {
  const common = sections.default?.entries.remote?.value;
  const mine = remote.block.entries.acceptable_kmp?.value;
  if (mine !== undefined) return mine;
  const blocks = withBlock(remote.block);
  const list = common?.entries.acceptable_kmp?.value ?? [];
  const inherited = blocks.length === 0 ? list : list.filter(({ value }) => blocks.includes(value));
  if (inherited.length > 0) return inherited;
  const theirs = blocks.length > 0 ? blocks : withBlock(common);
  return (theirs.length > 0 ? theirs : (['ikev2'] as const)).map((value) => ({ value, at: remote.at }));
}

/** The protocols that a remote has a block for. */
function withBlock(block: Block<typeof REMOTE.words> | undefined): readonly Kmp[] {
  return KMPS.filter((word) => block?.entries[word] !== undefined);
}

/** Protocols without a block, blocks without their protocol, and protocols that are named twice. */
function noteUnspoken(remote: Remote, spoken: readonly Placed<Kmp>[], sections: Sections, report: Diagnostics): void {
  const inherited = withBlock(sections.default?.entries.remote?.value);
  const own = withBlock(remote.block);
  const listed = remote.block.entries.acceptable_kmp !== undefined;
  spoken.forEach(({ value, at }, i) => {
    if (spoken.findIndex((other) => other.value === value) < i)
      report.warning(at, `${quoted(value)} is in the list already`, 'take one of them out');
    else if (value !== 'ikev2' && ![...own, ...inherited].includes(value))
      report.error(
        at,
        `the remote ${quoted(remote.name)} shall speak ${KMP_NAMES[value]} and has no ${quoted(value)} block`,
        listed ? `write ${value} { … }; or take it out of acceptable_kmp` : `write ${value} { … };`,
      );
  });
  for (const kmp of own) {
    if (!spoken.some(({ value }) => value === kmp))
      report.warning(
        remote.block.entries[kmp]!.at,
        `the ${quoted(kmp)} block has no effect: \`acceptable_kmp\` does not name it`,
        `add ${kmp} to acceptable_kmp, or take the block out`,
      );
  }
}

/** Where the peer is, as the block of the protocol that initiates says it, or else that of another one that is spoken. */
export function peersAddresses(remote: Remote | undefined, sections: Sections): readonly AddressSpec[] {
  if (remote === undefined) return [];
  const common = sections.default?.entries.remote?.value;
  for (const { value: kmp } of acceptable(remote, sections)) {
    const own = remote.block.entries[kmp]?.value?.entries.peers_ipaddr?.value;
    const found = valuesOf(own ?? common?.entries[kmp]?.value?.entries.peers_ipaddr?.value);
    if (found.length > 0) return found;
  }
  return [];
}
