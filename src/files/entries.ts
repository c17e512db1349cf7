import { type Dirent, readdirSync } from "node:fs";
import { join } from "node:path";

/**
 * What mapledger opens in a data directory, an archive or a backup is a plain file, or a directory of such: no link leads elsewhere,
 * and no FIFO holds up who opens it. The directory itself may be a link.
 */
export type Kind = "file" | "directory";

/** What is to be under a name; null: whatever there is, nobody opens it. */
export type Wanted = (name: string) => Kind | null;

const DATABASES =
  /^(events|tree|index|lock|whole)\.sqlite(-wal|-shm|-journal)?$|^tree\.sqlite\.new(-wal|-shm|-journal)?$/;
const FILES = /^(log\.key|log\.key\.next|checkpoint|token|reserve)(\.new|\.partial)?$|^state-\d{12,}\.ndjson\.zst$/;
const DIRECTORIES = /^(state|history|whole|unpacked|cgroups|archiving|archive)$/;
const STORES = ["state", "history", "whole"];
const STORE_FILES = /^(data\.mdb|data\.mdb-lock|marker\.json)$/;

const inData: Wanted = (name) => {
  if (DIRECTORIES.test(name)) return "directory";
  return DATABASES.test(name) || FILES.test(name) ? "file" : null;
};
const inStore: Wanted = (name) => (STORE_FILES.test(name) ? "file" : null);

/** Throws an Error that names what in a data directory is a link, or of another kind than it must be. */
export function checkData(data: string): void {
  checkEntries(data, inData);
  for (const store of STORES) checkEntries(join(data, store), inStore);
  checkEntries(join(data, "cgroups"), () => "file");
}

/** The same of a folder by the names in it, which need not be there; `deep`: and in the folders below, by their paths from it. */
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
