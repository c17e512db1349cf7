import type { Database } from "better-sqlite3";

/**
 * Copies what a -wal file has into its database and syncs that. A process that died of a failed sync leaves a -wal file that the page cache
 * shows and the disk may not have: every sync of it succeeds from then on. What has been copied is written anew, and is there. Without
 * room, and beside others who read, it stays for later; throws where a sync fails.
 */
export function settleWal(db: Database): void {
  try {
    db.pragma("wal_checkpoint(TRUNCATE)");
  } catch (error) {
    if ((error as { code?: string }).code !== "SQLITE_FULL") throw error;
  }
}
