import { randomUUID } from "node:crypto";
import Sqlite from "better-sqlite3";

/** The ledger's fact that tells ledgers of one log apart: what follows one of them must not be taken for another's. */
export const LIFE = "life";

const SET_FACT = "INSERT OR REPLACE INTO ledger (name, value) VALUES (?, ?)";

/** Gives the log in a file, which nobody has open, a life of its own. One file, and durable, when this returns. */
export function giveNewLife(file: string): void {
  const db = new Sqlite(file, { fileMustExist: true });
  try {
    db.pragma("journal_mode = DELETE");
    db.pragma("synchronous = FULL");
    db.prepare(SET_FACT).run(LIFE, randomUUID());
  } finally {
    db.close();
  }
}
