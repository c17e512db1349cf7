import type { RowBytes } from "../log/canonical.ts";
import type { TileName } from "../tlog/tiles.ts";

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

/** A witness' cosignature of a checkpoint, verified. */
export interface KeptCosignature {
  readonly size: number;
  /** The witness', and the id of its key in hex. */
  readonly name: string;
  readonly keyId: string;
  /** The id, the time and the signature, as they stand in the note's line. */
  readonly bytes: Buffer;
}

/** Whose cosignature there is of which size. */
export type Cosigner = Omit<KeptCosignature, "bytes">;

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
  begin(identity: TreeIdentity): void;
  /** Who signed before, ascending by the sizes that each has signed. */
  readonly formerSigners: readonly FormerSigner[];
  /** From now on another one signs; the present one has signed sizes up to `until`. With a checkpoint to keep, in one transaction. */
  changeSigner(signer: Pick<TreeIdentity, "origin" | "vkey">, until: number, checkpoint?: KeptCheckpoint): void;
  /** It is in use from now on (null), or ends here; durable when this returns. */
  setClosed(size: number | null): void;
  /** The hashes that a tile has, of a partial one those that there are. */
  tile(level: number, index: number): Buffer | undefined;
  /** In one transaction; a tile that is there is written over. */
  write(tiles: Iterable<TileHashes>): void;
  /** The largest. */
  lastCheckpoint(): KeptCheckpoint | null;
  /** Durable when this returns. */
  keep(checkpoint: KeptCheckpoint): void;
  /** Of that size. */
  checkpoint(size: number): KeptCheckpoint | null;
  /** In one transaction, durable when this returns; a key's first of a size is the one that is kept. */
  keepCosignatures(cosignatures: readonly KeptCosignature[]): void;
  /** Of a checkpoint. */
  cosignatures(size: number): readonly KeptCosignature[];
  /** Of all of them, descending by size. */
  cosigners(): Iterable<Cosigner>;
  close(): void;
}

/** Entries of the tree for events from seq `first` on. */
export interface KeptEntries {
  readonly first: number;
  readonly entries: readonly Buffer[];
}

/**
 * The log as the tree reads it. To make proofs of events and to verify them their columns are needed; the tiles are not
 * made again, so that those of archived events stay.
 */
export interface LogRows {
  /** The ledger's facts. */
  readonly id: string;
  readonly possibleCpus: string;
  readonly life: string;
  lastSeq(): number;
  /** Events up to this one are archived: there are no rows of them here. */
  archivedThrough(): number;
  /** Of archived events, those whose entry bundle has others, too, as far as there are no rows of them. */
  archivedEntries(): KeptEntries;
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

/**
 * Why there is no answer: the log is not what the tree has, the tree is not there yet, the events are archived, or witnesses have not
 * cosigned what is asked for.
 */
export type NoAnswer =
  | { readonly refused: string }
  | { readonly behind: string }
  | { readonly uncosigned: string }
  | Archived;

/** What a witness is sent: the newest checkpoint, and the proof that it continues the one of size `old`; null: it is smaller. */
export interface Submission {
  readonly size: number;
  readonly note: string;
  readonly proof: readonly Buffer[] | null;
}

/** How it stands with a witness' key. */
export interface WitnessStatus {
  readonly name: string;
  readonly vkey: string;
  readonly url: string;
  /** Size of the newest checkpoint that it has cosigned; 0: none. */
  readonly cosignedSize: number;
  /** alarm: the witness has seen another history of this log. */
  readonly state: "waiting" | "cosigning" | "failing" | "alarm";
  /** What fails, or what the alarm is about; null: nothing. */
  readonly detail: string | null;
}

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
  /** The newest that so many of the known witnesses have cosigned. */
  cosigned(count: number): Promise<{ readonly note: string } | NoAnswer>;
  /**
   * A proof of an event; null where there is no such event. Against the newest checkpoint that so many of the known witnesses have
   * cosigned; null: that any of them has cosigned, if one has the event. `row`: of an archived event, as its archive has it.
   */
  proof(seq: number, cosigned: number | null, row?: RowBytes): Promise<{ readonly text: string } | NoAnswer | null>;
  /** null: there is no such tile. */
  tile(name: TileName): Promise<{ readonly bytes: Buffer } | NoAnswer | null>;
  close(): Promise<void>;
}
