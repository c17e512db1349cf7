import type {
  ElementDifference,
  ForeignMap,
  KernelMapFacts,
  Mirror,
  MirrorChange,
  MirrorRefusal,
  MirrorRetry,
  MirrorScan,
  MirrorSource,
  MirrorSources,
  MirrorStatus,
  OpenedObject,
} from "../engine/ports.ts";
import { isOfMaps } from "../maps/inner_maps.ts";
import type { Host, MapRecord } from "../maps/map.ts";
import type { ObjectRecord } from "../maps/object.ts";
import type { ObjectSpec } from "../syscall/command.ts";
import type { Bpf } from "./bpf.ts";
import { Carried } from "./carried.ts";
import { fdinfo } from "./fdinfo.ts";
import { Adopting, Foreign, type KnownMaps, kernelMaps } from "./foreign.ts";
import { KernelMap } from "./kernel_map.ts";
import { LineElements } from "./line_elements.ts";
import { type Making, makeKernelMap, openKernelMap } from "./make.ts";
import { cannotTake, type MirroredType, mirrored, type References } from "./mirrored.ts";
import { ObjectTable } from "./object_table.ts";
import { PinTree } from "./pin_tree.ts";

/** A map of the state. `kernel` null: there is no kernel map to carry changes to. */
interface Entry {
  kernel: KernelMap | null;
  status: MirrorStatus;
  /** When it is tried to make a failed one equal again, and how long after that once more. */
  retryMs: number;
  delayMs: number;
}

/** A failed map that is being made equal. */
interface Retrying {
  readonly id: number;
  /** As what it was told of before. */
  readonly told: MirrorStatus;
  readonly steps: Generator<void, readonly MirrorRefusal[]>;
}

/** What happened to lines is written at once; how far the rest has come, only so that the next start has few events to look at. */
const REACHED_EVENTS = 1000;
const NOTHING_RETRIED: MirrorRetry = { repaired: [], refusals: [], more: false };
const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 5 * 60_000;
const NEVER = Number.POSITIVE_INFINITY;

/** What a mirror is made with. */
export interface KernelMirrorParts {
  readonly bpf: Bpf;
  /** The directory of bpffs that is its own. */
  readonly root: string;
  readonly host: Host;
  /** CPUs that the machine may have. */
  readonly machineCpus: number;
  /** Milliseconds of a clock that does not step. */
  readonly nowMs: () => number;
}

/**
 * The mirror. A map is `on`, or `off` for good because of its type, or `failed`: something was refused, and its kernel
 * map is behind until resync, which is tried again by itself, ever less often. Changes are carried to a failed map as well
 * as they can; of refusals that follow each other on one map and are alike (operation and errno), only the first is given.
 */
export class KernelMirror implements Mirror {
  readonly off = null;
  readonly #making: Making;
  readonly #nowMs: () => number;
  readonly #tree: PinTree;
  readonly #objects: ObjectTable;
  readonly #entries = new Map<number, Entry>();
  /** Of them those that have failed: they are few, and looked at often. */
  readonly #failing = new Map<number, Entry>();
  #carried: Carried | null = null;
  #retrying: Retrying | null = null;
  /** Until the maps are created that they go on as. */
  #adopting: Adopting | null = null;
  /** At which event the kernel maps were when this start found them. */
  #found = 0;
  /** The last event that `#carried` was told of. */
  #written = 0;
  #sources: MirrorSources = NO_SOURCES;

  constructor({ bpf, root, host, machineCpus, nowMs }: KernelMirrorParts) {
    const refs: References = {
      objectFd: (id) => this.#objects.fd(id),
      objectFacts: (id) => this.#objects.facts(id),
      kernelMap: (id) => this.#entries.get(id)?.kernel ?? undefined,
      anonymousFd: () => this.#carried?.fd,
    };
    this.#making = { bpf, host, refs, cpus: { ledger: host.possibleCpus, machine: machineCpus } };
    this.#nowMs = nowMs;
    this.#tree = new PinTree(bpf, root);
    this.#objects = new ObjectTable(bpf);
  }

  takeUp(sources: MirrorSources, directories: readonly string[], progress: (maps: number) => void): MirrorRefusal[] {
    this.#sources = sources;
    const refusals: MirrorRefusal[] = [];
    const kept: string[] = [];
    const keep = (pathname: string): void => {
      const path = this.#tree.place(pathname);
      if (typeof path === "string") kept.push(path);
    };
    const carried = Carried.open(this.#making.bpf, this.#tree.carried);
    this.#carried = typeof carried === "number" ? null : carried;
    this.#found = this.#carried?.seq ?? 0;
    for (const pathname of directories) {
      const refused = this.#tree.ensureDirectoryAt(pathname);
      if (refused !== null) refusals.push(refused);
      keep(pathname);
    }
    let maps = 0;
    for (const source of innerFirst(sources.all())) {
      refusals.push(...this.resync(source));
      progress(++maps);
      if (this.#entries.get(source.map.id)?.status.state === "off") continue;
      kept.push(this.#tree.byId(source.map.id));
      source.pathnames.forEach(keep);
    }
    this.#found = 0;
    refusals.push(...this.#tree.sweep(kept));
    this.#reached(sources.seq);
    return refusals;
  }

  apply(changes: readonly MirrorChange[], seq: number): MirrorRefusal[] {
    const refusals: MirrorRefusal[] = [];
    for (const change of changes) {
      const refused = this.#carry(change);
      if (refused !== null && this.#fails(refused)) refusals.push(refused);
    }
    if (seq >= this.#written + REACHED_EVENTS || changes.some((change) => this.#isOfLine(change))) this.#reached(seq);
    return refusals;
  }

  #isOfLine(change: MirrorChange): boolean {
    return change.kind === "elements" && this.#kernelOf(change.map)?.elements instanceof LineElements;
  }

  resync(source: MirrorSource): MirrorRefusal[] {
    const { map } = source;
    const type = mirrored(map, this.#making.cpus);
    const before = this.#entries.get(map.id);
    this.#failing.delete(map.id);
    if (typeof type === "string") {
      this.#entries.set(map.id, entryOf(null, { state: "off", detail: type }));
      return [];
    }
    const entry = entryOf(before?.kernel ?? null, NOT_KNOWN, before?.delayMs);
    this.#entries.set(map.id, entry);
    const kernelId = entry.kernel?.id;
    const refusals = this.#settle(entry, source, type);
    const first = refusals[0];
    if (first !== undefined) this.#fails(first);
    else if (entry.kernel !== null) this.#isEqual(entry, entry.kernel);
    if (before !== undefined && entry.kernel?.id !== kernelId) refusals.push(...this.#resyncOuter(map.id));
    return refusals;
  }

  *scan(source: MirrorSource): MirrorScan {
    const kernel = this.#kernelOf(source.map);
    if (kernel !== null) return yield* kernel.elements.scan(source);
    const status = this.status(source.map.id);
    return { untold: status.state === "on" ? "it has no kernel map" : status.detail };
  }

  mend(source: MirrorSource, found: readonly ElementDifference[]): MirrorRefusal[] {
    const kernel = this.#kernelOf(source.map);
    if (kernel === null || kernel.type.refers !== "never") return this.resync(source);
    const refused = writeLedgers(kernel, source, found);
    return refused !== null && this.#fails(refused) ? [refused] : [];
  }

  kernelMaps(): readonly KernelMapFacts[] {
    return [...kernelMaps(this.#making, this.#known())];
  }

  #known(): KnownMaps {
    const maps = new Map<number, MapRecord>();
    for (const { kernel } of this.#entries.values()) if (kernel !== null) maps.set(kernel.id, kernel.map);
    const own = this.#carried === null ? null : fdinfo(this.#carried.fd);
    return { maps, own: new Set(own === null ? [] : [own.mapId]) };
  }

  adopting<Answer>(
    which: { readonly kernelId: number } | { readonly pinned: string },
    adopt: (foreign: ForeignMap) => Answer,
  ): Answer | { readonly refused: Pick<MirrorRefusal, "errno" | "detail"> } {
    const adopting = new Adopting(this.#making, this.#known());
    this.#adopting = adopting;
    try {
      const foreign = adopting.open(which);
      return foreign instanceof Foreign ? adopt(foreign) : { refused: foreign };
    } finally {
      adopting.close();
      this.#adopting = null;
    }
  }

  cannotImport(map: MapRecord): string | null {
    return cannotTake(map, this.#making.cpus);
  }

  retry(): MirrorRetry {
    this.#retrying ??= this.#nextRetry();
    if (this.#retrying === null) return NOTHING_RETRIED;
    const { id, told, steps } = this.#retrying;
    const { value: refused, done } = steps.next();
    if (done !== true) return { ...NOTHING_RETRIED, more: true };
    this.#retrying = null;
    if (refused.length === 0) return { repaired: this.status(id).state === "on" ? [id] : [], refusals: [], more: true };
    // What was told already is not told again.
    return { repaired: [], refusals: refused.filter((refusal) => !isAlike(told, refusal)), more: true };
  }

  #nextRetry(): Retrying | null {
    const nowMs = this.#nowMs();
    for (const [id, entry] of this.#failing)
      if (entry.retryMs <= nowMs) return { id, told: entry.status, steps: this.#mending(id, entry) };
    return null;
  }

  /** Makes a map equal that has failed, in pieces where it can be compared so; answers what was refused. */
  *#mending(id: number, entry: Entry): Generator<void, readonly MirrorRefusal[]> {
    entry.retryMs = NEVER;
    let first: MirrorRefusal | null = null;
    const { kernel } = entry;
    const source = this.#sources.of(id);
    if (source === null) return [];
    if (kernel === null || kernel.type.refers !== "never" || kernel.isFrozen()) return this.resync(source);
    const scan = kernel.elements.scan(source);
    for (;;) {
      const { value, done } = scan.next();
      if (done === true && value !== null) return "untold" in value ? this.resync(source) : this.#failed([value]);
      if (done === true) break;
      const refused = writeLedgers(kernel, source, value);
      first ??= refused;
      yield;
      if (this.#entries.get(id) !== entry) return [];
    }
    const now = this.#sources.of(id);
    if (now === null) return [];
    const refusals = [...(first === null ? [] : [first]), ...this.#settleAround(kernel, now)];
    if (refusals.length > 0) return this.#failed(refusals);
    this.#isEqual(entry, kernel);
    return [];
  }

  #failed(refusals: readonly MirrorRefusal[]): readonly MirrorRefusal[] {
    this.#fails(refusals[0] as MirrorRefusal);
    return refusals;
  }

  status(mapId: number): MirrorStatus {
    return this.#entries.get(mapId)?.status ?? NOT_KNOWN;
  }

  takeUpObjects(objects: Iterable<ObjectRecord>): void {
    this.#objects.takeUp(objects);
  }

  openObject(spec: ObjectSpec): OpenedObject | null {
    return this.#objects.open(spec);
  }

  endedObjects(): readonly number[] {
    return this.#objects.ended();
  }

  close(): void {
    this.#objects.close();
    for (const { kernel } of this.#entries.values()) kernel?.close();
    this.#entries.clear();
    this.#carried?.close();
  }

  #carry(change: MirrorChange): MirrorRefusal | null {
    switch (change.kind) {
      case "elements":
        return this.#kernelOf(change.map)?.elements.write(change.changes) ?? null;
      case "create":
        return this.#create(change);
      case "freeze": {
        const kernel = this.#kernelOf(change.map);
        return kernel === null || kernel.isFrozen() ? null : kernel.freeze();
      }
      case "free":
        return this.#free(change.map);
      case "pin": {
        const kernel = this.#kernelOf(change.map);
        return kernel === null ? null : this.#tree.pin(kernel, change.pathname);
      }
      case "unpin":
        return this.#tree.unpin(change.pathname);
      case "mkdir":
        return this.#tree.mkdir(change.pathname);
      case "rmdir":
        return this.#tree.rmdir(change.pathname);
      case "object gone":
        this.#objects.gone(change.id);
        return null;
    }
  }

  #create(source: Pick<MirrorSource, "map" | "btf">): MirrorRefusal | null {
    const { map } = source;
    const type = mirrored(map, this.#making.cpus);
    if (typeof type === "string") {
      this.#entries.set(map.id, entryOf(null, { state: "off", detail: type }));
      return null;
    }
    const made = this.#adopted(type, map) ?? makeKernelMap(this.#making, type, source);
    if (!(made instanceof KernelMap)) {
      this.#entries.set(map.id, entryOf(null, NOT_KNOWN));
      return made;
    }
    const entry = entryOf(made, NOT_KNOWN);
    this.#entries.set(map.id, entry);
    this.#isEqual(entry, made);
    return this.#tree.ensure(made, this.#tree.byId(map.id));
  }

  /** The kernel map that is being adopted as this one's. */
  #adopted(type: MirroredType, map: MapRecord): KernelMap | null {
    const { adopted } = map;
    const fd = adopted === undefined ? null : (this.#adopting?.take(adopted) ?? null);
    return fd === null ? null : new KernelMap({ ...this.#making, type, map, fd }, adopted as number);
  }

  #free(map: MapRecord): MirrorRefusal | null {
    const entry = this.#entries.get(map.id);
    this.#entries.delete(map.id);
    this.#failing.delete(map.id);
    entry?.kernel?.close();
    return entry?.status.state === "off" ? null : this.#tree.unpinId(map.id);
  }

  /**
   * Makes the kernel map equal to the source. A kernel map that fits is kept, with the fd that is held or the pin that
   * an earlier start has left, and repaired in place. A new one takes its place only where that cannot be: it is frozen
   * and differs, or it is frozen and the state's is not.
   */
  #settle(entry: Entry, source: MirrorSource, type: MirroredType): MirrorRefusal[] {
    const { map } = source;
    const byId = this.#tree.byId(map.id);
    entry.kernel ??= openKernelMap(this.#making, type, map, byId);
    const usable = entry.kernel !== null && (map.frozen || !entry.kernel.isFrozen());
    let refused = usable ? this.#repair(entry.kernel as KernelMap, source) : null;
    if (!usable || refused?.errno === "EPERM") {
      const made = makeKernelMap(this.#making, type, source);
      if (!(made instanceof KernelMap)) return [made];
      entry.kernel?.close();
      entry.kernel = made;
      refused = made.fill(source.elements());
    }
    const around = this.#settleAround(entry.kernel as KernelMap, source);
    return refused === null ? around : [refused, ...around];
  }

  /** Whether it is frozen, and its pins. */
  #settleAround(kernel: KernelMap, { map, pathnames }: MirrorSource): MirrorRefusal[] {
    const refusals = [map.frozen && !kernel.isFrozen() ? kernel.freeze() : null];
    refusals.push(this.#tree.ensure(kernel, this.#tree.byId(map.id)));
    for (const pathname of pathnames) refusals.push(this.#tree.ensureAt(kernel, pathname));
    return refusals.filter((refusal) => refusal !== null);
  }

  /** A queue or a stack cannot be compared: one that nothing has happened to since the kernel maps were last equal is left. */
  #repair({ elements }: KernelMap, { map, elements: wanted }: MirrorSource): MirrorRefusal | null {
    if (elements instanceof LineElements && this.#isUntouched(map) && elements.trust(wanted())) return null;
    return elements.repair(wanted());
  }

  #isUntouched(map: MapRecord): boolean {
    return this.#found > 0 && this.#sources.changedSince(this.#found)?.has(map.id) === false;
  }

  /** Maps of maps that may hold it get its new kernel map. */
  #resyncOuter(inner: number): MirrorRefusal[] {
    const outer = [...this.#entries].filter(
      ([id, { kernel }]) => id !== inner && kernel !== null && isOfMaps(kernel.map.type),
    );
    return outer.flatMap(([id]) => {
      const source = this.#sources.of(id);
      return source === null ? [] : this.resync(source);
    });
  }

  #kernelOf(map: MapRecord): KernelMap | null {
    return this.#entries.get(map.id)?.kernel ?? null;
  }

  #isEqual(entry: Entry, kernel: KernelMap): void {
    const { maxEntries } = kernel.type.shape(kernel.map, this.#making.cpus.machine);
    entry.status = { state: "on", kernelId: kernel.id, pinned: this.#tree.byId(kernel.map.id), maxEntries };
    entry.retryMs = NEVER;
    entry.delayMs = RETRY_FIRST_MS;
    this.#failing.delete(kernel.map.id);
  }

  /** What happened to a queue whose kernel map is behind must be seen by the next start, too. */
  #reached(seq: number): void {
    for (const { kernel } of this.#failing.values()) if (kernel?.elements instanceof LineElements) return;
    this.#written = seq;
    this.#carried?.reached(seq);
  }

  /** Notes a refusal at its map. False: it is noted already. */
  #fails(refused: MirrorRefusal): boolean {
    const { operation, errno, detail } = refused;
    const entry = this.#entries.get(refused.mapId);
    if (entry === undefined) return true;
    this.#failing.set(refused.mapId, entry);
    if (entry.retryMs === NEVER) {
      entry.retryMs = this.#nowMs() + entry.delayMs;
      entry.delayMs = Math.min(2 * entry.delayMs, RETRY_MOST_MS);
    }
    if (isAlike(entry.status, refused)) return false;
    entry.status = { state: "failed", operation, errno, detail };
    return true;
  }
}

const NOT_KNOWN: MirrorStatus = { state: "off", detail: "the mirror does not know this map" };

const NO_SOURCES: MirrorSources = { seq: 0, all: () => [], of: () => null, changedSince: () => null };

function entryOf(kernel: KernelMap | null, status: MirrorStatus, delayMs = RETRY_FIRST_MS): Entry {
  return { kernel, status, retryMs: NEVER, delayMs };
}

function isAlike(status: MirrorStatus, { operation, errno }: MirrorRefusal): boolean {
  return status.state === "failed" && status.operation === operation && status.errno === errno;
}

/** What was found to differ, as the ledger has it: also the bits of a key that do not count. */
function writeLedgers(
  { elements, type }: KernelMap,
  source: MirrorSource,
  found: readonly ElementDifference[],
): MirrorRefusal | null {
  const keyOf = (key: Buffer): Buffer => (type.exact ? key : (source.element(key)?.key ?? key));
  return elements.write(found.map(({ key, ledger }) => ({ key: keyOf(key), value: ledger })));
}

/** Maps of maps need the kernel maps of what they hold. */
function* innerFirst(sources: Iterable<MirrorSource>): Iterable<MirrorSource> {
  const outer: MirrorSource[] = [];
  for (const source of sources)
    if (isOfMaps(source.map.type)) outer.push(source);
    else yield source;
  yield* outer;
}
