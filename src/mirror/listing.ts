import { type Dirent, readdirSync } from "node:fs";
import { join } from "node:path";
import { ERRNO } from "../abi/errno.ts";
import { refusedFor } from "./capability.ts";
import { errnoOf } from "./refusal.ts";

/** Paths of others that are listed. */
export const FOREIGN_MAX = 1000;

/** Pins below a directory, and directories that could not be read, each as a sentence. */
export interface Listed {
  readonly pins: string[];
  readonly unread: string[];
  /** There are more than were listed. */
  more: boolean;
}

/** Adds pins below a directory, up to a limit, but for the known ones: directories are anybody's. */
export function collect(directory: string, known: ReadonlySet<string>, listed: Listed): void {
  for (const entry of namesIn(directory, listed.unread)) {
    if (listed.more) return;
    const path = join(directory, entry.name);
    if (known.has(path)) continue;
    if (entry.isDirectory()) collect(path, known, listed);
    else if (listed.pins.length < FOREIGN_MAX) listed.pins.push(path);
    else listed.more = true;
  }
}

/** All pins below a directory, up to the same limit. */
export function pinsBelow(directory: string): Listed {
  const listed: Listed = { pins: [], unread: [], more: false };
  collect(directory, new Set(), listed);
  return listed;
}

/** Entries of a directory; none if there is none, or if it cannot be read, which `unread` is told. */
export function namesIn(directory: string, unread: string[]): Dirent[] {
  let names: Dirent[] = [];
  const ret = errnoOf(() => {
    names = readdirSync(directory, { withFileTypes: true });
  });
  if (ret !== 0 && !ABSENT.has(ret)) unread.push(refusedFor(`reading ${directory}`, ret, ["CAP_DAC_READ_SEARCH"]));
  return names;
}

const ABSENT: ReadonlySet<number> = new Set([-ERRNO.ENOENT, -ERRNO.ENOTDIR]);
