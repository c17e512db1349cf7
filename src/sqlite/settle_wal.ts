import type { Database } from "better-sqlite3";

/**
 * Copies the -wal file into its database, and syncs that. If a process died of a failed sync, the page cache may hold
 * frames that the disk lacks, and every later sync of the -wal file succeeds without writing them. Copying writes their
 * contents anew. If there is no room, or if another process reads, the frames stay in the -wal file. Throws if a sync
 * fails.
 */
export function settleWal(db: Database): void {
  try {
    db.pragma("wal_checkpoint(TRUNCATE)");
  } catch (error) {
    if ((error as { code?: string }).code !== "SQLITE_FULL") throw error;
  }
}
