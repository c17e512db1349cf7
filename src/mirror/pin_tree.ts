import { lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { ERRNO } from "../abi/errno.ts";
import type { MirrorRefusal } from "../engine/ports.ts";
import { BPFFS } from "../syscall/pins.ts";
import type { Bpf } from "./bpf.ts";
import { BY_ID, CARRIED, OWNER } from "./bpffs.ts";
import { fdinfo } from "./fdinfo.ts";
import type { KernelMap } from "./kernel_map.ts";
import { errnoOf, refusal } from "./refusal.ts";

/** Of an operation that concerns no map. */
const NO_MAP = 0;

/**
 * The mirror's directory of bpffs. A session's pin /sys/fs/bpf/X/Y is mirrored at ROOT/X/Y, every map's own pin at
 * ROOT/by_id/ID; so X must be none of `by_id`, `owner` and `carried`. Pins and links are files, directories are directories:
 *
 *     ROOT/owner -> the instance's id       ROOT/by_id/7      ROOT/tc/globals/routes
 */
export class PinTree {
  readonly #bpf: Bpf;
  readonly #root: string;

  constructor(bpf: Bpf, root: string) {
    this.#bpf = bpf;
    this.#root = root;
  }

  byId(mapId: number): string {
    return join(this.#root, BY_ID, String(mapId));
  }

  get carried(): string {
    return join(this.#root, CARRIED);
  }

  /** Where a session's pathname is mirrored, or the negative errno that stands against it. */
  place(pathname: string): string | number {
    if (pathname === BPFFS) return this.#root;
    if (!pathname.startsWith(`${BPFFS}/`)) return -ERRNO.EPERM;
    const names = pathname.slice(BPFFS.length + 1).split("/");
    if (names.some((name) => name === "" || name.includes("."))) return -ERRNO.EPERM;
    if (names[0] === OWNER || names[0] === BY_ID || names[0] === CARRIED) return -ERRNO.EEXIST;
    return join(this.#root, ...names);
  }

  /** Pins where nothing is yet. The map's own pin there already is as good. */
  pin(kernel: KernelMap, pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    const ret = typeof path === "number" ? path : this.#bpf.pin(kernel.fd, path);
    if (ret === 0) return null;
    if (ret === -ERRNO.EEXIST && typeof path === "string" && this.#idAt(path) === kernel.id) return null;
    return refusal(kernel.map.id, "BPF_OBJ_PIN", ret, `pinning at ${path === ret ? pathname : path}`);
  }

  /** Pins, whatever there was: a pin of another map is replaced in one step, so that the path is never without one. */
  ensure(kernel: KernelMap, path: string): MirrorRefusal | null {
    if (this.#bpf.pin(kernel.fd, path) === 0) return null;
    if (this.#idAt(path) === kernel.id) return null;
    const mapId = kernel.map.id;
    const unmade = this.#ensureDirectory(dirname(path));
    if (unmade !== 0) return refusal(mapId, "mkdir", unmade, `making ${dirname(path)}`);
    if (isDirectory(path)) errnoOf(() => rmSync(path, { recursive: true }));
    const temporary = join(this.#root, BY_ID, "new");
    errnoOf(() => unlinkSync(temporary));
    const unpinned = this.#bpf.pin(kernel.fd, temporary);
    if (unpinned < 0) return refusal(mapId, "BPF_OBJ_PIN", unpinned, `pinning at ${temporary}`);
    const unmoved = errnoOf(() => renameSync(temporary, path));
    return unmoved === 0 ? null : refusal(mapId, "rename", unmoved, `moving ${temporary} to ${path}`);
  }

  /** ensure() at a session's pathname. */
  ensureAt(kernel: KernelMap, pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    if (typeof path === "string") return this.ensure(kernel, path);
    return refusal(kernel.map.id, "BPF_OBJ_PIN", path, `pinning at ${pathname}`);
  }

  unpinId(mapId: number): MirrorRefusal | null {
    return unlink(mapId, this.byId(mapId));
  }

  unpin(pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    return typeof path === "string" ? unlink(NO_MAP, path) : null;
  }

  mkdir(pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    const ret = typeof path === "number" ? path : errnoOf(() => mkdirSync(path));
    if (ret === 0) return null;
    if (ret === -ERRNO.EEXIST && typeof path === "string" && isDirectory(path)) return null;
    return refusal(NO_MAP, "mkdir", ret, `making ${path === ret ? pathname : path}`);
  }

  rmdir(pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    if (typeof path === "number") return null;
    const ret = errnoOf(() => rmdirSync(path));
    return ret === 0 || ret === -ERRNO.ENOENT ? null : refusal(NO_MAP, "rmdir", ret, `removing ${path}`);
  }

  /** Makes directories, ancestors too; whatever else is in their place goes. */
  ensureDirectoryAt(pathname: string): MirrorRefusal | null {
    const path = this.place(pathname);
    const ret = typeof path === "string" ? this.#ensureDirectory(path) : path;
    return ret === 0 ? null : refusal(NO_MAP, "mkdir", ret, `making ${path === ret ? pathname : path}`);
  }

  /** Removes what is neither among the paths nor on the way to one of them. */
  sweep(paths: Iterable<string>): MirrorRefusal[] {
    const kept = new Set([join(this.#root, OWNER), join(this.#root, BY_ID), this.carried]);
    for (let path of paths) for (; path !== this.#root && !kept.has(path); path = dirname(path)) kept.add(path);
    const refusals: MirrorRefusal[] = [];
    this.#sweep(this.#root, kept, refusals);
    return refusals;
  }

  #sweep(directory: string, kept: ReadonlySet<string>, refusals: MirrorRefusal[]): void {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (kept.has(path)) {
        if (entry.isDirectory()) this.#sweep(path, kept, refusals);
        continue;
      }
      const ret = errnoOf(() => rmSync(path, { recursive: true }));
      if (ret !== 0) refusals.push(refusal(NO_MAP, "unlink", ret, `removing ${path}`));
    }
  }

  #ensureDirectory(path: string): number {
    if (isDirectory(path)) return 0;
    const parent = path === this.#root ? 0 : this.#ensureDirectory(dirname(path));
    if (parent !== 0) return parent;
    errnoOf(() => unlinkSync(path));
    return errnoOf(() => mkdirSync(path));
  }

  /** The kernel's id of the map that is pinned at `path`; null where none is. */
  #idAt(path: string): number | null {
    const fd = this.#bpf.get(path);
    if (fd < 0) return null;
    const id = fdinfo(fd)?.mapId ?? null;
    this.#bpf.close(fd);
    return id;
  }
}

function unlink(mapId: number, path: string): MirrorRefusal | null {
  const ret = errnoOf(() => unlinkSync(path));
  return ret === 0 || ret === -ERRNO.ENOENT ? null : refusal(mapId, "unlink", ret, `removing ${path}`);
}

function isDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
