import { closeSync, lstatSync, mkdirSync, openSync, readlinkSync, rmdirSync, statfsSync } from "node:fs";
import { posix } from "node:path";
import { ERRNO } from "../abi/errno.ts";
import type { LeftOut } from "../replay/call.ts";
import { BPFFS } from "../syscall/pins.ts";
import { lacking } from "./capability.ts";
import { BPF_FS_MAGIC } from "./layout.ts";
import { O_PATH } from "./open_below.ts";
import { errnoOf } from "./refusal.ts";

const OWN_MODE = 0o700;
const OTHERS_WRITE = 0o022;

const ELSEWHERE: LeftOut = { leftOut: `its path is not below ${BPFFS}` };
const LEADS_OUT: LeftOut = { leftOut: `its path leads out of the replay's directory in ${BPFFS}` };
const NO_PATH: Unreached = { unreached: -ERRNO.ENOENT };

type Call<T> = (path: string) => T;

/** The path cannot be walked: the kernel's negative errno. */
export interface Unreached {
  readonly unreached: number;
}

/**
 * The directory of bpffs in which a replay has its pins and directories, and the only place where it makes or removes any.
 * Paths are data from a log: they may have `..` in them or meet links. So the kernel walks a path first, to a descriptor;
 * the descriptor's place is judged, and the command then goes by the descriptor, whatever has become of the path meanwhile.
 */
export class ReplayDirectory {
  readonly path: string;
  #made = false;

  constructor(path = `${BPFFS}/mapledger_replay_${process.pid}`) {
    this.path = path;
  }

  /** It goes, too, if nothing is in it. */
  close(): void {
    if (this.#made) errnoOf(() => rmdirSync(this.path));
  }

  /** Calls with a path to an entry that need not exist, for a command that makes or removes the entry: its parent is walked to. */
  entry<T>(pathname: string, call: Call<T>): T | LeftOut | Unreached {
    const placed = this.#place(pathname);
    return typeof placed === "string" ? this.#walkToParent(placed, call) : placed;
  }

  /** The same below a directory that a descriptor of the replay's refers to. */
  entryBelow<T>(fd: number, pathname: string, call: Call<T>): T | LeftOut | Unreached {
    return pathname === "" ? NO_PATH : this.#walkToParent(`/proc/self/fd/${fd}/${pathname}`, call);
  }

  /** Calls with a path to an entry that exists, for a command that opens the entry. */
  existing<T>(pathname: string, call: Call<T>): T | LeftOut | Unreached {
    const placed = this.#place(pathname);
    return typeof placed === "string" ? this.#walk(placed, this.path, call) : placed;
  }

  existingBelow<T>(fd: number, pathname: string, call: Call<T>): T | LeftOut | Unreached {
    return pathname === "" ? NO_PATH : this.#walk(`/proc/self/fd/${fd}/${pathname}`, this.path, call);
  }

  /** Calls with a path to what others have pinned, which stands where it stood. */
  others<T>(pathname: string, call: Call<T>): T | LeftOut | Unreached {
    const recorded = behindBpffs(pathname);
    return recorded === null ? ELSEWHERE : this.#walk(BPFFS + recorded, BPFFS, call);
  }

  /** Where a recorded path lies in the replay's directory. */
  #place(pathname: string): string | LeftOut | Unreached {
    if (pathname === "") return NO_PATH;
    const recorded = behindBpffs(pathname);
    return recorded === null ? ELSEWHERE : (this.#make() ?? this.path + recorded);
  }

  /** Makes the directory, or says why it is of no use. One that is there already is an earlier replay's. */
  #make(): LeftOut | null {
    if (this.#made) return null;
    if (!isBpffs(BPFFS)) return { leftOut: `no bpffs is mounted at ${BPFFS}` };
    const failed = errnoOf(() => mkdirSync(this.path, { recursive: true, mode: OWN_MODE }));
    const found = failed === 0 ? lstatSync(this.path) : null;
    const missing = lacking(failed, ["CAP_DAC_OVERRIDE"]);
    if (missing !== null) return { leftOut: `${this.path} cannot be made: it needs ${missing}` };
    if (found?.isDirectory() !== true) return { leftOut: `${this.path} cannot be made` };
    if (found.uid !== process.geteuid?.() || (found.mode & OTHERS_WRITE) !== 0)
      return { leftOut: `others can write to ${this.path}` };
    this.#made = true;
    return null;
  }

  #walkToParent<T>(path: string, call: Call<T>): T | LeftOut | Unreached {
    const name = path.search(/[^/]+\/*$/);
    return this.#walk(path.slice(0, name), this.path, (parent) => call(`${parent}/${path.slice(name)}`));
  }

  #walk<T>(path: string, below: string, call: Call<T>): T | LeftOut | Unreached {
    let fd = -1;
    const failed = errnoOf(() => {
      fd = openSync(path, O_PATH);
    });
    if (failed !== 0) return { unreached: failed };
    const held = `/proc/self/fd/${fd}`;
    try {
      const place = readlinkSync(held);
      const isBelow = place === below || place.startsWith(`${below}/`);
      return isBelow && isBpffs(held) ? call(held) : LEADS_OUT;
    } finally {
      closeSync(fd);
    }
  }
}

/**
 * What a path has behind /sys/fs/bpf, which is where relative ones begin; null: it names a place elsewhere. The kernel shall
 * refuse what it would have refused, so that a path is taken as it is written, unless it leaves /sys/fs/bpf on its way.
 */
function behindBpffs(pathname: string): string | null {
  const absolute = pathname.startsWith("/") ? pathname : `${BPFFS}/${pathname}`;
  const normal = posix.normalize(absolute);
  if (normal !== BPFFS && !normal.startsWith(`${BPFFS}/`)) return null;
  const written = absolute.startsWith(`${BPFFS}/`) && !leaves(absolute.slice(BPFFS.length));
  return (written ? absolute : normal).slice(BPFFS.length);
}

/** Whether a path below a directory leaves it on its way. */
function leaves(path: string): boolean {
  let depth = 0;
  for (const name of path.split("/")) {
    if (name === "..") depth--;
    else if (name !== "" && name !== ".") depth++;
    if (depth < 0) return true;
  }
  return false;
}

function isBpffs(path: string): boolean {
  return statfsSync(path).type === BPF_FS_MAGIC;
}
