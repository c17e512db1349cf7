/**
 * The interfaces of the parts around the engine: log, store, clock, network interfaces, processes and mirror.
 * `sqlite/`, `lmdb/`, `runs/`, `mirror/` and `threads/engine.ts` implement them.
 */

import type { Event } from "../log/event.ts";
import type { Cell, CellKey, Cells } from "../maps/cells.ts";
import type { Element, MapRecord } from "../maps/map.ts";
import type { ObjectFacts, ObjectRecord } from "../maps/object.ts";
import type { ClientProcess, Found, HeldObject, ObjectSpec, Occupied } from "../syscall/command.ts";
import type { NewEntry } from "../syscall/pins.ts";

/**
 * The log could not be synced. Whether the disk has the batch is unknown and stays unknown: after a failed write the
 * page cache may drop the batch's pages, and the next sync succeeds without them.
 */
export class LogUncertain extends Error {
  constructor(doing: string, cause: unknown) {
    super(`${doing}: ${(cause as Error).message}`, { cause });
    this.name = "LogUncertain";
  }
}

/** The event log. Its methods throw if the machine fails (disk full, I/O error). */
export interface EventLog extends LogEnd {
  readonly lastSeq: number;
  /** The time of the last event; 0: the log is empty. */
  readonly lastTimeUs: number;
  /**
   * Appends a batch in one transaction that is durable when this returns. Throws LogUncertain if nobody can tell
   * whether the batch is durable; after any other Error nothing was appended.
   */
  append(events: readonly Event[]): void;
  /**
   * Removes at most `limit` archived events, durably. Returns whether any are left. Throws LogUncertain as append()
   * does.
   */
  deleteArchived(limit: number): boolean;
  /**
   * The reason why the next process would not find appended events: a file of the log was removed or replaced. null: it
   * would. Optional.
   */
  missing?(): string | null;
  /** Events after `afterSeq`, ascending, without archived ones. */
  read(afterSeq: number): Iterable<Event>;
  /**
   * The events after `afterSeq` that may have changed the state, in batches, for a replay; only the fields that redo()
   * reads are set.
   */
  changes(afterSeq: number): AsyncIterable<readonly Event[]>;
  close(): void;
}

/** Changed cells, ascending by key; null: the cell is deleted. */
export type ChangedCells = Iterable<readonly [CellKey, Buffer | null]>;

/**
 * The state on disk. If the process dies, the store may lose its last writes, but it stays consistent. `Changes`: the
 * form in which the store takes changes.
 */
export interface StateStore<Changes extends ChangedCells = ChangedCells> extends Pick<Cells, "get" | "range"> {
  /** The last event whose changes are in the store. */
  readonly seq: number;
  /**
   * Writes the changes (about `bytes` bytes) and `seq` in one transaction; reads see all of it or nothing. Another
   * thread may write them: do not modify `changes` until the promise settles. Rejects if nothing was written, or if it
   * is unknown whether anything was.
   */
  write(changes: Changes, seq: number, bytes: number): Promise<void>;
  close(): Promise<void>;
}

/** A store whose cells are read in descending order, too. The changes of a write must ascend by key. */
export interface SortedStore<Changes extends ChangedCells = ChangedCells> extends StateStore<Changes> {
  /** Like range(), in descending order. */
  rangeDown(from: CellKey, to: CellKey): Iterable<Cell>;
}

export interface Clock {
  /** Microseconds since the epoch by the machine's clock, which may step. */
  nowUs(): number;
  /** Milliseconds since an arbitrary moment; they never step. */
  nowMs(): number;
}

/** The present indices of the machine's network interfaces; null: unknown. */
export type Interfaces = () => readonly number[] | null;

/** Watches the processes that sessions live by. */
export interface Processes {
  /** A process that has exited already, or whose pid another process has by now, counts as exited. */
  watch(session: number, process: ClientProcess): void;
  /** Stops watching the process of a session. Does nothing if none is watched. */
  forget(session: number): void;
  /** The sessions whose process has exited and that were not forgotten since. */
  exited(): readonly number[];
}

/** An element that was written (`value`) or deleted (null). */
export interface ElementChange {
  readonly key: Buffer;
  readonly value: Buffer | null;
  /**
   * The command's BPF_NOEXIST or BPF_EXIST: a retry must not write to an element that another program has created or
   * deleted since.
   */
  readonly flags?: number;
}

/** A change that the kernel maps must follow. A batch's changes are in order. */
export type MirrorChange =
  | { readonly kind: "create"; readonly map: MapRecord; readonly btf: Buffer | null }
  | { readonly kind: "elements"; readonly map: MapRecord; readonly changes: ElementChange[] }
  | { readonly kind: "freeze"; readonly map: MapRecord }
  | { readonly kind: "free"; readonly map: MapRecord }
  | { readonly kind: "pin"; readonly map: MapRecord; readonly pathname: string }
  | { readonly kind: "unpin"; readonly pathname: string }
  | { readonly kind: "mkdir" | "rmdir"; readonly pathname: string }
  | { readonly kind: "object gone"; readonly id: number }
  /** An import. Nothing has to follow, because the kernel map had the elements first. */
  | { readonly kind: "imported" };

/** A refusal of the kernel. */
export interface MirrorRefusal {
  readonly mapId: number;
  /** For example "BPF_MAP_UPDATE_BATCH". */
  readonly operation: string;
  readonly errno: string;
  readonly detail: string;
}

/**
 * Whether a kernel map was equal to its map when they were compared last. `unknown`: they were not compared, for
 * example because the kernel does not show the elements.
 */
export type Equality = "yes" | "no" | "unknown";

export type MirrorStatus =
  | {
      readonly state: "on";
      readonly kernelId: number;
      /** The path of the mirror's own pin. */
      readonly pinned: string;
      /** The kernel map's max_entries. */
      readonly maxEntries: number;
      readonly equal: Equality;
      /**
       * Only of an adopted map: whether anything but the mirror holds the kernel map. `unknown`: `detail` has the
       * reason.
       */
      readonly held?: "yes" | "unknown";
      /** Pins that are not where they should be, or the reason why something is unknown. */
      readonly detail?: string;
    }
  | {
      readonly state: "failed";
      readonly operation: string;
      readonly errno: string;
      readonly detail: string;
      /** The kernel's id of the kernel map. Absent: the failure left none. */
      readonly kernelId?: number;
    }
  /** An adopted map whose pin is gone or names another kernel map, or whose kernel map nothing else holds. */
  | { readonly state: "lost"; readonly kernelId: number; readonly detail: string }
  /** An adopted map whose kernel map is gone. The mirror makes no other. */
  | { readonly state: "waiting"; readonly detail: string }
  | { readonly state: "off"; readonly detail: string };

/** A map with its elements and pins, by which kernel maps are taken up, compared and repaired. */
export interface MirrorSource {
  readonly map: MapRecord;
  /** The blob of the BTF that describes the map's keys and values; null: it has none. */
  readonly btf: Buffer | null;
  readonly pathnames: readonly string[];
  /** All elements, with values in the form that `put` of the map's type takes. */
  elements(): Iterable<Element>;
  /**
   * The element with this key, as the kernel shows it; null: there is none. Only for maps whose elements name no other
   * objects.
   */
  element(key: Buffer): Element | null;
  /** The number of elements that still fit. Only for maps that evict. */
  room(): number;
  /** At most `limit` elements after the one with this key, in the form of element(); null: from the first. */
  after(key: Buffer | null, limit: number): readonly Element[];
}

/**
 * An element that differs between the ledger and the kernel map; null: that side does not have it. Values are as the
 * kernel shows them. If the kernel shows keys without values, both sides are null for an element that only the kernel
 * has.
 */
export interface ElementDifference {
  readonly key: Buffer;
  readonly ledger: Buffer | null;
  readonly kernel: Buffer | null;
}

/** The reason why a kernel map cannot be compared with its map. */
export interface Untold {
  readonly untold: string;
}

/**
 * The elements that a scan yields first: those that only the ledger has, or those that the kernel has. "at once"
 * compares in one piece, several times as fast, and only while no commands run; it yields the elements of the kernel
 * first.
 */
export type ScanOrder = "ledger" | "kernel" | "at once";

/**
 * Compares a map with its kernel map, piece by piece: commands may run between two pieces, and each piece compares the
 * present elements. Returns null, or the reason why the comparison ended early.
 */
export type MirrorScan = Generator<readonly ElementDifference[], MirrorRefusal | Untold | null>;

/** The log's id, life, end and events' hashes, by which the mirror knows whether a directory of pins is this log's. */
export interface LogEnd {
  readonly id: string;
  readonly life: string;
  readonly lastSeq: number;
  /** SHA-256 of an event's canonical bytes; null: the log has no such event, or has archived it. */
  hashOf(seq: number): Buffer | null;
}

/** The result of opening a map's kernel map. */
export type Opening =
  /** It existed, and may differ from its map. */
  | "found"
  /** It was made, and has all elements of the map. */
  | "made"
  /** There is none that can be written to. The map's status has the reason. */
  | "none";

/**
 * An element that the ledger changed while its kernel map did not follow. `before`: its value in the ledger before the
 * first change that the kernel map lacks; null: it did not exist.
 */
export interface Lagging {
  readonly key: Buffer;
  readonly before: Buffer | null;
}

/** Something on the host that the mirror noticed. */
export interface MirrorFinding {
  /** 0: it concerns no single map. */
  readonly mapId: number;
  /** For example "pin closed". */
  readonly what: string;
  readonly path?: string;
  readonly kernelId?: number;
  readonly detail: string;
}

/** The kernel map of a freed map, which still exists. */
export interface FormerKernelMap {
  readonly map: number;
  readonly kernelId: number;
  readonly boot: string;
  readonly detail: string;
}

/** A kernel map of the machine, and its part in the ledger. */
export interface KernelMapFacts
  extends Pick<
    MapRecord,
    "type" | "keySize" | "valueSize" | "maxEntries" | "mapFlags" | "name" | "mapExtra" | "frozen" | "btf"
  > {
  /** The kernel's id of it. */
  readonly id: number;
  /** The map that it mirrors; null: none. */
  readonly map: number | null;
  /** The freed map that it mirrored; null: none. */
  readonly was: number | null;
  /** The reason why it cannot be adopted; null: it can. */
  readonly cannot: string | null;
  /** The paths of its pins that this mount namespace shows. */
  readonly pins: readonly string[];
  /** The kernel's ids of programs that use it, and of maps of maps that contain it; null: unknown. */
  readonly holders: { readonly programs: readonly number[]; readonly outer: readonly number[] } | null;
  /** The reason why pins or holders may be missing; null: none is. */
  readonly holdersUnknown: string | null;
}

/** All kernel maps of the machine; or the reason why they cannot be listed, for example a missing capability. */
export type KernelMapsAnswer =
  | readonly KernelMapFacts[]
  | { readonly refused: Pick<MirrorRefusal, "errno" | "detail"> };

/** A kernel map that another program has made. */
export interface ForeignMap {
  readonly facts: Omit<KernelMapFacts, "map" | "was" | "cannot" | "pins" | "holders" | "holdersUnknown">;
  /** The BTF blob that `facts.btf` refers to; null: it has none. */
  readonly btf: Buffer | null;
  /** The path by which it was found, and that path below the root of its bpffs; null: it was found by its id. */
  readonly pin: { readonly path: string; readonly below: string } | null;
  /** All elements, or the reason why they cannot be read. Of an array, elements that are zero are left out. */
  elements(): readonly ForeignElement[] | Pick<MirrorRefusal, "errno" | "detail">;
}

export interface ForeignElement extends Element {
  /**
   * The object that the value names; null: none. To write the element, put a descriptor of the object in place of the
   * last u32 of its value.
   */
  readonly names: ForeignName | null;
}

export type ForeignName =
  /** A program, by the kernel's id. */
  | { readonly prog: number; readonly expectedAttachType: number }
  /** A map of the ledger. */
  | { readonly map: number }
  /** A kernel map that has to be adopted with the map. */
  | { readonly foreign: ForeignMap };

/** The results of trying refused writes again. */
export interface MirrorRetry {
  /** Maps whose refused writes have all been made. */
  readonly repaired: readonly number[];
  /** New refusals, without those that were reported before. */
  readonly refusals: readonly MirrorRefusal[];
  /** Elements whose write was refused, and that somebody else has changed since. */
  readonly drifted: readonly { readonly map: number; readonly keys: readonly Buffer[] }[];
  /** Maps whose kernel map could not be opened or written to, and that have to be taken up again. */
  readonly reopen: readonly number[];
}

/** The real object behind a descriptor that a command is about to open. */
export interface OpenedObject {
  /** The object's facts, or the reason why it was not opened. */
  readonly found: Found;
  /** Call when the command is durable: the state knows the object by this id. */
  keep(object: number): void;
  /** Call if the command was refused or rolled back. Closes the object. */
  drop(): void;
}

/**
 * The kernel maps that follow the state, and the kernel's objects that sessions' descriptors refer to. No method throws
 * if the kernel refuses. The mirror itself does not write over differences: it reports them, and the caller decides by
 * the map's policy, which may be to repair.
 */
export interface Mirror {
  /** false: the mirror is off for good, and needs no changes. */
  readonly follows: boolean;
  /** The reason why the mirror is off at present; null: it is on. */
  readonly off: string | null;
  /**
   * Claims the directory of pins, which turns the mirror on. Returns null, or the reason why it cannot be claimed now.
   */
  begin(log: LogEnd): string | null;
  /** A map's place: the last event that its kernel map had received when the mirror was turned on; null: unknown. */
  place(mapId: number): number | null;
  /** The place of all maps that have none of their own; null: unknown. */
  readonly carried: number | null;
  /** Call before maps are opened. Reopens objects that have names, and makes new ones in place of the others. */
  takeUpObjects(objects: Iterable<ObjectRecord>): void;
  /** Makes those of the state's directories that the host lacks. */
  ensureDirectories(pathnames: readonly string[]): MirrorRefusal[];
  /**
   * Opens a map's kernel map. If there is none, makes one, unless the map was adopted. Makes missing pins whose paths
   * are free.
   */
  open(source: MirrorSource): { readonly opening: Opening; readonly refusals: readonly MirrorRefusal[] };
  /** Makes another kernel map in place of the present one, and gives it the pins. */
  recreate(source: MirrorSource): readonly MirrorRefusal[];
  /**
   * For a kernel map that cannot be compared: writes the elements that the ledger changed while the kernel map did not
   * follow, and nothing else. `changed` null: these are unknown, and nothing is written.
   */
  catchUp(source: MirrorSource, changed: readonly Lagging[] | null): MirrorRefusal[];
  /** Call when a map was taken up or compared: its kernel map has all that the map's policy lets it have. */
  takenUp(mapId: number, equal: Equality): void;
  /** Call when all maps have been taken up: all kernel maps have received the event `seq`; 0: the log is empty. */
  reached(seq: number): void;
  /**
   * Records, when the engine is idle or stops, that kernel maps have reached the log's end, with the hash of its last
   * event. The next start then need not compute the changes that they lack, and can check that the event is this log's.
   */
  identify(log: LogEnd): void;
  /**
   * Removes pins of the mirror that the state no longer has: those of freed `maps`, and each of `pins` whose path still
   * names the kernel map of its map.
   */
  dropStale(
    maps: ReadonlySet<number>,
    pins: readonly { readonly pathname: string; readonly map: number }[],
  ): MirrorRefusal[];
  /**
   * Opens the real object for a descriptor; null: objects of this kind exist in the ledger only. A path is refused,
   * because paths are opened outside the engine's thread.
   */
  openObject(spec: ObjectSpec): OpenedObject | null;
  /** An object that was opened outside the engine's thread. */
  heldObject(facts: ObjectFacts, held: HeldObject): OpenedObject;
  /** The refusal of a new pin or directory whose path is not free; null: it is free, or the mirror cannot tell. */
  occupied(entry: NewEntry): Occupied | null;
  /** The objects that have ended since the last call: processes that exited, cgroups that were removed. */
  endedObjects(): readonly number[];
  /** Applies the changes of a batch, up to the event `seq`. Returns the kernel's refusals. */
  apply(changes: readonly MirrorChange[], seq: number): MirrorRefusal[];
  /**
   * Resolves when a map's kernel map was made outside the engine's thread, and is to be opened; null: none is being
   * made.
   */
  making(mapId: number): Promise<void> | null;
  /** The kernel's id of a map's kernel map; null: none is open. */
  kernelId(mapId: number): number | null;
  /** Whether the kernel shows the elements of this map, so that they can be compared, and whether it evicts any. */
  traits(map: MapRecord): { readonly compared: boolean; readonly evicts: boolean };
  scan(source: MirrorSource, first: ScanOrder): MirrorScan;
  /** The difference that a scan would find at a key; null: none; undefined: the kernel does not show it. */
  look(source: MirrorSource, key: Buffer): ElementDifference | null | undefined;
  /** The value that the kernel shows for a value of the ledger. */
  shown(source: MirrorSource, value: Buffer | null): Buffer | null;
  /**
   * Of the elements that the ledger has changed after the map's place, those that the kernel map lacks. If the map has
   * a place of its own, these are the elements whose write was refused; otherwise all of them.
   */
  lacks(map: MapRecord, changed: readonly Lagging[]): readonly Lagging[];
  /** Whether a write of this element was refused, and will be tried again. */
  isPending(mapId: number, key: Buffer): boolean;
  /** Writes elements as the ledger has them. */
  write(source: MirrorSource, keys: readonly Buffer[]): MirrorRefusal[];
  /** Lists all kernel maps of the machine, in pieces. `former`: the freed map that had a kernel map in a boot. */
  kernelMaps(former: (kernelId: number, boot: string) => number | undefined): Generator<void, KernelMapsAnswer>;
  /**
   * Opens a kernel map for adoption, calls `adopt`, then closes it and its inner objects, except those for which
   * `adopt` created maps of the ledger. Returns the answer of `adopt`, or the reason why the kernel map cannot be
   * opened.
   */
  adopting<Answer>(
    which: { readonly kernelId: number } | { readonly pinned: string },
    adopt: (foreign: ForeignMap) => Answer,
  ): Answer | { readonly refused: Pick<MirrorRefusal, "errno" | "detail"> };
  /** The reason why a map cannot import elements of its kernel map; null: it can. */
  cannotImport(map: MapRecord): string | null;
  /**
   * Tries refused writes again that are due. Each writes only its own elements, and of these only those that nobody
   * else has changed.
   */
  retry(sourceOf: (mapId: number) => MirrorSource | null): MirrorRetry;
  /**
   * Looks at the host about every second, a piece in each call: at the directory of pins, at pins, and at the holders
   * of adopted kernel maps.
   */
  watch(sources: () => Iterable<MirrorSource>): MirrorWatch;
  /** Sets an adopted map's status: its pin names a kernel map that it cannot follow. */
  lost(mapId: number, detail: string): void;
  /** Closes a map's kernel map, which stays as it is, and removes the mirror's pins of it. */
  letGo(mapId: number): MirrorRefusal[];
  /** Makes a map follow the kernel map that its pin names. */
  follow(map: MapRecord): MirrorRefusal[];
  /**
   * Puts a map's pin back. If another object is pinned at `pathname`, moves its pin aside first, and returns the new
   * path; null: there was none.
   */
  repin(map: MapRecord, pathname: string): { readonly aside: string | null } | MirrorRefusal;
  /** The owner that the mark in the directory of pins names; null: nobody, or this log. */
  readonly owner: string | null;
  /**
   * Makes the directory this log's, if no process holds its lock. Returns null, or the reason why not. `record` is
   * called with the former owner before anything in the directory changes; if it returns the reason why the event could
   * not be recorded, nothing changes.
   */
  takeOver(log: LogEnd, record: (owner: string) => string | null): string | null;
  status(mapId: number): MirrorStatus;
  /** Lists the pins in the mirror's directory, in pieces. The ledger may change between two pieces. */
  listed(ledger: PinningLedger): Generator<void, MirrorListing>;
  /** Leaves kernel maps and pins as they are, for the next start. */
  close(): void;
}

/** The part of the ledger that says which pins on the host are its own. */
export interface PinningLedger {
  map(id: number): MapRecord | undefined;
  /** The last id that a map was given. */
  readonly lastMap: number;
  pinned(): Iterable<{ readonly pathname: string; readonly map: number }>;
}

/** The paths of pins in the mirror's directory; none if it is not this log's. */
export interface MirrorListing {
  readonly directory: string;
  /** Pins of the mirror: maps' own pins, sessions' pins, and those of its own data. */
  readonly ours: readonly string[];
  /** The first pins of others. */
  readonly foreign: readonly string[];
  /** Whether there are more pins of others. */
  readonly more: boolean;
  /**
   * Questions about kernel maps and pins that the service may not ask the machine, each a sentence that names the
   * missing capability.
   */
  readonly unknown: readonly string[];
}

/** The findings of a look at the host. */
export interface MirrorWatch {
  readonly found: readonly MirrorFinding[];
  /** Freed maps whose kernel maps live on. */
  readonly former: readonly FormerKernelMap[];
  /** Adopted maps whose pin names another kernel map, which they are to follow. */
  readonly replaced: readonly { readonly map: number; readonly kernelId: number; readonly pin: string }[];
}
