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
 * The cgroups that this ledger has made, each with a note in a directory of its own: the note is written before the cgroup is
 * made, and completed by the cgroup's device and inode number, so that a service that is killed at any step leaves no cgroup
 * behind that the next start cannot tell. Only such a cgroup is ever removed; a name is nobody's proof.
 */
interface Note {
  readonly path: string;
  /** /proc/sys/kernel/random/boot_id: cgroups do not outlive a boot, their inode numbers come again. */
  readonly boot: string;
  /** Device and inode number of the note itself: a copy of the data directory owns nothing. */
  readonly note: string;
  /** Device and inode number of the cgroup; left out until it is there. */
  readonly inode?: string;
}

/** The name that a cgroup gets: nobody else happens to choose it. */
const NAME_BYTES = 16;

export class MadeCgroups {
  readonly #directory: string | null;

  /** null: what is made is noted nowhere, and removed by whoever has made it. */
  constructor(directory: string | null) {
    this.#directory = directory;
  }

  /** A new one below a cgroup. Throws what node:fs throws. */
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

  /** The one with this path and inode number, if this ledger has made it. */
  find(path: string, ino: string): MadeCgroup | null {
    const note = this.#read(nameOf(path));
    if (note === null || note === "unreadable" || note.path !== path) return null;
    return note.inode?.endsWith(`:${ino}`) === true ? { path, inode: note.inode } : null;
  }

  /** One that somebody has moved into stays, and so does another at its path. */
  remove({ path, inode }: MadeCgroup): void {
    if (inodeOf(path) === inode) errnoOf(() => rmdirSync(path));
    this.#forget(nameOf(path));
  }

  /** Removes those that a service which was killed has left, but for the ones that are in use. */
  removeLeft(used: ReadonlySet<string>): void {
    for (const name of this.#names()) {
      const note = this.#read(name);
      if (note === "unreadable" || (note !== null && used.has(note.path))) continue;
      // Killed between the note and its completion: the random name is this ledger's alone.
      if (note !== null && (note.inode === undefined || note.inode === inodeOf(note.path)))
        errnoOf(() => rmdirSync(note.path));
      this.#forget(name);
    }
  }

  /** Notes what is about to be made; what it answers completes the note. */
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

  /** null: there is none, or it says nothing any more: of another boot, a copy, or not written to its end. */
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

/** Device and inode number of what lies at a path; null: nothing, or it cannot be told. */
function inodeOf(path: string): string | null {
  try {
    const { dev, ino } = lstatSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return null;
  }
}
