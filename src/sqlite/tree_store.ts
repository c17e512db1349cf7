import Sqlite, { type Database, type Statement } from "better-sqlite3";
import type { FormerSigner, KeptCheckpoint, TileHashes, TreeIdentity, TreeStore } from "../engine/tree.ts";
import { HASH_BYTES } from "../log/merkle.ts";
import { TILE_HASHES } from "../log/tiles.ts";
import { migrate } from "./migrate.ts";

const MIGRATIONS = new URL("../../migrations/tree/", import.meta.url);

const IDENTITY = "SELECT log, possible_cpus AS possibleCpus, origin, vkey FROM tree";
const BEGIN = "INSERT OR REPLACE INTO tree (id, log, possible_cpus, origin, vkey) VALUES (0, ?, ?, ?, ?)";
const HAS_SIGNERS = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'signers'";
const SIGNERS = "SELECT until, origin, vkey FROM signers ORDER BY until";
const KEEP_SIGNER = "INSERT INTO signers (until, origin, vkey) SELECT ?, origin, vkey FROM tree";
const SET_SIGNER = "UPDATE tree SET origin = ?, vkey = ?, closed = NULL";
const CLOSED = "SELECT closed FROM tree";
const SET_CLOSED = "UPDATE tree SET closed = ?";
const LAST_TILE = "SELECT tile, length(hashes) AS bytes FROM tiles WHERE level = 0 ORDER BY tile DESC LIMIT 1";
const TILE = "SELECT hashes FROM tiles WHERE level = ? AND tile = ?";
const WRITE = "INSERT OR REPLACE INTO tiles (level, tile, hashes) VALUES (?, ?, ?)";
const LAST_CHECKPOINT = "SELECT size, root, note, time_us AS timeUs FROM checkpoints ORDER BY size DESC LIMIT 1";
const CHECKPOINTS = "SELECT size, root, note, time_us AS timeUs FROM checkpoints ORDER BY size";
const KEEP = "INSERT INTO checkpoints (size, root, note, time_us) VALUES (?, ?, ?, ?)";

/** The tree as its file has it, to be looked at: what verifies it changes nothing. */
export class TreeFile {
  protected readonly db: Database;
  #tile: Statement<[number, number], Buffer> | null = null;

  constructor(file: string, options: Sqlite.Options = { readonly: true, fileMustExist: true }) {
    this.db = new Sqlite(file, options);
  }

  get identity(): TreeIdentity | null {
    return (this.db.prepare(IDENTITY).get() as TreeIdentity | undefined) ?? null;
  }

  get formerSigners(): readonly FormerSigner[] {
    // A tree that only verifiers have opened since there is such a table has none.
    return this.db.prepare(HAS_SIGNERS).pluck().get() === 0 ? [] : (this.db.prepare(SIGNERS).all() as FormerSigner[]);
  }

  get size(): number {
    const last = this.db.prepare(LAST_TILE).get() as { tile: number; bytes: number } | undefined;
    return last === undefined ? 0 : last.tile * TILE_HASHES + last.bytes / HASH_BYTES;
  }

  get closedAt(): number | null {
    return (this.db.prepare(CLOSED).pluck().get() as number | null | undefined) ?? null;
  }

  tile(level: number, index: number): Buffer | undefined {
    this.#tile ??= this.db.prepare<[number, number], Buffer>(TILE).pluck();
    return this.#tile.get(level, index);
  }

  lastCheckpoint(): KeptCheckpoint | null {
    return (this.db.prepare(LAST_CHECKPOINT).get() as KeptCheckpoint | undefined) ?? null;
  }

  /** Ascending by size. */
  checkpoints(): Iterable<KeptCheckpoint> {
    return this.db.prepare(CHECKPOINTS).iterate() as Iterable<KeptCheckpoint>;
  }

  close(): void {
    this.db.close();
  }
}

/** The tree in a database of its own. Tiles may be lost with the machine, for they are made again; checkpoints may not. */
export class SqliteTreeStore extends TreeFile implements TreeStore {
  constructor(file: string) {
    super(file, {});
    this.db.pragma("journal_mode = WAL");
    this.db.pragma("synchronous = NORMAL");
    migrate(this.db, MIGRATIONS);
  }

  begin({ log, possibleCpus, origin, vkey }: TreeIdentity): void {
    this.db.prepare(BEGIN).run(log, possibleCpus, origin, vkey);
  }

  changeSigner({ origin, vkey }: Pick<TreeIdentity, "origin" | "vkey">, until: number): void {
    this.db.pragma("synchronous = FULL");
    this.db.transaction(() => {
      this.db.prepare(KEEP_SIGNER).run(until);
      this.db.prepare(SET_SIGNER).run(origin, vkey);
    })();
    this.db.pragma("synchronous = NORMAL");
  }

  setClosed(size: number | null): void {
    this.db.prepare(SET_CLOSED).run(size);
  }

  write(tiles: Iterable<TileHashes>): void {
    const statement = this.db.prepare(WRITE);
    this.db.transaction(() => {
      for (const { level, index, hashes } of tiles) statement.run(level, index, hashes);
    })();
  }

  keep({ size, root, note, timeUs }: KeptCheckpoint): void {
    this.db.pragma("synchronous = FULL");
    this.db.prepare(KEEP).run(size, root, note, timeUs);
    this.db.pragma("synchronous = NORMAL");
  }
}
