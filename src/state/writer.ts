/**
 * Writes to the state (`layers.ts`), in a thread of its own. A few changes go to LMDB at once, many become a run. Runs
 * are folded into LMDB when they are many or large, or when nothing has been written for a while: in the order of their
 * keys, in transactions of some thousand cells, so that a write waits for one of them at most.
 *
 * Nothing is synced before the close: a process that dies leaves its pages to the machine, and a state that is open
 * while the machine goes down is made again from the log.
 */

import { rmSync, statSync } from "node:fs";
import { type Change, SortedCells } from "../engine/sorted_cells.ts";
import { dataFile } from "../lmdb/marker.ts";
import { checkRoom, StoreWriter } from "../lmdb/store.ts";
import type { CellKey } from "../maps/cells.ts";
import { BlockCache } from "../runs/block_cache.ts";
import { MergedCursor } from "../runs/merge.ts";
import { bytesOf, type Run, RunCursor } from "../runs/run.ts";
import { SINGLE, soughtFrom } from "../runs/run_cells.ts";
import { RunFolder } from "../runs/run_folder.ts";
import { SstReader } from "../runs/sst.ts";
import type { WrittenCells } from "./protocol.ts";
import { runsFolder } from "./runs_folder.ts";

/** The amounts at which the writer does one or the other. */
export interface WriterLimits {
  /** At most so many cells go to LMDB at once, if there are no runs. */
  readonly directCells: number;
  /** So many runs are folded. */
  readonly runs: number;
  /** So many runs are folded before another is written. */
  readonly runsMax: number;
  /** Runs are folded if LMDB's file is at most so many times as large. */
  readonly times: number;
  /** Cells and bytes of one transaction of a fold. */
  readonly foldCells: number;
  readonly foldBytes: number;
  /** If nothing is written for so long, runs are folded. */
  readonly restMs: number;
  /** For so long after its start, a writer folds only if there are too many runs. */
  readonly startMs: number;
}

const LIMITS: WriterLimits = {
  directCells: 8192,
  runs: 8,
  runsMax: 24,
  times: 4,
  foldCells: 8192,
  foldBytes: 4 * 1024 * 1024,
  restMs: 1000,
  startMs: 5000,
};
/** The blocks of runs that are folded are each read once. */
const CACHE_BYTES = 1024 * 1024;
const NOTHING = Buffer.alloc(0);

export interface WriterNews {
  /** Runs were folded up to this event. */
  folded(seq: number): void;
  foldFailed(error: Error): void;
}

export class StateWriter {
  readonly #folder: string;
  readonly #lmdb: StoreWriter;
  readonly #runs: RunFolder;
  readonly #cache = new BlockCache(CACHE_BYTES);
  readonly #reader = new SstReader(this.#cache);
  readonly #limits: WriterLimits;
  readonly #news: WriterNews;
  #fold: Fold | null = null;
  /** Files of runs that were folded up to an event, and that the engine's thread may read until it has looked. */
  #folded: { readonly seq: number; readonly files: readonly string[] }[] = [];
  /** The time before which no fold begins by itself: a writer before this one may have failed at it. */
  readonly #foldsFromMs: number;
  #isResting = false;
  #rest: NodeJS.Timeout | undefined;
  #next: NodeJS.Immediate | undefined;
  #writing: Promise<void> = Promise.resolve();
  /** Set by the close, and by a fold that has failed: another writer tries it again. */
  #isOver = false;

  /** `folder`: the state's, whose LMDB file another thread has open; `log`: the id of the log that it is made from. */
  constructor(folder: string, log: string, news: WriterNews, limits = LIMITS) {
    this.#folder = folder;
    this.#lmdb = new StoreWriter(folder);
    this.#runs = new RunFolder(runsFolder(folder), log, { suffixBytes: SINGLE.suffixBytes, isSynced: false });
    this.#news = news;
    this.#limits = limits;
    this.#foldsFromMs = performance.now() + limits.startMs;
    this.#goOn();
  }

  /** Resolves when the cells have been written, to whether there are runs. Rejects if nothing was written. */
  write(written: WrittenCells): Promise<boolean> {
    const done = this.#writing.then(() => this.#write(written));
    this.#writing = done.then(
      () => {},
      () => {},
    );
    return done.finally(() => {
      this.#isResting = false;
      this.#goOn();
    });
  }

  async #write({ cells, seq, bytes }: WrittenCells): Promise<boolean> {
    const { directCells, runsMax } = this.#limits;
    if (this.#runs.manifest.runs.length >= runsMax) this.#foldWhole();
    if (this.#runs.manifest.runs.length === 0 && cells.size <= directCells) {
      this.#lmdb.write(new SortedCells(cells).entries(), seq, bytes);
      return false;
    }
    checkRoom(this.#folder, bytes);
    const run = await this.#runs.add({ memory: cells });
    const { runs, base } = this.#runs.manifest;
    try {
      this.#runs.commit({
        seq,
        base: runs.length === 0 ? this.#lmdb.seq : base,
        runs: run.ssts.length === 0 ? runs : [run, ...runs],
      });
    } catch (error) {
      for (const { file } of run.ssts) rmSync(file, { force: true });
      throw error;
    }
    return true;
  }

  /** The engine's thread has looked after the fold up to this event. */
  released(seq: number): void {
    for (const { files } of this.#folded.filter((one) => one.seq <= seq))
      for (const file of files) rmSync(file, { force: true });
    this.#folded = this.#folded.filter((one) => one.seq > seq);
  }

  /** Ends all folding. Resolves when everything is on the disk but LMDB's file, which the other thread syncs. */
  sync(): Promise<void> {
    this.#stop();
    const done = this.#writing.then(() => this.#runs.sync());
    this.#writing = done.catch(() => {});
    return done;
  }

  async close(): Promise<void> {
    this.#stop();
    await this.#writing;
    this.#cache.close();
    await this.#lmdb.close();
  }

  #stop(): void {
    this.#isOver = true;
    this.#cancel();
  }

  #cancel(): void {
    clearTimeout(this.#rest);
    clearImmediate(this.#next);
  }

  /** Plans the next piece of a fold: at once if one is under way or due, otherwise after a rest. */
  #goOn(): void {
    this.#cancel();
    if (this.#isOver || this.#runs.manifest.runs.length === 0) return;
    const step = (): void => {
      this.#writing = this.#writing.then(() => this.#step());
    };
    const startMs = this.#foldsFromMs - performance.now();
    if (this.#fold !== null || (startMs <= 0 && this.#isDue)) {
      this.#next = setImmediate(step);
      return;
    }
    this.#rest = setTimeout(
      () => {
        this.#isResting = true;
        step();
      },
      Math.max(this.#limits.restMs, startMs),
    );
  }

  get #isDue(): boolean {
    const { runs } = this.#runs.manifest;
    if (this.#isResting || runs.length >= this.#limits.runs) return true;
    const bytes = runs.reduce((sum, run) => sum + bytesOf(run), 0);
    return bytes * this.#limits.times >= statSync(dataFile(this.#folder)).size;
  }

  #step(): void {
    if (this.#isOver) return;
    try {
      this.#foldPiece();
    } catch (error) {
      this.#isOver = true;
      this.#news.foldFailed(error as Error);
      return;
    }
    this.#goOn();
  }

  #foldWhole(): void {
    do this.#foldPiece();
    while (this.#fold !== null);
  }

  /** Begins a fold, or goes on with one by a transaction, or ends it. If it fails, the next one begins anew. */
  #foldPiece(): void {
    const { runs, seq } = this.#runs.manifest;
    const fold = this.#fold ?? new Fold(this.#reader, runs, seq);
    this.#fold = null;
    if (fold.isAt) {
      this.#lmdb.write(fold.next(this.#limits), null, this.#limits.foldBytes);
      this.#fold = fold;
      return;
    }
    const left = runs.slice(0, runs.length - fold.runs);
    // Without runs LMDB's seq is the state's, and a write without changes may have come meanwhile.
    const base = left.length === 0 ? seq : fold.seq;
    this.#lmdb.write([], base, 0);
    const files = this.#runs.commit({ base, runs: left });
    for (const file of files) this.#cache.closeFile(file);
    this.#folded.push({ seq: fold.seq, files });
    this.#news.folded(fold.seq);
  }
}

/** The cells of several runs, in the order of their keys. */
class Fold {
  /** The last event that the runs include. */
  readonly seq: number;
  /** The number of runs. */
  readonly runs: number;
  readonly #cursor: MergedCursor;

  constructor(reader: SstReader, runs: readonly Run[], seq: number) {
    this.seq = seq;
    this.runs = runs.length;
    this.#cursor = new MergedCursor(runs.map((run) => soughtFrom(new RunCursor(reader, run), NOTHING)));
  }

  /** Whether there are more cells. */
  get isAt(): boolean {
    return this.#cursor.isAt;
  }

  *next({ foldCells, foldBytes }: WriterLimits): Iterable<readonly [CellKey, Change]> {
    const cursor = this.#cursor;
    for (let cells = 0, bytes = 0; cursor.isAt && cells < foldCells && bytes < foldBytes; cells++, cursor.next()) {
      const { key, keyBytes, source, valueAt, valueBytes } = cursor;
      bytes += keyBytes + Math.max(valueBytes, 0);
      yield [
        key.toString("latin1", 0, keyBytes),
        valueBytes < 0 ? null : source.subarray(valueAt, valueAt + valueBytes),
      ];
    }
  }
}
