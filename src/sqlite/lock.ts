import Sqlite from "better-sqlite3";

/** Another process holds it. */
export class InUse extends Error {}

/**
 * Holds a file for this process alone, by SQLite's own file lock: it ends with the process, however that ends.
 * Throws InUse where another process holds it.
 */
export function holdLock(file: string, what: string): () => void {
  const db = new Sqlite(file, { timeout: 0 });
  try {
    // Nothing is written: there may be no room.
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
