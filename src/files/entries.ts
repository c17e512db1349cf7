/**
 * Entries of folders whose contents mapledger opens: a data directory, an archive, a backup. Each must be a plain file
 * or a directory of plain files, so that no link leads elsewhere and no FIFO blocks an open. The folder itself may be a
 * link.
 */

import { type Dirent, readdirSync } from "node:fs";
import { join } from "node:path";

export type Kind = "file" | "directory";

/** The kind that an entry must have; null: any, since nobody opens an entry of that name. */
export type Wanted = (name: string) => Kind | null;

/**
 * Throws an Error that names the first entry of a folder that is a link, or of another kind than `wanted` says. A folder that is missing
 * has no entries. `deep`: also looks into the folders below, and asks for their entries by path from `folder`.
 */
export function checkEntries(folder: string, wanted: Wanted, deep = false): void {
  for (const entry of entriesOf(folder, deep)) {
    const path = join(entry.parentPath, entry.name);
    const kind = wanted(path.slice(join(folder, "/").length));
    if (kind !== null) check(path, kind, entry);
  }
}

function entriesOf(folder: string, recursive: boolean): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true, recursive });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function check(path: string, wanted: Kind, found: Dirent): void {
  if (wanted === "file" ? found.isFile() : found.isDirectory()) return;
  throw new Error(
    `${path} is ${kindOf(found)}: there must be a ${wanted === "file" ? "plain file" : "directory"}, and no link`,
  );
}

function kindOf(found: Dirent): string {
  if (found.isSymbolicLink()) return "a symbolic link";
  if (found.isDirectory()) return "a directory";
  if (found.isFIFO()) return "a FIFO";
  if (found.isSocket()) return "a socket";
  if (found.isFile()) return "a file";
  return found.isBlockDevice() || found.isCharacterDevice() ? "a device" : "of another kind";
}
