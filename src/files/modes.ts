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

/**
 * Directories and files that are their owner's alone: 0700 and 0600. New ones are made so by UMASK, which the service and
 * the command line set before anything else; those that are there already are narrowed.
 */
export const UMASK = 0o077;

const OTHERS = 0o077;
const OTHERS_WRITE = 0o022;
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;
/** A link is not followed, and a FIFO does not hold up who opens it. */
const AS_IT_IS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * Makes a data directory, or narrows the one that is there with all that is in it, from the top down: nobody else can reach
 * what is below a directory that has been narrowed. Answers the paths that were open to others. Links within it are not
 * followed, and sockets are left to who listens. Throws an Error that says what to run if something cannot be narrowed.
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

/** Narrows files that lie in a folder that others may use as well. Those that cannot be narrowed stay as they are. */
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

/** `within`: the directory around it as it was found; null: it is the data directory. */
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

/** A file that others may have linked into the directory, from where it is theirs or the machine's. */
function mayBeForeign(stats: Stats, within: Stats | null): boolean {
  if (within === null || !stats.isFile() || stats.nlink === 1) return false;
  return (within.mode & OTHERS_WRITE) !== 0 || within.uid !== stats.uid;
}

/** A directory of somebody else's, such as a volume's lost+found, may be closed to us. */
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
    if (opened.ino !== found.ino || opened.dev !== found.dev) throw new Error("it was replaced meanwhile");
    fchmodSync(fd, opened.mode & (opened.isDirectory() ? DIRECTORY_MODE : FILE_MODE));
    if ((fstatSync(fd).mode & OTHERS) !== 0) throw new Error("its file system keeps no modes");
  } catch (error) {
    throw new StillOpen(path, found, error as NodeJS.ErrnoException);
  } finally {
    if (fd !== null) closeSync(fd);
  }
}

/** Something that others can open, and that this process cannot close to them. */
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
