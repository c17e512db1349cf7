import type { RowBytes } from "../log/canonical.ts";
import type { TileName } from "../log/tiles.ts";

/** Whose tree it is: facts of the log's, and who signs. */
export interface TreeIdentity {
  readonly log: string;
  readonly possibleCpus: string;
  /** The first line of its checkpoints, and the name of the key. */
  readonly origin: string;
  readonly vkey: string;
}

/** Who signed checkpoints of sizes up to `until`. */
export interface FormerSigner {
  readonly until: number;
  readonly origin: string;
  readonly vkey: string;
}

/** A checkpoint that was signed. */
export interface KeptCheckpoint {
  readonly size: number;
  readonly root: Buffer;
  readonly note: string;
  readonly timeUs: number;
}

export interface TileHashes {
  readonly level: number;
  readonly index: number;
  readonly hashes: Buffer;
}

/** Where the tree is kept. */
export interface TreeStore {
  /** null: it is new. */
  readonly identity: TreeIdentity | null;
  /** Leaves in its tiles. */
  readonly size: number;
  /** Where it ended when it was closed; null where it was not. */
  readonly closedAt: number | null;
  begin(identity: TreeIdentity): void;
  /** Who signed before, ascending by the sizes that each has signed. */
  readonly formerSigners: readonly FormerSigner[];
  /** From now on another one signs; the present one has signed sizes up to `until`. */
  changeSigner(signer: Pick<TreeIdentity, "origin" | "vkey">, until: number): void;
  /** It is in use from now on (null), or ends here. */
  setClosed(size: number | null): void;
  /** The hashes that a tile has, of a partial one those that there are. */
  tile(level: number, index: number): Buffer | undefined;
  /** In one transaction; a tile that is there is written over. */
  write(tiles: Iterable<TileHashes>): void;
  /** The largest. */
  lastCheckpoint(): KeptCheckpoint | null;
  /** Durable when this returns. */
  keep(checkpoint: KeptCheckpoint): void;
  close(): void;
}

/**
 * The log as the tree reads it. To make proofs of events and to verify them their columns are needed; the tiles are not
 * made again, so that those of archived events stay.
 */
export interface LogRows {
  /** The ledger's facts. */
  readonly id: string;
  readonly possibleCpus: string;
  lastSeq(): number;
  /** Events up to this one are archived: there are no rows of them here. */
  archivedThrough(): number;
  /** Events after one seq, up to another, ascending. */
  rows(afterSeq: number, untilSeq: number): Iterable<RowBytes>;
  /** How many events in that range are anything but a CHECKPOINT. */
  others(afterSeq: number, untilSeq: number): number;
  /** The checkpoint that the last CHECKPOINT event tells of: its note; "": there is none. */
  recorded(): string;
  close(): void;
}

/** What there is to say of a tree. */
export interface TreeStatus extends TreeIdentity {
  readonly size: number;
  readonly lastSeq: number;
  /** Size of the last checkpoint that was signed; 0: none was. */
  readonly signedSize: number;
  /** Why nothing is signed any more, or null. */
  readonly refusal: string | null;
}

/** Why there is no answer: the log is not what the tree has, the tree is not there yet, or the events are archived. */
export type NoAnswer = { readonly refused: string } | { readonly behind: string } | Archived;

/** The oldest event that is not archived. */
type Archived = { readonly oldestSeq: number };

/** When checkpoints are signed without being asked for: after so many events, after so many seconds. 0: not by that. */
export interface SigningRule {
  readonly events: number;
  readonly seconds: number;
}

/** The tree, for those who ask: built and signed beside the engine. */
export interface TreeReader {
  status(): Promise<TreeStatus>;
  /** The signed note of a tree that has every event of now. */
  checkpoint(): Promise<{ readonly note: string } | NoAnswer>;
  /** A proof of an event; null where there is no such event. */
  proof(seq: number): Promise<{ readonly text: string } | NoAnswer | null>;
  /** null: there is no such tile. */
  tile(name: TileName): Promise<{ readonly bytes: Buffer } | NoAnswer | null>;
  close(): Promise<void>;
}
