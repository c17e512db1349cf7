/**
 * Parts of a data directory that are derived from the log: the state, the index, the history and the tree. `Derived`
 * keeps one in use although its disk may fail. While a part has failed, only requests that need it fail: without an
 * index, for example, the log is read by itself. The tree is evidence and is never discarded. The threads report
 * faults, and the service's thread collects them (`degradation.ts`). See ARCHITECTURE.md, "Everything derived can be
 * rebuilt".
 *
 * The engine handles faults of the state: cells that cannot be written stay pending, up to a bound
 * (`engine/state_writes.ts`), and a state that cannot be opened is held in memory until it can be
 * (`data/open_state.ts`).
 */

export const PARTS = ["state", "index", "history", "tree"] as const;
export type PartName = (typeof PARTS)[number];

/** Why a part does not work at present, or cannot write. */
export interface PartFault {
  readonly part: PartName;
  /** failed: the service tries again by itself; refused: nothing changes until the operator acts. */
  readonly state: "failed" | "refused";
  readonly detail: string;
  /** The disk is full. */
  readonly full: boolean;
}

/** A question needs a part that has failed. */
export class PartFailed extends Error {
  readonly fault: PartFault;

  constructor(fault: PartFault) {
    super(
      fault.state === "refused" ? fault.detail : `the ${fault.part} has failed, and is tried again: ${fault.detail}`,
    );
    this.name = "PartFailed";
    this.fault = fault;
  }
}

/** The part's files on the disk are not as they were written. */
export class Damaged extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "Damaged";
  }
}

export type Found = "damaged" | "full" | "failed";

/** The kind of failure of a part that an error shows; null: none, so the error is the caller's to handle. */
export function faultIn(error: unknown): Found | null {
  if (error instanceof Damaged) return "damaged";
  const { code, name } = error as { readonly code?: unknown; readonly name?: unknown };
  if (code === "SQLITE_FULL" || code === "ENOSPC" || code === "EDQUOT") return "full";
  if (name === "SqliteError") return TRANSIENT.test(String(code)) ? "failed" : "damaged";
  return typeof code === "string" && MACHINES.has(code) ? "failed" : null;
}

/** As faultIn, for a part that reads the log and keeps no SQLite file: an error of SQLite does not show that it is damaged. */
export function faultBesideLog(error: unknown): Found | null {
  const found = faultIn(error);
  return found === "damaged" && !(error instanceof Damaged) ? "failed" : found;
}

/**
 * SQLite's codes for failures of the machine, or of other users of the file; all other codes are about the file's
 * contents.
 */
const TRANSIENT = /^SQLITE_(IOERR|CANTOPEN|READONLY|BUSY|LOCKED|PROTOCOL|NOMEM|PERM|AUTH|NOLFS)/;
/** Codes of failed system calls that show a failure of the machine, not a bug. */
const MACHINES: ReadonlySet<string> = new Set([
  "EIO",
  "EMFILE",
  "ENFILE",
  "ENOMEM",
  "EACCES",
  "EPERM",
  "EROFS",
  "ENOENT",
  "ENOTDIR",
  "EBUSY",
  "EAGAIN",
  "ESTALE",
]);

/** How a part is opened, closed and discarded. */
export interface DerivedParts<Open> {
  readonly part: PartName;
  /** Opens the part, or begins a new one if there is none. */
  open(): Open | Promise<Open>;
  /** Closes the part; errors are ignored. */
  close(open: Open): void | Promise<void>;
  /** Deletes the part's files so that it is made again from the log; left out: the files are evidence and are kept. */
  readonly discard?: () => void;
  /** Called with the fault if the part fails, with null if it works again. */
  readonly told: (fault: PartFault | null) => void;
  /** Called with a message for the log if the part is made again. */
  readonly report: (message: string) => void;
  /** Whether the part has everything that the log has by now. A failure is over only if it has. */
  readonly isWhole: (open: Open) => boolean;
  /** Used in place of `faultIn`. */
  readonly judge?: (error: unknown) => Found | null;
}

/**
 * The shortest and the longest time between two discards of a part that stays damaged. The time doubles with each
 * discard.
 */
const PAUSE_MS = 1000;
const PAUSE_MOST_MS = 60_000;

/**
 * A part that is opened by its first use. If a use fails because of the part, the part is closed, opened anew and the
 * use retried once; if it is damaged, it is discarded in between, so that it is made again from the log. After that the
 * use fails, and every later use tries again. Nobody waits for a failed part, and requests that do not need it are not
 * affected.
 */
export class Derived<Open> {
  readonly #parts: DerivedParts<Open>;
  #open: Promise<Open> | null = null;
  #fault: PartFault | null = null;
  /** Resolves once a failed part is closed. Uses wait for this. */
  #mending: Promise<void> = Promise.resolve();
  /** The time after a discard during which the part is not discarded again, even if it is damaged. */
  #pauseMs = PAUSE_MS;
  #discardAfterMs = Number.NEGATIVE_INFINITY;

  constructor(parts: DerivedParts<Open>) {
    this.#parts = parts;
  }

  /** Why the part does not work; null: it works, as far as is known. */
  get fault(): PartFault | null {
    return this.#fault;
  }

  /**
   * Runs `run` with the open part. Rejects with PartFailed if the part has failed, and with other errors that `run`
   * throws.
   */
  async use<Answer>(run: (open: Open) => Answer | Promise<Answer>): Promise<Answer> {
    for (let tries = 1; ; tries++) {
      await this.#mending;
      const opening = this.#opened();
      let isOpen = false;
      try {
        const open = await opening;
        isOpen = true;
        const answer = await run(open);
        if (this.#fault !== null && this.#parts.isWhole(open)) this.tell(null);
        return answer;
      } catch (error) {
        // An error while opening is always the part's own, and may be temporary.
        const found = this.#judge(error) ?? (isOpen ? null : "failed");
        // Another use found a failure and closed the part while this one ran.
        const isOver = opening !== this.#open;
        if (found === null && isOver && tries < TRIES) continue;
        if (found === null && isOver && this.#fault !== null) throw new PartFailed(this.#fault);
        if (found === null) throw error;
        await this.#mend(opening, found, error as Error);
        if (tries === TRIES) throw new PartFailed(this.#failed(found, error as Error));
      }
    }
  }

  /**
   * Reports a failure that was seen outside of `use`, as by a timer: the part is closed, and the next use opens it.
   * Returns whether the error shows a failure of the part.
   */
  async failed(error: unknown): Promise<boolean> {
    const found = this.#judge(error);
    if (found === null || this.#open === null) return false;
    await this.#mend(this.#open, found, error as Error);
    this.#failed(found, error as Error);
    return true;
  }

  tell(fault: PartFault | null): void {
    if (fault === this.#fault || (fault !== null && isSame(fault, this.#fault))) return;
    this.#fault = fault;
    this.#parts.told(fault);
  }

  /** Closes the part; uses in progress fail. */
  async close(): Promise<void> {
    await this.#mending;
    const open = await this.#open?.catch(() => null);
    this.#open = null;
    if (open !== null && open !== undefined) await this.#parts.close(open);
  }

  #judge(error: unknown): Found | null {
    return (this.#parts.judge ?? faultIn)(error);
  }

  #opened(): Promise<Open> {
    this.#open ??= (async () => this.#parts.open())();
    return this.#open;
  }

  /** Closes a part that has failed, once for all uses of it, and discards it if it is damaged. */
  #mend(opening: Promise<Open>, found: Found, error: Error): Promise<void> {
    if (opening !== this.#open) return this.#mending;
    this.#open = null;
    this.#mending = (async () => {
      const open = await opening.catch(() => null);
      try {
        if (open !== null) await this.#parts.close(open);
      } catch {
        // A failed part may fail to close.
      }
      if (found === "damaged") this.#discard(error);
    })();
    return this.#mending;
  }

  #discard({ message }: Error): void {
    const nowMs = performance.now();
    if (this.#parts.discard === undefined || nowMs < this.#discardAfterMs) return;
    this.#discardAfterMs = nowMs + this.#pauseMs;
    this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MOST_MS);
    try {
      this.#parts.discard();
      this.#parts.report(`the ${this.#parts.part} is damaged, and is made again from the log: ${message}`);
    } catch {
      // The next use opens the part as it is, and fails again.
    }
  }

  #failed(found: Found, { message }: Error): PartFault {
    const refused = found === "damaged" && this.#parts.discard === undefined;
    const fault: PartFault = {
      part: this.#parts.part,
      state: refused ? "refused" : "failed",
      detail: message,
      full: found === "full",
    };
    this.tell(fault);
    return fault;
  }
}

/** One try with the part as it is, one with the part opened anew. */
const TRIES = 2;

function isSame(one: PartFault, other: PartFault | null): boolean {
  return other !== null && one.state === other.state && one.detail === other.detail;
}
