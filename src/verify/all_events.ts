import { join } from "node:path";
import { CMD } from "../abi/service.ts";
import { ARCHIVE_FOLDER, Archive, openArchive } from "../archive/archive.ts";
import { readTile, tileFile, tileOver } from "../archive/tiles.ts";
import type { LogRows } from "../engine/tree.ts";
import { type RowBytes, rowBytes } from "../log/canonical.ts";
import { HASH_BYTES } from "../log/merkle.ts";
import { ARCHIVED, archivedFact, readArchived } from "../sqlite/archived.ts";
import type { SqliteLogRows } from "../sqlite/log_rows.ts";
import type { ArchiveCommand } from "../syscall/command.ts";
import type { Finding } from "./finding.ts";

const CMD_COLUMN = 4;
const ERRNO_COLUMN = 11;
const ATTR_COLUMN = 13;

/** A log's events from the first on: the archived ones from its archive, where that is there. */
export class AllEvents implements Pick<LogRows, "rows"> {
  readonly archivedThrough: number;
  /** Why the archived events cannot be read; null: they can, or there are none. */
  readonly unread: string | null;
  readonly #log: SqliteLogRows;
  readonly #archive: Archive | null;
  readonly #fact: string;
  /** What the last ARCHIVE event says. */
  #said = "";
  readonly #tiles: Finding[] = [];

  /** `archive`: a folder in which it is looked for first. */
  constructor(data: string, log: SqliteLogRows, archive: string | null) {
    this.#log = log;
    this.#fact = log.fact(ARCHIVED);
    const { through, directory } = readArchived(this.#fact);
    this.archivedThrough = through;
    const folders = [...(archive === null ? [] : [archive]), directory, join(data, ARCHIVE_FOLDER)];
    const found = through === 0 ? null : openArchive(folders, log.id, through);
    this.#archive = found instanceof Archive ? found : null;
    this.unread = typeof found === "string" ? found : null;
  }

  /** The last event that cannot be read. */
  get goneThrough(): number {
    return this.unread === null ? 0 : this.archivedThrough;
  }

  *rows(afterSeq: number, untilSeq: number): Iterable<RowBytes> {
    const archived = Math.min(this.archivedThrough, untilSeq);
    if (this.#archive !== null) for (const row of this.#archive.rows(afterSeq, archived)) yield rowBytes(row);
    yield* this.#log.rows(Math.max(afterSeq, archived), untilSeq);
  }

  look(row: RowBytes): void {
    const attr = row[ATTR_COLUMN];
    if (row[CMD_COLUMN] !== CMD.ARCHIVE || row[ERRNO_COLUMN] !== 0 || attr === null) return;
    const text = typeof attr === "string" ? Buffer.from(attr, "hex") : attr;
    this.#said = archivedFact(JSON.parse(text.toString()) as ArchiveCommand["attr"]);
  }

  /** The archive's tile, where it has one of it, is to have the hashes that were made anew. */
  lookTile(level: number, index: number, hashes: Buffer): void {
    const tile = tileOver(level, index, this.archivedThrough);
    if (this.#archive === null || tile === null) return;
    const { folder } = this.#archive;
    const kept = readTile(folder, tile);
    if (kept?.equals(hashes.subarray(0, tile.width * HASH_BYTES)) === true) return;
    const fault = kept === undefined ? "is missing" : "is not that of the archived events";
    this.#tiles.push({ seq: null, text: `${join(folder, tileFile(tile))} ${fault}` });
  }

  /** When all rows and tiles have been looked at: what the ledger says of archived events is what an event says. */
  findings(): Finding[] {
    if (this.#said === this.#fact) return this.#tiles;
    const { through } = readArchived(this.#said);
    const text = `the ledger says that events up to ${this.archivedThrough} are archived, the log says: up to ${through}`;
    return [{ seq: null, text }, ...this.#tiles];
  }
}
