/**
 * Opens the state of a log, or builds it from the log if it cannot be used. If the disk fails, the state is held in
 * memory until the disk works again.
 */

import { join } from "node:path";
import type { ArchiveSource } from "../engine/archives.ts";
import type { StateStore } from "../engine/ports.ts";
import { emptyFolder } from "../files/contents.ts";
import { LmdbStore } from "../lmdb/store.ts";
import type { CellKey } from "../maps/cells.ts";
import type { Host } from "../maps/map.ts";
import { LayeredState, unfitRuns } from "../state/layers.ts";
import { faultIn, type PartFault } from "../supervisor/derived_parts.ts";
import { restoreFromArchive } from "./archive_job.ts";
import { STATE_FOLDER } from "./layout.ts";

export interface StateOptions {
  readonly data: string;
  readonly host: Host;
  /** Whether to discard the present state and build a new one. */
  readonly rebuild: boolean;
  /** Called if the state is built anew or cannot be opened, with the reason. */
  readonly report: (message: string, why: string) => void;
  /** Called with the fault if the state cannot be opened. */
  readonly told: (fault: PartFault) => void;
}

/**
 * Opens the state of a log; the caller applies the events after its seq. A state that is damaged, is ahead of the log, or
 * ends before the last archived event is discarded. The new state is empty or, if events are archived, begins with the
 * snapshot after them. If the disk fails, the state is held in memory until the disk works again. If events are archived,
 * throws an Error instead, and also if neither their snapshot nor the archive can be used.
 */
export async function openState(
  log: Pick<ArchiveSource, "id" | "lastSeq" | "archived">,
  options: StateOptions,
): Promise<LayeredState | LateStore> {
  try {
    return await openStore(log, options);
  } catch (error) {
    const found = faultIn(error);
    // A snapshot needs a store to be loaded into.
    if (found === null || log.archived.through > 0) throw error;
    const detail = (error as Error).message;
    options.report("the state cannot be opened, and is held in memory until it can be", detail);
    options.told({ part: "state", state: "failed", detail, full: found === "full" });
    return new LateStore(join(options.data, STATE_FOLDER), log.id);
  }
}

async function openStore(
  log: Pick<ArchiveSource, "id" | "lastSeq" | "archived">,
  { data, host, rebuild, report }: StateOptions,
): Promise<LayeredState> {
  const folder = join(data, STATE_FOLDER);
  if (rebuild) emptyFolder(folder);
  let lmdb = new LmdbStore(folder, log.id);
  const unfit = lmdb.discarded ?? unfitRuns(folder, log.id, lmdb.seq);
  if (unfit !== null) report("the state is made again from the log", unfit);
  if (unfit !== lmdb.discarded) lmdb = await emptied(lmdb, folder, log.id);
  let state = new LayeredState(folder, lmdb);
  if (state.seq > log.lastSeq) {
    report("the state is made again from the log", `it has events up to ${state.seq}, the log ends at ${log.lastSeq}`);
    lmdb = await emptied(state, folder, log.id);
    state = new LayeredState(folder, lmdb);
  }
  if (state.seq < log.archived.through) {
    lmdb = await emptied(state, folder, log.id);
    await restoreFromArchive(lmdb, log, { data, host });
    state = new LayeredState(folder, lmdb);
  }
  return state;
}

async function emptied(state: LmdbStore | LayeredState, folder: string, log: string): Promise<LmdbStore> {
  await state.close(false);
  emptyFolder(folder);
  return new LmdbStore(folder, log);
}

/**
 * Empty until the first write. That write opens the store and gets all cells since the start, because they were pending
 * in memory until then.
 */
export class LateStore implements StateStore {
  readonly #folder: string;
  readonly #log: string;
  #store: LmdbStore | null = null;

  constructor(folder: string, log: string) {
    this.#folder = folder;
    this.#log = log;
  }

  get seq(): number {
    return this.#store?.seq ?? 0;
  }

  get(key: CellKey): Buffer | undefined {
    return this.#store?.get(key);
  }

  range(from: CellKey, to: CellKey): ReturnType<StateStore["range"]> {
    return this.#store?.range(from, to) ?? [];
  }

  async write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number, bytes: number): Promise<void> {
    if (this.#store === null) {
      emptyFolder(this.#folder);
      this.#store = new LmdbStore(this.#folder, this.#log);
    }
    return this.#store.write(changes, seq, bytes);
  }

  condemn(why: string): void {
    this.#store?.condemn(why);
  }

  async close(): Promise<void> {
    await this.#store?.close();
  }
}
