import { randomBytes } from "node:crypto";
import { rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RESERVE_FILE } from "./layout.ts";

/** The -shm files of the databases, and a first transaction. Random: a file system that packs would keep nothing of zeros. */
const BYTES = 256 * 1024;

/**
 * Room that is kept in a data directory for a start on a full disk: SQLite has to make the log's -shm file before it can read the log, if the
 * last stop has removed it. Where there is no room for that either, none is kept.
 */
export function keepReserve(data: string): void {
  const file = join(data, RESERVE_FILE);
  if (statSync(file, { throwIfNoEntry: false })?.size === BYTES) return;
  try {
    rmSync(file, { force: true });
    writeFileSync(file, randomBytes(BYTES), { flag: "wx", mode: 0o600 });
  } catch {
    rmSync(file, { force: true });
  }
}

/** Makes room; answers whether there was any. */
export function giveReserve(data: string): boolean {
  const file = join(data, RESERVE_FILE);
  const was = statSync(file, { throwIfNoEntry: false });
  rmSync(file, { force: true });
  return was !== undefined;
}
