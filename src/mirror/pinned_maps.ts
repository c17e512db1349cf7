import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats } from "node:fs";
import { ERRNO, errnoName } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";
import { refusedFor } from "./capability.ts";
import { type BpffsMount, bpffsMounts, join } from "./mounts.ts";
import type { Pace } from "./pace.ts";
import { errnoOf } from "./refusal.ts";

/** Errnos of a name that has vanished since the directory was read. */
const VANISHED: ReadonlySet<number> = new Set([-ERRNO.ENOENT, -ERRNO.ENOTDIR]);

/**
 * Finds all pins of maps on the bpffs mounts that can be reached in this mount namespace. Returns the reason why some
 * may be missing, or null. Only directories and pins of these mounts are opened: symbolic links are not followed, and
 * other file systems that are mounted on a bpffs are skipped. No descriptor stays open between two pieces, so that a
 * file system can be unmounted.
 */
export class PinnedMaps {
  readonly #bpf: Bpf;
  readonly #pace: Pace;
  readonly #each: (path: string, kernelId: number) => void;
  /** Device and inode of the pins that were read: a pin may have several paths, by hard links and bind mounts. */
  readonly #seen = new Set<string>();
  #missing: string | null = null;

  constructor(bpf: Bpf, pace: Pace, each: (path: string, kernelId: number) => void) {
    this.#bpf = bpf;
    this.#pace = pace;
    this.#each = each;
  }

  *walk(): Generator<void, string | null> {
    let mountinfo: Buffer = Buffer.alloc(0);
    const unread = errnoOf(() => {
      mountinfo = readFileSync("/proc/self/mountinfo");
    });
    if (unread !== 0) return `reading /proc/self/mountinfo: ${errnoName(-unread)}`;
    const { visible, hidden } = bpffsMounts(mountinfo);
    if (hidden !== null) this.#missing = `pins at ${shown(hidden)} cannot be seen: another mount covers this bpffs`;
    for (const mount of visible) yield* this.#mount(mount);
    return this.#missing;
  }

  *#mount(mount: BpffsMount): Generator<void> {
    const directories = [mount.point];
    for (let at = directories.pop(); at !== undefined; at = directories.pop()) {
      for (const name of this.#names(mount, at)) {
        yield* this.#pace.step();
        const path = join(at, name);
        if (mount.covered.has(path)) continue;
        const found = this.#found(mount, path);
        if (found?.isDirectory() === true) directories.push(path);
        else if (found?.isFile() === true) this.#pin(mount, path, found);
      }
      yield* this.#pace.step();
    }
  }

  #names(mount: BpffsMount, path: string): readonly string[] {
    let names: string[] = [];
    if (this.#found(mount, path)?.isDirectory() !== true) return [];
    const unread = errnoOf(() => {
      names = readdirSync(bytes(path), "latin1").sort();
    });
    this.#note(unread, path);
    return names;
  }

  /** The entry at a path, if it still belongs to this mount. */
  #found(mount: BpffsMount, path: string): Stats | null {
    let found: Stats | undefined;
    const refused = errnoOf(() => {
      found = lstatSync(bytes(path), { throwIfNoEntry: false });
    });
    this.#note(refused, path);
    return found?.dev === mount.dev ? found : null;
  }

  #pin(mount: BpffsMount, path: string, { ino }: Stats): void {
    const inode = `${mount.dev}:${ino}`;
    if (this.#seen.has(inode)) return;
    this.#seen.add(inode);
    const fd = this.#bpf.getReadOnly(bytes(path));
    if (fd >= 0) {
      const kernelId = this.#kernelId(fd, path);
      this.#bpf.close(fd);
      if (kernelId !== null) this.#each(shown(path), kernelId);
      return;
    }
    // EINVAL: the pin is a program or a link. If the path has another inode by now, the pin was replaced.
    if (fd !== -ERRNO.EINVAL && this.#found(mount, path)?.ino === ino) this.#note(fd, path);
  }

  /**
   * null: it is not a map. Older kernels open programs and links for reading, too. The link is read because
   * /proc/self/fdinfo takes ten times as long.
   */
  #kernelId(fd: number, path: string): number | null {
    let kind = "";
    const unread = errnoOf(() => {
      kind = readlinkSync(`/proc/self/fd/${fd}`);
    });
    this.#note(unread, path);
    if (kind !== "anon_inode:bpf-map") return null;
    const info = this.#bpf.infoByFd(fd);
    if (typeof info !== "number") return info.id;
    this.#note(info, path);
    return null;
  }

  #note(ret: number, path: string): void {
    if (ret === 0 || VANISHED.has(ret)) return;
    this.#missing ??= refusedFor(`reading ${shown(path)}`, ret, ["CAP_DAC_READ_SEARCH"]);
  }
}

function bytes(path: string): Buffer {
  return Buffer.from(path, "latin1");
}

function shown(path: string): string {
  return bytes(path).toString();
}
