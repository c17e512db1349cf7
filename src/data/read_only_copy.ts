/**
 * Makes the private directory from which a service serves reads: a copy of a data directory or a backup, or a log and a
 * tree that are built from an archive. Nothing in the original is written, and only plain files are opened. A stranger
 * may have made the original, so its schema is checked before any query runs on the copy.
 */

import { randomUUID } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import Sqlite from "better-sqlite3";
import { CMD } from "../abi/service.ts";
import { archivedLog } from "../archive/archive.ts";
import { segmentsAtHand } from "../archive/at_hand.ts";
import { stateName } from "../archive/names.ts";
import { segmentRows } from "../archive/segment.ts";
import { readSums } from "../archive/sums.ts";
import { readTile, tileFile, tilesOver } from "../archive/tiles.ts";
import { CPUS_MAX } from "../config.ts";
import { copyOpened, openPlain } from "../files/contents.ts";
import { readHost } from "../host.ts";
import { SegmentFile } from "../index/segment_file.ts";
import type { Ledger } from "../log/position.ts";
import { ARCHIVED, readArchived } from "../sqlite/archive_facts.ts";
import { DATABASES } from "../sqlite/databases.ts";
import { logSchemaFindings, SqliteEventLog } from "../sqlite/event_log.ts";
import { CHECKPOINT, LIFE, LOG_ID, POSSIBLE_CPUS } from "../sqlite/facts.ts";
import { holdLock, InUse } from "../sqlite/lock.ts";
import { SqliteLogRows } from "../sqlite/log_rows.ts";
import { schemaFindings, tablesMade } from "../sqlite/schema_check.ts";
import { SqliteTreeStore } from "../sqlite/tree_store.ts";
import type { CheckpointCommand } from "../syscall/command.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import { HASH_BYTES } from "../tlog/merkle.ts";
import { notedCheckpoint } from "../tlog/note.ts";
import type { TileHashes, TreeIdentity } from "../tree/ports.ts";
import { Leaves } from "./archived_log.ts";
import { checkData } from "./entries.ts";
import { ARCHIVE_FOLDER, CHECKPOINT_FILE, LOCK_FILE, LOG_FILE, TREE_FILE } from "./layout.ts";
import { checkWritten, logFault } from "./version.ts";

const SCRATCH = "mapledger-read-only-";
const PRIVATE_MODE = 0o600;
const OTHERS = 0o077;
const SEQS = "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0), count(*) FROM events";
/** Least room that SQLite and the index need besides the copies. */
const SPARE_BYTES = 16 * 1024 * 1024;

/** The kind of directory that is read, and its private copy. */
export interface ReadOnlyData {
  readonly kind: "data directory" | "backup" | "archive";
  /** The private directory. It has the form of a data directory, and is removed at the end. */
  readonly scratch: string;
  /** The folder of the log's archive. */
  readonly archive: string;
  readonly lastSeq: number;
  readonly ledger: Ledger;
}

/**
 * Makes the private directory, and locks it; it is removed when the process exits. Directories whose lock no process
 * holds were left by services that were killed: they are removed first, and listed in `removed`.
 */
export function makeScratch(): { readonly scratch: string; readonly removed: readonly string[] } {
  const folder = tmpdir();
  const removed = removeLeft(folder);
  for (;;) {
    const scratch = mkdtempSync(join(folder, SCRATCH));
    const release = held(scratch);
    if (release === null) continue;
    process.on("exit", () => {
      rmSync(scratch, { recursive: true, force: true });
      // `release` must stay reachable: if the lock's database were garbage collected, its lock would end.
      release();
    });
    return { scratch, removed };
  }
}

/** Locks a new directory; null if another process has removed it as a leftover before the lock was taken. */
function held(scratch: string): (() => void) | null {
  try {
    const release = holdLock(join(scratch, LOCK_FILE), scratch);
    if (existsSync(join(scratch, LOCK_FILE))) return release;
    release();
  } catch (error) {
    if (!(error instanceof InUse) && existsSync(scratch)) throw error;
  }
  return null;
}

/**
 * Removes leftovers of this user that have a lock file; a directory without one is just being made. A leftover that
 * cannot be removed stays.
 */
function removeLeft(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.name.startsWith(SCRATCH) && entry.isDirectory())
    .map(({ name }) => join(folder, name))
    .filter((scratch) => {
      try {
        const { uid, mode } = lstatSync(scratch);
        if (uid !== process.geteuid?.() || (mode & OTHERS) !== 0 || !existsSync(join(scratch, LOCK_FILE))) return false;
        const release = holdLock(join(scratch, LOCK_FILE), scratch);
        try {
          rmSync(scratch, { recursive: true });
        } finally {
          release();
        }
        return true;
      } catch {
        return false;
      }
    });
}

/**
 * Copies the files that cannot be derived. The original is not opened with SQLite, which writes beside a database in
 * WAL mode even to read it. Throws an Error with the reason if the directory cannot be served.
 */
export async function readOnlyData(
  directory: string,
  { archive, cpus }: { readonly archive: string; readonly cpus: number },
  scratch: string,
): Promise<ReadOnlyData> {
  const from = resolve(directory);
  if (!existsSync(from)) throw new Error(`${directory} does not exist`);
  if (!statSync(from).isDirectory()) throw new Error(`${directory} is not a directory`);
  const hasLog = existsSync(join(from, LOG_FILE));
  if (!hasLog && isArchive(from)) {
    const lastSeq = await unpackArchive([from, ...(archive === "" ? [] : [resolve(archive)])], scratch, cpus);
    return { kind: "archive", scratch, archive: from, lastSeq, ledger: ledgerIn(scratch) };
  }
  checkData(from);
  checkWritten(from);
  const fault = logFault(from);
  if (fault !== null) throw new Error(`${directory} is not a data directory, backup or archive: ${fault}`);
  checkUnused(from, directory);
  const places = [archive === "" ? join(from, ARCHIVE_FOLDER) : archive, join(from, ARCHIVE_FOLDER)];
  copyLog(from, directory, scratch);
  const lastSeq = checkLog(directory, scratch, cpus, () => copySnapshot(from, scratch, places));
  const kind = existsSync(join(from, "manifest.json")) ? "backup" : "data directory";
  return { kind, scratch, archive: places[0] as string, lastSeq, ledger: ledgerIn(scratch) };
}

function ledgerIn(scratch: string): Ledger {
  const log = new SqliteLogRows(join(scratch, LOG_FILE), false);
  const { id, life } = log;
  log.close();
  return { id, life };
}

function isArchive(folder: string): boolean {
  return archivedLog(folder) !== null;
}

/**
 * Throws if a service on this machine uses the directory, because a copy would then mix several moments. Services on
 * other machines are not detected here.
 */
function checkUnused(from: string, directory: string): void {
  for (const name of [LOCK_FILE, LOG_FILE])
    if (isLocked(join(from, name)))
      throw new Error(
        `${directory} is in use by a service: stop the service, or make a backup (mapledger backup) and serve that`,
      );
}

/** Whether a process of this machine holds a lock on a file, by /proc/locks; false if that cannot be read. */
function isLocked(file: string): boolean {
  try {
    const { ino, dev } = statSync(file, { bigint: true });
    const [major, minor] = [(dev >> 8n) & 0xfffn, (dev & 0xffn) | ((dev >> 12n) & 0xfff00n)];
    const place = `${major.toString(16).padStart(2, "0")}:${minor.toString(16).padStart(2, "0")}:${ino}`;
    return readFileSync("/proc/locks", "utf8")
      .split("\n")
      .some((line) => line.includes("WRITE") && line.split(/\s+/).includes(place));
  } catch {
    return false;
  }
}

/** Copies the log, the tree and the newest checkpoint. */
function copyLog(from: string, directory: string, scratch: string): void {
  const files = [LOG_FILE, `${LOG_FILE}-wal`, TREE_FILE, `${TREE_FILE}-wal`, CHECKPOINT_FILE];
  const before = files.map((name) => statSync(join(from, name), { bigint: true, throwIfNoEntry: false }));
  const bytes = before.reduce((sum, stat) => sum + Number(stat?.size ?? 0), 0);
  const { bavail, bsize } = statfsSync(scratch);
  if (bavail * bsize < bytes + SPARE_BYTES)
    throw new Error(
      `${scratch} has ${bavail * bsize} bytes left, and copies of the log and its tree take ${bytes}: set TMPDIR to a directory with more room`,
    );
  for (const [at, name] of files.entries())
    if (before[at] !== undefined) copyPlain(join(from, name), join(scratch, name));
  // A service in another container, or on another machine, is not in /proc/locks; but its writes change these fields.
  for (const [at, name] of files.entries()) {
    const after = statSync(join(from, name), { bigint: true, throwIfNoEntry: false });
    if (["ino", "size", "mtimeNs"].some((field) => after?.[field as "ino"] !== before[at]?.[field as "ino"]))
      throw new Error(`${directory} is in use: ${name} was written while it was copied`);
  }
}

/** Copies the snapshot after a log's archived events from the first folder that has it. */
function copySnapshot(from: string, scratch: string, archives: readonly string[]): void {
  const db = new Sqlite(join(scratch, LOG_FILE));
  try {
    const fact = db.prepare("SELECT value FROM ledger WHERE name = ?").pluck().get(ARCHIVED) as string | undefined;
    const archived = readArchived(fact);
    if (archived.through === 0) return;
    const name = stateName(archived.through);
    const found = [from, ...archives].map((folder) => join(folder, name)).find((file) => existsSync(file));
    if (found !== undefined) copyPlain(found, join(scratch, name));
    // The folder that the log names may belong to another machine, or may be chosen by a stranger.
    const own = JSON.stringify({ ...archived, directory: scratch });
    db.prepare("UPDATE ledger SET value = ? WHERE name = ?").run(own, ARCHIVED);
  } finally {
    db.close();
  }
}

/**
 * Opens the copy as a service does, and checks all pages of its tables. The schemas are checked first: a view or
 * trigger that somebody added could run for ever. Calls `sound` once schema and pages are sound. Returns the last
 * event's seq.
 */
function checkLog(directory: string, scratch: string, cpus: number, sound: () => void): number {
  const [foreign] = treeFindings(join(scratch, TREE_FILE));
  if (foreign !== undefined) throw new Error(`${join(directory, TREE_FILE)} is damaged: ${foreign}`);
  const file = join(scratch, LOG_FILE);
  try {
    throwFirst(logSchemaFindings(file));
    throwFirst(pageFindings(file));
    sound();
    const log = new SqliteEventLog(file);
    try {
      checkCpus(log.possibleCpus(cpus, readHost().possibleCpus));
      checkSeqs(file, log.archived.through);
      return log.lastSeq;
    } finally {
      log.close();
    }
  } catch (error) {
    throw new Error(`${join(directory, LOG_FILE)} is damaged: ${(error as Error).message}`);
  }
}

function throwFirst([wrong]: readonly string[]): void {
  if (wrong !== undefined) throw new Error(wrong);
}

/**
 * Checks the pages of mapledger's own tables only. A check of an added table would run the CHECK constraints that
 * somebody gave it, which may take for ever.
 */
function pageFindings(file: string): string[] {
  const db = new Sqlite(file);
  try {
    return tablesMade(DATABASES[LOG_FILE])
      .map((table) => db.pragma(`quick_check(${table})`, { simple: true }) as string)
      .filter((found) => found !== "ok");
  } finally {
    db.close();
  }
}

/** Findings about the tree's schema. A file that is not a database has none here: the tree's thread reports it. */
function treeFindings(file: string): string[] {
  try {
    return existsSync(file) ? schemaFindings(file, DATABASES[TREE_FILE]) : [];
  } catch {
    return [];
  }
}

/** Throws if an event is missing between others, or if a seq is not a safe integer. */
function checkSeqs(file: string, archivedThrough: number): void {
  const db = new Sqlite(file, { readonly: true });
  try {
    const [first, last, count] = db.prepare(SEQS).raw().get() as [first: number, last: number, count: number];
    const isWhole = count === last - first + 1 && first >= 1 && first <= archivedThrough + 1;
    if (count > 0 && !(isWhole && Number.isSafeInteger(last)))
      throw new Error(`it has ${count} events from ${first} to ${last}, of which ${archivedThrough} are archived`);
  } finally {
    db.close();
  }
}

function checkCpus(cpus: number): void {
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > CPUS_MAX)
    throw new Error(`its per-CPU values are for ${cpus} CPUs: only 1 to ${CPUS_MAX} are possible`);
}

/**
 * Builds a log and a tree from an archive: all its events, and the checkpoints that they record. Of several folders,
 * the first has the end of the log. Returns the last event's seq.
 */
async function unpackArchive(folders: readonly string[], scratch: string, cpus: number): Promise<number> {
  const [folder = "", ...others] = folders;
  const log = archivedLog(folder) as string;
  const through = readSums(folder).findLast(({ is }) => is === "events")?.through ?? 0;
  if (through === 0) throw new Error(`${folder} is an archive without events`);
  const segments = segmentsAtHand(folders, log, through);
  if (typeof segments === "string") throw new Error(segments);
  const first = segments[0]?.first ?? 0;
  if (first !== 1) {
    const [other] = others;
    const before = `event ${first - 1}`;
    const where =
      other === undefined
        ? `MAPLEDGER_ARCHIVE may name the folder that ends with ${before}`
        : `${other} does not end with ${before}`;
    throw new Error(
      `${folder} begins with event ${first}, but events from 1 on are needed: ${where}; or name the data directory`,
    );
  }
  copyTiles(folders, scratch, through);
  const file = new SegmentFile(join(scratch, LOG_FILE), { first, through });
  const leaves = new Leaves(scratch);
  let newest: CheckpointFields = {};
  // Positions depend on the life. If no event of the archive names one, a random life is used, so that positions are
  // valid in this run only.
  let life: string = randomUUID();
  try {
    for (const segment of segments)
      for await (const rows of segmentRows(segment.folder, segment)) {
        for (const row of rows) leaves.check(row);
        file.add(rows);
        for (const { cmd, attr, time_us: timeUs } of rows) {
          if (commandFacts(cmd)?.setsFact !== true) continue;
          const said = JSON.parse(attr ?? "{}");
          if (typeof said.life === "string" && said.life !== "") life = said.life;
          if (cmd === CMD.CHECKPOINT) newest = { possible_cpus: said.possible_cpus, note: said.note, timeUs };
        }
      }
    const possibleCpus = Number(newest.possible_cpus ?? (cpus || readHost().possibleCpus));
    checkCpus(possibleCpus);
    file.setFact(LOG_ID, log);
    file.setFact(POSSIBLE_CPUS, String(possibleCpus));
    file.setFact(LIFE, life);
    file.setFact(CHECKPOINT, newest.note ?? "");
    keepCheckpoint(scratch, { log, possibleCpus: String(possibleCpus) }, newest);
  } finally {
    leaves.close();
    file.close();
  }
  return through;
}

/** Fields of the newest CHECKPOINT event. */
type CheckpointFields = Partial<Pick<CheckpointCommand["attr"], "possible_cpus" | "note">> & {
  readonly timeUs?: number;
};

/** Copies the archive's tiles into a tree. */
function copyTiles(folders: readonly string[], scratch: string, through: number): void {
  const store = new SqliteTreeStore(join(scratch, TREE_FILE));
  try {
    store.write(tilesIn(folders, through));
  } finally {
    store.close();
  }
}

function* tilesIn(folders: readonly string[], through: number): Iterable<TileHashes> {
  for (const tile of tilesOver(1, through)) {
    const { level, index, width } = tile;
    const found = folders
      .map((folder) => readTile(folder, tile))
      .find((hashes) => hashes?.length === width * HASH_BYTES);
    if (found === undefined)
      throw new Error(
        `the archive is damaged: ${join(folders[0] as string, tileFile(tile))} does not exist, or does not have ${width} hashes`,
      );
    yield { level, index, hashes: found };
  }
}

/**
 * Keeps the newest checkpoint that an event records. The event does not name the key that signed it, so `vkey` stays
 * empty.
 */
function keepCheckpoint(
  scratch: string,
  of: Pick<TreeIdentity, "log" | "possibleCpus">,
  { note = "", timeUs = 0 }: { readonly note?: string; readonly timeUs?: number },
): void {
  const checkpoint = notedCheckpoint(note);
  const store = new SqliteTreeStore(join(scratch, TREE_FILE));
  try {
    store.begin({ ...of, origin: checkpoint?.origin ?? `mapledger/${of.log}`, vkey: "" });
    if (checkpoint !== null) store.keep({ size: checkpoint.size, root: checkpoint.root, note, timeUs });
  } finally {
    store.close();
  }
}

/** Copies a plain file; on file systems with reflinks, both files share their bytes until one is written. */
function copyPlain(from: string, to: string): void {
  const fd = openPlain(from);
  try {
    try {
      copyFileSync(`/proc/self/fd/${fd}`, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      chmodSync(to, PRIVATE_MODE);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      // /proc is not mounted.
      copyOpened(fd, to);
    }
  } finally {
    closeSync(fd);
  }
}
