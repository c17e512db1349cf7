import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { migrate } from "../sqlite/migrate.ts";

const MIGRATIONS = new URL("../../migrations/witness/", import.meta.url);

const GET_IDENTITY = "SELECT name, vkeys FROM witness";
const SET_IDENTITY = "INSERT INTO witness (id, name, vkeys) VALUES (0, ?, ?)";
const COLUMNS = "SELECT origin, size, root, note, time_s AS timeS FROM latest";
const LATEST = `${COLUMNS} WHERE origin = ?`;
const ALL = `${COLUMNS} ORDER BY origin`;
const KEEP = `
  INSERT INTO latest (origin, size, root, note, time_s) VALUES (:origin, :size, :root, :note, :timeS)
  ON CONFLICT (origin) DO UPDATE SET size = :size, root = :root, note = :note, time_s = :timeS`;

/** The checkpoint of a log that was cosigned last. */
export interface Latest {
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;
  /** The note with the log's signatures, which were verified, and the witness' own. */
  readonly note: string;
  /** When the witness cosigned it, in seconds since the epoch. */
  readonly timeS: number;
}

export interface Identity {
  readonly name: string;
  readonly vkeys: readonly string[];
}

/**
 * The last cosigned checkpoint of each log, in SQLite with WAL and synchronous=FULL: a checkpoint is durable before the
 * witness hands out its cosignature.
 */
export class WitnessStore {
  readonly #db: Database;
  readonly #latest: Statement<[string], Latest>;
  readonly #keep: Statement<[Latest]>;

  constructor(file: string) {
    this.#db = new Sqlite(file);
    this.#db.pragma("journal_mode = WAL");
    this.#db.pragma("synchronous = FULL");
    migrate(this.#db, MIGRATIONS);
    this.#latest = this.#db.prepare(LATEST);
    this.#keep = this.#db.prepare(KEEP);
  }

  /** null: the store is new. */
  get identity(): Identity | null {
    const known = this.#db.prepare(GET_IDENTITY).get() as { name: string; vkeys: string } | undefined;
    return known === undefined ? null : { name: known.name, vkeys: known.vkeys.split("\n") };
  }

  begin({ name, vkeys }: Identity): void {
    this.#db.prepare(SET_IDENTITY).run(name, vkeys.join("\n"));
  }

  /**
   * Reads the last cosigned checkpoint of a log, lets `decide` choose, and keeps its choice (null: nothing), in one
   * transaction. Two requests at once cannot both continue the same checkpoint.
   */
  step<Answer>(
    origin: string,
    decide: (latest: Latest | null) => { readonly keep: Latest | null; readonly answer: Answer },
  ): Answer {
    return this.#db
      .transaction(() => {
        const { keep, answer } = decide(this.#latest.get(origin) ?? null);
        if (keep !== null) this.#keep.run(keep);
        return answer;
      })
      .immediate();
  }

  latest(origin: string): Latest | null {
    return this.#latest.get(origin) ?? null;
  }

  all(): Latest[] {
    return this.#db.prepare<[], Latest>(ALL).all();
  }

  close(): void {
    this.#db.close();
  }
}
