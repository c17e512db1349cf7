import Sqlite from "better-sqlite3";

/** Another process holds the lock. */
export class InUse extends Error {}

/**
 * Locks a file for this process with SQLite's file lock, which ends with the process, however it ends. Returns a
 * function that releases it. Throws InUse if another process holds the lock.
 */
export function holdLock(file: string, what: string): () => void {
  const db = new Sqlite(file, { timeout: 0 });
  try {
    // Nothing may be written, because the disk may be full.
    db.pragma("journal_mode = MEMORY");
    db.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    db.close();
    const { code } = error as { code?: string };
    if (code === "SQLITE_BUSY") throw new InUse(`opening ${what}: another mapledger is using it`);
    if (code === "SQLITE_NOTADB")
      throw new Error(`opening ${what}: somebody has written to ${file}: remove it if no mapledger runs there`);
    throw error;
  }
  return () => db.close();
}
