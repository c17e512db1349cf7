import { randomBytes } from "node:crypto";
import {
  closeSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { MadeCgroup } from "../syscall/command.ts";
import { bootId } from "./pidfd.ts";
import { errnoOf } from "./refusal.ts";

/**
 * The note of a cgroup that this ledger has made; each has a file of its own. The note is written before the cgroup is
 * made, and completed with the cgroup's device and inode. So a service that is killed at any step leaves no cgroup that
 * the next start cannot recognize. Only a recognized cgroup is removed; a name alone proves nothing.
 */
interface Note {
  readonly path: string;
  /** /proc/sys/kernel/random/boot_id. Cgroups do not outlive a boot, and their inode numbers are reused. */
  readonly boot: string;
  /** Device and inode of the note itself, so that a copy of the data directory owns no cgroup. */
  readonly note: string;
  /** Device and inode of the cgroup; absent until it is made. */
  readonly inode?: string;
}

/** The length of a cgroup's random name, which nobody else chooses by chance. */
const NAME_BYTES = 16;

export class MadeCgroups {
  readonly #directory: string | null;

  /** null: no notes are kept, and the caller removes the cgroups that it makes. */
  constructor(directory: string | null) {
    this.#directory = directory;
  }

  /** Makes a cgroup below another one. Throws errors of node:fs. */
  make(parent: string): MadeCgroup {
    const name = `mapledger-${randomBytes(NAME_BYTES).toString("hex")}`;
    const path = join(parent, name);
    const write = this.#begin(name, path);
    try {
      mkdirSync(path);
      const inode = inodeOf(path) as string;
      write(inode);
      return { path, inode };
    } catch (error) {
      this.#forget(name);
      throw error;
    }
  }

  /** The cgroup with this path and inode number, if this ledger has made it. */
  find(path: string, ino: string): MadeCgroup | null {
    const note = this.#read(nameOf(path));
    if (note === null || note === "unreadable" || note.path !== path) return null;
    return note.inode?.endsWith(`:${ino}`) === true ? { path, inode: note.inode } : null;
  }

  /** Removes a cgroup. It stays if a process has moved into it, or if another cgroup has its path. */
  remove({ path, inode }: MadeCgroup): void {
    if (inodeOf(path) === inode) errnoOf(() => rmdirSync(path));
    this.#forget(nameOf(path));
  }

  /** Removes cgroups that a killed service has left, except those in use. */
  removeLeft(used: ReadonlySet<string>): void {
    for (const name of this.#names()) {
      const note = this.#read(name);
      if (note === "unreadable" || (note !== null && used.has(note.path))) continue;
      // A note without an inode is from a service that was killed before it completed the note. The random name is this
      // ledger's alone, so the cgroup may be removed.
      if (note !== null && (note.inode === undefined || note.inode === inodeOf(note.path)))
        errnoOf(() => rmdirSync(note.path));
      this.#forget(name);
    }
  }

  /** Writes a note; the returned function completes it. */
  #begin(name: string, path: string): (inode: string) => void {
    if (this.#directory === null) return () => {};
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const file = join(this.#directory, name);
    const write = (note: Omit<Note, "note">, flags: string): void => {
      const fd = openSync(file, flags, 0o600);
      const { dev, ino } = fstatSync(fd, { bigint: true });
      writeSync(fd, JSON.stringify({ ...note, note: `${dev}:${ino}` } satisfies Note));
      closeSync(fd);
    };
    const boot = bootId();
    write({ path, boot }, "wx");
    return (inode) => write({ path, boot, inode }, "r+");
  }

  #forget(name: string): void {
    const directory = this.#directory;
    if (directory !== null) errnoOf(() => unlinkSync(join(directory, name)));
  }

  #names(): readonly string[] {
    try {
      return this.#directory === null ? [] : readdirSync(this.#directory);
    } catch {
      return [];
    }
  }

  /** null: there is no note, or it is void: of another boot, a copy, or incomplete. */
  #read(name: string): Note | "unreadable" | null {
    if (this.#directory === null) return null;
    const file = join(this.#directory, name);
    let text: string;
    try {
      text = readFileSync(file, "utf8");
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "ENOENT" ? null : "unreadable";
    }
    const note = parse(text);
    return note?.boot === bootId() && note.note === inodeOf(file) && nameOf(note.path) === name ? note : null;
  }
}

function parse(text: string): Note | null {
  try {
    return JSON.parse(text) as Note;
  } catch {
    return null;
  }
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Device and inode number of the entry at a path; null if there is none or it cannot be read. */
function inodeOf(path: string): string | null {
  try {
    const { dev, ino } = lstatSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return null;
  }
}
