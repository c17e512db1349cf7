import { randomBytes } from "node:crypto";
import { rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RESERVE_FILE } from "./layout.ts";

/**
 * Enough for the databases' -shm files and a first transaction. The bytes are random, because a file system that
 * compresses would reserve no room for zeros.
 */
const BYTES = 256 * 1024;

/**
 * Keeps a file whose room a start on a full disk can use: SQLite must create the log's -shm file before it can read the
 * log, if the last stop has removed it. If there is no room for the file, none is kept.
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

/** Removes the reserve. Returns whether there was one. */
export function giveReserve(data: string): boolean {
  const file = join(data, RESERVE_FILE);
  const was = statSync(file, { throwIfNoEntry: false });
  rmSync(file, { force: true });
  return was !== undefined;
}
