/** spmif commands of racoon2 that belong to parts to come, and what they are answered until then. */

import { CODE } from '../src/spmif/protocol.ts';

export const NOT_BUILT = {
  'fqdn-query': { code: CODE.notCached, text: 'no name is cached: the resolver is not built yet' },
  'fqdn-list': { code: CODE.empty, text: 'no names: the resolver is not built yet' },
  'fqdn-change': { code: CODE.failed, text: 'the resolver is not built yet' },
  ns: { code: CODE.failed, text: 'the resolver is off: its DNS proxy is not built yet' },
} as const;
