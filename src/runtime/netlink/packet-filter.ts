/** One table of nf_tables that is ours alone: chains of filter rules that change all at once, and named counters (NETLINK_NETFILTER). */

import type { Libc } from '../native/libc.ts';
import { NetlinkSocket, type Request } from '../native/netlink.ts';
import { NLM_F_APPEND, NLM_F_CREATE } from './codec.ts';
import {
  decodeChain,
  decodeCounter,
  decodeTable,
  encodeArrivals,
  encodeBatch,
  encodeChain,
  encodeCounter,
  encodeCountersOf,
  encodeFilterRule,
  encodeRulesOf,
  encodeTable,
  type FilterRule,
  NFNL_MSG_BATCH,
  NFT_MSG,
} from './nftables.ts';

const NETLINK_NETFILTER = 12;
/** What a kernel without nf_tables answers: no such protocol, no such subsystem, no such family of tables. */
export const NO_FILTER = ['EPROTONOSUPPORT', 'EINVAL', 'EOPNOTSUPP', 'EAFNOSUPPORT', 'ENOENT', 'ENOSYS'] as const;

/** All methods throw SystemError whose `code` is the errno's name. */
export class PacketFilter {
  readonly #socket: NetlinkSocket;
  readonly #table: string;

  /** Makes no table yet. Throws SystemError with one of NO_FILTER where the kernel has no nf_tables. */
  constructor(libc: Libc, table: string) {
    this.#table = table;
    this.#socket = new NetlinkSocket(libc, NETLINK_NETFILTER);
    try {
      this.#exists();
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  #exists(): boolean {
    const tables = this.#socket.dump(NFT_MSG.GETTABLE, encodeTable('').subarray(0, 4), 'list the tables of nf_tables');
    return tables.some(({ body }) => decodeTable(body) === this.#table);
  }

  /** The names of the table's chains; none where there is no table. */
  chains(): string[] {
    return this.#socket
      .dump(NFT_MSG.GETCHAIN, encodeChain(this.#table).subarray(0, 4), 'list the chains of nf_tables')
      .map(({ body }) => decodeChain(body))
      .flatMap(({ table, name }) => (table === this.#table && name !== undefined ? [name] : []));
  }

  /** Makes the chain hold these rules and no others, and lets the chains of `without` go, in one step. Counters stay as they are. */
  put(chain: string, rules: readonly FilterRule[], counters: readonly string[], without: readonly string[]): void {
    const table = this.#table;
    this.#transact(`put ${rules.length} rules into chain ${chain} of table ${table}`, [
      { type: NFT_MSG.NEWTABLE, flags: NLM_F_CREATE, body: encodeTable(table) },
      ...counters.map((name) => ({ type: NFT_MSG.NEWOBJ, flags: NLM_F_CREATE, body: encodeCounter(table, name) })),
      { type: NFT_MSG.NEWCHAIN, flags: NLM_F_CREATE, body: encodeArrivals(table, chain) },
      { type: NFT_MSG.DELRULE, flags: 0, body: encodeRulesOf(table, chain) },
      ...rules.map((rule) => ({
        type: NFT_MSG.NEWRULE,
        flags: NLM_F_CREATE | NLM_F_APPEND,
        body: encodeFilterRule(table, chain, rule),
      })),
      ...without.flatMap((gone) => [
        { type: NFT_MSG.DELRULE, flags: 0, body: encodeRulesOf(table, gone) },
        { type: NFT_MSG.DELCHAIN, flags: 0, body: encodeChain(table, gone) },
      ]),
    ]);
  }

  /** The table goes with all that is in it; where there is none, nothing happens. */
  remove(): void {
    if (!this.#exists()) return;
    this.#transact(`delete table ${this.#table}`, [{ type: NFT_MSG.DELTABLE, flags: 0, body: encodeTable(this.#table) }]);
  }

  /** Packets by counter. */
  counts(): Map<string, number> {
    if (!this.#exists()) return new Map();
    return new Map(
      this.#socket
        .dump(NFT_MSG.GETOBJ, encodeCountersOf(this.#table), 'list the counters of nf_tables')
        .map(({ body }) => decodeCounter(body))
        .flatMap((counter) => (counter === undefined ? [] : [[counter.name, counter.packets] as const])),
    );
  }

  close(): void {
    this.#socket.close();
  }

  #transact(what: string, requests: readonly Request[]): void {
    this.#socket.transact(
      { type: NFNL_MSG_BATCH.BEGIN, flags: 0, body: encodeBatch() },
      requests,
      { type: NFNL_MSG_BATCH.END, flags: 0, body: encodeBatch() },
      what,
    );
  }
}
