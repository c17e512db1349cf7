/**
 * The state in LMDB, without syncs. A process that dies loses nothing: the machine has the pages by then. A machine
 * that dies may leave any mixture of pages, so a state that an earlier boot left open is discarded, and the log makes
 * it again. So is one that cannot be opened, has another layout, has lost bytes, or has damaged pages
 * (`page_check.ts`): LMDB trusts the pages that it maps, and would end the process or answer wrongly.
 *
 * After a write that failed LMDB is opened anew: after a failed write of a meta page it does nothing any more. If LMDB
 * can open some of its files and not the others, lmdb-js ends the process, so `checkOpening` tries first whether there
 * are descriptors and room for all.
 */

import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { open, type RangeOptions, type RootDatabase, type RootDatabaseOptionsWithPath } from "lmdb";
import type { ChangedCells, StateStore } from "../engine/ports.ts";
import type { Cell, CellKey } from "../maps/cells.ts";
import { Damaged, faultIn } from "../supervisor/derived_parts.ts";
import { pageFault } from "./page_check.ts";

const { R_OK, W_OK } = constants;

/** Holds the seq; no cell has this key. */
export const SEQ_KEY = "\0";

/** Cell keys are strings of bytes already: written as they are, they order as LMDB orders. */
export const KEYS_AS_BYTES = {
  writeKey(key: CellKey, target: Buffer, at: number): number {
    const end = at + key.length;
    if (end > target.length) throw new RangeError("the buffer for keys is full");
    target.write(key, at, "latin1");
    return end;
  },
  readKey(source: Buffer, start: number, end: number): CellKey {
    return source.toString("latin1", start, end);
  },
};

/**
 * A commit of lmdb-js checks every free page that it has in memory, so that after a bulk load each small transaction
 * costs milliseconds. These two settings of its env.cpp (they are not in its documents) keep that list short; the bench
 * has a row that would show their loss.
 */
const SHORT_FREE_LIST = { maxFreeSpaceToLoad: 1000, maxFreeSpaceToRetain: 200 };

/** What a transaction may need beside the cells: the pages that it copies, and the tree above them. */
const ROOM_BYTES = 16 * 1024 * 1024;
const ROOM_FACTOR = 4;

/** How the cells are laid out; a state of another layout is made again from the log. */
export const LAYOUT = 8;

/** Beside the data: who wrote it, so that it is known what can be trusted. */
interface Marker {
  readonly layout: number;
  /** The log that it is made from. */
  readonly log: string;
  /** The boot under which it is, or was, written. */
  readonly boot: string;
  /** Bytes of the data when it was closed and synced; null while it is open. */
  readonly closedBytes: number | null;
  /** It is being opened. If that is how it is found, opening has killed the process: LMDB trusts what it maps. */
  readonly opening?: true;
  /** How often in a row the process died while it was open. */
  readonly deaths?: number;
  /** What was found wrong with it while it was read. */
  readonly damaged?: string;
}

/** Pages that are looked at before they are trusted: those of 64 MiB, in less than 0.1 s. */
const PAGES_CHECKED = 16_384;
/** From so many deaths in a row on, all of them: it may be one of the others that ends the process. */
const DEATHS = 2;

/** What LMDB says of a file that is damaged: MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INVALID, MDB_VERSION_MISMATCH. */
const DAMAGED: ReadonlySet<number> = new Set([-30796, -30797, -30793, -30794]);
/** What opening it says of the machine: EIO, EAGAIN, ENOMEM, EACCES, ENFILE, EMFILE, ENOSPC, EROFS, EDQUOT. */
const MACHINES: Readonly<Record<number, string>> = {
  5: "EIO",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  23: "ENFILE",
  24: "EMFILE",
  28: "ENOSPC",
  30: "EROFS",
  122: "EDQUOT",
};
/** How long what LMDB has said of a failed commit is waited for: lmdb-js tells it apart from that it has failed. */
const REASON_MS = 1000;

/** LMDB's two meta pages, and the magic number in each: MDB_MAGIC behind a header of 24 bytes. */
const META_PAGES = [0, 4096];
const MAGIC_AT = 24;
const MAGIC = 0xbeefc0de;

export class LmdbStore implements StateStore {
  /** Why an earlier state was thrown away, or null. */
  readonly discarded: string | null;
  readonly #folder: string;
  readonly #log: string;
  /** null: it was closed to be opened anew, which failed. */
  #db: RootDatabase<Buffer, CellKey> | null;
  #seq: number;
  readonly #deaths: number;
  /** Whether the marker says that it is open: before that nothing is written. */
  #isMarked: boolean;
  #condemned: string | null = null;

  /** `log`: the id of the log that it is made from. */
  constructor(folder: string, log: string) {
    mkdirSync(folder, { recursive: true });
    this.#folder = folder;
    this.#log = log;
    this.#deaths = deathsOf(folder);
    let discarded = reasonToDiscard(folder, log) ?? damage(folder, this.#deaths);
    if (discarded !== null) discard(folder);
    this.#mark({ opening: true });
    let db: RootDatabase<Buffer, CellKey>;
    try {
      db = openData(folder);
      this.#seq = db.get(SEQ_KEY)?.readDoubleLE(0) ?? 0;
    } catch (error) {
      const { message } = error as Error;
      const machine = machineError(error);
      if (machine !== null) {
        // It is not the file that has kept it from being opened.
        this.#mark({});
        throw machine;
      }
      discarded = `it cannot be opened: ${message}`;
      discard(folder);
      db = openData(folder);
      this.#seq = 0;
    }
    this.#isMarked = this.#mark({});
    this.discarded = discarded;
    this.#db = db;
  }

  get seq(): number {
    return this.#seq;
  }

  get #open(): RootDatabase<Buffer, CellKey> {
    this.#db ??= openData(this.#folder);
    return this.#db;
  }

  get(key: CellKey): Buffer | undefined {
    if (this.#seq === 0) return undefined;
    try {
      return this.#open.getBinary(key);
    } catch (error) {
      throw readError(error);
    }
  }

  range(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#walk((after) => ({ start: after ?? from, exclusiveStart: after !== null, end: to }));
  }

  rangeDown(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#walk((after) => ({
      start: after ?? to,
      exclusiveStart: true,
      end: from,
      inclusiveEnd: true,
      reverse: true,
    }));
  }

  /** Goes on behind the last cell where LMDB is opened anew meanwhile. */
  *#walk(rangeAfter: (after: CellKey | null) => RangeOptions): Iterable<Cell> {
    for (let after: CellKey | null = null; ; ) {
      const db = this.#open;
      const cells = db.getRange(rangeAfter(after))[Symbol.iterator]();
      try {
        for (let next = cells.next(); ; next = cells.next()) {
          if (next.done) return;
          after = next.value.key;
          yield [after, next.value.value];
          if (db !== this.#db) break;
        }
      } catch (error) {
        throw readError(error);
      } finally {
        // Of one that was closed there is no cursor left.
        if (db === this.#db) cells.return?.();
      }
    }
  }

  async write(changes: ChangedCells, seq: number, bytes: number): Promise<void> {
    checkRoom(this.#folder, bytes);
    this.mayWrite();
    const db = this.#open;
    try {
      const done = db.batch(() => {
        for (const [key, value] of changes)
          if (value === null) db.remove(key);
          else db.put(key, value);
        db.put(SEQ_KEY, seqBytes(seq));
      });
      // lmdb-js promises the same once more, of the turn of the event loop that the batch is of: nobody waits for that.
      setImmediate(() => db.committed.then(undefined, () => {}));
      await done;
    } catch (error) {
      throw await this.#whyFailed(error as FailedCommit);
    }
    this.wrote(seq);
  }

  /** To be called before anything is written: says, once, that it is open. Throws where there is no room for that. */
  mayWrite(): void {
    if (this.#isMarked) return;
    writeMarker(this.#folder, this.#marker);
    this.#isMarked = true;
  }

  /** Another thread has written up to here. */
  wrote(seq: number): void {
    this.#open.resetReadTxn();
    this.#seq = seq;
  }

  /**
   * What LMDB has said, which lmdb-js tells by a promise of its own. LMDB is opened anew: after a meta page that it could not write, it does
   * nothing any more (MDB_PANIC), and lmdb-js waits for that without end.
   */
  async #whyFailed(error: FailedCommit): Promise<Error> {
    const reason = await Promise.race([error.commitError?.catch((why: Error) => why), sleep(REASON_MS)]);
    await this.reopen();
    return writeError(reason ?? error);
  }

  /** Nobody else of this process may have it open. */
  async reopen(): Promise<void> {
    const db = this.#db;
    this.#db = null;
    await db?.close();
    this.#db = openData(this.#folder);
  }

  get #marker(): Omit<Marker, "layout" | "boot"> {
    return { log: this.#log, closedBytes: null, deaths: this.#deaths };
  }

  /** Answers whether there was room for that. */
  #mark(more: Pick<Marker, "opening" | "damaged">): boolean {
    try {
      writeMarker(this.#folder, { ...this.#marker, ...more });
      return true;
    } catch {
      return false;
    }
  }

  /** It is damaged, and is not to be opened again. */
  condemn(why: string): void {
    this.#condemned = why;
    this.#mark({ damaged: why });
  }

  async close(): Promise<void> {
    await this.#db?.close();
    if (!this.#isMarked || this.#condemned !== null) return;
    const file = openSync(dataFile(this.#folder), "r+");
    fsyncSync(file);
    closeSync(file);
    writeMarker(this.#folder, { log: this.#log, closedBytes: statSync(dataFile(this.#folder)).size });
  }
}

/** Writes to a store that another thread of this process has open, in this thread; nobody else may write meanwhile. */
export class StoreWriter {
  readonly #folder: string;
  readonly #db: RootDatabase<Buffer, CellKey>;

  constructor(folder: string) {
    this.#folder = folder;
    this.#db = openData(folder);
  }

  /** As StateStore.write(), but that it has been written when this returns. Throws where nothing was. */
  write(changes: ChangedCells, seq: number, bytes: number): void {
    checkRoom(this.#folder, bytes);
    try {
      this.#db.transactionSync(() => {
        for (const [key, value] of changes)
          if (value === null) this.#db.removeSync(key);
          else this.#db.putSync(key, value);
        this.#db.putSync(SEQ_KEY, seqBytes(seq));
      });
    } catch (error) {
      throw writeError(error);
    }
  }

  close(): Promise<void> {
    return this.#db.close();
  }
}

function seqBytes(seq: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeDoubleLE(seq, 0);
  return bytes;
}

/** Removes a state, so that it is made again from the log. */
export function discard(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
}

function openData(folder: string): RootDatabase<Buffer, CellKey> {
  const options: RootDatabaseOptionsWithPath & typeof SHORT_FREE_LIST & { keyEncoder: typeof KEYS_AS_BYTES } = {
    path: dataFile(folder),
    noSubdir: true,
    keyEncoder: KEYS_AS_BYTES,
    encoding: "binary",
    noSync: true,
    // With it LMDB 3.5.6 ends the process where a young state loses some hundred cells at once: an assertion in mdb_freelist_save.
    useWritemap: false,
    ...SHORT_FREE_LIST,
  };
  checkOpening(folder);
  return open(options);
}

/**
 * Where LMDB opens one of its files and not the others, lmdb-js uses what it has freed, which ends the process; and so does a page of the
 * lock file that the disk has no room for. So all that it will need is tried first. Throws what the machine says.
 */
function checkOpening(folder: string): void {
  const file = dataFile(folder);
  const lock = `${file}-lock`;
  if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) === 0) checkRoom(folder, 0);
  else accessSync(file, R_OK | W_OK);
  // One that is in use is not opened: to close it again would take away the locks that LMDB has on it.
  if ((statSync(lock, { throwIfNoEntry: false })?.size ?? 0) === 0) writeFileSync(lock, Buffer.alloc(LOCK_BYTES));
  else accessSync(lock, R_OK | W_OK);
  const opened: number[] = [];
  try {
    while (opened.length < FILES_OPENED) opened.push(openSync(folder, "r"));
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** Of LMDB's lock file, for as many readers as lmdb-js asks for: whole pages. */
const LOCK_BYTES = 3 * 4096;
/** Descriptors that LMDB takes for a state that it opens, and one more. */
const FILES_OPENED = 4;

/** The one file that has the data. */
export function dataFile(folder: string): string {
  return join(folder, "data.mdb");
}

/** Checks for room first: a transaction that fills the disk midway fails late, with an error of LMDB's. */
function checkRoom(folder: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  const needed = ROOM_BYTES + bytes * ROOM_FACTOR;
  if (free < needed) throw withCode(`the disk has ${free} bytes left: ${needed} might be needed`, "ENOSPC");
}

/** Why a state cannot be what the log adds up to, or null: it may be. */
export function reasonToDiscard(folder: string, log: string): string | null {
  const bytes = statSync(dataFile(folder), { throwIfNoEntry: false })?.size;
  if (bytes === undefined) return null;
  const marker = readMarker(folder);
  if (marker === null) return "nothing says who wrote it";
  if (marker.layout !== LAYOUT) return `its layout is number ${marker.layout}, this is number ${LAYOUT}`;
  if (marker.log !== log) return "it was made from another log";
  if (marker.opening) return "the process died when it was opened";
  if (marker.damaged !== undefined) return `it is damaged: ${marker.damaged}`;
  if (!hasMagic(folder)) return "it is no LMDB file";
  if (marker.closedBytes !== null)
    return marker.closedBytes === bytes ? null : `it has ${bytes} bytes, ${marker.closedBytes} when it was closed`;
  return marker.boot !== "" && marker.boot === bootId() ? null : "the machine went down while it was open";
}

/** What shows that a state is damaged, which may end the process that opens it; null: nothing. */
function damage(folder: string, deaths: number): string | null {
  const file = dataFile(folder);
  if (!existsSync(file)) return null;
  try {
    const found = pageFault(file, deaths >= DEATHS ? Number.POSITIVE_INFINITY : PAGES_CHECKED);
    return found === null ? null : `it is damaged: ${found}`;
  } catch (error) {
    if ((error as { code?: string }).code === "EIO") return `it cannot be read: ${(error as Error).message}`;
    throw error;
  }
}

/** How often the process has died in a row while it was open. */
function deathsOf(folder: string): number {
  const marker = readMarker(folder);
  return marker === null || marker.closedBytes !== null ? 0 : (marker.deaths ?? 0) + 1;
}

/** Of a commit; what LMDB has said comes by a promise. */
type FailedCommit = Error & { readonly commitError?: Promise<never> };

/** What has failed to write says of it. */
function writeError(error: unknown): Error {
  const { code, message } = error as { code?: unknown; message: string };
  if (typeof code === "number" && DAMAGED.has(code)) return new Damaged(message, error);
  return withCode(message, typeof code === "number" ? (MACHINES[code] ?? "EIO") : "EIO");
}

/** As faultIn takes it, where the machine has failed and not the file; null: it is not known. */
function machineError(error: unknown): Error | null {
  const { code, message } = error as { code?: unknown; message: string };
  if (typeof code === "number") return MACHINES[code] === undefined ? null : withCode(message, MACHINES[code]);
  const found = faultIn(error);
  return found === "failed" || found === "full" ? (error as Error) : null;
}

/** Whatever else has a number is LMDB's or the machine's, and is over, or not, when LMDB is opened anew. */
function readError(error: unknown): unknown {
  return typeof (error as { code?: unknown }).code === "number" ? writeError(error) : error;
}

function withCode(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}

/** Of which layout the cells in a folder are; null: nothing there says. */
export function layoutOf(folder: string): number | null {
  try {
    return readMarker(folder)?.layout ?? null;
  } catch {
    return null;
  }
}

/** null: there is none, or none that can be read. Throws where the machine does not let it be read. */
function readMarker(folder: string): Marker | null {
  try {
    return JSON.parse(readFileSync(join(folder, "marker.json"), "utf8")) as Marker;
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ENOENT" && machineError(error) !== null) throw error;
    return null;
  }
}

function hasMagic(folder: string): boolean {
  const file = openSync(dataFile(folder), "r");
  const magic = Buffer.alloc(4);
  const found = META_PAGES.every((page) => {
    readSync(file, magic, 0, magic.length, page + MAGIC_AT);
    return magic.readUInt32LE(0) === MAGIC;
  });
  closeSync(file);
  return found;
}

function writeMarker(folder: string, state: Omit<Marker, "layout" | "boot">): void {
  const marker: Marker = { layout: LAYOUT, boot: bootId(), ...state };
  // Whole or not at all: a state without one is of no use.
  writeFileSync(join(folder, "marker.json.new"), `${JSON.stringify(marker)}\n`);
  renameSync(join(folder, "marker.json.new"), join(folder, "marker.json"));
}

/** Which boot of the machine this is; "" where it cannot be told, and then nothing left open is trusted. */
function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
}
