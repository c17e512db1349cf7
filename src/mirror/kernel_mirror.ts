/**
 * The mirror: kernel maps that follow the state. While the directory of pins cannot be claimed, the mirror is off:
 * kernel maps stay open, nothing is written to them, and the claim is tried again each second. The log knows which
 * changes they lack then (`engine/windows.ts`). A kernel map is frozen only after its last refused write has succeeded,
 * because nothing can be written to it afterwards.
 */

import { BPF_ELEM } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import type {
  ElementChange,
  ElementDifference,
  Equality,
  ForeignMap,
  KernelMapsAnswer,
  Lagging,
  LogEnd,
  Mirror,
  MirrorChange,
  MirrorListing,
  MirrorRefusal,
  MirrorRetry,
  MirrorScan,
  MirrorSource,
  MirrorStatus,
  MirrorWatch,
  OpenedObject,
  Opening,
  PinningLedger,
  ScanOrder,
} from "../engine/ports.ts";
import type { Host, MapRecord } from "../maps/map.ts";
import type { ObjectFacts, ObjectRecord } from "../maps/object.ts";
import type { Bpf } from "../native/bpf.ts";
import type { HeldObject, ObjectSpec, Occupied } from "../syscall/command.ts";
import type { NewEntry } from "../syscall/pins.ts";
import { kernelMaps } from "./all_kernel_maps.ts";
import { lacking, refusedFor } from "./capability.ts";
import { Claim, type Claiming } from "./claim.ts";
import { Adopting, Foreign, type KnownMaps } from "./foreign.ts";
import { HostWatch } from "./host_watch.ts";
import { takeInventory } from "./inventory.ts";
import type { WindowChange } from "./kernel_elements.ts";
import { KernelMap } from "./kernel_map.ts";
import { Layout } from "./layout.ts";
import { pinsBelow } from "./listing.ts";
import { type Created, heldAs, type Making, makeKernelMap, openKernelMap, type Wanted } from "./make.ts";
import { type MapMaker, takesLong } from "./map_maker.ts";
import { cannotTake, type MirroredType, mirrored, type References } from "./map_types.ts";
import { type Mark, markOf } from "./mark.ts";
import { ObjectTable } from "./object_table.ts";
import { bootId } from "./pidfd.ts";
import { PinTree } from "./pin_tree.ts";
import type { ProgressMap } from "./progress_map.ts";
import type { OpenPlaces } from "./real_objects.ts";
import { type RefusedWrite, RefusedWrites } from "./refused_writes.ts";

/** A map of the state, with its kernel map if there is one. */
interface Entry {
  kernel: KernelMap | null;
  /** The status of the kernel map itself; `on` unless a fault is known. */
  status: MirrorStatus;
  equal: Equality;
  /** Writes that the kernel has refused. */
  readonly refused: RefusedWrites;
  /** Whether the kernel map must be opened again, because it could not be opened or refused too many writes. */
  broken: boolean;
  /** Whether it is being opened again automatically. */
  reopening: boolean;
  /** Whether the ledger's map is frozen. */
  frozen: boolean;
  /** Whether a pin was refused. */
  unpinned: boolean;
  /** The time (`nowMs`) at which the refused writes are tried again; and below, the pause after that try. */
  retryMs: number;
  delayMs: number;
}

/**
 * Progress is also noted after this many events that change no kernel map, so that the next start has few events to
 * look at.
 */
const REACHED_EVENTS = 1000;
/** The most refused writes that one piece of work tries again. */
const RETRY_WRITES = 1024;
const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 5 * 60_000;
const NEVER = Number.POSITIVE_INFINITY;
const NOT_BEGUN = "the mirror has not begun";
const NO_RETRY: MirrorRetry = { repaired: [], refusals: [], drifted: [], reopen: [] };
const NO_WATCH: MirrorWatch = { found: [], former: [], replaced: [] };

/** Everything that a mirror is made from. */
export interface KernelMirrorParts {
  readonly bpf: Bpf;
  /** The setting MAPLEDGER_BPFFS. */
  readonly root: string;
  readonly host: Host;
  /** The number of CPUs that the machine may have. */
  readonly machineCpus: number;
  /** The path of the data directory, which is part of the mark. */
  readonly data: string;
  /** The directories below which objects of the host are opened and made. */
  readonly places: OpenPlaces;
  /** The reason why bpf(2) cannot be used at present, or null. */
  readonly unfit: () => string | null;
  /** Milliseconds of a monotonic clock. */
  readonly nowMs: () => number;
  /** Makes kernel maps that take the kernel long; null: they are made in this thread. */
  readonly maker: MapMaker | null;
}

/**
 * Carries changes to kernel maps. A write that the kernel refuses is tried again at growing intervals, for the refused
 * elements alone, unless another program has changed them. Of consecutive refusals on one map with the same operation
 * and errno, only the first is reported.
 */
export class KernelMirror implements Mirror {
  readonly follows = true;
  off: string | null = NOT_BEGUN;
  owner: string | null = null;
  readonly #parts: KernelMirrorParts;
  readonly #making: Making;
  readonly #objects: ObjectTable;
  readonly #watch: HostWatch;
  readonly #entries = new Map<number, Entry>();
  /** The entries with refusals: they are few, and are visited often. */
  readonly #failing = new Map<number, Entry>();
  #claim: Claim | null = null;
  #tree: PinTree;
  /**
   * The progress map of the former claim, after the directory of pins was replaced or is gone. If a new directory is
   * claimed then, this progress map still tells the places of the kernel maps that stayed open, until they are taken
   * up.
   */
  #before: ProgressMap | null = null;
  /** The kernel maps of the adoption that is under way. */
  #adopting: Adopting | null = null;
  /** Kernel maps that another thread is making; and below, those that it has made and that are not taken up yet. */
  readonly #beingMade = new Map<number, Promise<void>>();
  readonly #justMade = new Map<number, Created | MirrorRefusal>();
  /** Whether some maps have not been taken up yet. Until they are, the recorded progress stays unchanged. */
  #settling = true;
  /** Whether all maps have been taken up once, so that commands run beside the mirror's work. */
  #isServed = false;
  /** The last event in the progress map. */
  #written = 0;

  constructor(parts: KernelMirrorParts) {
    const { bpf, host, machineCpus } = parts;
    const refs: References = {
      objectFd: (id) => this.#objects.fd(id),
      objectFacts: (id) => this.#objects.facts(id),
      untaken: (id) => this.#objects.untaken(id),
      kernelMap: (id) => this.#entries.get(id)?.kernel ?? undefined,
      anonymousFd: () => this.#claim?.progress.fd,
    };
    this.#parts = parts;
    this.#making = { bpf, host, refs, cpus: { ledger: host.possibleCpus, machine: machineCpus } };
    this.#tree = new PinTree(bpf, new Layout(parts.root));
    this.#objects = new ObjectTable(bpf, parts.places);
    this.#watch = new HostWatch(bpf, parts.nowMs);
  }

  begin(log: LogEnd): string | null {
    return this.#take(log, (claiming) => Claim.take(claiming));
  }

  takeOver(log: LogEnd, record: (owner: string) => string | null): string | null {
    if (this.off === null) return "the mirror is on: the directory of pins is this log's already";
    return this.#take(log, (claiming) => Claim.takeOver(claiming, record));
  }

  #take(log: LogEnd, take: (claiming: Claiming) => ReturnType<typeof Claim.take>): string | null {
    const { bpf, root, unfit } = this.#parts;
    const layout = new Layout(root);
    const why = unfit();
    const claim = why === null ? take({ bpf, layout, ours: this.#ours(log), log }) : { why, owner: null };
    if (!(claim instanceof Claim)) {
      this.owner = claim.owner;
      this.off = claim.why;
      return this.off;
    }
    if (claim.progress.found !== "new") this.#forgetBefore();
    this.owner = null;
    this.off = null;
    this.#claim = claim;
    this.#tree = new PinTree(bpf, layout);
    this.#settling = true;
    this.#written = claim.progress.all()?.seq ?? 0;
    this.#watch.begin(this.#tree);
    return null;
  }

  #ours({ id, life }: LogEnd): Mark {
    return markOf({ log: id, life, data: this.#parts.data });
  }

  place(mapId: number): number | null {
    return this.#progress?.place(mapId) ?? null;
  }

  get carried(): number | null {
    return this.#progress?.all()?.seq ?? null;
  }

  get #progress(): ProgressMap | null {
    return this.#before ?? this.#claim?.progress ?? null;
  }

  takeUpObjects(objects: Iterable<ObjectRecord>): void {
    if (this.off === null) this.#objects.takeUp(objects);
  }

  ensureDirectories(pathnames: readonly string[]): MirrorRefusal[] {
    return pathnames.map((pathname) => this.#tree.mkdir(pathname)).filter((refused) => refused !== null);
  }

  open(source: MirrorSource): { readonly opening: Opening; readonly refusals: readonly MirrorRefusal[] } {
    const before = this.#entries.get(source.map.id);
    const { opening, refusals } = this.#open(source);
    // An automatic retry does not report the same refusal again.
    return before?.reopening === true
      ? { opening, refusals: refusals.filter((refused) => !isAlike(before.status, refused)) }
      : { opening, refusals };
  }

  #open(source: MirrorSource): { readonly opening: Opening; readonly refusals: readonly MirrorRefusal[] } {
    const { map } = source;
    const type = this.#typeOf(map);
    const before = this.#entries.get(map.id);
    if (typeof type === "string") {
      before?.kernel?.close();
      this.#entries.set(map.id, this.#entry(map.id, null, null, { state: "off", detail: type }));
      return { opening: "none", refusals: [] };
    }
    const entry = this.#entry(map.id, before?.kernel ?? null, type, NOT_OPEN, before?.delayMs);
    this.#entries.set(map.id, entry);
    this.#failing.delete(map.id);
    if (entry.kernel !== null) return { opening: "found", refusals: this.#around(entry.kernel, source) };
    const found = this.#find(type, map);
    if (found instanceof KernelMap) {
      this.#holdKernel(entry, found);
      return { opening: "found", refusals: this.#around(found, source) };
    }
    if ("state" in found) {
      this.#watch.waits(map);
      entry.status = found;
      return { opening: "none", refusals: [] };
    }
    if (found.errno !== "ENOENT") return { opening: "none", refusals: this.#breaks(entry, found) };
    if (map.adopted !== undefined) {
      this.#watch.waits(map);
      entry.status = { state: "waiting", detail: `its kernel map is gone: ${waitsFor(map)}` };
      return { opening: "none", refusals: [] };
    }
    return this.#make(entry, type, source);
  }

  /** Opens the kernel map that an earlier start has left. */
  #find(type: MirroredType, map: MapRecord): KernelMap | MirrorStatus | MirrorRefusal {
    const found = openKernelMap(this.#making, type, map, this.#tree.byId(map.id));
    if (found instanceof KernelMap) return found;
    if (found.errno !== "ENOENT" || map.adoptedPin === undefined) return found;
    // In a new directory, for example after a reboot, the recorded kernel id may belong to another map, so the owner's
    // pin is followed.
    if (this.#claim?.progress.found === "new" && this.#before === null)
      return { state: "waiting", detail: waitsFor(map) };
    const pinned = openKernelMap(this.#making, type, map, map.adoptedPin);
    if (pinned instanceof KernelMap || pinned.errno !== "EEXIST") return pinned;
    return { state: "waiting", detail: pinned.detail };
  }

  #make(entry: Entry, type: MirroredType, source: MirrorSource): { opening: Opening; refusals: MirrorRefusal[] } {
    const made = this.#obtain(type, source);
    if (made === null) {
      entry.status = BEING_MADE;
      return { opening: "none", refusals: [] };
    }
    if (!(made instanceof KernelMap)) return { opening: "none", refusals: this.#breaks(entry, made) };
    this.#holdKernel(entry, made);
    const unfilled = made.fill(source.elements(), (change) => this.#refuses(entry, change));
    const refusals = [...(unfilled === null ? [] : [unfilled]), ...this.#around(made, source)];
    if (unfilled !== null) this.#fails(unfilled);
    return { opening: "made", refusals };
  }

  /**
   * Returns a new kernel map; null: another thread makes it, and `making` returns a promise that resolves when it is
   * made.
   */
  #obtain(type: MirroredType, wanted: Wanted): KernelMap | MirrorRefusal | null {
    const { map } = wanted;
    const made = this.#justMade.get(map.id);
    this.#justMade.delete(map.id);
    if (made !== undefined) return "fd" in made ? heldAs(this.#making, type, map, made) : made;
    const { maker, host } = this.#parts;
    // Until all maps have been taken up once, nothing is served, so this thread may wait.
    if (maker === null || !this.#isServed || !takesLong(map, host)) return makeKernelMap(this.#making, type, wanted);
    if (!this.#beingMade.has(map.id)) this.#beingMade.set(map.id, this.#makeBeside(maker, wanted));
    return null;
  }

  async #makeBeside(maker: MapMaker, { map, btf }: Wanted): Promise<void> {
    const made = await maker.make({ map, btf }).catch((error: Error) => ({
      mapId: map.id,
      operation: "BPF_MAP_CREATE",
      errno: "EAGAIN",
      detail: error.message,
    }));
    this.#beingMade.delete(map.id);
    if (this.#entries.has(map.id)) this.#justMade.set(map.id, made);
    else if ("fd" in made) this.#parts.bpf.close(made.fd);
  }

  making(mapId: number): Promise<void> | null {
    return this.#beingMade.get(mapId) ?? null;
  }

  /** Marks a map that could not be opened or made for another try. */
  #breaks(entry: Entry, refused: MirrorRefusal): MirrorRefusal[] {
    entry.broken = true;
    return this.#fails(refused) ? [refused] : [];
  }

  #holdKernel(entry: Entry, kernel: KernelMap): void {
    entry.kernel = kernel;
    entry.status = this.#on(kernel);
    entry.frozen = kernel.map.frozen;
  }

  #on(kernel: KernelMap): MirrorStatus {
    const { maxEntries } = kernel.type.shape(kernel.map, this.#making.cpus.machine);
    return {
      state: "on",
      kernelId: kernel.id,
      pinned: this.#tree.byId(kernel.map.id),
      maxEntries,
      equal: "unknown",
    };
  }

  /**
   * Checks whether another program has frozen the kernel map, and restores missing pins where nothing else is pinned.
   */
  #around(kernel: KernelMap, source: MirrorSource): MirrorRefusal[] {
    const { map, pathnames } = source;
    const entry = this.#entries.get(map.id) as Entry;
    const refusals: MirrorRefusal[] = [];
    entry.frozen = map.frozen;
    if (!map.frozen && kernel.isFrozen()) entry.status = frozenByOthers(kernel);
    refusals.push(...some(this.#renewObjects(kernel, source)));
    refusals.push(...some(this.#tree.pinById(kernel)));
    for (const pathname of pathnames) {
      refusals.push(...some(this.#tree.pinWhereNothingIs(kernel, pathname)));
      this.#watch.expect(kernel, pathname);
    }
    if (map.adopted !== undefined) this.#watch.adopted(kernel);
    entry.unpinned = refusals.length > 0;
    for (const refused of refusals) this.#fails(refused);
    return refusals;
  }

  /**
   * Objects made by the service end with its process, and the kernel then deletes their elements. This writes the
   * elements of their replacements.
   */
  #renewObjects(kernel: KernelMap, source: MirrorSource): MirrorRefusal | null {
    if (kernel.type.refers !== "always" || !this.#objects.hasRenewed) return null;
    const { told } = kernel.type;
    const renewed = [...source.elements()].filter(({ key, value }) =>
      this.#objects.isRenewed((told === "asked" ? key : value).readUInt32LE(0)),
    );
    const absent = renewed.filter(({ key }) => kernel.elements.look(key) == null);
    return kernel.elements.write(absent);
  }

  recreate(source: MirrorSource): readonly MirrorRefusal[] {
    const { map, pathnames } = source;
    const type = this.#typeOf(map);
    if (typeof type === "string") return [];
    const before = this.#entries.get(map.id)?.kernel ?? null;
    const was = before?.id ?? this.#tree.idAt(this.#tree.byId(map.id));
    const made = makeKernelMap(this.#making, type, source);
    const entry = this.#entry(map.id, null, type, NOT_OPEN);
    this.#entries.set(map.id, entry);
    if (!(made instanceof KernelMap)) {
      entry.kernel = before;
      return this.#breaks(entry, made);
    }
    this.#holdKernel(entry, made);
    this.#failing.delete(map.id);
    const refusals = [...some(made.fill(source.elements(), (change) => this.#refuses(entry, change)))];
    refusals.push(...some(this.#freeze(entry)));
    refusals.push(...some(this.#tree.replaceById(made, before?.id)));
    for (const pathname of pathnames) {
      refusals.push(...some(this.#tree.replaceOurs(made, pathname, was)));
      this.#watch.expect(made, pathname);
    }
    this.#watch.forgetAdopted(map.id);
    before?.close();
    for (const refused of refusals) this.#fails(refused);
    this.takenUp(map.id, this.#comparable(type) ? "yes" : "unknown");
    return refusals;
  }

  catchUp(source: MirrorSource, changed: readonly Lagging[] | null): MirrorRefusal[] {
    const kernel = this.#kernelOf(source.map);
    if (kernel === null) return [];
    const entry = this.#entries.get(source.map.id) as Entry;
    const changes = changed === null ? [] : this.#windowOf(source, changed);
    const failed = (change: ElementChange): void => this.#refuses(entry, change);
    const refused = kernel.elements.catchUp(source.elements(), changes, failed);
    return refused !== null && this.#fails(refused) ? [refused] : [];
  }

  #windowOf(source: MirrorSource, changed: readonly Lagging[]): WindowChange[] {
    const now = this.#given(
      source,
      changed.map(({ key }) => key),
    );
    return changed.map(({ key, before }, at) => ({ key, before, now: (now[at] as ElementChange).value }));
  }

  /**
   * Elements in the form that `put` of the map's type takes. For types whose values refer to objects, pages show
   * another form.
   */
  #given(source: MirrorSource, keys: readonly Buffer[]): ElementChange[] {
    const kernel = this.#kernelOf(source.map);
    if (kernel === null || kernel.type.refers === "never")
      return keys.map((key) => {
        const element = source.element(key);
        return { key: element?.key ?? key, value: element?.value ?? null };
      });
    const { identity } = kernel.type;
    const wanted = new Set(keys.map(identity));
    const found = new Map<string, ElementChange>();
    for (const element of source.elements()) {
      const is = identity(element.key);
      if (wanted.has(is)) found.set(is, element);
    }
    return keys.map((key) => found.get(identity(key)) ?? { key, value: null });
  }

  takenUp(mapId: number, equal: Equality): void {
    const entry = this.#entries.get(mapId);
    if (entry === undefined) return;
    entry.equal = equal;
    const { kernel } = entry;
    if (kernel === null || entry.refused.size > 0 || entry.broken || entry.unpinned) return;
    if (equal !== "no" && this.#freeze(entry) !== null) {
      // The next try, which is due now, reports the refusal.
      this.#failing.set(mapId, entry);
      entry.retryMs = this.#parts.nowMs();
      return;
    }
    if (entry.status.state === "failed") entry.status = standing(entry, kernel, this.#on(kernel));
    entry.retryMs = NEVER;
    entry.delayMs = RETRY_FIRST_MS;
    this.#failing.delete(mapId);
    this.#claim?.progress.caughtUp(mapId);
    this.#claim?.refused.forget(mapId);
  }

  /** Freezes the kernel map once nothing more is to be written to it. */
  #freeze({ kernel, frozen, refused }: Entry): MirrorRefusal | null {
    return kernel === null || !frozen || refused.size > 0 || kernel.isFrozen() ? null : kernel.freeze();
  }

  reached(seq: number): void {
    this.#settling = false;
    this.#isServed = true;
    for (const [id, { refused }] of this.#failing) if (refused.size > 0) this.#staysBehind(id);
    this.#forgetBefore();
    if (seq > 0) this.#come(seq);
  }

  #come(seq: number): void {
    this.#written = seq;
    this.#claim?.progress.reached(seq);
  }

  identify(log: LogEnd): void {
    const progress = this.#claim?.progress;
    if (progress === undefined || this.off !== null || this.#settling || log.lastSeq === 0) return;
    const all = progress.all();
    if (all === null || all.seq < log.lastSeq) this.#come(log.lastSeq);
    else if (all.hashed?.seq === all.seq) return;
    const hash = log.hashOf(log.lastSeq);
    if (hash !== null && progress.all()?.seq === log.lastSeq) progress.identify(hash);
  }

  /** Keeps a map's recorded place while that of the other maps advances. */
  #staysBehind(mapId: number): void {
    const progress = this.#claim?.progress;
    if (progress === undefined || progress.exceptions().has(mapId)) return;
    const place = this.place(mapId);
    if (place === null) progress.unknown(mapId);
    else progress.keep(mapId, place);
  }

  #forgetBefore(): void {
    this.#before?.close();
    this.#before = null;
  }

  dropStale(
    maps: ReadonlySet<number>,
    pins: readonly { readonly pathname: string; readonly map: number }[],
  ): MirrorRefusal[] {
    const refusals: MirrorRefusal[] = [];
    for (const { pathname, map } of pins) {
      const kernelId = this.#entries.get(map)?.kernel?.id ?? this.#tree.idAt(this.#tree.byId(map));
      if (kernelId !== null) refusals.push(...some(this.#tree.unpinIf(pathname, kernelId)));
    }
    for (const map of maps) refusals.push(...some(this.#tree.unpinId(map)));
    return refusals;
  }

  apply(changes: readonly MirrorChange[], seq: number): MirrorRefusal[] {
    const refusals: MirrorRefusal[] = [];
    for (const change of changes) {
      const refused = this.#tryToCarry(change);
      if (refused !== null && this.#fails(refused)) refusals.push(refused);
    }
    if (this.off !== null || this.#settling) return refusals;
    if (changes.length > 0 || seq >= this.#written + REACHED_EVENTS) this.#come(seq);
    return refusals;
  }

  /** If a change fails because of a bug, the map is taken up again from its recorded place. */
  #tryToCarry(change: MirrorChange): MirrorRefusal | null {
    try {
      return this.#carry(change);
    } catch (error) {
      const mapId = "map" in change ? change.map.id : 0;
      const entry = this.#entries.get(mapId);
      if (entry !== undefined) entry.broken = true;
      if (entry !== undefined && !this.#settling) this.#staysBehind(mapId);
      const detail = `carrying a change (${change.kind}): ${(error as Error).message}`;
      return { mapId, operation: change.kind, errno: "EIO", detail };
    }
  }

  #carry(change: MirrorChange): MirrorRefusal | null {
    if (this.off !== null) return this.#passBy(change);
    switch (change.kind) {
      case "elements":
        return this.#writeElements(change.map, change.changes);
      case "create":
        return this.#create(change);
      case "freeze": {
        const entry = this.#entries.get(change.map.id);
        if (entry === undefined) return null;
        entry.frozen = true;
        return this.#freeze(entry);
      }
      case "free":
        return this.#free(change.map);
      case "pin":
        return this.#pin(change.map, change.pathname);
      case "unpin":
        this.#watch.forget(change.pathname);
        return this.#tree.unpin(change.pathname, (id) => this.#isOurKernelMap(id));
      case "mkdir":
        return this.#tree.mkdir(change.pathname);
      case "rmdir":
        return this.#tree.rmdir(change.pathname);
      case "object gone":
        this.#objects.gone(change.id);
        return null;
      case "imported":
        return null;
    }
  }

  /**
   * While the mirror is off, kernel maps stay unchanged. When they are taken up again, the log has the changes that
   * they lack.
   */
  #passBy(change: MirrorChange): null {
    if (change.kind === "object gone") this.#objects.gone(change.id);
    if (change.kind === "free") this.#drop(change.map.id);
    return null;
  }

  #writeElements(map: MapRecord, changes: readonly ElementChange[]): MirrorRefusal | null {
    const entry = this.#entries.get(map.id);
    if (entry?.kernel == null) return null;
    const { elements, type } = entry.kernel;
    if (isLine(type) && entry.refused.size > 0) {
      for (const change of changes) entry.refused.add({ ...change, base: undefined });
      return null;
    }
    if (entry.refused.size > 0) for (const { key } of changes) entry.refused.delete(key);
    return elements.write(changes, (change) => this.#refuses(entry, change));
  }

  /** Records a write that the kernel has refused, with the kernel's present value. */
  #refuses(entry: Entry, change: ElementChange): void {
    const kernel = entry.kernel as KernelMap;
    const id = kernel.map.id;
    if (entry.refused.size === 0 && this.#claim?.progress.exceptions().has(id) === false && !this.#settling)
      this.#claim.progress.keep(id, this.#written);
    entry.refused.add({ ...change, base: baseOf(change, kernel) });
    if (entry.refused.overflown) entry.broken = true;
  }

  #create(source: Pick<MirrorSource, "map" | "btf">): MirrorRefusal | null {
    const { map } = source;
    const type = this.#typeOf(map);
    if (typeof type === "string") {
      this.#entries.set(map.id, this.#entry(map.id, null, null, { state: "off", detail: type }));
      return null;
    }
    const entry = this.#entry(map.id, null, type, NOT_OPEN);
    this.#entries.set(map.id, entry);
    const made = this.#adopted(type, map) ?? this.#obtain(type, source);
    if (made === null) {
      entry.status = BEING_MADE;
      return null;
    }
    if (!(made instanceof KernelMap)) {
      entry.broken = true;
      return made;
    }
    this.#holdKernel(entry, made);
    entry.equal = this.#comparable(type) ? "yes" : "unknown";
    if (map.adopted !== undefined) this.#watch.adopted(made);
    return this.#tree.replaceById(made);
  }

  /** The kernel map that is being adopted for this map. */
  #adopted(type: MirroredType, map: MapRecord): KernelMap | null {
    const { adopted } = map;
    const fd = adopted === undefined ? null : (this.#adopting?.take(adopted) ?? null);
    return fd === null ? null : new KernelMap({ ...this.#making, type, map, fd }, adopted as number);
  }

  #free(map: MapRecord): MirrorRefusal | null {
    const off = this.#entries.get(map.id)?.status.state === "off";
    const kernel = this.#drop(map.id);
    this.#claim?.progress.caughtUp(map.id);
    this.#claim?.refused.forget(map.id);
    const refused = off ? null : this.#tree.unpinId(map.id);
    if (kernel !== null) this.#watch.freed(map.id, kernel.id);
    return refused;
  }

  #drop(mapId: number): KernelMap | null {
    const kernel = this.#entries.get(mapId)?.kernel ?? null;
    const made = this.#justMade.get(mapId);
    if (made !== undefined && "fd" in made) this.#parts.bpf.close(made.fd);
    this.#justMade.delete(mapId);
    this.#entries.delete(mapId);
    this.#failing.delete(mapId);
    this.#watch.forgetAdopted(mapId);
    kernel?.close();
    return kernel;
  }

  #pin(map: MapRecord, pathname: string): MirrorRefusal | null {
    const kernel = this.#kernelOf(map);
    if (kernel === null) return null;
    const refused = this.#tree.pin(kernel, pathname);
    if (refused === null) this.#watch.expect(kernel, pathname);
    return refused;
  }

  kernelId(mapId: number): number | null {
    return this.#entries.get(mapId)?.kernel?.id ?? null;
  }

  traits(map: MapRecord): { readonly compared: boolean; readonly evicts: boolean } {
    const type = this.#typeOf(map);
    if (typeof type === "string") return { compared: false, evicts: false };
    return { compared: this.#comparable(type), evicts: type.evicts };
  }

  #comparable({ filled, told }: MirroredType): boolean {
    return filled === "by key" && (told === "all" || told === "keys");
  }

  *scan(source: MirrorSource, first: ScanOrder): MirrorScan {
    const kernel = this.#kernelOf(source.map);
    if (kernel !== null && this.off === null) return yield* kernel.elements.scan(source, first);
    const status = this.status(source.map.id);
    return { untold: "detail" in status && status.detail !== undefined ? status.detail : "it has no kernel map" };
  }

  look(source: MirrorSource, key: Buffer): ElementDifference | null | undefined {
    const kernel = this.#kernelOf(source.map);
    const found = kernel?.elements.look(key);
    if (kernel === null || found === undefined) return undefined;
    const element = source.element(key);
    const ledger = kernel.elements.shown(element?.value ?? null);
    const same = ledger === null ? found === null : found?.equals(ledger) === true;
    return same ? null : { key: element?.key ?? key, ledger, kernel: found };
  }

  shown(source: MirrorSource, value: Buffer | null): Buffer | null {
    return this.#kernelOf(source.map)?.elements.shown(value) ?? null;
  }

  lacks(map: MapRecord, changed: readonly Lagging[]): readonly Lagging[] {
    const type = this.#typeOf(map);
    const claim = this.#claim;
    if (typeof type === "string" || claim === null || !claim.progress.exceptions().has(map.id)) return changed;
    return changed.filter(({ key }) => claim.refused.has(map.id, type.identity(key)));
  }

  isPending(mapId: number, key: Buffer): boolean {
    const refused = this.#failing.get(mapId)?.refused;
    return refused !== undefined && refused.size > 0 && refused.has(key);
  }

  write(source: MirrorSource, keys: readonly Buffer[]): MirrorRefusal[] {
    if (this.off !== null || keys.length === 0) return [];
    const refused = this.#writeElements(source.map, this.#given(source, keys));
    return refused !== null && this.#fails(refused) ? [refused] : [];
  }

  *kernelMaps(former: (kernelId: number, boot: string) => number | undefined): Generator<void, KernelMapsAnswer> {
    const boot = bootId();
    const was = (id: number): number | null => former(id, boot) ?? null;
    return yield* kernelMaps(this.#making, () => ({ ...this.#known(), was }));
  }

  #known(): KnownMaps {
    const maps = new Map<number, MapRecord>();
    for (const { kernel } of this.#entries.values()) if (kernel !== null) maps.set(kernel.id, kernel.map);
    return {
      maps,
      own: new Set([this.#claim?.progress.id, this.#claim?.refused.id].filter((id) => id != null)),
      was: () => null,
    };
  }

  adopting<Answer>(
    which: { readonly kernelId: number } | { readonly pinned: string },
    adopt: (foreign: ForeignMap) => Answer,
  ): Answer | { readonly refused: Pick<MirrorRefusal, "errno" | "detail"> } {
    if (this.off !== null) {
      const isKept = lacking(-ERRNO.EPERM, ["CAP_BPF"]) !== null;
      return { refused: { errno: isKept ? "EPERM" : "EOPNOTSUPP", detail: this.off } };
    }
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
    return this.off ?? cannotTake(map, this.#making.cpus);
  }

  retry(sourceOf: (mapId: number) => MirrorSource | null): MirrorRetry {
    if (this.off !== null) return NO_RETRY;
    const nowMs = this.#parts.nowMs();
    for (const [id, entry] of this.#failing) {
      if (entry.retryMs > nowMs) continue;
      entry.retryMs = NEVER;
      entry.reopening = entry.broken;
      if (entry.broken) return { ...NO_RETRY, reopen: [id] };
      const source = sourceOf(id);
      if (source !== null && entry.kernel !== null) return this.#tryAgain(source, entry, entry.kernel);
      this.#failing.delete(id);
    }
    return NO_RETRY;
  }

  /** Tries each refused write again, unless another program has changed the element since. */
  #tryAgain(source: MirrorSource, entry: Entry, kernel: KernelMap): MirrorRetry {
    const { id } = source.map;
    const told = entry.status;
    const refusals = this.#around(kernel, source);
    const again: RefusedWrite[] = [];
    const drifted: Buffer[] = [];
    const all = entry.refused.all();
    // Values of a line must be pushed in order, so all of them are tried at once.
    for (const write of isLine(kernel.type) ? all : all.slice(0, RETRY_WRITES)) {
      const there = kernel.elements.look(write.key);
      if (there === undefined || isSame(there, write.base)) again.push(write);
      else if (this.look(source, write.key) !== null) drifted.push(write.key);
      else entry.refused.delete(write.key);
    }
    for (const key of drifted) entry.refused.delete(key);
    if (drifted.length > 0) entry.equal = "no";
    const writes = isLine(kernel.type)
      ? again
      : this.#given(
          source,
          again.map(({ key }) => key),
        );
    const refused = this.#writeAgain(entry, kernel, writes);
    if (refused !== null) refusals.push(refused);
    if (entry.equal !== "no") refusals.push(...some(this.#freeze(entry)));
    for (const refusal of refusals) this.#fails(refusal);
    const more = refusals.length === 0 && entry.refused.size > 0;
    if (more) entry.retryMs = this.#parts.nowMs();
    else if (refusals.length === 0) {
      this.takenUp(id, entry.equal);
    }
    // A refusal that was reported before is not reported again.
    const news = refusals.filter((refusal) => !isAlike(told, refusal));
    const repaired = refusals.length === 0 && !more && drifted.length === 0 ? [id] : [];
    return { ...NO_RETRY, repaired, refusals: news, drifted: drifted.length > 0 ? [{ map: id, keys: drifted }] : [] };
  }

  /**
   * A write that succeeds is removed from the record afterwards, so that it stays recorded if the process dies in
   * between. Writes of a line are removed before: those that are refused again are recorded anew, in their order.
   */
  #writeAgain(entry: Entry, kernel: KernelMap, writes: readonly ElementChange[]): MirrorRefusal | null {
    const { identity } = kernel.type;
    const still = new Set<string>();
    if (isLine(kernel.type)) for (const { key } of writes) entry.refused.delete(key);
    const refused = kernel.elements.write(writes, (change) => {
      still.add(identity(change.key));
      this.#refuses(entry, change);
    });
    for (const { key } of writes) if (!still.has(identity(key))) entry.refused.delete(key);
    return refused;
  }

  watch(sources: () => Iterable<MirrorSource>): MirrorWatch {
    if (this.off !== null || this.#claim === null) return NO_WATCH;
    if (!this.#watch.isDue()) return NO_WATCH;
    if (!this.#claim.isStill()) return this.#suspend();
    const looked = this.#watch.look(this.#known(), sources);
    for (const { map, status } of looked.statuses) {
      const entry = this.#entries.get(map);
      if (entry !== undefined && entry.status.state !== "failed")
        entry.status = status ?? this.#on(entry.kernel as KernelMap);
    }
    return looked;
  }

  /**
   * Turns the mirror off because the directory of pins was replaced or is gone. Nothing is written until it is claimed
   * again.
   */
  #suspend(): MirrorWatch {
    const claim = this.#claim as Claim;
    claim.release();
    claim.refused.close();
    const { own } = claim.layout;
    this.off = `${own} was unmounted, mounted anew, emptied or marked by somebody else while the service ran`;
    this.#forgetBefore();
    this.#before = claim.progress;
    this.#claim = null;
    return { ...NO_WATCH, found: [{ mapId: 0, what: "off", path: own, detail: this.off }] };
  }

  lost(mapId: number, detail: string): void {
    const entry = this.#entries.get(mapId);
    if (entry === undefined) return;
    entry.status =
      entry.kernel === null ? { state: "waiting", detail } : { state: "lost", kernelId: entry.kernel.id, detail };
  }

  letGo(mapId: number): MirrorRefusal[] {
    const kernel = this.#drop(mapId);
    const refusals = [...some(this.#tree.unpinId(mapId))];
    for (const pathname of this.#watch.pathnamesOf(mapId)) {
      if (kernel !== null) refusals.push(...some(this.#tree.unpinIf(pathname, kernel.id)));
      this.#watch.forget(pathname);
    }
    this.#entries.set(mapId, this.#entry(mapId, null, null, { state: "off", detail: RELEASED }));
    this.#claim?.progress.caughtUp(mapId);
    return refusals;
  }

  follow(map: MapRecord): MirrorRefusal[] {
    const type = this.#typeOf(map);
    if (typeof type === "string" || map.adoptedPin === undefined) return [];
    const found = openKernelMap(this.#making, type, map, map.adoptedPin);
    if (!(found instanceof KernelMap)) return [found];
    const before = this.#entries.get(map.id)?.kernel ?? null;
    const entry = this.#entry(map.id, null, type, NOT_OPEN);
    this.#entries.set(map.id, entry);
    this.#failing.delete(map.id);
    this.#holdKernel(entry, found);
    this.#watch.adopted(found);
    const refusals = [...some(this.#tree.replaceById(found, before?.id))];
    for (const pathname of this.#watch.pathnamesOf(map.id)) {
      refusals.push(...some(this.#tree.replaceOurs(found, pathname, before?.id ?? null)));
      this.#watch.expect(found, pathname);
    }
    before?.close();
    for (const refused of refusals) this.#fails(refused);
    return refusals;
  }

  repin(map: MapRecord, pathname: string): { readonly aside: string | null } | MirrorRefusal {
    const kernel = this.#kernelOf(map);
    if (kernel === null)
      return { mapId: map.id, operation: "BPF_OBJ_PIN", errno: "ENOENT", detail: "it has no kernel map to pin" };
    const repinned = this.#tree.exchange(kernel, pathname);
    if ("aside" in repinned) this.#watch.expect(kernel, pathname);
    return repinned;
  }

  *listed(ledger: PinningLedger): Generator<void, MirrorListing> {
    const directory = (this.#claim?.layout ?? new Layout(this.#parts.root)).own;
    const unlisted = unlistedIn(this.#parts.bpf);
    if (this.#claim === null) {
      const { pins, unread, more } = pinsBelow(directory);
      return { directory, ours: [], foreign: pins, more, unknown: [...unlisted, ...unread] };
    }
    const found = yield* takeInventory(this.#parts.bpf, this.#claim.layout, ledger, this.#making.cpus);
    const ours = [...found.own, ...found.sessions].map(({ path }) => path);
    const owners = found.owners.map(({ path }) => path);
    const foreign = [...owners, ...found.aside, ...found.foreign];
    const unknown = [...unlisted, ...found.unread];
    return { directory, ours: [...ours, ...found.kept], foreign, more: found.more, unknown };
  }

  openObject(spec: ObjectSpec): OpenedObject | null {
    return this.off === null ? this.#objects.open(spec) : null;
  }

  heldObject(facts: ObjectFacts, held: HeldObject): OpenedObject {
    return this.#objects.take(facts, held);
  }

  /** A map that is being adopted has no entry yet, but already has a kernel map. */
  occupied({ pathname, map }: NewEntry): Occupied | null {
    if (this.off !== null) return null;
    if (map === null) return this.#tree.occupied(pathname, "directory");
    return this.#tree.occupied(pathname, "pin", this.#kernelOf(map)?.id ?? map.adopted);
  }

  endedObjects(): readonly number[] {
    return this.#objects.ended();
  }

  status(mapId: number): MirrorStatus {
    if (this.off !== null) return { state: "off", detail: this.off };
    const entry = this.#entries.get(mapId);
    if (entry === undefined) return NOT_KNOWN;
    const { status, equal, kernel } = entry;
    if (status.state === "failed") return kernel === null ? status : { ...status, kernelId: kernel.id };
    if (status.state !== "on") return status;
    return { ...status, equal, ...this.#watch.about(mapId) };
  }

  close(): void {
    void this.#parts.maker?.close();
    this.#objects.close();
    for (const made of this.#justMade.values()) if ("fd" in made) this.#parts.bpf.close(made.fd);
    this.#justMade.clear();
    for (const { kernel } of this.#entries.values()) kernel?.close();
    this.#entries.clear();
    this.#forgetBefore();
    this.#claim?.progress.close();
    this.#claim?.refused.close();
    this.#claim?.release();
    this.#claim = null;
  }

  #typeOf(map: MapRecord): MirroredType | string {
    return map.released === true ? RELEASED : mirrored(map, this.#making.cpus);
  }

  #isOurKernelMap(kernelId: number): boolean {
    for (const { kernel } of this.#entries.values()) if (kernel?.id === kernelId) return true;
    return false;
  }

  #kernelOf(map: MapRecord): KernelMap | null {
    return this.#entries.get(map.id)?.kernel ?? null;
  }

  #entry(
    mapId: number,
    kernel: KernelMap | null,
    type: MirroredType | null,
    status: MirrorStatus,
    delayMs = RETRY_FIRST_MS,
  ): Entry {
    const identity = type?.identity ?? ((key: Buffer): string => key.toString("latin1"));
    const refused = new RefusedWrites(identity, type !== null && isLine(type), {
      add: (identity) => {
        if (this.#claim?.refused.add(mapId, identity) === false) this.#claim.progress.unknown(mapId);
      },
      delete: (identity) => this.#claim?.refused.delete(mapId, identity),
    });
    const found = kernel === null ? status : this.#on(kernel);
    const well = { broken: false, reopening: false, unpinned: false, retryMs: NEVER, delayMs };
    return { kernel, status: found, equal: "unknown", refused, frozen: false, ...well };
  }

  /** Records a refusal at its map. Returns false if the same refusal is recorded already. */
  #fails(refused: MirrorRefusal): boolean {
    const { operation, errno, detail } = refused;
    const entry = this.#entries.get(refused.mapId);
    if (entry === undefined) return true;
    this.#failing.set(refused.mapId, entry);
    if (entry.retryMs === NEVER) {
      entry.retryMs = this.#parts.nowMs() + entry.delayMs;
      entry.delayMs = Math.min(2 * entry.delayMs, RETRY_MOST_MS);
    }
    if (isAlike(entry.status, refused)) return false;
    entry.status = { state: "failed", operation, errno, detail };
    return true;
  }
}

const NOT_KNOWN: MirrorStatus = { state: "off", detail: "the mirror does not know this map" };
const NOT_OPEN: MirrorStatus = { state: "off", detail: "its kernel map is not open yet" };
const BEING_MADE: MirrorStatus = { state: "waiting", detail: "its kernel map is being made" };
const RELEASED = "its adoption was ended: the kernel map stays, this map no longer follows it";

/** Functions that are missing if this process may not open maps by their ids. */
function unlistedIn(bpf: Bpf): readonly string[] {
  const ret = bpf.mapGetNextId(0);
  if (ret >= 0 || ret === -ERRNO.ENOENT) return [];
  const unknown = "who holds kernel maps, and whether those of freed maps live on: listing kernel maps";
  return [refusedFor(unknown, ret, ["CAP_SYS_ADMIN"])];
}

/** Whether a refused value blocks those that were pushed after it: they would otherwise take its place. */
function isLine({ filled }: MirroredType): boolean {
  return filled === "queue" || filled === "stack";
}

function some(refused: MirrorRefusal | null): readonly MirrorRefusal[] {
  return refused === null ? [] : [refused];
}

/**
 * The value that the kernel map must still have when a refused write is tried again. null for BPF_NOEXIST: there must
 * be no element. For BPF_EXIST no value matches, so such a write is not tried again.
 */
function baseOf({ key, flags }: ElementChange, { elements }: KernelMap): Buffer | null | undefined {
  if (flags === Number(BPF_ELEM.BPF_NOEXIST)) return null;
  return flags === Number(BPF_ELEM.BPF_EXIST) ? ANOTHER : elements.look(key);
}

/** A value that no element of a kernel map has, because values are never empty. */
const ANOTHER = Buffer.alloc(0);

function isSame(there: Buffer | null, base: Buffer | null | undefined): boolean {
  if (base === undefined) return true;
  return there === null || base === null ? there === base : there.equals(base);
}

function waitsFor({ adoptedPin }: MapRecord): string {
  return adoptedPin === undefined
    ? "it was adopted by its kernel id, which no longer exists"
    : `waiting for its pin ${adoptedPin}`;
}

function frozenByOthers({ id }: KernelMap): MirrorStatus {
  return {
    state: "failed",
    operation: "BPF_MAP_FREEZE",
    errno: "EPERM",
    detail: `kernel map ${id} was frozen by somebody else: nothing can be written to it`,
    kernelId: id,
  };
}

/**
 * The status of a kernel map that is well otherwise: failed if another program has frozen it, because it cannot be
 * written to.
 */
function standing({ frozen }: Entry, kernel: KernelMap, on: MirrorStatus): MirrorStatus {
  return !frozen && kernel.isFrozen() ? frozenByOthers(kernel) : on;
}

function isAlike(status: MirrorStatus, { operation, errno }: MirrorRefusal): boolean {
  return status.state === "failed" && status.operation === operation && status.errno === errno;
}
