import { existsSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { SqliteEventLog } from "./sqlite/event_log.ts";
import { holdLock } from "./sqlite/lock.ts";
import type { Action } from "./syscall/command.ts";
import { done } from "./syscall/outcome.ts";

const LOG_FILE = "events.sqlite";
const US = 1000;

/** The log of a data directory whose service is stopped, held for this process alone until it is closed. */
export class StoppedLog {
  readonly log: SqliteEventLog;
  readonly #unlock: () => void;

  private constructor(log: SqliteEventLog, unlock: () => void) {
    this.log = log;
    this.#unlock = unlock;
  }

  /** Throws InUse if a service runs on the data directory, and an Error if there is no log in it. */
  static open(data: string): StoppedLog {
    const file = join(data, LOG_FILE);
    if (!existsSync(file)) throw new Error(`${data} is no data directory: it has no ${LOG_FILE}`);
    const unlock = holdLock(join(data, "lock.sqlite"), data);
    try {
      return new StoppedLog(new SqliteEventLog(file), unlock);
    } catch (error) {
      unlock();
      throw error;
    }
  }

  /**
   * Appends a command that names no map and always succeeds, as the engine would have written it; the user stands for the
   * caller. It is durable when this returns, and in the state from the next start on. Answers its seq.
   */
  append(action: Action): number {
    const { lastSeq, lastTimeUs } = this.log;
    const timeUs = Math.max(Date.now() * US, lastTimeUs);
    const command = { ...action, session: 0, caller: `user:${userInfo().username}`, timeUs };
    this.log.append([{ seq: lastSeq + 1, command, outcome: done(0) }]);
    return lastSeq + 1;
  }

  close(): void {
    this.log.close();
    this.#unlock();
  }
}
