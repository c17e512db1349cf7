import { type Cells, u32Key } from "../maps/cells.ts";
import type { Capability, ClientProcess } from "./command.ts";
import { jsonCodec, Table } from "./table.ts";

export interface SessionRecord {
  readonly id: number;
  readonly name: string;
  readonly caller: string;
  /** The peer that opened the session. */
  readonly peer?: string;
  readonly ttlMs: number;
  readonly openedUs: number;
  /** Left out: all of them. */
  readonly capabilities?: readonly Capability[];
  /** The process with whose exit the session ends; left out: it lives by its TTL, or by an attached stream. */
  readonly process?: ClientProcess;
}

/** Called for each session that a caller opens (1), or that ends (-1). */
type Charge = (caller: string, by: 1 | -1) => void;

/** The living sessions: table s, by id. Their descriptors are in the table of `fd_table.ts`. */
export class Sessions {
  readonly #records: Table<SessionRecord>;
  readonly #charge: Charge;

  constructor(cells: Cells, charge: Charge) {
    this.#records = new Table(cells, "s", jsonCodec());
    this.#charge = charge;
  }

  get(id: number): SessionRecord | undefined {
    return this.#records.get(u32Key(id));
  }

  /** The sessions with larger ids, in the order of their ids. */
  *after(id: number): Iterable<SessionRecord> {
    for (const [, session] of this.#records.from(u32Key(id + 1))) yield session;
  }

  open(session: SessionRecord): void {
    this.#records.put(u32Key(session.id), session);
    this.#charge(session.caller, 1);
  }

  /** Replaces a session's record by one with the same id and caller. */
  change(session: SessionRecord): void {
    this.#records.put(u32Key(session.id), session);
  }

  /** Deletes a session, whose descriptors were closed before. */
  end(id: number): void {
    const session = this.get(id);
    if (session === undefined) return;
    this.#records.delete(u32Key(id));
    this.#charge(session.caller, -1);
  }

  chargeAll(visit: (session: SessionRecord) => void): void {
    for (const session of this.after(0)) {
      this.#charge(session.caller, 1);
      visit(session);
    }
  }

  forget(): void {
    this.#records.forget();
  }
}
