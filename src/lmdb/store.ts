import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { open, type RootDatabase, type RootDatabaseOptionsWithPath } from "lmdb";
import type { StateStore } from "../engine/ports.ts";
import type { Cell, CellKey } from "../maps/cells.ts";

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
export const LAYOUT = 5;

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
}

/** LMDB's two meta pages, and the magic number in each: MDB_MAGIC behind a header of 24 bytes. */
const META_PAGES = [0, 4096];
const MAGIC_AT = 24;
const MAGIC = 0xbeefc0de;

/**
 * The state in LMDB, unsynced: a process that dies loses nothing, for the pages are the machine's by then. A machine that
 * dies may leave any mixture of pages; so what an earlier boot left without closing is thrown away, and so is what cannot
 * be opened, has another layout, or has lost bytes: the log makes it again.
 */
export class LmdbStore implements StateStore {
  /** Why an earlier state was thrown away, or null. */
  readonly discarded: string | null;
  readonly #folder: string;
  readonly #log: string;
  readonly #db: RootDatabase<Buffer, CellKey>;
  #seq: number;

  /** `log`: the id of the log that it is made from. */
  constructor(folder: string, log: string) {
    mkdirSync(folder, { recursive: true });
    this.#folder = folder;
    this.#log = log;
    let discarded = reasonToDiscard(folder, log);
    if (discarded !== null) discard(folder);
    writeMarker(folder, { log, closedBytes: null, opening: true });
    let db: RootDatabase<Buffer, CellKey>;
    try {
      db = openData(folder);
      this.#seq = db.get(SEQ_KEY)?.readDoubleLE(0) ?? 0;
    } catch (error) {
      discarded = `it cannot be opened: ${(error as Error).message}`;
      discard(folder);
      db = openData(folder);
      this.#seq = 0;
    }
    writeMarker(folder, { log, closedBytes: null });
    this.discarded = discarded;
    this.#db = db;
  }

  get seq(): number {
    return this.#seq;
  }

  get(key: CellKey): Buffer | undefined {
    return this.#seq === 0 ? undefined : this.#db.getBinary(key);
  }

  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    for (const { key, value } of this.#db.getRange({ start: from, end: to })) yield [key, value];
  }

  *rangeDown(from: CellKey, to: CellKey): Iterable<Cell> {
    for (const { key, value } of this.#db.getRange({
      start: to,
      exclusiveStart: true,
      end: from,
      inclusiveEnd: true,
      reverse: true,
    }))
      yield [key, value];
  }

  async write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number, bytes: number): Promise<void> {
    checkRoom(this.#folder, bytes);
    const seqBytes = Buffer.allocUnsafe(8);
    seqBytes.writeDoubleLE(seq, 0);
    await this.#db.batch(() => {
      for (const [key, value] of changes)
        if (value === null) this.#db.remove(key);
        else this.#db.put(key, value);
      this.#db.put(SEQ_KEY, seqBytes);
    });
    this.#db.resetReadTxn();
    this.#seq = seq;
  }

  async close(): Promise<void> {
    await this.#db.close();
    const file = openSync(dataFile(this.#folder), "r+");
    fsyncSync(file);
    closeSync(file);
    writeMarker(this.#folder, { log: this.#log, closedBytes: statSync(dataFile(this.#folder)).size });
  }
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
  return open(options);
}

/** The one file that has the data. */
export function dataFile(folder: string): string {
  return join(folder, "data.mdb");
}

/** A transaction that finds the disk full in its middle is told of late, and by LMDB's words: it does not come to it. */
function checkRoom(folder: string, bytes: number): void {
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  const needed = ROOM_BYTES + bytes * ROOM_FACTOR;
  if (free < needed) throw new Error(`the disk has ${free} bytes left: ${needed} might be needed`);
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
  if (!hasMagic(folder)) return "it is no LMDB file";
  if (marker.closedBytes !== null)
    return marker.closedBytes === bytes ? null : `it has ${bytes} bytes, ${marker.closedBytes} when it was closed`;
  return marker.boot !== "" && marker.boot === bootId() ? null : "the machine went down while it was open";
}

function readMarker(folder: string): Marker | null {
  try {
    return JSON.parse(readFileSync(join(folder, "marker.json"), "utf8")) as Marker;
  } catch {
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
  writeFileSync(join(folder, "marker.json"), `${JSON.stringify(marker)}\n`);
}

/** Which boot of the machine this is; "" where it cannot be told, and then nothing left open is trusted. */
function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
}
