/** What traffic says of a peer's life: RFC 7296 §2.4 and RFC 3706 §5.5 count it as a sign, and it tells of the peer's datapath alone. */

/**
 * Checks of a peer's life in a row that traffic makes needless. A peer that restarted may have kept its SAs without the relation they were
 * negotiated in, and where it may not begin a new one only an answer of its key daemon tells.
 */
export const MOST_VOUCHED = 2;
