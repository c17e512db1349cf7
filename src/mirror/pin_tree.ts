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

/** The capability that other users' directories and pins may need. */
const NEEDED = ["CAP_DAC_OVERRIDE"] as const;

/** The map id in refusals of operations that concern no map. */
const NO_MAP = 0;
/** The most names that are tried for a pin that is moved aside. */
const ASIDE_TRIES = 1000;

/**
 * The mirror's pins: maps' own pins and sessions' pins, at the paths of the layout. Pins of others, among them those of
 * adopted maps' owners, are never replaced or removed; `exchange` moves them aside.
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

  /** The path of a session's pathname, or a negative errno if it has none. */
  place(pathname: string): string | number {
    return this.#layout.place(pathname);
  }

  /** Whether a path is in a directory that the service keeps for itself. */
  isOwn(path: string): boolean {
    const { byIds, aside, carried, refused } = this.#layout;
    return path.startsWith(`${byIds}/`) || path.startsWith(`${aside}/`) || path === carried || path === refused;
  }

  /**
   * The refusal of a session's new pin or directory if its path is taken. A pin of the same kernel map (`kernelId`)
   * does not count, nor does a directory for a new directory. null if the path is free, or if lstat(2) fails otherwise:
   * the attempt to make the entry then shows the error.
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

  /**
   * Pins a map at a session's pathname that is free. If the same kernel map is pinned there, nothing is to be done.
   */
  pin(kernel: KernelMap, pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    if (path === kernel.map.adoptedPin) return null;
    const ret = typeof path === "number" ? path : this.#bpf.pin(kernel.fd, path);
    if (ret === 0) return null;
    if (ret === -ERRNO.EEXIST && typeof path === "string" && this.idAt(path) === kernel.id) return null;
    return refusal(kernel.map.id, "BPF_OBJ_PIN", ret, `pinning at ${path === ret ? pathname : path}`);
  }

  /**
   * As `pin`, but makes the parent directories, and returns no refusal if something else is at the path: it stays, and
   * the watch reports it.
   */
  pinWhereNothingIs(kernel: KernelMap, pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    if (typeof path === "number" || path === kernel.map.adoptedPin) return null;
    errnoOf(() => makeDirectories(dirname(path)));
    const ret = this.#bpf.pin(kernel.fd, path);
    if (ret === 0 || ret === -ERRNO.EEXIST) return null;
    return refusal(kernel.map.id, "BPF_OBJ_PIN", ret, `pinning at ${path}`);
  }

  /** Makes a map's own pin. If the path pins this kernel map already, nothing is to be done. */
  pinById(kernel: KernelMap): MirrorRefusal | null {
    const path = this.byId(kernel.map.id);
    const ret = this.#bpf.pin(kernel.fd, path);
    if (ret === 0 || (ret === -ERRNO.EEXIST && this.idAt(path) === kernel.id)) return null;
    return refusal(kernel.map.id, "BPF_OBJ_PIN", ret, `pinning at ${path}`);
  }

  /**
   * Makes a map's own pin for this kernel map, in place of `before`. A pin that another log has left is moved aside.
   */
  replaceById(kernel: KernelMap, before: number | null = null): MirrorRefusal | null {
    const path = this.byId(kernel.map.id);
    const there = lstatSync(path, { throwIfNoEntry: false }) === undefined ? null : this.idAt(path);
    if (there === kernel.id) return null;
    if (there !== null && there === before) return this.#moveOver(kernel, path);
    const done = this.#exchangeAt(kernel, path);
    return "aside" in done ? null : done;
  }

  /** Makes a session's pin for this kernel map, if its path is free or pins `before`. */
  replaceOurs(kernel: KernelMap, pathname: string, before: number | null): MirrorRefusal | null {
    const path = this.place(pathname);
    if (typeof path === "number" || path === kernel.map.adoptedPin) return null;
    return before !== null && this.idAt(path) === before
      ? this.#moveOver(kernel, path)
      : this.pinWhereNothingIs(kernel, pathname);
  }

  /** Replaces a pin atomically, so that its path is never empty. */
  #moveOver(kernel: KernelMap, path: string): MirrorRefusal | null {
    const temporary = this.#temporary(kernel);
    if (typeof temporary !== "string") return temporary;
    const unmoved = errnoOf(() => renameSync(temporary, path));
    if (unmoved === 0) return null;
    errnoOf(() => unlinkSync(temporary));
    return refusal(kernel.map.id, "rename", unmoved, `moving ${temporary} to ${path}`);
  }

  /** Pins a map at a session's pathname, and moves an entry of others to the directory `aside`. */
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
    // The temporary path now has the former entry.
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

  /** Removes a session's pin if it pins a kernel map of the mirror. Pins of others stay. */
  unpin(pathname: string, isOurs: (kernelId: number) => boolean): MirrorRefusal | null {
    let first: MirrorRefusal | null = null;
    for (const path of this.#places(pathname)) {
      const id = this.idAt(path);
      const refused = id !== null && isOurs(id) ? unlink(NO_MAP, path) : null;
      first ??= refused;
    }
    return first;
  }

  /** Removes a session's pin if it pins this kernel map. */
  unpinIf(pathname: string, kernelId: number): MirrorRefusal | null {
    return this.unpin(pathname, (id) => id === kernelId);
  }

  /** The paths at which a session's pin may be, also by an earlier MAPLEDGER_BPFFS. */
  #places(pathname: string): string[] {
    return [this.place(pathname), this.#layout.legacyPlace(pathname)].filter((path) => typeof path === "string");
  }

  /** Makes a directory and its parents, if they do not exist. */
  mkdir(pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    const ret = typeof path === "number" ? path : errnoOf(() => makeDirectories(path));
    if (ret === 0) return null;
    if (ret === -ERRNO.EEXIST && typeof path === "string" && isDirectory(path)) return null;
    return refusal(NO_MAP, "mkdir", ret, `making ${path === ret ? pathname : path}`);
  }

  /** Removes a directory; it stays if others have pinned in it. */
  rmdir(pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    if (typeof path === "number") return null;
    const ret = errnoOf(() => rmdirSync(path));
    const left: readonly number[] = [0, -ERRNO.ENOENT, -ERRNO.ENOTEMPTY];
    return left.includes(ret) ? null : refusal(NO_MAP, "rmdir", ret, `removing ${path}`);
  }

  /** The kernel's id of the map that is pinned at `path`; null if none is known to be. */
  idAt(path: string): number | null {
    const id = this.lookAt(path);
    return typeof id === "number" ? id : null;
  }

  /**
   * As idAt, but "unknown" if it cannot be read at present, for example because no descriptors are left, and "closed"
   * if the service may not read it.
   */
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
