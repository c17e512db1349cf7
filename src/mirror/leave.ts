import { lstatSync, rmdirSync, unlinkSync } from "node:fs";
import { ERRNO, errnoName } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";
import { type Inventory, mapPinnedAt } from "./inventory.ts";
import type { Layout } from "./layout.ts";
import { errnoOf } from "./refusal.ts";

/** A path that could not be removed. */
export interface Left {
  readonly path: string;
  readonly why: string;
}

/** The paths that `leave` removes, in its order. A kernel map that a program uses outlives its pins. */
export function toRemove({ sessions, own, kept }: Inventory): string[] {
  return [...[...sessions, ...own].map(({ path }) => path), ...kept];
}

/**
 * Removes a ledger's pins from the host, and the directories of the mirror and of sessions (`pathnames`) that are empty
 * then. Sessions' pins go first, because they are recognized by the maps' own pins. The mark goes last, and stays if
 * anything else stays, so that the command can be repeated.
 */
export function leave(bpf: Bpf, layout: Layout, inventory: Inventory, pathnames: Iterable<string>): Left[] {
  const left: Left[] = [];
  const remove = (path: string): void => {
    const errno = errnoOf(() => unlinkSync(path));
    if (errno !== 0 && errno !== -ERRNO.ENOENT) left.push({ path, why: errnoName(-errno) });
  };
  for (const { path, kernelId } of [...inventory.sessions, ...inventory.own]) {
    if (mapPinnedAt(bpf, path)?.id === kernelId) remove(path);
    else if (lstatSync(path, { throwIfNoEntry: false }) !== undefined)
      left.push({ path, why: "something else is pinned there by now" });
  }
  for (const path of inventory.kept) if (path !== layout.owner) remove(path);
  if (left.length > 0) return left;
  const unmade = removeDirectory(layout.byIds);
  if (unmade !== 0) return [{ path: layout.owner, why: `${layout.byIds} stays: ${errnoName(-unmade)}` }];
  remove(layout.owner);
  for (const directory of directoriesOf(layout, pathnames)) removeDirectory(directory);
  removeDirectory(layout.aside);
  removeDirectory(layout.own);
  return left;
}

/** Returns 0 also if the directory does not exist. */
function removeDirectory(path: string): number {
  const errno = errnoOf(() => rmdirSync(path));
  return errno === -ERRNO.ENOENT ? 0 : errno;
}

/** The paths of sessions' directories, children before their parents. */
function directoriesOf(layout: Layout, pathnames: Iterable<string>): string[] {
  const paths = [...pathnames].flatMap((pathname) => [layout.place(pathname), layout.legacyPlace(pathname)]);
  return paths
    .filter((path) => typeof path === "string")
    .filter((path) => path !== layout.root && path !== layout.own)
    .sort((a, b) => b.length - a.length);
}
