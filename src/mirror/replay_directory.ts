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

/** The kernel's negative errno for a path that cannot be walked. */
export interface Unreached {
  readonly unreached: number;
}

/**
 * The directory on bpffs in which a replay makes its pins and directories; it makes and removes none elsewhere. Paths
 * are data from a log, so they may have `..`, or meet links. A path is therefore walked to a descriptor first, the
 * descriptor's place is checked, and the command then uses the descriptor, whatever the path names by then.
 */
export class ReplayDirectory {
  readonly path: string;
  #made = false;

  constructor(path = `${BPFFS}/mapledger_replay_${process.pid}`) {
    this.path = path;
  }

  /** Removes the directory if it is empty. */
  close(): void {
    if (this.#made) errnoOf(() => rmdirSync(this.path));
  }

  /**
   * Calls with the path of an entry that need not exist, for a command that makes or removes it. Its parent is walked
   * to and checked.
   */
  entry<T>(pathname: string, call: Call<T>): T | LeftOut | Unreached {
    const placed = this.#place(pathname);
    return typeof placed === "string" ? this.#walkToParent(placed, call) : placed;
  }

  /** As entry, below a directory that a descriptor of the replay refers to. */
  entryBelow<T>(fd: number, pathname: string, call: Call<T>): T | LeftOut | Unreached {
    return pathname === "" ? NO_PATH : this.#walkToParent(`/proc/self/fd/${fd}/${pathname}`, call);
  }

  /** Calls with the path of an entry that exists, for a command that opens it. */
  existing<T>(pathname: string, call: Call<T>): T | LeftOut | Unreached {
    const placed = this.#place(pathname);
    return typeof placed === "string" ? this.#walk(placed, this.path, call) : placed;
  }

  existingBelow<T>(fd: number, pathname: string, call: Call<T>): T | LeftOut | Unreached {
    return pathname === "" ? NO_PATH : this.#walk(`/proc/self/fd/${fd}/${pathname}`, this.path, call);
  }

  /** Calls with the path of a pin that others have made, at its recorded place. */
  others<T>(pathname: string, call: Call<T>): T | LeftOut | Unreached {
    const recorded = behindBpffs(pathname);
    return recorded === null ? ELSEWHERE : this.#walk(BPFFS + recorded, BPFFS, call);
  }

  /** The path of a recorded pathname in the replay's directory. */
  #place(pathname: string): string | LeftOut | Unreached {
    if (pathname === "") return NO_PATH;
    const recorded = behindBpffs(pathname);
    return recorded === null ? ELSEWHERE : (this.#make() ?? this.path + recorded);
  }

  /**
   * Makes the directory, or returns the reason why it cannot be used. An existing one is left over from an earlier
   * replay, and is used if it is this user's.
   */
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
 * The part of a path after /sys/fs/bpf, where relative paths begin; null if it names another place. The path is kept as
 * it is written, so that the kernel refuses it as it refused the recorded one; it is normalized only if it leaves
 * /sys/fs/bpf on its way.
 */
function behindBpffs(pathname: string): string | null {
  const absolute = pathname.startsWith("/") ? pathname : `${BPFFS}/${pathname}`;
  const normal = posix.normalize(absolute);
  if (normal !== BPFFS && !normal.startsWith(`${BPFFS}/`)) return null;
  const written = absolute.startsWith(`${BPFFS}/`) && !leaves(absolute.slice(BPFFS.length));
  return (written ? absolute : normal).slice(BPFFS.length);
}

/** Whether a path leaves the directory that it begins in. */
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
