import { type Dirent, readdirSync } from "node:fs";
import { join } from "node:path";
import { ERRNO } from "../abi/errno.ts";
import { refusedFor } from "./capability.ts";
import { errnoOf } from "./refusal.ts";

/** The most foreign paths that are listed. */
export const FOREIGN_MAX = 1000;

/** Pins below a directory, and sentences about directories that could not be read. */
export interface Listed {
  readonly pins: string[];
  readonly unread: string[];
  /** Whether there are more pins than the list has. */
  more: boolean;
}

/**
 * Adds the pins below a directory that are not known, up to the limit. The limit is needed because anybody can make
 * pins there.
 */
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

/** All pins below a directory, up to the limit. */
export function pinsBelow(directory: string): Listed {
  const listed: Listed = { pins: [], unread: [], more: false };
  collect(directory, new Set(), listed);
  return listed;
}

/** The entries of a directory; none if it does not exist, or if it cannot be read, which is added to `unread`. */
export function namesIn(directory: string, unread: string[]): Dirent[] {
  let names: Dirent[] = [];
  const ret = errnoOf(() => {
    names = readdirSync(directory, { withFileTypes: true });
  });
  if (ret !== 0 && !ABSENT.has(ret)) unread.push(refusedFor(`reading ${directory}`, ret, ["CAP_DAC_READ_SEARCH"]));
  return names;
}

const ABSENT: ReadonlySet<number> = new Set([-ERRNO.ENOENT, -ERRNO.ENOTDIR]);
