/**
 * The interfaces that the engine needs of the rim: log, state, clock, host, processes and mirror. `sqlite`, `lmdb` and
 * `mirror` implement them.
 */

import type { Event } from "../log/event.ts";
import type { Cell, CellKey, Cells } from "../maps/cells.ts";
import type { Element, MapRecord } from "../maps/map.ts";
import type { ObjectFacts, ObjectRecord } from "../maps/object.ts";
import type { ClientProcess, Found, HeldObject, ObjectSpec, Occupied } from "../syscall/command.ts";
import type { NewEntry } from "../syscall/pins.ts";

/**
 * The log could not be synced. Whether the disk has the batch is unknown, and remains so: a page cache that has dropped what it could not
 * write answers the next sync with success.
 */
export class LogUncertain extends Error {
  constructor(doing: string, cause: unknown) {
    super(`${doing}: ${(cause as Error).message}`, { cause });
    this.name = "LogUncertain";
  }
}

/** The event log: the truth. It throws where the machine fails it (disk full, I/O). */
export interface EventLog extends LogEnd {
  readonly lastSeq: number;
  /** Time of the last event, 0 for an empty log. */
  readonly lastTimeUs: number;
  /**
   * Appends a batch in one transaction that is durable when this returns. Throws LogUncertain if nobody can tell whether the batch is
   * durable; after any other Error nothing was appended.
   */
  append(events: readonly Event[]): void;
  /** Removes archived events, at most `limit`, durably; answers whether any are left. Throws LogUncertain as append does. */
  deleteArchived(limit: number): boolean;
  /** Why the next process would not find appended events (a log file was removed or replaced); null if it would. Optional. */
  missing?(): string | null;
  /** Events after `seq`, ascending, of those that are not archived. */
  read(afterSeq: number): Iterable<Event>;
  /**
   * The events after `afterSeq` that may have changed the state, in batches, for a replay; only the fields that redo()
   * reads are set.
   */
  changes(afterSeq: number): AsyncIterable<readonly Event[]>;
  close(): void;
}

/** Cells that have changed: ascending, and null where one is no more. */
export type ChangedCells = Iterable<readonly [CellKey, Buffer | null]>;

/** The state on disk. It may lose its tail when the process dies, never its consistency. `Changes`: what it takes. */
export interface StateStore<Changes extends ChangedCells = ChangedCells> extends Pick<Cells, "get" | "range"> {
  /** As range, in descending order. */
  rangeDown(from: CellKey, to: CellKey): Iterable<Cell>;
  /** The last event whose changes are in. */
  readonly seq: number;
  /**
   * Writes the changes (about `bytes` bytes) and seq in one transaction, in another thread; reads see all of it or nothing.
   * Do not modify `changes` until the promise settles. Rejects if nothing was written, or if that is unknown.
   */
  write(changes: Changes, seq: number, bytes: number): Promise<void>;
  close(): Promise<void>;
}

export interface Clock {
  /** Microseconds since the epoch, as the machine has them: they may step. */
  nowUs(): number;
  /** Milliseconds since any moment: they never step. */
  nowMs(): number;
}

/** Indices of the machine's network interfaces, as they are now; null: they cannot be told. */
export type Interfaces = () => readonly number[] | null;

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
  /** The command's BPF_NOEXIST or BPF_EXIST: a retry must not write to an element that another program has created or deleted since. */
  readonly flags?: number;
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
  | { readonly kind: "object gone"; readonly id: number }
  /** Nothing has to follow: what was imported is there. */
  | { readonly kind: "imported" };

/** What the kernel refused. */
export interface MirrorRefusal {
  readonly mapId: number;
  /** As in "BPF_MAP_UPDATE_BATCH". */
  readonly operation: string;
  readonly errno: string;
  readonly detail: string;
}

/** Whether a kernel map is equal to its map, as far as was seen last; `unknown` where the kernel does not tell. */
export type Equality = "yes" | "no" | "unknown";

export type MirrorStatus =
  | {
      readonly state: "on";
      readonly kernelId: number;
      /** Where the mirror has pinned it. */
      readonly pinned: string;
      /** Of the kernel map, as the kernel has it. */
      readonly maxEntries: number;
      readonly equal: Equality;
      /** Of an adopted map: whether anything but the mirror holds the kernel map; `unknown`: and why, in `detail`. */
      readonly held?: "yes" | "unknown";
      /** Of pins that are not where they should be, or of what is not known. */
      readonly detail?: string;
    }
  | {
      readonly state: "failed";
      readonly operation: string;
      readonly errno: string;
      readonly detail: string;
      /** Of the kernel map that is there all the same. */
      readonly kernelId?: number;
    }
  /** An adopted map whose pin is gone or names another kernel map, or whose kernel map nothing else holds. */
  | { readonly state: "lost"; readonly kernelId: number; readonly detail: string }
  /** An adopted map whose kernel map is gone: none is made in its place. */
  | { readonly state: "waiting"; readonly detail: string }
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
  /** So many more elements it takes, if it evicts rather than refuse more. */
  room(): number;
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
 * Which elements a scan yields first: those that only the ledger has, or those that the kernel has. "at once" compares in one piece,
 * several times as fast, only while no commands run; it yields the elements of the kernel first.
 */
export type ScanOrder = "ledger" | "kernel" | "at once";

/**
 * A map compared with its kernel map, piece by piece: each piece is as it is when it is looked at, whatever happens between
 * two. The answer is why that cannot be told, or null.
 */
export type MirrorScan = Generator<readonly ElementDifference[], MirrorRefusal | Untold | null>;

/** Where the log ends, and which events it has: whether a directory of pins is this log's. */
export interface LogEnd {
  readonly id: string;
  readonly life: string;
  readonly lastSeq: number;
  /** SHA-256 of an event's canonical bytes; null: the log has no such event, or has archived it. */
  hashOf(seq: number): Buffer | null;
}

/** What became of a map's kernel map when the mirror opened it. */
export type Opening =
  /** It was there, and may differ from its map. */
  | "found"
  /** It was made, and has all that the map has. */
  | "made"
  /** There is none to write to: its status says why. */
  | "none";

/**
 * An element that the ledger changed while its kernel map did not follow. `before`: its value in the ledger before the first change that
 * the kernel map lacks; null: it did not exist.
 */
export interface Lagging {
  readonly key: Buffer;
  readonly before: Buffer | null;
}

/** What the mirror noticed on the host. */
export interface MirrorFinding {
  /** 0: of no single map. */
  readonly mapId: number;
  /** As in "pin replaced". */
  readonly what: string;
  readonly path?: string;
  readonly kernelId?: number;
  readonly detail: string;
}

/** A freed map whose kernel map lives on. */
export interface FormerKernelMap {
  readonly map: number;
  readonly kernelId: number;
  readonly boot: string;
  readonly detail: string;
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
  /** The map that has been freed and that it was the mirror of. */
  readonly was: number | null;
  /** Why it cannot be adopted, or null. */
  readonly cannot: string | null;
  /** Where it is pinned, as far as this mount namespace shows. */
  readonly pins: readonly string[];
  /** The kernel's ids of programs that use it and of maps of maps that it is in; null: they are not known. */
  readonly holders: { readonly programs: readonly number[]; readonly outer: readonly number[] } | null;
  /** Why its pins and holders are not all known, or null. */
  readonly holdersUnknown: string | null;
}

/** All kernel maps of the machine; or why they cannot be listed: for want of a capability, say. */
export type KernelMapsAnswer =
  | readonly KernelMapFacts[]
  | { readonly refused: Pick<MirrorRefusal, "errno" | "detail"> };

/** A kernel map that some other program has made. */
export interface ForeignMap {
  readonly facts: Omit<KernelMapFacts, "map" | "was" | "cannot" | "pins" | "holders" | "holdersUnknown">;
  /** The blob that its `facts.btf` is of; null: it has none. */
  readonly btf: Buffer | null;
  /** The path that it was found by, and what that is below the root of its bpffs; null: it was found by its id. */
  readonly pin: { readonly path: string; readonly below: string } | null;
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

/** What became of writes that the kernel had refused. */
export interface MirrorRetry {
  /** Maps whose refused writes have all been made. */
  readonly repaired: readonly number[];
  /** What was refused now that has not been told of before. */
  readonly refusals: readonly MirrorRefusal[];
  /** Elements whose write was refused, and that somebody else has changed since. */
  readonly drifted: readonly { readonly map: number; readonly keys: readonly Buffer[] }[];
  /** Maps whose kernel map could not be opened, or written to, and that have to be taken up again. */
  readonly reopen: readonly number[];
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

/**
 * The kernel maps that follow the state, and the kernel's objects that sessions' descriptors refer to. No method throws
 * if the kernel refuses. The mirror itself does not write over differences: it reports them, and the caller decides by
 * the map's policy, which may be to repair.
 */
export interface Mirror {
  /** False: it is off for good, and need not be told of changes. */
  readonly follows: boolean;
  /** Why it is off at present, or null where it is on. */
  readonly off: string | null;
  /** Takes the directory of pins, if it can be had now: it is on from then on. Answers why not, or null. */
  begin(log: LogEnd): string | null;
  /** The last event that the kernel map of a map has, when it was taken up last; null: that is not known. */
  place(mapId: number): number | null;
  /** The last event that all kernel maps have, but for those with a place of their own; null: not known. */
  readonly carried: number | null;
  /** At start, before maps are opened: opens the objects again that have names, and makes others in place of the rest. */
  takeUpObjects(objects: Iterable<ObjectRecord>): void;
  /** Makes the directories that the state has. */
  ensureDirectories(pathnames: readonly string[]): MirrorRefusal[];
  /** Opens a map's kernel map, or makes it where there is none and the map is the ledger's own. Its pins are made where nothing is. */
  open(source: MirrorSource): { readonly opening: Opening; readonly refusals: readonly MirrorRefusal[] };
  /** Of a kernel map that is there: another takes its place, and its pins. */
  recreate(source: MirrorSource): readonly MirrorRefusal[];
  /**
   * For a kernel map that cannot be compared: writes the elements that the ledger changed since the kernel map had all changes, and nothing
   * else. `changed` null: the changes are unknown, and nothing is written.
   */
  catchUp(source: MirrorSource, changed: readonly Lagging[] | null): MirrorRefusal[];
  /** A map has been taken up: its kernel map has all that its policy lets it have. */
  takenUp(mapId: number, equal: Equality): void;
  /** All maps have been taken up: kernel maps have come to this event; 0: the log has none yet. */
  reached(seq: number): void;
  /**
   * Records, when the engine is idle or stops, that kernel maps have reached the log's end, with the hash of its last event. The next
   * start then need not compute the changes that they lack, and can check that the event is this log's.
   */
  identify(log: LogEnd): void;
  /** Removes pins and directories of the mirror's own that the state no longer has. */
  dropStale(
    maps: ReadonlySet<number>,
    pins: readonly { readonly pathname: string; readonly map: number }[],
  ): MirrorRefusal[];
  /** null: such an object exists in the ledger only. What has a path is refused: it is opened beside the engine's thread. */
  openObject(spec: ObjectSpec): OpenedObject | null;
  /** One that was opened beside the engine's thread. */
  heldObject(facts: ObjectFacts, held: HeldObject): OpenedObject;
  /** The refusal of a new pin or directory whose path is not free; null: it is free, or the mirror cannot tell. */
  occupied(entry: NewEntry): Occupied | null;
  /** Objects that have ended since this was asked last: processes that exited, cgroups that were removed. */
  endedObjects(): readonly number[];
  /** Carries one batch, up to an event; returns what was refused. */
  apply(changes: readonly MirrorChange[], seq: number): MirrorRefusal[];
  /** Until when a map's kernel map is being made beside commands: then it is to be opened; null: it is not. */
  making(mapId: number): Promise<void> | null;
  /** The kernel's id of a map's kernel map; null: it has none that is open. */
  kernelId(mapId: number): number | null;
  /** Whether kernel maps of this map's type can be compared, and let elements go by themselves. */
  traits(map: MapRecord): { readonly compared: boolean; readonly evicts: boolean };
  scan(source: MirrorSource, first: ScanOrder): MirrorScan;
  /** What a scan would find of one element, null: nothing; undefined: the kernel does not tell. */
  look(source: MirrorSource, key: Buffer): ElementDifference | null | undefined;
  /** The kernel's form of a value that the ledger showed once. */
  shown(source: MirrorSource, value: Buffer | null): Buffer | null;
  /** Of elements that the ledger changed after a map's place: all; for a map with a place of its own, those whose write was refused. */
  lacks(map: MapRecord, changed: readonly Lagging[]): readonly Lagging[];
  /** Whether a write of this element was refused, and will be tried again. */
  isPending(mapId: number, key: Buffer): boolean;
  /** Writes elements as the ledger has them. */
  write(source: MirrorSource, keys: readonly Buffer[]): MirrorRefusal[];
  /** All kernel maps of the machine, in pieces; or why they cannot be listed. */
  kernelMaps(former: (kernelId: number, boot: string) => number | undefined): Generator<void, KernelMapsAnswer>;
  /**
   * Opens a kernel map for adoption, calls `adopt`, then closes it and its inner objects, except those for which `adopt` created maps of the
   * ledger. Returns the answer of `adopt`, or why the kernel map cannot be opened.
   */
  adopting<Answer>(
    which: { readonly kernelId: number } | { readonly pinned: string },
    adopt: (foreign: ForeignMap) => Answer,
  ): Answer | { readonly refused: Pick<MirrorRefusal, "errno" | "detail"> };
  /** Why what the kernel has of a map cannot be taken over, or null: it can. */
  cannotImport(map: MapRecord): string | null;
  /** Tries refused writes again, where it is time to: each for its own elements alone, and only what nobody else has changed. */
  retry(sourceOf: (mapId: number) => MirrorSource | null): MirrorRetry;
  /** Looks at the directory of pins, at pins and at who holds adopted kernel maps: a piece of that, about every second. */
  watch(sources: () => Iterable<MirrorSource>): MirrorWatch;
  /** An adopted map's pin names a kernel map that it cannot follow. */
  lost(mapId: number, detail: string): void;
  /** Lets an adopted map's kernel map go: it is left as it is. */
  letGo(mapId: number): MirrorRefusal[];
  /** From now on a map follows the kernel map that its pin names. */
  follow(map: MapRecord): MirrorRefusal[];
  /** Puts a map's pin back; what is pinned there is pinned aside, and its path answered. */
  repin(map: MapRecord, pathname: string): { readonly aside: string | null } | MirrorRefusal;
  /** Whose the directory of pins is by its mark; null: nobody's, or this log's. */
  readonly owner: string | null;
  /**
   * Makes it this log's, if no process holds its lock; answers why not, or null. `record` is called with whose it was before
   * anything in it changes; if it answers why the event could not be recorded, nothing does.
   */
  takeOver(log: LogEnd, record: (owner: string) => string | null): string | null;
  status(mapId: number): MirrorStatus;
  /** What is pinned in its directory, in pieces, the ledger as it is when a piece is looked at. */
  listed(ledger: PinningLedger): Generator<void, MirrorListing>;
  /** Leaves kernel maps and pins as they are, for the next start. */
  close(): void;
}

/** The ledger, as far as it says which pins on the host are its own. */
export interface PinningLedger {
  map(id: number): MapRecord | undefined;
  /** The last id that a map was given. */
  readonly lastMap: number;
  pinned(): Iterable<{ readonly pathname: string; readonly map: number }>;
}

/** What is pinned in the mirror's directory, by path; empty while it is not this log's. */
export interface MirrorListing {
  readonly directory: string;
  /** Of the mirror: maps' own pins, sessions' pins, what it keeps for itself. */
  readonly ours: readonly string[];
  /** Of somebody else; the first of them. */
  readonly foreign: readonly string[];
  /** There are more of these. */
  readonly more: boolean;
  /** What the service cannot ask the machine about kernel maps and pins, each as a sentence that names the capability. */
  readonly unknown: readonly string[];
}

/** What a look at the host has found since the last one. */
export interface MirrorWatch {
  readonly found: readonly MirrorFinding[];
  /** Freed maps whose kernel maps live on. */
  readonly former: readonly FormerKernelMap[];
  /** Adopted maps whose pin names another kernel map, which they are to follow. */
  readonly replaced: readonly { readonly map: number; readonly kernelId: number; readonly pin: string }[];
  /** Adopted maps that waited, or had lost their pin, and may be opened. */
  readonly reopen: readonly number[];
}
