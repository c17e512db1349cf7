import { randomUUID } from "node:crypto";
import Sqlite from "better-sqlite3";
import { CMD } from "../abi/service.ts";
import type { BackupRestoreCommand } from "../syscall/command.ts";
import { done } from "../syscall/outcome.ts";
import { SqliteEventLog } from "./event_log.ts";
import { userCaller } from "./user_caller.ts";

const US = 1000;
const BRANCH_DIGITS = 8;

/** The newest signed checkpoint of the log that was restored, and its signer. */
export type Continued = Pick<BackupRestoreCommand["attr"], "continues" | "signer">;

/**
 * Gives a log its own life and branch, recorded by a BACKUP_RESTORE event. No process may have the log open. When this
 * returns, the log is a single durable file without a -wal. Returns the event's seq.
 */
export function giveNewLife(file: string, continued: Continued): number {
  const log = new SqliteEventLog(file);
  let seq: number;
  try {
    const life = randomUUID();
    const attr = { life, was: log.life, ...continued, branch: life.slice(0, BRANCH_DIGITS) };
    // No CLOCK_STEP event comes first, because this event must be the first of the new life; the next event gets one if
    // the clock was put back.
    const timeUs = Math.max(Date.now() * US, log.lastTimeUs);
    const caller = userCaller();
    seq = log.lastSeq + 1;
    const command = { cmd: CMD.BACKUP_RESTORE, session: 0, caller, timeUs, attr };
    log.append([{ seq, command, outcome: done(0) }]);
  } finally {
    log.close();
  }
  const db = new Sqlite(file, { fileMustExist: true });
  try {
    db.pragma("journal_mode = DELETE");
  } finally {
    db.close();
  }
  return seq;
}
