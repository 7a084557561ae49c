/** What the verbs need of the kernel (`Xfrm` has it, tests have another), and its refusals as PF_KEY's. */

import { SystemError } from '../errors.ts';
import { SadbError } from '../pfkey/message.ts';
import { ERRNO } from '../pfkey/registry.ts';
import type { Xfrm } from '../runtime/netlink/xfrm.ts';

export type Kernel = Pick<
  Xfrm,
  | 'addSa'
  | 'updateSa'
  | 'deleteSa'
  | 'moveSa'
  | 'takeSa'
  | 'putSa'
  | 'hasKeys'
  | 'sa'
  | 'sas'
  | 'allocateSpi'
  | 'addPolicy'
  | 'deletePolicy'
  | 'policies'
  | 'removeOurs'
>;

/** What a kernel answers that has no ESP, no AH or no such address family. */
const NOT_BUILT = ['EPROTONOSUPPORT', 'EAFNOSUPPORT', 'ENOPROTOOPT'];
const GONE = ['ESRCH', 'ENOENT'];

/** Carries a request out; the kernel's refusal becomes a SadbError with its reason. */
export function asked<T>(request: () => T): T {
  try {
    return request();
  } catch (error) {
    if (error instanceof SystemError) throw new SadbError(errnoOf(error.code), error.message, 0);
    throw error;
  }
}

/** The same; what is gone already needs no deleting. */
export function unlessGone(request: () => void): void {
  try {
    request();
  } catch (error) {
    if (!(error instanceof SystemError) || !GONE.includes(error.code ?? '')) throw error;
  }
}

function errnoOf(code = ''): number {
  if (NOT_BUILT.includes(code)) return ERRNO.ENOSYS;
  return (ERRNO as Readonly<Record<string, number>>)[code] ?? ERRNO.EINVAL;
}
