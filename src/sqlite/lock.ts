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
    db.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    db.close();
    throw (error as { code?: string }).code === "SQLITE_BUSY"
      ? new InUse(`opening ${what}: another mapledger is using it`)
      : error;
  }
  return () => db.close();
}
