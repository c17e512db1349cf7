import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { TREE_FILE } from "../data/layout.ts";
import { HASH_BYTES } from "../tlog/merkle.ts";
import { TILE_HASHES } from "../tlog/tiles.ts";
import type {
  Cosigner,
  FormerSigner,
  KeptCheckpoint,
  KeptCosignature,
  TileHashes,
  TreeIdentity,
  TreeStore,
} from "../tree/ports.ts";
import { DATABASES } from "./databases.ts";
import { migrate } from "./migrate.ts";
import { settleWal } from "./settle_wal.ts";

const MIGRATIONS = DATABASES[TREE_FILE];

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
const CHECKPOINT = "SELECT size, root, note, time_us AS timeUs FROM checkpoints WHERE size = ?";
const HAS_COSIGNATURES = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'cosignatures'";
const COSIGNATURES = "SELECT size, name, key_id AS keyId, bytes FROM cosignatures WHERE size = ? ORDER BY name, key_id";
const COSIGNERS = "SELECT size, name, key_id AS keyId FROM cosignatures ORDER BY size DESC, name, key_id";
const KEEP_COSIGNATURE = "INSERT OR IGNORE INTO cosignatures (size, name, key_id, bytes) VALUES (?, ?, ?, ?)";
const KEEP = "INSERT INTO checkpoints (size, root, note, time_us) VALUES (?, ?, ?, ?)";

/** The tree's file, opened for reading: verifying a tree must not change it. */
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
    // The table is missing if the file was written by a release before it existed and has only been read since.
    return this.db.prepare(HAS_SIGNERS).pluck().get() === 0 ? [] : (this.db.prepare(SIGNERS).all() as FormerSigner[]);
  }

  get size(): number {
    const last = this.db.prepare(LAST_TILE).get() as { tile: number; bytes: number } | undefined;
    return last === undefined ? 0 : last.tile * TILE_HASHES + last.bytes / HASH_BYTES;
  }

  /** The tree's size and its closing mark, as of one moment. */
  moment(): { readonly size: number; readonly closedAt: number | null } {
    return this.db.transaction(() => ({ size: this.size, closedAt: this.closedAt }))();
  }

  /** The closing mark: the tree's size when the service closed it; null if it is open. */
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

  checkpoint(size: number): KeptCheckpoint | null {
    return (this.db.prepare(CHECKPOINT).get(size) as KeptCheckpoint | undefined) ?? null;
  }

  cosignatures(size: number): readonly KeptCosignature[] {
    return this.db.prepare(COSIGNATURES).all(size) as KeptCosignature[];
  }

  cosigners(): Iterable<Cosigner> {
    // The table is missing if a release before it existed has written the file.
    if (this.db.prepare(HAS_COSIGNATURES).pluck().get() === 0) return [];
    return this.db.prepare(COSIGNERS).iterate() as Iterable<Cosigner>;
  }

  /** Ascending by size. */
  checkpoints(): Iterable<KeptCheckpoint> {
    return this.db.prepare(CHECKPOINTS).iterate() as Iterable<KeptCheckpoint>;
  }

  close(): void {
    this.db.close();
  }
}

/**
 * The tree in a database of its own. A crash of the machine may lose tiles, which are computed again from the log, but
 * never checkpoints.
 */
export class SqliteTreeStore extends TreeFile implements TreeStore {
  constructor(file: string) {
    super(file, {});
    this.db.pragma("journal_mode = WAL");
    this.db.pragma("synchronous = NORMAL");
    // Checkpoints that an earlier process signed may only be in the page cache; they must be durable before they are
    // handed out.
    settleWal(this.db);
    migrate(this.db, MIGRATIONS);
  }

  begin({ log, possibleCpus, origin, vkey }: TreeIdentity): void {
    this.db.prepare(BEGIN).run(log, possibleCpus, origin, vkey);
  }

  changeSigner(
    { origin, vkey }: Pick<TreeIdentity, "origin" | "vkey">,
    until: number,
    checkpoint?: KeptCheckpoint,
  ): void {
    this.#durably(() => {
      if (checkpoint !== undefined) this.#insert(checkpoint);
      this.db.prepare(KEEP_SIGNER).run(until);
      this.db.prepare(SET_SIGNER).run(origin, vkey);
    });
  }

  setClosed(size: number | null): void {
    this.#durably(() => this.db.prepare(SET_CLOSED).run(size));
  }

  write(tiles: Iterable<TileHashes>): void {
    const statement = this.db.prepare(WRITE);
    this.db.transaction(() => {
      for (const { level, index, hashes } of tiles) statement.run(level, index, hashes);
    })();
  }

  keep(checkpoint: KeptCheckpoint): void {
    this.#durably(() => this.#insert(checkpoint));
  }

  keepCosignatures(cosignatures: readonly KeptCosignature[]): void {
    const statement = this.db.prepare(KEEP_COSIGNATURE);
    this.#durably(() => {
      for (const { size, name, keyId, bytes } of cosignatures) statement.run(size, name, keyId, bytes);
    });
  }

  #insert({ size, root, note, timeUs }: KeptCheckpoint): void {
    this.db.prepare(KEEP).run(size, root, note, timeUs);
  }

  /** Runs `write` in one transaction, which is durable when this returns. */
  #durably(write: () => void): void {
    this.db.pragma("synchronous = FULL");
    try {
      this.db.transaction(write)();
    } finally {
      this.db.pragma("synchronous = NORMAL");
    }
  }
}
