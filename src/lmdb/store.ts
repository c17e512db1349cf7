/**
 * The state in LMDB, without syncs. If the process dies, nothing is lost, because the machine has the written pages. If
 * the machine goes down, the file may have any mixture of old and new pages. So a state that an earlier boot left open
 * is discarded, and made again from the log. A state is also discarded if it cannot be opened, has another layout, has
 * lost bytes, or has damaged pages (`page_check.ts`): LMDB trusts the pages that it maps, and would end the process or
 * answer wrongly.
 *
 * LMDB is opened anew after a failed write, because it refuses all work once it could not write a meta page. If LMDB
 * can open only some of its files, lmdb-js ends the process. So `checkOpening` first tries whether there are
 * descriptors and room for all of them.
 */

import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  statfsSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { open, type RangeOptions, type RootDatabase, type RootDatabaseOptionsWithPath } from "lmdb";
import type { ChangedCells, StateStore } from "../engine/ports.ts";
import { emptyFolder } from "../files/contents.ts";
import type { Cell, CellKey } from "../maps/cells.ts";
import { machineError, readError, withCode, writeError } from "./errors.ts";
import { dataFile, deathsOf, type Marker, reasonToDiscard, writeMarker } from "./marker.ts";
import { pageFault } from "./page_check.ts";

const { R_OK, W_OK } = constants;

/** The key of the seq. No cell has this key. */
export const SEQ_KEY = "\0";

/** Cell keys are strings of bytes already. They are written unchanged, so that LMDB orders them as the service does. */
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

/**
 * The room on the disk that a transaction may need: ROOM_FACTOR times the bytes of its cells, and ROOM_BYTES for the
 * pages that it copies and the tree above them.
 */
const ROOM_BYTES = 16 * 1024 * 1024;
const ROOM_FACTOR = 4;

/** The number of pages that are checked before LMDB opens the data: 64 MiB, in less than 0.1 s. */
const PAGES_CHECKED = 16_384;
/**
 * After this many deaths in a row all pages are checked, because one that was not checked may have ended the process.
 */
const DEATHS = 2;

/**
 * The longest wait for LMDB's reason of a failed commit: lmdb-js reports the failure first, and the reason by another
 * promise.
 */
const REASON_MS = 1000;

export class LmdbStore implements StateStore {
  /** Why an earlier state was discarded; null: none was. */
  readonly discarded: string | null;
  readonly #folder: string;
  readonly #log: string;
  /** null: the database was closed, and opening it again has failed. The next use tries again. */
  #db: RootDatabase<Buffer, CellKey> | null;
  #seq: number;
  readonly #deaths: number;
  /** Whether the marker says that the state is open. Nothing is written before it does. */
  #isMarked: boolean;
  #condemned: string | null = null;

  /** `log`: the id of the log from which the state is made. */
  constructor(folder: string, log: string) {
    mkdirSync(folder, { recursive: true });
    this.#folder = folder;
    this.#log = log;
    this.#deaths = deathsOf(folder);
    let discarded = reasonToDiscard(folder, log) ?? damage(folder, this.#deaths);
    if (discarded !== null) emptyFolder(folder);
    this.#mark({ opening: true });
    let db: RootDatabase<Buffer, CellKey>;
    try {
      db = openData(folder);
      this.#seq = seqIn(db);
    } catch (error) {
      const { message } = error as Error;
      const machine = machineError(error);
      if (machine !== null) {
        // The machine has failed, not the file, so the file is kept.
        this.#mark({});
        throw machine;
      }
      discarded = `it cannot be opened: ${message}`;
      emptyFolder(folder);
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

  /** If LMDB is opened anew meanwhile, the walk goes on after its last cell. */
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
        // If the database was closed, its cursor no longer exists.
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
      // lmdb-js has a second promise, `committed`, for the batches of this turn of the event loop. Nobody awaits it, so
      // its rejection is handled here.
      setImmediate(() => db.committed.then(undefined, () => {}));
      await done;
    } catch (error) {
      throw await this.#whyFailed(error as FailedCommit);
    }
    db.resetReadTxn();
    this.#seq = seq;
  }

  /**
   * Marks the state as open, once. Call it before anything is written. Throws if the disk has no room for the marker.
   */
  mayWrite(): void {
    if (this.#isMarked) return;
    writeMarker(this.#folder, this.#marker);
    this.#isMarked = true;
  }

  /** Reads again how far the data has come: another thread writes to it. */
  look(): void {
    const db = this.#open;
    db.resetReadTxn();
    try {
      this.#seq = seqIn(db);
    } catch (error) {
      throw readError(error);
    }
  }

  /**
   * Returns LMDB's reason for a failed commit, for which lmdb-js has a promise of its own. Also opens LMDB anew: if it
   * could not write a meta page (MDB_PANIC), it refuses all work, and lmdb-js would wait for it forever.
   */
  async #whyFailed(error: FailedCommit): Promise<Error> {
    const reason = await Promise.race([error.commitError?.catch((why: Error) => why), sleep(REASON_MS)]);
    await this.reopen();
    return writeError(reason ?? error);
  }

  /** Closes the database and opens it anew. No other thread of this process may have it open. */
  async reopen(): Promise<void> {
    const db = this.#db;
    this.#db = null;
    await closeData(db);
    // A read may have opened it meanwhile.
    this.#db ??= openData(this.#folder);
  }

  get #marker(): Omit<Marker, "layout" | "boot"> {
    return { log: this.#log, closedBytes: null, deaths: this.#deaths };
  }

  /** Writes the marker. Returns false if it could not be written. */
  #mark(more: Pick<Marker, "opening" | "damaged">): boolean {
    try {
      writeMarker(this.#folder, { ...this.#marker, ...more });
      return true;
    } catch {
      return false;
    }
  }

  /** Marks the state as damaged: it is never opened again, but discarded at the next start. */
  condemn(why: string): void {
    this.#condemned = why;
    this.#mark({ damaged: why });
  }

  /** `isWhole`: whatever else belongs to the state is on the disk; if not, it stays marked as open. */
  async close(isWhole = true): Promise<void> {
    await closeData(this.#db);
    if (!this.#isMarked || this.#condemned !== null || !isWhole) return;
    const file = openSync(dataFile(this.#folder), "r+");
    fsyncSync(file);
    closeSync(file);
    writeMarker(this.#folder, { log: this.#log, closedBytes: statSync(dataFile(this.#folder)).size });
  }
}

/**
 * A writer for another thread of this process than the one that has the store open. Nobody else may write meanwhile.
 */
export class StoreWriter {
  readonly #folder: string;
  readonly #db: RootDatabase<Buffer, CellKey>;
  #seq: number;

  constructor(folder: string) {
    this.#folder = folder;
    this.#db = openData(folder);
    this.#seq = seqIn(this.#db);
  }

  get seq(): number {
    return this.#seq;
  }

  /**
   * As `StateStore.write`, but the cells are written when it returns. If `seq` is null, the store's seq stays. Throws if
   * nothing was written.
   */
  write(changes: ChangedCells, seq: number | null, bytes: number): void {
    checkRoom(this.#folder, bytes);
    try {
      this.#db.transactionSync(() => {
        for (const [key, value] of changes)
          if (value === null) this.#db.removeSync(key);
          else this.#db.putSync(key, value);
        if (seq !== null) this.#db.putSync(SEQ_KEY, seqBytes(seq));
      });
    } catch (error) {
      throw writeError(error);
    }
    if (seq !== null) this.#seq = seq;
  }

  close(): Promise<void> {
    return closeData(this.#db);
  }
}

/** After a read in the same turn, lmdb-js would throw from a timer: "Attempt to reset an invalid read txn". */
async function closeData(db: RootDatabase<Buffer, CellKey> | null): Promise<void> {
  db?.resetReadTxn();
  await db?.close();
}

function seqIn(db: RootDatabase<Buffer, CellKey>): number {
  return db.getBinary(SEQ_KEY)?.readDoubleLE(0) ?? 0;
}

function seqBytes(seq: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeDoubleLE(seq, 0);
  return bytes;
}

function openData(folder: string): RootDatabase<Buffer, CellKey> {
  const options: RootDatabaseOptionsWithPath & typeof SHORT_FREE_LIST & { keyEncoder: typeof KEYS_AS_BYTES } = {
    path: dataFile(folder),
    noSubdir: true,
    keyEncoder: KEYS_AS_BYTES,
    encoding: "binary",
    noSync: true,
    // With a writemap, LMDB 3.5.6 ends the process (an assertion in mdb_freelist_save) if a young state deletes some
    // hundred cells in one transaction.
    useWritemap: false,
    ...SHORT_FREE_LIST,
  };
  checkOpening(folder);
  return open(options);
}

/**
 * Throws the machine's error if LMDB could not open its files. If LMDB opens only some of them, lmdb-js uses memory
 * that it has freed, which ends the process. An access to a page of the lock file for which the disk has no room ends
 * it, too.
 */
function checkOpening(folder: string): void {
  const file = dataFile(folder);
  const lock = `${file}-lock`;
  if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) === 0) checkRoom(folder, 0);
  else accessSync(file, R_OK | W_OK);
  // A lock file that is in use is not opened here: closing it would release the locks that LMDB has on it.
  if ((statSync(lock, { throwIfNoEntry: false })?.size ?? 0) === 0) writeFileSync(lock, Buffer.alloc(LOCK_BYTES));
  else accessSync(lock, R_OK | W_OK);
  const opened: number[] = [];
  try {
    while (opened.length < FILES_OPENED) opened.push(openSync(folder, "r"));
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** The size of LMDB's lock file for as many readers as lmdb-js asks for, in whole pages. */
const LOCK_BYTES = 3 * 4096;
/** The number of descriptors that LMDB needs to open a state, and one more. */
const FILES_OPENED = 4;

/**
 * Throws ENOSPC if the disk may have too little room for a transaction: one that fills the disk midway fails late, with
 * an error of LMDB's.
 */
export function checkRoom(folder: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  const needed = ROOM_BYTES + bytes * ROOM_FACTOR;
  if (free < needed) throw withCode(`the disk has ${free} bytes left: ${needed} might be needed`, "ENOSPC");
}

/** The fault of a state's pages, which could end the process that opens it; null: none was found. */
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

/** The error of a failed commit. `commitError` rejects with LMDB's reason. */
type FailedCommit = Error & { readonly commitError?: Promise<never> };
