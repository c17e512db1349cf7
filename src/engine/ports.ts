import type { Event } from "../log/event.ts";
import type { Cell, CellKey, Cells } from "../maps/cells.ts";
import type { Element, MapRecord } from "../maps/map.ts";
import type { ObjectRecord } from "../maps/object.ts";
import type { ClientProcess, Found, ObjectSpec } from "../syscall/command.ts";

/** The event log: the truth. It throws where the machine fails it (disk full, I/O): then nothing was appended. */
export interface EventLog {
  readonly lastSeq: number;
  /** Time of the last event, 0 for an empty log. */
  readonly lastTimeUs: number;
  /** Appends a batch in one transaction that is durable when this returns. */
  append(events: readonly Event[]): void;
  /** Removes archived events, at most `limit`, durably; answers whether any are left. */
  deleteArchived(limit: number): boolean;
  /** Events after `seq`, ascending, of those that are not archived. */
  read(afterSeq: number): Iterable<Event>;
  /**
   * Of these the ones that may have changed the state, for a replay, many at a time: of their commands and outcomes there
   * is what redo() looks at.
   */
  changes(afterSeq: number): AsyncIterable<readonly Event[]>;
  close(): void;
}

/** The state on disk. It may lose its tail when the process dies, never its consistency. */
export interface StateStore extends Pick<Cells, "get" | "range"> {
  /** As range, in descending order. */
  rangeDown(from: CellKey, to: CellKey): Iterable<Cell>;
  /** The last event whose changes are in. */
  readonly seq: number;
  /**
   * Writes changes (null: delete; about so many bytes) and seq in one transaction, beside this thread; reads see all of
   * it or nothing. Rejects where nothing was written.
   */
  write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number, bytes: number): Promise<void>;
  close(): Promise<void>;
}

/** Microseconds since the epoch, as the machine has it. */
export interface Clock {
  nowUs(): number;
}

/** Indices of the machine's network interfaces, as they are now. */
export type Interfaces = () => readonly number[];

/** The processes that sessions live by, watched while they do. */
export interface Processes {
  /** A process that has exited before, or whose pid another has by now, is one that has exited. */
  watch(session: number, process: ClientProcess): void;
  /** The session has ended; one that was not watched may be told of, too. */
  forget(session: number): void;
  /** Sessions whose process has exited, until they are forgotten. */
  exited(): readonly number[];
}

/** One element written (`value`) or gone (null). */
export interface ElementChange {
  readonly key: Buffer;
  readonly value: Buffer | null;
}

/** What a batch of commands did that the kernel's maps must follow, in order. */
export type MirrorChange =
  | { readonly kind: "create"; readonly map: MapRecord; readonly btf: Buffer | null }
  | { readonly kind: "elements"; readonly map: MapRecord; readonly changes: ElementChange[] }
  | { readonly kind: "freeze"; readonly map: MapRecord }
  | { readonly kind: "free"; readonly map: MapRecord }
  | { readonly kind: "pin"; readonly map: MapRecord; readonly pathname: string }
  | { readonly kind: "unpin"; readonly pathname: string }
  | { readonly kind: "mkdir" | "rmdir"; readonly pathname: string }
  | { readonly kind: "object gone"; readonly id: number };

/** What the kernel refused. */
export interface MirrorRefusal {
  readonly mapId: number;
  /** As in "BPF_MAP_UPDATE_BATCH". */
  readonly operation: string;
  readonly errno: string;
  readonly detail: string;
}

export type MirrorStatus =
  | {
      readonly state: "on";
      readonly kernelId: number;
      readonly pinned: string;
      /** Of the kernel map: more than the map's where the kernel would let elements go before it is full. */
      readonly maxEntries: number;
    }
  | { readonly state: "failed"; readonly operation: string; readonly errno: string; readonly detail: string }
  | { readonly state: "off"; readonly detail: string };

/** A map as the mirror must find it: for taking up what is pinned, and for repair. */
export interface MirrorSource {
  readonly map: MapRecord;
  /** The blob of the BTF that describes it; null: nothing does. */
  readonly btf: Buffer | null;
  readonly pathnames: readonly string[];
  /** With values as `put` of the map's type takes them. */
  elements(): Iterable<Element>;
  /** The one with this key, as the kernel shows it, of a map whose elements name nothing else. */
  element(key: Buffer): Element | null;
  /** Such elements after the one with a key, at most so many; null: from the first. */
  after(key: Buffer | null, limit: number): readonly Element[];
}

/** An element that is not the same on both sides; null: it is not there. Values are as the kernel shows them. */
export interface ElementDifference {
  readonly key: Buffer;
  readonly ledger: Buffer | null;
  readonly kernel: Buffer | null;
}

/** Why a kernel map cannot be compared with its map. */
export interface Untold {
  readonly untold: string;
}

/**
 * A map compared with its kernel map, piece by piece: each piece is as it is when it is looked at, whatever happens between
 * two. The answer is why that cannot be told, or null.
 */
export type MirrorScan = Generator<readonly ElementDifference[], MirrorRefusal | Untold | null>;

/** The maps of the state, as they are whenever they are asked for. */
export interface MirrorSources {
  /** The last event. */
  readonly seq: number;
  all(): Iterable<MirrorSource>;
  of(mapId: number): MirrorSource | null;
  /** Maps that events after this one may have changed; null: they are too many to look at. */
  changedSince(seq: number): ReadonlySet<number> | null;
}

/** A kernel map, as the kernel tells of it. */
export interface KernelMapFacts
  extends Pick<
    MapRecord,
    "type" | "keySize" | "valueSize" | "maxEntries" | "mapFlags" | "name" | "mapExtra" | "frozen" | "btf"
  > {
  /** The kernel's. */
  readonly id: number;
  /** The map that it is the mirror of. */
  readonly map: number | null;
  /** Why it cannot be adopted, or null. */
  readonly cannot: string | null;
}

/** A kernel map that some other program has made. */
export interface ForeignMap {
  readonly facts: Omit<KernelMapFacts, "map" | "cannot">;
  /** The blob that its `facts.btf` is of; null: it has none. */
  readonly btf: Buffer | null;
  /** All that it holds, but for what reads as zeros in an array; or why it cannot be read. */
  elements(): readonly ForeignElement[] | Pick<MirrorRefusal, "errno" | "detail">;
}

export interface ForeignElement extends Element {
  /** What the value names; a descriptor of it is the last u32 of a value that is written. null: nothing. */
  readonly names: ForeignName | null;
}

export type ForeignName =
  /** By the kernel's id. */
  | { readonly prog: number; readonly expectedAttachType: number }
  /** One of the ledger's. */
  | { readonly map: number }
  /** One that has to be adopted with the map. */
  | { readonly foreign: ForeignMap };

/** What became of maps that had failed. */
export interface MirrorRetry {
  /** Their kernel maps are equal to the state again. */
  readonly repaired: readonly number[];
  /** What was refused now that has not been told of before. */
  readonly refusals: readonly MirrorRefusal[];
  /** There is more to do at once. */
  readonly more: boolean;
}

/** The real object behind a descriptor that a command is about to open. */
export interface OpenedObject {
  /** What the machine says of it, or why there is none. */
  readonly found: Found;
  /** The command has happened: the object is the state's from now on, and known by this id. */
  keep(object: number): void;
  /** It has not: the object is closed again. */
  drop(): void;
}

/** The kernel maps that follow the state, and the kernel's objects that descriptors of sessions stand for. Nothing here throws for what the kernel refuses. */
export interface Mirror {
  /** Why it is off, or null where it is on. */
  readonly off: string | null;
  /** At start: takes up pinned kernel maps, compares, repairs in place, makes what is missing, drops what is no more. */
  takeUp(sources: MirrorSources, directories: readonly string[], progress: (maps: number) => void): MirrorRefusal[];
  /** At start, before that: opens the objects again that have names, and makes others in place of the rest. */
  takeUpObjects(objects: Iterable<ObjectRecord>): void;
  /** null: such an object exists in the ledger only. */
  openObject(spec: ObjectSpec): OpenedObject | null;
  /** Objects that have ended since this was asked last: processes that exited, cgroups that were removed. */
  endedObjects(): readonly number[];
  /** Carries one batch, up to an event; returns what was refused. A map with a refusal is behind until resync. */
  apply(changes: readonly MirrorChange[], seq: number): MirrorRefusal[];
  /** Makes one map's kernel map equal to the state. */
  resync(source: MirrorSource): MirrorRefusal[];
  scan(source: MirrorSource): MirrorScan;
  /** Writes what a scan has found as the ledger has it. */
  mend(source: MirrorSource, found: readonly ElementDifference[]): MirrorRefusal[];
  /** All kernel maps of the machine. */
  kernelMaps(): readonly KernelMapFacts[];
  /**
   * Opens one that is to be adopted, calls `adopt` with it, and closes it again, and what it holds, unless maps were created
   * meanwhile as which they go on. Answers what `adopt` does, or why it cannot be had.
   */
  adopting<Answer>(
    which: { readonly kernelId: number } | { readonly pinned: string },
    adopt: (foreign: ForeignMap) => Answer,
  ): Answer | { readonly refused: Pick<MirrorRefusal, "errno" | "detail"> };
  /** Why what the kernel has of a map cannot be taken over, or null: it can. */
  cannotImport(map: MapRecord): string | null;
  /** Makes those that have failed equal, where it is time to try again: a piece of that. */
  retry(): MirrorRetry;
  status(mapId: number): MirrorStatus;
  /** Leaves kernel maps and pins as they are, for the next start. */
  close(): void;
}
