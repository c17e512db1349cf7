/** What is made from the log, and can be made again; the tree by an operator's order alone. */
export const PARTS = ["state", "index", "history", "tree"] as const;
export type PartName = (typeof PARTS)[number];

/** Why a part does not serve, or does not keep what it should, at present. */
export interface PartFault {
  readonly part: PartName;
  /** refused: it stays as it is until somebody does something about it; failed: it is tried again by itself. */
  readonly state: "failed" | "refused";
  readonly detail: string;
  /** For want of room on the disk. */
  readonly full: boolean;
}

/** What was asked needs a part that has failed. */
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

/** What a part has on the disk is not what was written there. */
export class Damaged extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "Damaged";
  }
}

export type Found = "damaged" | "full" | "failed";

/** What an error tells of a part; null: nothing, whoever asked has to know what to make of it. */
export function faultIn(error: unknown): Found | null {
  if (error instanceof Damaged) return "damaged";
  const { code, name } = error as { readonly code?: unknown; readonly name?: unknown };
  if (code === "SQLITE_FULL" || code === "ENOSPC" || code === "EDQUOT") return "full";
  if (name === "SqliteError") return TRANSIENT.test(String(code)) ? "failed" : "damaged";
  return typeof code === "string" && MACHINES.has(code) ? "failed" : null;
}

/** What SQLite says of the machine, or of others who use the file; anything else it says of the file. */
const TRANSIENT = /^SQLITE_(IOERR|CANTOPEN|READONLY|BUSY|LOCKED|PROTOCOL|NOMEM|PERM|AUTH|NOLFS)/;
/** Errors of system calls that are no bug. */
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

/** How a part is opened, closed and made again. */
export interface DerivedParts<Open> {
  readonly part: PartName;
  /** Opens what is there, or begins it anew where nothing is. */
  open(): Open | Promise<Open>;
  /** Whatever it throws is of no interest. */
  close(open: Open): void | Promise<void>;
  /** Throws away what is there; left out: that is evidence, and stays. */
  readonly discard?: () => void;
  /** Told when it fails, how, and when it serves again: null. */
  readonly told: (fault: PartFault | null) => void;
  /** Told that it is made again, and why. */
  readonly report: (message: string) => void;
  /** Whether it has all that it should: only then a failure is over. */
  readonly isWhole: (open: Open) => boolean;
  /** As faultIn, which is what it is if it is left out. */
  readonly judge?: (error: unknown) => Found | null;
}

/** After it was made again to no avail, and at most: each time twice as long. */
const PAUSE_MS = 1000;
const PAUSE_MOST_MS = 60_000;

/**
 * A part that is made from the log, kept in use through what its disk does: it is opened when it is first needed; what fails it is tried once
 * more with all closed and opened anew, and again whenever it is needed; what is damaged is thrown away and made again. Nobody waits
 * for a part that has failed, and who does not need it does not notice.
 */
export class Derived<Open> {
  readonly #parts: DerivedParts<Open>;
  #open: Promise<Open> | null = null;
  #fault: PartFault | null = null;
  /** One use after the other while it is being closed or made again. */
  #mending: Promise<void> = Promise.resolve();
  /** Until when it is not made again: it was, and is damaged still. */
  #pauseMs = PAUSE_MS;
  #discardAfterMs = Number.NEGATIVE_INFINITY;

  constructor(parts: DerivedParts<Open>) {
    this.#parts = parts;
  }

  /** Why it does not serve; null: it does, as far as is known. */
  get fault(): PartFault | null {
    return this.#fault;
  }

  /** Uses it. Rejects with PartFailed where it has failed, and with whatever else `run` throws. */
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
        // Whatever keeps it from being opened is its own, and may pass.
        const found = this.#judge(error) ?? (isOpen ? null : "failed");
        // Closed by another who has found it failed.
        const isOver = opening !== this.#open;
        if (found === null && isOver && tries < TRIES) continue;
        if (found === null && isOver && this.#fault !== null) throw new PartFailed(this.#fault);
        if (found === null) throw error;
        await this.#mend(opening, found, error as Error);
        if (tries === TRIES) throw new PartFailed(this.#failed(found, error as Error));
      }
    }
  }

  /** Beside all uses it has failed: it is closed, and opened anew by the next of them. Answers whether the error says so. */
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

  /** Whatever is under way fails. */
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

  /** Closes what has failed, once for all who have used it; what is damaged goes. */
  #mend(opening: Promise<Open>, found: Found, error: Error): Promise<void> {
    if (opening !== this.#open) return this.#mending;
    this.#open = null;
    this.#mending = (async () => {
      const open = await opening.catch(() => null);
      try {
        if (open !== null) await this.#parts.close(open);
      } catch {
        // What has failed may fail here, too.
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
      // It is opened as it is, and fails again.
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

/** As it is, and with all opened anew. */
const TRIES = 2;

function isSame(one: PartFault, other: PartFault | null): boolean {
  return other !== null && one.state === other.state && one.detail === other.detail;
}
