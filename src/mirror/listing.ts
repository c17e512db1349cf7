import { type Dirent, readdirSync } from "node:fs";
import { join } from "node:path";
import { errnoOf } from "./refusal.ts";

/** Paths of others that are listed. */
export const FOREIGN_MAX = 1000;

/** Adds pins below a directory to `foreign`, up to a limit, but for the known ones: directories are anybody's. */
export function collect(directory: string, known: ReadonlySet<string>, foreign: string[]): void {
  for (const entry of namesIn(directory)) {
    if (foreign.length >= FOREIGN_MAX) return;
    const path = join(directory, entry.name);
    if (known.has(path)) continue;
    if (entry.isDirectory()) collect(path, known, foreign);
    else foreign.push(path);
  }
}

/** All pins below a directory, up to the same limit. */
export function pinsBelow(directory: string): readonly string[] {
  const found: string[] = [];
  collect(directory, new Set(), found);
  return found;
}

/** Entries of a directory; none if it cannot be read. */
export function namesIn(directory: string): Dirent[] {
  let names: Dirent[] = [];
  errnoOf(() => {
    names = readdirSync(directory, { withFileTypes: true });
  });
  return names;
}
