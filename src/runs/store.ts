/**
 * Cells in sorted runs: each write is a new run, a file that never changes, and runs are merged as they grow in number
 * (a log-structured merge tree). So the cost of a write depends on its size, not on how its keys are spread, and cells
 * of one write lie close together. A read looks into each run, the newest first:
 *
 *     write 1    run 1: a=1 c=1
 *     write 2    run 2: b=2 c deleted     run 1: a=1 c=1         get(c): deleted; range: a=1 b=2
 *     merged     run 3: a=1 b=2
 *
 * Four or more consecutive runs of similar size are merged into one. A merge makes one file after the other, and deletes
 * the files that it has passed: it needs room for a few files, not for a second copy. After a crash, the part that was
 * merged stays merged.
 *
 * Before a write resolves, its files are on the disk, and then the manifest that names them. The next start deletes
 * files that the manifest does not name.
 */

import { rmSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import type { SortedStore } from "../engine/ports.ts";
import type { Cell, CellKey } from "../maps/cells.ts";
import { BlockCache } from "./block_cache.ts";
import type { Manifest } from "./manifest.ts";
import { MergedCursor } from "./merge.ts";
import { bytesOf, type Run, RunCursor } from "./run.ts";
import { type Filtered, RunCells, SINGLE, soughtFrom } from "./run_cells.ts";
import { type RunChanges, RunFolder } from "./run_folder.ts";
import { type Sst, SstReader } from "./sst.ts";

/** The fewest runs that are merged. */
const MERGED_MIN = 4;
/**
 * After a write of n bytes, about this many times n bytes are merged at most. Each entry is merged fewer times than
 * this, because runs grow fourfold with each merge.
 */
const MERGED_A_BYTE = 8;
const CACHE_BYTES = 16 * 1024 * 1024;
const NOTHING = Buffer.alloc(0);

export interface RunsOptions {
  /** The ranges that filters serve. Absent: those of a single key. */
  readonly filtered?: Filtered;
  /** The most bytes of blocks that are cached. */
  readonly cacheBytes?: number;
  /** About the bytes of a file. */
  readonly sstBytes?: number;
}

export class RunsStore implements SortedStore {
  /** The reason why an earlier store was discarded; null: none was. */
  readonly discarded: string | null;
  readonly #folder: RunFolder;
  readonly #cache: BlockCache;
  readonly #reader: SstReader;
  readonly #cells: RunCells;
  #merging: Merging | null = null;
  #writing: Promise<void> = Promise.resolve();

  /** `log`: the id of the log that the store is made from. Throws Damaged if the store is not as it was written. */
  constructor(
    folder: string,
    log: string,
    { filtered = SINGLE, cacheBytes = CACHE_BYTES, sstBytes }: RunsOptions = {},
  ) {
    const { suffixBytes } = filtered;
    this.#folder = new RunFolder(folder, log, {
      suffixBytes,
      ...(sstBytes !== undefined && { sstBytes }),
      isSynced: true,
    });
    this.#folder.removeUnnamed();
    this.discarded = this.#folder.discarded;
    this.#cache = new BlockCache(cacheBytes);
    this.#reader = new SstReader(this.#cache);
    this.#cells = new RunCells(this.#reader, () => this.#manifest.runs, filtered);
  }

  get #manifest(): Manifest {
    return this.#folder.manifest;
  }

  get seq(): number {
    return this.#manifest.seq;
  }

  /** The bytes of the store's files, and the number of its runs. */
  get size(): { readonly bytes: number; readonly runs: number } {
    const { runs } = this.#manifest;
    return { bytes: runs.reduce((sum, run) => sum + bytesOf(run), 0), runs: runs.length };
  }

  get(key: CellKey): Buffer | undefined {
    return this.#cells.get(key);
  }

  range(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#cells.range(from, to);
  }

  rangeDown(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#cells.rangeDown(from, to);
  }

  /** As SortedStore has it. `changes`: ascending by key. */
  write(changes: RunChanges, seq: number): Promise<void> {
    const written = this.#writing.then(async () => {
      const bytes = await this.#append(changes, seq);
      for (let merged = 0; merged < bytes * MERGED_A_BYTE; ) {
        const more = await this.#merge();
        if (more === 0) break;
        merged += more;
        await setImmediate();
      }
    });
    this.#writing = written.catch(() => {});
    return written;
  }

  /** Writes changes as a new run. Resolves to its bytes. */
  async #append(changes: RunChanges, seq: number): Promise<number> {
    const run = await this.#folder.add(changes);
    const { runs } = this.#manifest;
    this.#commit({ seq, runs: run.ssts.length === 0 ? runs : [run, ...runs] });
    return bytesOf(run);
  }

  #commit(change: Partial<Pick<Manifest, "seq" | "runs">>): void {
    for (const file of this.#folder.commit(change)) {
      this.#cache.closeFile(file);
      rmSync(file, { force: true });
    }
  }

  /** Continues a merge, or begins one that is due, by one file. Resolves to the file's bytes; 0: no merge is due. */
  async #merge(): Promise<number> {
    const merging = this.#merging ?? this.#begun();
    if (merging === null) return 0;
    const { runs } = this.#manifest;
    const end = runs.length - merging.older;
    const first = end - merging.inputs - (merging.output === null ? 0 : 1);
    const inputs = runs.slice(end - merging.inputs, end);
    const { sst, through } = await this.#mergeFile(inputs, merging.older === 0);
    const output = withSst(merging.output, sst);
    const left = through === null ? [] : inputs.map((run) => cutOff(run, through));
    const region = output === null ? left : [output, ...left];
    this.#commit({ runs: [...runs.slice(0, first), ...region, ...runs.slice(end)] });
    this.#merging = through === null ? null : { ...merging, output };
    return sst?.bytes ?? 1;
  }

  #begun(): Merging | null {
    const { runs } = this.#manifest;
    const due = dueMerge(runs.map(bytesOf));
    return due === null ? null : { output: null, inputs: due.end - due.first, older: runs.length - due.end };
  }

  /** Merges entries into one file. `through`: the last key that was merged; null: all entries were. */
  async #mergeFile(inputs: readonly Run[], isOldest: boolean): Promise<{ sst: Sst | null; through: Buffer | null }> {
    const cursor = new MergedCursor(inputs.map((run) => soughtFrom(new RunCursor(this.#reader, run), NOTHING)));
    const writer = this.#folder.newWriter();
    let key = NOTHING;
    for (; cursor.isAt && writer.bytes < this.#folder.sstBytes; cursor.next()) {
      // No run is older than the oldest one, so a deleted key has nothing to hide there.
      if (isOldest && cursor.valueBytes < 0) key = Buffer.from(cursor.key.subarray(0, cursor.keyBytes));
      else writer.add(cursor.key, cursor.keyBytes, cursor.source, cursor.valueAt, cursor.valueBytes);
    }
    const { isAt } = cursor;
    const sst = writer.entries === 0 ? null : await this.#folder.save(writer);
    if (!isAt) return { sst, through: null };
    const last = sst?.last ?? NOTHING;
    return { sst, through: last.compare(key) > 0 ? last : key };
  }

  close(): Promise<void> {
    return this.#writing.then(() => this.#cache.close());
  }
}

/** A merge of consecutive runs that is under way. Its place is counted from the oldest run, because runs are added. */
interface Merging {
  /** The run of the entries that have been merged. In the manifest it comes right before the inputs. */
  readonly output: Run | null;
  readonly inputs: number;
  /** The number of runs that are older than the inputs. */
  readonly older: number;
}

/** Finds consecutive runs of similar size: none is more than twice as large as the largest newer one of them. */
export function dueMerge(sizes: readonly number[]): { readonly first: number; readonly end: number } | null {
  for (let first = 0; first + MERGED_MIN <= sizes.length; first++) {
    let largest = sizes[first] as number;
    let end = first + 1;
    for (; end < sizes.length && (sizes[end] as number) <= largest * 2; end++)
      largest = Math.max(largest, sizes[end] as number);
    if (end - first >= MERGED_MIN) return { first, end };
  }
  return null;
}

function withSst(run: Run | null, sst: Sst | null): Run | null {
  return sst === null ? run : { ssts: [...(run?.ssts ?? []), sst], after: null };
}

/** The run without its entries up to `through`. */
function cutOff({ ssts }: Run, through: Buffer): Run {
  return { ssts: ssts.filter(({ last }) => last.compare(through) > 0), after: through };
}
