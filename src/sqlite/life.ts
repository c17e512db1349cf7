import { randomUUID } from "node:crypto";
import Sqlite from "better-sqlite3";
import { CMD } from "../abi/service.ts";
import type { BackupRestoreCommand } from "../syscall/command.ts";
import { done } from "../syscall/outcome.ts";
import { SqliteEventLog } from "./event_log.ts";
import { userCaller } from "./user_caller.ts";

const US = 1000;
const BRANCH_DIGITS = 8;

/** What a restored log continues: the newest checkpoint that was signed of it, and who signed it. */
export type Continued = Pick<BackupRestoreCommand["attr"], "continues" | "signer">;

/**
 * Gives the log in a file, which nobody has open, a life and a branch of its own; its next event says so. One file, and durable,
 * when this returns. Answers the event's seq.
 */
export function giveNewLife(file: string, continued: Continued): number {
  const log = new SqliteEventLog(file);
  let seq: number;
  try {
    const life = randomUUID();
    const attr = { life, was: log.life, ...continued, branch: life.slice(0, BRANCH_DIGITS) };
    // It is the first event of its life: that a clock was put back the next one tells.
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
