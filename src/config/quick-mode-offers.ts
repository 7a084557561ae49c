/** What of a policy's alternatives IKEv1 and KINK can say: both negotiate by quick mode, which has no number for the newest algorithms (RFC 2407 §4.4.4, §4.5). */

import { IN_IKEV1, isAead } from './algorithms.ts';
import { KMP_NAMES } from './compile-kmp.ts';
import type { IpsecConfig, RemoteConfig, SaConfig } from './config.ts';
import { type Diagnostics, quoted, type Span } from './diagnostics.ts';

/** One alternative, where its `ext_sequence` stands, and the lists of its SAs that somebody wrote: the built-in ones are no surprise. */
export interface Alternative {
  readonly ipsec: IpsecConfig;
  readonly extSequenceAt: Span;
  readonly written: (sa: SaConfig) => { readonly encr: boolean; readonly auth: boolean };
}

/** Reports what the remote is not offered because a protocol that it speaks has no number for it: an error where no protocol is left. */
export function checkQuickModeOffers(
  policy: string,
  remote: RemoteConfig,
  alternatives: readonly Alternative[],
  at: Span,
  report: Diagnostics,
): void {
  const older = remote.acceptableKmp.filter((kmp) => kmp !== 'ikev2');
  if (older.length === 0) return;
  const offers = alternatives.map(({ ipsec, written }) => ipsec.sas.map((sa) => offerOf(sa, written(sa))));
  const nothing = !offers.some((bundle) => bundle.every(({ possible }) => possible));
  const lost = [...new Set(offers.flat().flatMap((offer) => offer.lost))];
  const alone = older.length === remote.acceptableKmp.length;
  for (const kmp of older) {
    const name = KMP_NAMES[kmp];
    if (nothing) {
      const message = `${name} can negotiate nothing of what the policy ${quoted(policy)} offers the remote ${quoted(remote.name)}`;
      const hint = `it has ${[...new Set([...IN_IKEV1.espEncr, ...IN_IKEV1.espAuth, ...IN_IKEV1.ahAuth])].join(', ')}`;
      if (alone) report.error(at, message, hint);
      else report.warning(at, message, hint);
    } else if (lost.length > 0) {
      report.warning(
        at,
        `${name} cannot offer ${lost.map(quoted).join(', ')}: with it, the policy ${quoted(policy)} offers the remote ${quoted(remote.name)} the rest`,
        'name an `ipsec` section without it, or leave it if that is meant',
      );
    }
    for (const { ipsec, extSequenceAt } of alternatives) {
      if (ipsec.extendedSequence)
        report.note(
          extSequenceAt,
          `\`ext_sequence\` has no effect with ${name}: its SAs end after 2^32 packets`,
          'nothing needs to be done: they are rekeyed before',
        );
    }
  }
}

/** Whether quick mode can offer anything of an SA, and the words that it cannot. */
function offerOf({ protocol, encr, auth }: SaConfig, written: { readonly encr: boolean; readonly auth: boolean }) {
  if (protocol !== 'esp') {
    const lost = auth.filter((name) => name === 'none' || !IN_IKEV1.ahAuth.includes(name));
    return { possible: protocol === 'ipcomp' || lost.length < auth.length, lost };
  }
  const ciphers = encr.filter(({ name }) => IN_IKEV1.espEncr.includes(name));
  const separate = encr.some(({ name }) => !isAead(name));
  const macs = auth.filter((name) => name === 'none' || IN_IKEV1.espAuth.includes(name));
  const possible = ciphers.some(({ name }) => isAead(name) || macs.length > 0);
  const lost = [
    ...(written.encr ? encr.filter((cipher) => !ciphers.includes(cipher)).map(({ name }) => name) : []),
    ...(written.auth && separate ? auth.filter((name) => !macs.includes(name)) : []),
  ];
  return { possible, lost };
}
