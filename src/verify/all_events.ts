import { join } from "node:path";
import { CMD } from "../abi/service.ts";
import { ARCHIVE_FOLDER, Archive, openArchive } from "../archive/archive.ts";
import { readTile, tileFile, tileOver } from "../archive/tiles.ts";
import type { LogRows } from "../engine/tree.ts";
import { type RowBytes, rowBytes } from "../log/canonical.ts";
import { HASH_BYTES } from "../log/merkle.ts";
import { ARCHIVED, readArchived } from "../sqlite/archived.ts";
import { BRANCH, CHECKPOINT, factsOf } from "../sqlite/facts.ts";
import type { SqliteLogRows } from "../sqlite/log_rows.ts";
import type { ArchiveCommand, BackupRestoreCommand, CheckpointCommand, TreeBeginCommand } from "../syscall/command.ts";
import type { Finding } from "./finding.ts";

/** Commands that set facts of the ledger. */
type FactCommand = ArchiveCommand | CheckpointCommand | TreeBeginCommand | BackupRestoreCommand;
const SETTING_FACTS: ReadonlySet<number> = new Set([CMD.ARCHIVE, CMD.CHECKPOINT, CMD.TREE_BEGIN, CMD.BACKUP_RESTORE]);
type Attr = FactCommand["attr"];

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
  /** What the last events that set facts say. */
  readonly #said = new Map<string, string>();
  /** Verifier keys that events name as those of before. */
  readonly signers = new Set<string>();
  /** Tiles of the archive, and facts of the ledger. */
  readonly #wrong: Finding[] = [];

  /** `archive`: a folder in which it is looked for first. */
  constructor(data: string, log: SqliteLogRows, archive: string | null) {
    this.#log = log;
    const { through, directory } = readArchived(log.fact(ARCHIVED));
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
    const cmd = row[CMD_COLUMN];
    if (!SETTING_FACTS.has(Number(cmd)) || row[ERRNO_COLUMN] !== 0 || attr === null) return;
    const text = typeof attr === "string" ? Buffer.from(attr, "hex") : attr;
    const said = JSON.parse(text.toString()) as Attr;
    for (const [name, value] of factsOf({ cmd, attr: said } as FactCommand)) this.#said.set(name, value);
    if ("signer" in said && said.signer !== null) this.signers.add(said.signer);
    if (cmd === CMD.CHECKPOINT) this.#lookAtFacts(Number(row[0]), said as CheckpointCommand["attr"]);
  }

  /** A checkpoint's event has what the ledger was then: it was never another one. */
  #lookAtFacts(seq: number, { log, possible_cpus: cpus }: CheckpointCommand["attr"]): void {
    if (log !== this.#log.id) this.#wrong.push({ seq, text: `it is of the log ${log}, this log is ${this.#log.id}` });
    if (cpus !== this.#log.possibleCpus)
      this.#wrong.push({
        seq,
        text: `the log was for ${cpus} possible CPUs, now it says ${this.#log.possibleCpus}`,
      });
  }

  /** The archive's tile, where it has one of it, is to have the hashes that were made anew. */
  lookTile(level: number, index: number, hashes: Buffer): void {
    const tile = tileOver(level, index, this.archivedThrough);
    if (this.#archive === null || tile === null) return;
    const { folder } = this.#archive;
    const kept = readTile(folder, tile);
    if (kept?.equals(hashes.subarray(0, tile.width * HASH_BYTES)) === true) return;
    const fault = kept === undefined ? "is missing" : "is not that of the archived events";
    this.#wrong.push({ seq: null, text: `${join(folder, tileFile(tile))} ${fault}` });
  }

  /** When all rows and tiles have been looked at: what the ledger says of archived events is what an event says. */
  findings(): Finding[] {
    const said = (name: string): string => this.#said.get(name) ?? "";
    const findings = [...this.#wrong];
    if (said(ARCHIVED) !== this.#log.fact(ARCHIVED)) {
      const { through } = readArchived(said(ARCHIVED));
      const text = `the ledger says that events up to ${this.archivedThrough} are archived, the log says: up to ${through}`;
      findings.unshift({ seq: null, text });
    }
    // Without the archive nobody knows what its events said.
    for (const name of this.unread === null ? [CHECKPOINT, BRANCH] : [])
      if (said(name) !== this.#log.fact(name))
        findings.unshift({ seq: null, text: `the ledger's fact "${name}" is not what the log's events say` });
    return findings;
  }
}
