/** A request, and the two subjects that it is sent to. */

export type Attr = Record<string, unknown>;

export type Side = 0 | 1;

export type Pair<T> = readonly [service: T, kernel: T];

/** The numbers of the descriptor that a key or a value names, one for each subject; 64 bits, as a raw one may be. */
export type Named = Pair<bigint>;
