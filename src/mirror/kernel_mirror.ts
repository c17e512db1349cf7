import type { Mirror, MirrorChange, MirrorRefusal, MirrorSource, MirrorStatus, OpenedObject } from "../engine/ports.ts";
import type { Host, MapRecord } from "../maps/map.ts";
import type { ObjectRecord } from "../maps/object.ts";
import type { ObjectSpec } from "../syscall/command.ts";
import type { Bpf } from "./bpf.ts";
import { KernelMap } from "./kernel_map.ts";
import { makeKernelMap, openKernelMap } from "./make.ts";
import { type MirroredType, mirrored } from "./mirrored.ts";
import { ObjectTable } from "./object_table.ts";
import { PinTree } from "./pin_tree.ts";
import { fill, repair } from "./repair.ts";

/** A map of the state. `kernel` null: there is no kernel map to carry changes to. */
interface Entry {
  kernel: KernelMap | null;
  status: MirrorStatus;
}

/**
 * The mirror. A map is `on`, or `off` for good because of its type, or `failed`: something was refused, and its kernel
 * map is behind until resync. Changes are carried to a failed map as well as they can; of refusals that follow each
 * other on one map and are alike (operation and errno), only the first is given.
 */
export class KernelMirror implements Mirror {
  readonly off = null;
  readonly #bpf: Bpf;
  readonly #host: Host;
  readonly #tree: PinTree;
  readonly #objects: ObjectTable;
  readonly #entries = new Map<number, Entry>();

  constructor(bpf: Bpf, root: string, host: Host) {
    this.#bpf = bpf;
    this.#host = host;
    this.#tree = new PinTree(bpf, root);
    this.#objects = new ObjectTable(bpf);
  }

  adopt(sources: Iterable<MirrorSource>, directories: readonly string[]): MirrorRefusal[] {
    const refusals: MirrorRefusal[] = [];
    const kept: string[] = [];
    const keep = (pathname: string) => {
      const path = this.#tree.place(pathname);
      if (typeof path === "string") kept.push(path);
    };
    for (const pathname of directories) {
      const refused = this.#tree.ensureDirectoryAt(pathname);
      if (refused !== null) refusals.push(refused);
      keep(pathname);
    }
    for (const source of sources) {
      refusals.push(...this.resync(source));
      if (typeof mirrored(source.map) === "string") continue;
      kept.push(this.#tree.byId(source.map.id));
      source.pathnames.forEach(keep);
    }
    refusals.push(...this.#tree.sweep(kept));
    return refusals;
  }

  apply(changes: readonly MirrorChange[]): MirrorRefusal[] {
    const refusals: MirrorRefusal[] = [];
    for (const change of changes) {
      const refused = this.#carry(change);
      if (refused !== null && this.#fails(refused)) refusals.push(refused);
    }
    return refusals;
  }

  resync(source: MirrorSource): MirrorRefusal[] {
    const { map } = source;
    const type = mirrored(map);
    if (typeof type === "string") {
      this.#entries.set(map.id, { kernel: null, status: { state: "off", detail: type } });
      return [];
    }
    const entry: Entry = { kernel: this.#entries.get(map.id)?.kernel ?? null, status: NOT_KNOWN };
    this.#entries.set(map.id, entry);
    const refusals = this.#settle(entry, source, type);
    const first = refusals[0];
    if (first !== undefined) this.#fails(first);
    else if (entry.kernel !== null) entry.status = this.#on(entry.kernel);
    return refusals;
  }

  status(mapId: number): MirrorStatus {
    return this.#entries.get(mapId)?.status ?? NOT_KNOWN;
  }

  adoptObjects(objects: Iterable<ObjectRecord>): void {
    this.#objects.adopt(objects);
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
  }

  #carry(change: MirrorChange): MirrorRefusal | null {
    switch (change.kind) {
      case "elements":
        return this.#kernelOf(change.map)?.write(change.changes) ?? null;
      case "create":
        return this.#create(change.map);
      case "freeze":
        return this.#kernelOf(change.map)?.freeze() ?? null;
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

  #create(map: MapRecord): MirrorRefusal | null {
    const type = mirrored(map);
    if (typeof type === "string") {
      this.#entries.set(map.id, { kernel: null, status: { state: "off", detail: type } });
      return null;
    }
    const made = makeKernelMap(this.#bpf, this.#host, type, map);
    if (!(made instanceof KernelMap)) {
      this.#entries.set(map.id, { kernel: null, status: NOT_KNOWN });
      return made;
    }
    this.#entries.set(map.id, { kernel: made, status: this.#on(made) });
    return this.#tree.ensure(made, this.#tree.byId(map.id));
  }

  #free(map: MapRecord): MirrorRefusal | null {
    const entry = this.#entries.get(map.id);
    this.#entries.delete(map.id);
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
    entry.kernel ??= openKernelMap(this.#bpf, this.#host, type, map, byId);
    const usable = entry.kernel !== null && (map.frozen || !entry.kernel.isFrozen());
    let refused = usable ? repair(entry.kernel as KernelMap, source.elements()) : null;
    if (!usable || refused?.errno === "EPERM") {
      const made = makeKernelMap(this.#bpf, this.#host, type, map);
      if (!(made instanceof KernelMap)) return [made];
      entry.kernel?.close();
      entry.kernel = made;
      refused = fill(made, source.elements());
    }
    const kernel = entry.kernel as KernelMap;
    const refusals = [refused];
    if (map.frozen && !kernel.isFrozen()) refusals.push(kernel.freeze());
    refusals.push(this.#tree.ensure(kernel, byId));
    for (const pathname of source.pathnames) refusals.push(this.#tree.ensureAt(kernel, pathname));
    return refusals.filter((refusal) => refusal !== null);
  }

  #kernelOf(map: MapRecord): KernelMap | null {
    return this.#entries.get(map.id)?.kernel ?? null;
  }

  #on(kernel: KernelMap): MirrorStatus {
    return { state: "on", kernelId: kernel.id, pinned: this.#tree.byId(kernel.map.id) };
  }

  /** Notes a refusal at its map. False: it is noted already. */
  #fails({ mapId, operation, errno, detail }: MirrorRefusal): boolean {
    const entry = this.#entries.get(mapId);
    if (entry === undefined) return true;
    const { status } = entry;
    if (status.state === "failed" && status.operation === operation && status.errno === errno) return false;
    entry.status = { state: "failed", operation, errno, detail };
    return true;
  }
}

const NOT_KNOWN: MirrorStatus = { state: "off", detail: "the mirror does not know this map" };
