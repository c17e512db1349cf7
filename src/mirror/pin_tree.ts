import { lstatSync, renameSync, rmdirSync, type Stats, unlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ERRNO } from "../abi/errno.ts";
import type { MirrorRefusal } from "../engine/ports.ts";
import type { Bpf } from "../native/bpf.ts";
import { RENAME } from "../native/libc.ts";
import type { Occupied } from "../syscall/command.ts";
import { isClosed } from "./capability.ts";
import { makeDirectories } from "./directories.ts";
import { isMapFd } from "./fdinfo.ts";
import type { KernelMap } from "./kernel_map.ts";
import { type Layout, temporaryFor } from "./layout.ts";
import { errnoOf, isShortage, refusal as refusedAt } from "./refusal.ts";

/** Directories and pins that are not the service's own are closed to it without this. */
const NEEDED = ["CAP_DAC_OVERRIDE"] as const;

/** Of an operation that concerns no map. */
const NO_MAP = 0;
/** Names that are tried for a pin that is put aside. */
const ASIDE_TRIES = 1000;

/**
 * The pins of the mirror: a map's own, and those of sessions, where the layout has them. What others have pinned, and pins of
 * adopted maps that their owners made, are never replaced or removed, but by `exchange`, which puts them aside.
 */
export class PinTree {
  readonly #bpf: Bpf;
  readonly #layout: Layout;

  constructor(bpf: Bpf, layout: Layout) {
    this.#bpf = bpf;
    this.#layout = layout;
  }

  byId(mapId: number): string {
    return this.#layout.byId(mapId);
  }

  /** Where a session's pathname is mirrored, or the negative errno that stands against it. */
  place(pathname: string): string | number {
    return this.#layout.place(pathname);
  }

  /** Whether a path lies where the service alone keeps pins. */
  isOwn(path: string): boolean {
    const { byIds, aside, carried, refused } = this.#layout;
    return path.startsWith(`${byIds}/`) || path.startsWith(`${aside}/`) || path === carried || path === refused;
  }

  /**
   * The refusal of a session's new pin or directory whose path is not free. A pin of the same kernel map (`kernelId`) is as
   * good as the new pin, and a directory as good as a new directory. null if the path is free, and if lstat(2) fails
   * otherwise: then the attempt to make the entry tells.
   */
  occupied(pathname: string, as: "pin" | "directory", kernelId?: number): Occupied | null {
    const path = this.place(pathname);
    if (path === -ERRNO.EEXIST) return taken(`${pathname} is reserved: the mirror keeps entries of its own there`);
    const entry = typeof path === "string" ? entryAt(path) : null;
    if (entry === null) return null;
    if (as === "directory" && entry.isDirectory()) return null;
    if (as === "pin" && entry.isFile() && kernelId !== undefined && this.idAt(path as string) === kernelId) return null;
    return taken(`the machine has ${kindOf(entry)} at ${path} that the ledger does not have`);
  }

  /** Pins where nothing is yet. The map's own pin there already is as good. */
  pin(kernel: KernelMap, pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    if (path === kernel.map.adoptedPin) return null;
    const ret = typeof path === "number" ? path : this.#bpf.pin(kernel.fd, path);
    if (ret === 0) return null;
    if (ret === -ERRNO.EEXIST && typeof path === "string" && this.idAt(path) === kernel.id) return null;
    return refusal(kernel.map.id, "BPF_OBJ_PIN", ret, `pinning at ${path === ret ? pathname : path}`);
  }

  /** The same, with the directories above; what is there instead is left, and is no refusal: the watch tells of it. */
  pinWhereNothingIs(kernel: KernelMap, pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    if (typeof path === "number" || path === kernel.map.adoptedPin) return null;
    errnoOf(() => makeDirectories(dirname(path)));
    const ret = this.#bpf.pin(kernel.fd, path);
    if (ret === 0 || ret === -ERRNO.EEXIST) return null;
    return refusal(kernel.map.id, "BPF_OBJ_PIN", ret, `pinning at ${path}`);
  }

  /** A map's own pin, where nothing is, or where it is already. */
  pinById(kernel: KernelMap): MirrorRefusal | null {
    const path = this.byId(kernel.map.id);
    const ret = this.#bpf.pin(kernel.fd, path);
    if (ret === 0 || (ret === -ERRNO.EEXIST && this.idAt(path) === kernel.id)) return null;
    return refusal(kernel.map.id, "BPF_OBJ_PIN", ret, `pinning at ${path}`);
  }

  /** A map's own pin, from now on of this kernel map. What another log has left there is put aside. */
  replaceById(kernel: KernelMap, before: number | null = null): MirrorRefusal | null {
    const path = this.byId(kernel.map.id);
    const there = lstatSync(path, { throwIfNoEntry: false }) === undefined ? null : this.idAt(path);
    if (there === kernel.id) return null;
    if (there !== null && there === before) return this.#moveOver(kernel, path);
    const done = this.#exchangeAt(kernel, path);
    return "aside" in done ? null : done;
  }

  /** A session's pin, from now on of this kernel map, if it is of the one before, or nothing is there. */
  replaceOurs(kernel: KernelMap, pathname: string, before: number | null): MirrorRefusal | null {
    const path = this.place(pathname);
    if (typeof path === "number" || path === kernel.map.adoptedPin) return null;
    return before !== null && this.idAt(path) === before
      ? this.#moveOver(kernel, path)
      : this.pinWhereNothingIs(kernel, pathname);
  }

  /** Pins in the place of another pin in one step, so that the path is never without one. */
  #moveOver(kernel: KernelMap, path: string): MirrorRefusal | null {
    const temporary = this.#temporary(kernel);
    if (typeof temporary !== "string") return temporary;
    const unmoved = errnoOf(() => renameSync(temporary, path));
    if (unmoved === 0) return null;
    errnoOf(() => unlinkSync(temporary));
    return refusal(kernel.map.id, "rename", unmoved, `moving ${temporary} to ${path}`);
  }

  /** Pins a map at a session's pathname; what is pinned there is pinned in the directory `aside` from then on. */
  exchange(kernel: KernelMap, pathname: string): { readonly aside: string | null } | MirrorRefusal {
    const path = this.place(pathname);
    if (typeof path === "number") return refusal(kernel.map.id, "BPF_OBJ_PIN", path, `pinning at ${pathname}`);
    errnoOf(() => makeDirectories(dirname(path)));
    return this.#exchangeAt(kernel, path);
  }

  #exchangeAt(kernel: KernelMap, path: string): { readonly aside: string | null } | MirrorRefusal {
    const mapId = kernel.map.id;
    const pinned = this.#bpf.pin(kernel.fd, path);
    if (pinned === 0 || (pinned === -ERRNO.EEXIST && this.idAt(path) === kernel.id)) return { aside: null };
    if (pinned !== -ERRNO.EEXIST) return refusal(mapId, "BPF_OBJ_PIN", pinned, `pinning at ${path}`);
    const temporary = this.#temporary(kernel);
    if (typeof temporary !== "string") return temporary;
    const unexchanged = this.#bpf.rename(temporary, path, RENAME.EXCHANGE);
    if (unexchanged !== 0) {
      errnoOf(() => unlinkSync(temporary));
      return refusal(mapId, "renameat2", unexchanged, `exchanging ${temporary} and ${path}`);
    }
    // From here on the temporary path has what was there.
    const { aside } = this.#layout;
    errnoOf(() => makeDirectories(aside));
    for (let at = 1; at <= ASIDE_TRIES; at++) {
      const kept = join(aside, at === 1 ? basename(path) : `${basename(path)}_${at}`);
      const unmoved = this.#bpf.rename(temporary, kept, RENAME.NOREPLACE);
      if (unmoved === 0) return { aside: kept };
      if (unmoved !== -ERRNO.EEXIST) return refusal(mapId, "renameat2", unmoved, `moving ${temporary} to ${kept}`);
    }
    return refusal(mapId, "renameat2", -ERRNO.EEXIST, `moving ${temporary} to ${aside}`);
  }

  #temporary(kernel: KernelMap): string | MirrorRefusal {
    const temporary = temporaryFor(this.#layout.own, `new_${kernel.map.id}`);
    const before = this.idAt(temporary);
    if (before === kernel.id) errnoOf(() => unlinkSync(temporary));
    const unpinned = this.#bpf.pin(kernel.fd, temporary);
    return unpinned < 0 ? refusal(kernel.map.id, "BPF_OBJ_PIN", unpinned, `pinning at ${temporary}`) : temporary;
  }

  unpinId(mapId: number): MirrorRefusal | null {
    return unlink(mapId, this.byId(mapId));
  }

  /** Removes a session's pin if it names a kernel map of the mirror's; what others have pinned there stays. */
  unpin(pathname: string, isOurs: (kernelId: number) => boolean): MirrorRefusal | null {
    let first: MirrorRefusal | null = null;
    for (const path of this.#places(pathname)) {
      const id = this.idAt(path);
      const refused = id !== null && isOurs(id) ? unlink(NO_MAP, path) : null;
      first ??= refused;
    }
    return first;
  }

  /** Removes a session's pin if it names just this kernel map. */
  unpinIf(pathname: string, kernelId: number): MirrorRefusal | null {
    return this.unpin(pathname, (id) => id === kernelId);
  }

  /** Where a session's pin may be: also where an earlier setting of MAPLEDGER_BPFFS had it. */
  #places(pathname: string): string[] {
    return [this.place(pathname), this.#layout.legacyPlace(pathname)].filter((path) => typeof path === "string");
  }

  /** Makes a directory, ancestors too. One that is there is as good. */
  mkdir(pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    const ret = typeof path === "number" ? path : errnoOf(() => makeDirectories(path));
    if (ret === 0) return null;
    if (ret === -ERRNO.EEXIST && typeof path === "string" && isDirectory(path)) return null;
    return refusal(NO_MAP, "mkdir", ret, `making ${path === ret ? pathname : path}`);
  }

  /** One that others have pinned in stays. */
  rmdir(pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    if (typeof path === "number") return null;
    const ret = errnoOf(() => rmdirSync(path));
    const left: readonly number[] = [0, -ERRNO.ENOENT, -ERRNO.ENOTEMPTY];
    return left.includes(ret) ? null : refusal(NO_MAP, "rmdir", ret, `removing ${path}`);
  }

  /** The kernel's id of the map that is pinned at `path`; null where none is known to be. */
  idAt(path: string): number | null {
    const id = this.lookAt(path);
    return typeof id === "number" ? id : null;
  }

  /** The same; "unknown": it cannot be told at present, for want of descriptors, say; "closed": the service may not read it. */
  lookAt(path: string): number | "unknown" | "closed" | null {
    const fd = this.#bpf.getReadOnly(Buffer.from(path));
    if (fd === -ERRNO.EACCES && isClosed(path)) return "closed";
    if (fd < 0) return isShortage(fd) ? "unknown" : null;
    const info = isMapFd(fd) ? this.#bpf.infoByFd(fd) : null;
    this.#bpf.close(fd);
    return info === null || typeof info === "number" ? null : info.id;
  }
}

function refusal(mapId: number, operation: string, ret: number, attempted: string): MirrorRefusal {
  return refusedAt(mapId, operation, ret, attempted, NEEDED);
}

function unlink(mapId: number, path: string): MirrorRefusal | null {
  const ret = errnoOf(() => unlinkSync(path));
  return ret === 0 || ret === -ERRNO.ENOENT ? null : refusal(mapId, "unlink", ret, `removing ${path}`);
}

/** lstat(2), or null if it fails. */
function entryAt(path: string): Stats | null {
  let stats: Stats | null = null;
  errnoOf(() => {
    stats = lstatSync(path);
  });
  return stats;
}

function kindOf(entry: Stats): string {
  if (entry.isDirectory()) return "a directory";
  return entry.isSymbolicLink() ? "a symbolic link" : "a pin";
}

function taken(detail: string): Occupied {
  return { errno: "EEXIST", detail };
}

function isDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
