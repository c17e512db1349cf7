/**
 * Directories and files that only their owner can open: 0700 and 0600. New ones get these modes from UMASK, which the
 * service and the command line set before anything else; existing ones are narrowed.
 */

import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  type Stats,
} from "node:fs";
import { join } from "node:path";

export const UMASK = 0o077;

const OTHERS = 0o077;
const OTHERS_WRITE = 0o022;
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;
/** Open flags that refuse a symbolic link and do not block on a FIFO. */
const AS_IT_IS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * Makes a data directory, or narrows an existing one with everything in it, from the top down: once a directory is
 * narrowed, nobody else can reach the files below it. Returns the paths that were open to others. Symbolic links are
 * not followed; sockets keep their modes, which their listener sets. Throws an Error that says which command to run if
 * something cannot be narrowed.
 */
export function makePrivate(directory: string): readonly string[] {
  if (mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE }) !== undefined) return [];
  const narrowed: string[] = [];
  const top = realpathSync(directory);
  try {
    narrowTree(top, null, narrowed);
  } catch (error) {
    throw error instanceof StillOpen ? new Error(error.advice(directory)) : error;
  }
  return narrowed;
}

/** Narrows files in a folder that is shared with others. Files that cannot be narrowed keep their modes. */
export function narrowFiles(folder: string, names: Iterable<string>): void {
  for (const name of names) {
    const stats = lstatSync(join(folder, name), { throwIfNoEntry: false });
    if (stats?.isFile() && stats.nlink === 1 && (stats.mode & OTHERS) !== 0) tryNarrow(join(folder, name), stats);
  }
}

function tryNarrow(path: string, stats: Stats): void {
  try {
    narrow(path, stats);
  } catch (error) {
    if (!(error instanceof StillOpen)) throw error;
  }
}

/** `within`: the stat of the parent directory; null: `path` is the data directory. */
function narrowTree(path: string, within: Stats | null, narrowed: string[]): void {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined || !(stats.isFile() || stats.isDirectory())) return;
  if ((stats.mode & OTHERS) !== 0 && !mayBeForeign(stats, within)) {
    narrow(path, stats);
    narrowed.push(path);
  }
  if (!stats.isDirectory()) return;
  for (const name of entriesOf(path, stats)) narrowTree(join(path, name), stats, narrowed);
}

/**
 * Whether a file may be a hard link that others put into the directory, to a file that is not the service's to narrow.
 */
function mayBeForeign(stats: Stats, within: Stats | null): boolean {
  if (within === null || !stats.isFile() || stats.nlink === 1) return false;
  return (within.mode & OTHERS_WRITE) !== 0 || within.uid !== stats.uid;
}

/**
 * The names in a directory. One that belongs to another user, such as a volume's lost+found, may be unreadable: then
 * none.
 */
function entriesOf(path: string, { uid }: Stats): readonly string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EACCES" && uid !== process.geteuid?.()) return [];
    throw error;
  }
}

function narrow(path: string, found: Stats): void {
  let fd: number | null = null;
  try {
    fd = openSync(path, AS_IT_IS);
    const opened = fstatSync(fd);
    if (opened.ino !== found.ino || opened.dev !== found.dev) throw new Error("it was replaced during the check");
    fchmodSync(fd, opened.mode & (opened.isDirectory() ? DIRECTORY_MODE : FILE_MODE));
    if ((fstatSync(fd).mode & OTHERS) !== 0) throw new Error("its file system does not keep modes");
  } catch (error) {
    throw new StillOpen(path, found, error as NodeJS.ErrnoException);
  } finally {
    if (fd !== null) closeSync(fd);
  }
}

/** A file or directory is open to others, and this process cannot narrow it. */
class StillOpen extends Error {
  readonly #path: string;
  readonly #found: Stats;

  constructor(path: string, found: Stats, why: NodeJS.ErrnoException) {
    super(why.code ?? why.message);
    this.#path = path;
    this.#found = found;
  }

  advice(directory: string): string {
    const { mode, uid, gid } = this.#found;
    const us = process.geteuid?.() ?? 0;
    const bits = (mode & 0o7777).toString(8).padStart(4, "0");
    const quoted = `'${directory.replaceAll("'", "'\\''")}'`;
    const owner = uid === us ? "" : `, or, to make it the service's: chown -R ${us}: ${quoted}`;
    return (
      `${directory} is open to others, and cannot be closed to them by uid ${us}: ${this.#path} has mode ${bits}, uid ${uid} ` +
      `and gid ${gid} (${this.message}). As its owner or root, run: chmod -R go-rwx ${quoted}${owner}`
    );
  }
}
