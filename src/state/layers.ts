/**
 * The state's two layers as this thread reads them: sorted runs of changes (`runs/`) above LMDB. Cells whose keys come
 * in no order cost LMDB a page each: 12 us a cell at 2.4 million elements. So the writer's thread (`writer.ts`) writes
 * many changes as a run, and later folds several runs into LMDB in the order of their keys, where neighbours share a
 * page:
 *
 *                          runs, the newest first       LMDB         get(a)    get(b)
 *                                                       a=1 b=1      1         1
 *     write {a=2}          {a=2}                        a=1 b=1      2         1
 *     write {b deleted}    {b deleted} {a=2}            a=1 b=1      2         undefined
 *     a fold begins        {b deleted} {a=2}            a=2 b=1      2         undefined
 *     it ends                                           a=2          2         undefined
 *
 * Until a fold ends, the runs still have all that it writes to LMDB. If the process dies, the next one begins the fold
 * again.
 */

import { existsSync } from "node:fs";
import { overlaid } from "../engine/overlaid.ts";
import type { LmdbStore } from "../lmdb/store.ts";
import { afterKey, type Cell, type CellKey } from "../maps/cells.ts";
import { BlockCache } from "../runs/block_cache.ts";
import { type Manifest, readManifest } from "../runs/manifest.ts";
import type { Run } from "../runs/run.ts";
import { RunCells, SINGLE } from "../runs/run_cells.ts";
import { missingFile, removeUnnamed } from "../runs/run_folder.ts";
import { checkSst, type Sst, SstReader } from "../runs/sst.ts";
import { Damaged } from "../supervisor/derived_parts.ts";
import { runsFolder } from "./runs_folder.ts";

const CACHE_BYTES = 16 * 1024 * 1024;
/** A start reads so many bytes of runs to see whether they are as they were written, in about 0.1 s. */
const CHECKED_BYTES = 64 * 1024 * 1024;

/**
 * The reason why the runs of a state cannot be read above its LMDB, whose seq is `lmdbSeq`; null: they can be. Reads the
 * newest runs to see whether they are as they were written.
 */
export function unfitRuns(folder: string, log: string, lmdbSeq: number): string | null {
  try {
    const manifest = readManifest(runsFolder(folder));
    if (manifest === null) return null;
    if (manifest === "other layout") return "its runs have another layout";
    if (manifest.log !== log) return "its runs were made from another log";
    if (!continues(manifest, lmdbSeq)) return "its runs do not continue its LMDB file";
    return missingFile(manifest) ?? damage(manifest);
  } catch (error) {
    if (!(error instanceof Damaged)) throw error;
    return error.message;
  }
}

/** If the process has died at the end of a fold, LMDB has a part of the runs already. */
function continues({ runs, base, seq }: Pick<Manifest, "runs" | "base" | "seq">, lmdbSeq: number): boolean {
  return runs.length === 0 || (base <= lmdbSeq && lmdbSeq <= seq);
}

/** The fault of the newest runs; null: they have none. */
function damage({ runs }: Manifest): string | null {
  let bytes = 0;
  try {
    for (const { ssts } of runs)
      for (const sst of ssts) {
        bytes += sst.bytes;
        if (bytes > CHECKED_BYTES) return null;
        checkSst(sst);
      }
    return null;
  } catch (error) {
    if (!(error instanceof Damaged)) throw error;
    return `its runs are damaged: ${error.message}`;
  }
}

export class LayeredState {
  readonly #folder: string;
  readonly #lmdb: LmdbStore;
  readonly #cache = new BlockCache(CACHE_BYTES);
  readonly #cells: RunCells;
  #seq = 0;
  #runs: readonly Run[] = [];
  /** Grows with each look. */
  #looks = 0;

  /**
   * `folder`: the state's, whose LMDB file is `lmdb`. Call only if unfitRuns() finds nothing, and before a writer has the
   * state open: files that no run names are removed.
   */
  constructor(folder: string, lmdb: LmdbStore) {
    this.#folder = runsFolder(folder);
    this.#lmdb = lmdb;
    this.#cells = new RunCells(new SstReader(this.#cache), () => this.#runs, SINGLE);
    this.look();
    // Of a process that has died.
    if (existsSync(this.#folder)) removeUnnamed(this.#folder, { runs: this.#runs });
  }

  /** Reads again which runs there are and how far LMDB has come. The writer has written to them, or may have. */
  look(): void {
    const manifest = readManifest(this.#folder);
    if (manifest === "other layout") throw new Damaged("the runs of the state have another layout");
    // What is known of a file goes with its object.
    const known = new Map(this.#runs.flatMap(({ ssts }) => ssts.map((sst): [string, Sst] => [sst.file, sst])));
    const runs = (manifest?.runs ?? []).map(({ ssts, after }) => ({
      ssts: ssts.map((sst) => known.get(sst.file) ?? sst),
      after,
    }));
    this.#lmdb.look();
    const named = new Set(runs.flatMap(({ ssts }) => ssts.map(({ file }) => file)));
    for (const file of known.keys()) if (!named.has(file)) this.#cache.closeFile(file);
    this.#runs = runs;
    this.#seq = manifest !== null && runs.length > 0 ? manifest.seq : this.#lmdb.seq;
    this.#looks++;
  }

  /** Reads again how far LMDB has come. Call only if there are no runs: unlike look(), it opens no file. */
  lookBeneath(): void {
    this.#lmdb.look();
    this.#seq = this.#lmdb.seq;
    this.#looks++;
  }

  get seq(): number {
    return this.#seq;
  }

  get hasRuns(): boolean {
    return this.#runs.length > 0;
  }

  get(key: CellKey): Buffer | undefined {
    const found = this.#runs.length === 0 ? undefined : this.#cells.find(key);
    return found === undefined ? this.#lmdb.get(key) : (found ?? undefined);
  }

  /** Begins again behind the last cell after each look: what a fold has ended is in LMDB alone. */
  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    for (let start = from, isDone = false; !isDone; ) {
      const looks = this.#looks;
      const beneath = this.#lmdb.range(start, to);
      const cells =
        this.#runs.length === 0 ? beneath : overlaid(this.#cells.changes(start, to)[Symbol.iterator](), beneath, to);
      isDone = true;
      for (const cell of cells) {
        yield cell;
        if (looks === this.#looks) continue;
        start = afterKey(cell[0]);
        isDone = false;
        break;
      }
    }
  }

  /** To be called before the writer writes. */
  mayWrite(): void {
    this.#lmdb.mayWrite();
  }

  /** LMDB is opened anew, and the runs are looked at again. No thread may have them open. */
  async reopen(): Promise<void> {
    await this.#lmdb.reopen();
    this.look();
  }

  condemn(why: string): void {
    this.#lmdb.condemn(why);
  }

  /** `isSynced`: the runs are on the disk; if not, a machine that goes down makes the state useless. */
  async close(isSynced: boolean): Promise<void> {
    this.#cache.close();
    await this.#lmdb.close(isSynced || this.#runs.length === 0);
  }
}
