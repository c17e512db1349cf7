/**
 * Opens paths that clients name, only below the directories of MAPLEDGER_OPEN_ROOTS. openat2(2) with RESOLVE_BENEATH
 * refuses a `..`, a symbolic link or a rename that leads out of the root, even during the walk. O_PATH reads nothing
 * and never waits: a FIFO, a device or an automount point is refused by its type, and not opened. Inode storage accepts
 * an O_PATH descriptor of a file (fdget_raw()); directories are opened once they are known to be directories.
 */

import { constants } from "node:fs";
import { ERRNO } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";
import { AT_FDCWD } from "../native/libc.ts";
import type { Privilege } from "./capability.ts";

/** The reason why a path was not opened. */
export interface OpenRefusal {
  readonly ret: number;
  readonly detail: string;
  /** Capabilities that opening it may need. */
  readonly needed?: readonly Privilege[];
}

/** <asm-generic/fcntl.h>; node:fs does not have them. */
export const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
/** <linux/openat2.h> */
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_BENEATH = 0x08;
/** The kernel refuses a path with `..` (EAGAIN) if anything on the machine is renamed during the walk. */
const TRIES = 16;
const ENOSYS = 38;
const EXDEV = 18;

export const OPEN_ROOTS_DEFAULT = "/sys/fs/bpf:/sys/fs/cgroup";

/** The directories that the setting names, without trailing slashes. */
export function openRoots(setting: string): readonly string[] {
  return setting
    .split(":")
    .filter((root) => root !== "")
    .map((root) => root.replace(/\/+$/, ""));
}

/**
 * Returns an O_PATH descriptor. `roots` null: the caller has checked the path. EACCES: the path is below none of the
 * roots, or leads out of its root.
 */
export function openBelow(
  bpf: Bpf,
  roots: readonly string[] | null,
  path: string,
  kind: "directory" | "anything",
): number | OpenRefusal {
  const flags = O_PATH | O_CLOEXEC | (kind === "directory" ? constants.O_DIRECTORY : 0);
  if (roots === null) {
    const known = bpf.openat2(AT_FDCWD, path, flags, 0);
    return known < 0 ? failed(known, path) : known;
  }
  const root = rootOf(roots, path);
  if (root === null) return outside(path, "it is below none of the directories");
  const at = bpf.openat2(AT_FDCWD, root === "" ? "/" : root, O_PATH | O_CLOEXEC | constants.O_DIRECTORY, 0);
  if (at < 0) return failed(at, root);
  const below = path.slice(root.length).replace(/^\/+/, "") || ".";
  let fd = -ERRNO.EAGAIN;
  for (let left = TRIES; left > 0 && fd === -ERRNO.EAGAIN; left--)
    fd = bpf.openat2(at, below, flags, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
  bpf.close(at);
  if (fd === -EXDEV || fd === -ERRNO.ELOOP) return outside(path, `it leads out of ${root} by a link or ".."`);
  return fd < 0 ? failed(fd, path) : fd;
}

/** The longest root that a path is below. */
function rootOf(roots: readonly string[], path: string): string | null {
  const found = roots.filter((root) => path === root || path.startsWith(`${root}/`));
  return found.reduce<string | null>((best, root) => (best !== null && best.length > root.length ? best : root), null);
}

function outside(path: string, why: string): OpenRefusal {
  const detail = `opening ${path}: ${why} (MAPLEDGER_OPEN_ROOTS names the directories below which paths may be opened)`;
  return { ret: -ERRNO.EACCES, detail };
}

function failed(ret: number, path: string): OpenRefusal {
  if (ret !== -ENOSYS) return { ret, detail: `opening ${path}`, needed: ["CAP_DAC_READ_SEARCH"] };
  return {
    ret: -ERRNO.EOPNOTSUPP,
    detail: `opening ${path}: this kernel has no openat2(2), which came with Linux 5.6`,
  };
}
