/**
 * The paths of pins on bpffs, and of the directory of pins. `pin_tree.ts` makes and removes pins, and replaces one of
 * its own in one step (renameat2).
 */

import { closeSync, lstatSync, openSync, type Stats, statfsSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { ERRNO, errnoName } from "../abi/errno.ts";
import { BPFFS } from "../syscall/pins.ts";
import { makeDirectories } from "./directories.ts";
import { errnoOf } from "./refusal.ts";

/** BPF_FS_MAGIC, include/uapi/linux/magic.h. */
export const BPF_FS_MAGIC = 0xcafe4a11;
/** The inode of the root of a bpffs: simple_fill_super(), fs/libfs.c. */
const ROOT_INO = 1;

/** The name of the service's directory in the root of a bpffs. */
const OWN = "mapledger";
/** Names in the service's directory that a session's pin cannot have. */
const RESERVED = { owner: "owner", byId: "by_id", carried: "carried", refused: "refused", aside: "aside" } as const;
const RESERVED_NAMES: ReadonlySet<string> = new Set(Object.values(RESERVED));

/**
 * Whoever can open a directory can hold its lock, so only the service's user may list this directory. Other users pass
 * through it to the pins, which have modes of their own.
 */
const OWN_MODE = 0o711;

/**
 * The layout of pins for a root, the setting MAPLEDGER_BPFFS: either the root of a bpffs, which others use as well, or
 * a directory below one. In both cases the service's own entries are in one directory, `own`, with the same content, so
 * that kernel maps are found again if the setting changes from one to the other:
 *
 *     root                      /sys/fs/bpf                   /sys/fs/bpf/mapledger
 *     own                       /sys/fs/bpf/mapledger         /sys/fs/bpf/mapledger
 *     map 7's own pin           /sys/fs/bpf/mapledger/by_id/7 /sys/fs/bpf/mapledger/by_id/7
 *     a session's pin
 *     /sys/fs/bpf/tc/routes     /sys/fs/bpf/tc/routes         /sys/fs/bpf/mapledger/tc/routes
 *
 * The constructor checks once which of the two the root is.
 */
export class Layout {
  readonly root: string;
  /** The service's directory: its lock, its mark, and its other entries. */
  readonly own: string;
  /** A symbolic link whose target names the owner of the directory: mark.ts. */
  readonly owner: string;
  /** A directory with a pin of each kernel map. */
  readonly byIds: string;
  /** The pin of the map with the progress of each kernel map: progress_map.ts. */
  readonly carried: string;
  /** The pin of the map with the elements that the kernel has refused: refused_keys.ts. */
  readonly refused: string;
  /** A directory to which foreign pins are moved by an operator's order. */
  readonly aside: string;

  constructor(root: string) {
    this.root = resolve(root);
    this.own = isRootOfBpffs(this.root) ? join(this.root, OWN) : this.root;
    this.owner = join(this.own, RESERVED.owner);
    this.byIds = join(this.own, RESERVED.byId);
    this.carried = join(this.own, RESERVED.carried);
    this.refused = join(this.own, RESERVED.refused);
    this.aside = join(this.own, RESERVED.aside);
  }

  byId(mapId: number): string {
    return join(this.byIds, String(mapId));
  }

  /**
   * The path of a session's pathname, or a negative errno: -EEXIST if the path is the service's own, -EPERM if bpffs
   * cannot have it.
   */
  place(pathname: string): string | number {
    if (pathname === BPFFS) return this.root;
    const names = namesOf(pathname);
    if (names === null) return -ERRNO.EPERM;
    const first = names[0] as string;
    const isTaken = this.own === this.root ? RESERVED_NAMES.has(first) : first === OWN;
    return isTaken ? -ERRNO.EEXIST : join(this.root, ...names);
  }

  /** The path that a session's pathname had while MAPLEDGER_BPFFS was `own`; null: it had the same path, or none. */
  legacyPlace(pathname: string): string | null {
    if (this.own === this.root) return null;
    const names = namesOf(pathname);
    return names === null || RESERVED_NAMES.has(names[0] as string) ? null : join(this.own, ...names);
  }
}

/**
 * A path for making a file before it replaces another one atomically. It is in `by_id`, whose other names are numbers.
 */
export function temporaryFor(own: string, name: string): string {
  return join(own, RESERVED.byId, name);
}

export function ownerIn(own: string): string {
  return join(own, RESERVED.owner);
}

/**
 * Makes the service's directory if it does not exist. Returns null, or the reason why the root cannot be used, with
 * advice for an operator.
 */
export function makeOwn({ root, own }: Layout): string | null {
  const { standing, errno } = nearest(own);
  const isBpffs = statfsSync(standing).type === BPF_FS_MAGIC;
  if (errno === -ERRNO.EACCES && !isBpffs) return closed(standing);
  if (!isBpffs) return `no bpffs is mounted at ${root}: mount -t bpf bpf ${mountPointFor(root)}`;
  const dotted = relative(standing, own)
    .split("/")
    .find((name) => name.includes("."));
  if (dotted !== undefined)
    return `bpffs refuses names with a dot (EPERM), and ${root} has ${dotted}: choose another MAPLEDGER_BPFFS`;
  if (!statSync(standing).isDirectory())
    return `${standing} is no directory, something else is pinned there: choose another MAPLEDGER_BPFFS`;
  const unmade = errnoOf(() => makeDirectories(own, OWN_MODE));
  return refusedIn(own, "making it", unmade) ?? refusedIn(own, "opening it", openable(own));
}

/**
 * The reason why pins in the service's directory may not be the service's, or null. Call this while the directory is
 * locked. The mark is made before `by_id`, so `by_id` without a mark is somebody else's.
 */
export function foreignPins({ own, owner, byIds }: Layout): string | null {
  if (exists(owner) || !exists(byIds)) return null;
  return (
    `${byIds} is there without ${owner}, so its pins are not known to be mapledger's: ` +
    `choose another MAPLEDGER_BPFFS, or remove ${byIds} if nobody in ${own} needs it`
  );
}

/** The text for a negative errno of an operation in the service's directory; null if `errno` is not negative. */
export function refusedIn(own: string, attempted: string, errno: number): string | null {
  if (errno >= 0) return null;
  if (errno === -ERRNO.EACCES) return closed(nearest(own).standing);
  return `${own}: ${attempted}: ${errnoName(-errno)}`;
}

function closed(directory: string): string {
  const { uid, gid, mode } = statSync(directory);
  const us = process.geteuid?.() ?? 0;
  const bits = (mode & 0o7777).toString(8).padStart(4, "0");
  return (
    `${directory} is closed to uid ${us} (its mode is ${bits}, its owner uid ${uid}, gid ${gid}): mapledger needs a directory ` +
    `that an ExecStartPre makes and owns (chmod 0711 ${BPFFS}; install -d -o ${us} DIRECTORY), or a mount with uid= and gid= ` +
    `(mount -t bpf -o uid=${us},gid=${process.getegid?.() ?? 0},mode=0700 bpf DIRECTORY): name it in MAPLEDGER_BPFFS`
  );
}

/** The names below /sys/fs/bpf; null if the pathname cannot be on bpffs. */
function namesOf(pathname: string): string[] | null {
  if (!pathname.startsWith(`${BPFFS}/`)) return null;
  const names = pathname.slice(BPFFS.length + 1).split("/");
  return names.some((name) => name === "" || name.includes(".")) ? null : names;
}

function isRootOfBpffs(path: string): boolean {
  const found = stat(path);
  return typeof found !== "number" && found.ino === ROOT_INO && statfsSync(path).type === BPF_FS_MAGIC;
}

/** The path, or its closest visible parent directory; and the errno of looking at the path. */
function nearest(path: string): { readonly standing: string; readonly errno: number } {
  const first = stat(path);
  let standing = path;
  while (typeof stat(standing) === "number") standing = dirname(standing);
  return { standing, errno: typeof first === "number" ? first : 0 };
}

function mountPointFor(root: string): string {
  return root.startsWith(`${BPFFS}/`) ? BPFFS : root;
}

function openable(directory: string): number {
  return errnoOf(() => closeSync(openSync(directory, "r")));
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function stat(path: string): Stats | number {
  let found: Stats | undefined;
  const errno = errnoOf(() => {
    found = statSync(path);
  });
  return found ?? errno;
}
