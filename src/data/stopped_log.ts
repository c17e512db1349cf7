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

/** The log of a data directory whose service is stopped, held for this process alone until it is closed. */
export class StoppedLog {
  readonly log: SqliteEventLog;
  readonly #data: string;
  readonly #unlock: () => void;

  private constructor(data: string, log: SqliteEventLog, unlock: () => void) {
    this.log = log;
    this.#data = data;
    this.#unlock = unlock;
  }

  /** Who orders something is told of events that no service has written. Throws InUse if a service runs on the data directory, and an Error if there is no log in it. */
  static open(data: string): StoppedLog {
    checkData(data);
    checkWritten(data);
    const file = join(data, LOG_FILE);
    if (!existsSync(file)) throw new Error(`${data} is not a data directory: it has no ${LOG_FILE}`);
    // Mirrors need root's rights, and are ordered by it: what SQLite makes is to be the service's all the same.
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
   * Appends a command that names no map and always succeeds, as the engine would have written it, behind the event of a clock that was put back; the user stands for the
   * caller. It is durable when this returns, and in the state from the next start on. Answers its seq.
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
