import { join } from "node:path";
import { Archive, openArchive } from "../archive/archive.ts";
import { readSums, SUMS } from "../archive/sums.ts";
import { readTile, tileFile, tileOver } from "../archive/tiles.ts";
import { type RowBytes, rowBytes } from "../log/canonical.ts";
import { ARCHIVED, ARCHIVED_ENTRIES, entriesToKeep, readArchived, readEntries } from "../sqlite/archive_facts.ts";
import { LOG_ID } from "../sqlite/facts.ts";
import type { SqliteLogRows } from "../sqlite/log_rows.ts";
import { HASH_BYTES, leafHash } from "../tlog/merkle.ts";
import { TILE_HASHES } from "../tlog/tiles.ts";
import type { KeptEntries, LogRows } from "../tree/ports.ts";
import { archivePlaces, type Places } from "./archived_state.ts";
import { FactsCheck } from "./facts_check.ts";
import type { Finding } from "./finding.ts";

/**
 * All events of a log as of one moment. Archived events come from the archive, if it is available. The class also
 * compares the archive and the ledger's facts with the events that a caller hands to `look` and `lookTile`.
 */
export class AllEvents implements Pick<LogRows, "rows"> {
  readonly lastSeq: number;
  readonly archivedThrough: number;
  /** The reason why the archived events cannot be read; null if they can, or if there are none. */
  readonly unread: string | null;
  readonly #log: SqliteLogRows;
  readonly #archive: Archive | null;
  readonly #facts: FactsCheck;
  /** Entries of archived events that the ledger keeps for the last entry bundle. */
  readonly #entries: KeptEntries;
  /** The last archived event whose row has been removed from the log. */
  readonly #rowsGone: number;
  /** Facts of the ledger that cannot be read. The other checks treat them as unset. */
  readonly unreadable: Finding[] = [];
  /** Findings about the archive's tiles and the ledger's entries. */
  readonly #wrong: Finding[] = [];

  constructor(places: Places, log: SqliteLogRows) {
    this.#log = log;
    const { lastSeq, oldestSeq, facts } = log.moment();
    const fact = (name: string): string => facts.get(name) ?? "";
    this.lastSeq = lastSeq;
    this.#facts = new FactsCheck(facts);
    const archived = this.#sound(() => readArchived(fact(ARCHIVED)), readArchived(""));
    const { through } = archived;
    this.archivedThrough = through;
    this.#rowsGone = Math.min((oldestSeq ?? lastSeq + 1) - 1, through);
    this.#entries = this.#sound(() => readEntries(fact(ARCHIVED_ENTRIES)), { first: 1, entries: [] });
    const found = through === 0 ? null : openArchive(archivePlaces(places, archived), fact(LOG_ID), through);
    this.#archive = found instanceof Archive ? found : null;
    this.unread = typeof found === "string" ? found : null;
  }

  /** The last event that cannot be read, 0 if all can. */
  get goneThrough(): number {
    return this.unread === null ? 0 : this.archivedThrough;
  }

  /** Verifier keys of former signers that events name. */
  get signers(): ReadonlySet<string> {
    return this.#facts.signers;
  }

  *rows(afterSeq: number, untilSeq: number): Iterable<RowBytes> {
    const archived = Math.min(this.archivedThrough, untilSeq);
    if (this.#archive !== null) for (const row of this.#archive.rows(afterSeq, archived)) yield rowBytes(row);
    yield* this.#log.rows(Math.max(afterSeq, archived), untilSeq);
  }

  look(row: RowBytes): void {
    this.#facts.look(row);
  }

  /**
   * Compares the hashes of a tile, which were computed from the events, with the archive's tile and the ledger's
   * entries.
   */
  lookTile(level: number, index: number, hashes: Buffer): void {
    if (level === 0) this.#lookAtEntries(index, hashes);
    const tile = tileOver(level, index, this.archivedThrough);
    if (this.#archive === null || tile === null) return;
    const { folder } = this.#archive;
    const kept = readTile(folder, tile);
    if (kept?.equals(hashes.subarray(0, tile.width * HASH_BYTES)) === true) return;
    const fault = kept === undefined ? "is missing" : "differs from the tile of the archived events";
    this.#wrong.push({ seq: null, text: `${join(folder, tileFile(tile))} ${fault}` });
  }

  #lookAtEntries(index: number, hashes: Buffer): void {
    const { first, entries } = this.#entries;
    const before = index * TILE_HASHES;
    for (let at = 0; at < hashes.length / HASH_BYTES; at++) {
      const entry = entries[before + at + 1 - first];
      if (entry === undefined || leafHash(entry).equals(hashes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES)))
        continue;
      this.#wrong.push({ seq: before + at + 1, text: "the entry that the ledger keeps for it does not match it" });
      return;
    }
  }

  /**
   * Call this after all rows and tiles: the findings compare the ledger's facts and the archive's files with the
   * events.
   */
  findings(): Finding[] {
    return [
      ...this.#facts.findings(this.unread === null),
      ...this.#wrong,
      ...[...this.#entryFaults(), ...this.#archiveFaults()].map((text) => ({ seq: null, text })),
    ];
  }

  /**
   * The ledger must keep an entry for each archived event that shares an entry bundle with later events, and for no
   * other event.
   */
  *#entryFaults(): Iterable<string> {
    const kept = this.#entries;
    const last = kept.first + kept.entries.length - 1;
    if (last > this.archivedThrough) yield `the ledger keeps entries of events up to ${last}, which are not archived`;
    const { first, count } = entriesToKeep(this.archivedThrough, this.#rowsGone);
    if (count > 0 && (kept.first !== first || kept.entries.length < count))
      yield `the ledger does not keep the entries of events ${first} to ${first + count - 1}, whose entry bundle also has later events`;
  }

  /**
   * SHA256SUMS must list the files that ARCHIVE events name, with the same SHA-256; a file that it does not list is not
   * checked.
   */
  *#archiveFaults(): Iterable<string> {
    if (this.#archive === null) return;
    const { folder } = this.#archive;
    const said = this.#facts.archiveFiles;
    const listed = readSums(folder).filter(({ through }) => through <= this.archivedThrough);
    for (const { name, sha256 } of listed)
      if (said.get(name) !== sha256) yield `${join(folder, SUMS)}: no ARCHIVE event has this SHA-256 of ${name}`;
    const names = new Set(listed.map(({ name }) => name));
    for (const name of said.keys())
      if (!names.has(name)) yield `${join(folder, SUMS)} does not list ${name}, which an ARCHIVE event names`;
  }

  #sound<Fact>(read: () => Fact, none: Fact): Fact {
    try {
      return read();
    } catch (error) {
      this.unreadable.push({ seq: null, text: (error as Error).message });
      return none;
    }
  }
}
