/** Appends events to a stopped service's log, for orders of the command line. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { SERVICE_NAME } from "../access/caller.ts";
import { asOwner } from "../files/owner.ts";
import { nextTime } from "../log/clock_step.ts";
import { SqliteEventLog } from "../sqlite/event_log.ts";
import { holdLock } from "../sqlite/lock.ts";
import { userCaller } from "../sqlite/user_caller.ts";
import type { Action, Command } from "../syscall/command.ts";
import { done } from "../syscall/outcome.ts";
import { addedTo, takeUp } from "./closing_mark.ts";
import { checkData } from "./entries.ts";
import { LOCK_FILE, LOG_FILE } from "./layout.ts";
import { checkWritten } from "./version.ts";

const US = 1000;

/** The log of a stopped service's data directory, locked for this process until it is closed. */
export class StoppedLog {
  readonly log: SqliteEventLog;
  readonly #data: string;
  readonly #unlock: () => void;

  private constructor(data: string, log: SqliteEventLog, unlock: () => void) {
    this.log = log;
    this.#data = data;
    this.#unlock = unlock;
  }

  /**
   * Warns on stderr if a program other than mapledger has added events. Throws InUse if a service runs on the data
   * directory, an Error if it has no log.
   */
  static open(data: string): StoppedLog {
    checkData(data);
    checkWritten(data);
    const file = join(data, LOG_FILE);
    if (!existsSync(file)) throw new Error(`${data} is not a data directory: it has no ${LOG_FILE}`);
    // Orders about the mirror need root, but the files that SQLite creates must belong to the service's user.
    return asOwner(data, () => {
      const unlock = holdLock(join(data, LOCK_FILE), data);
      try {
        const log = new SqliteEventLog(file);
        const added = addedTo(data, log);
        if (added !== null) process.stderr.write(`mapledger: ${added}\n`);
        return new StoppedLog(data, log, unlock);
      } catch (error) {
        unlock();
        throw error;
      }
    });
  }

  /**
   * Appends a command that names no map and always succeeds. Its caller is the user who runs this process. If the clock
   * was put back, a CLOCK_STEP event precedes it, as in the engine. The event is durable when this returns; the next
   * start applies it to the state. Returns its seq.
   */
  append(action: Action): number {
    const { lastSeq, lastTimeUs } = this.log;
    takeUp(this.#data, this.log.id);
    const { timeUs, step } = nextTime(Date.now() * US, lastTimeUs);
    const commands: Command[] = [{ ...action, session: 0, caller: userCaller(), timeUs }];
    if (step !== null) commands.unshift({ ...step, session: 0, caller: SERVICE_NAME, timeUs });
    this.log.append(commands.map((command, at) => ({ seq: lastSeq + 1 + at, command, outcome: done(0) })));
    return this.log.lastSeq;
  }

  close(): void {
    this.log.close();
    this.#unlock();
  }
}
