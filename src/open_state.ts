import { join } from "node:path";
import { restoreFromArchive } from "./archiving.ts";
import type { ArchiveSource } from "./engine/archives.ts";
import { discard, LmdbStore } from "./lmdb/store.ts";
import type { Host } from "./maps/map.ts";

export interface StateOptions {
  readonly data: string;
  readonly host: Host;
  /** Make it again, whatever is there. */
  readonly rebuild: boolean;
  /** Told why it is made again. */
  readonly report: (message: string, why: string) => void;
}

/**
 * The state of a log, at an event from which on the log has all: one that is of no use is made again, from where the log
 * begins. Throws an Error where that is behind archived events and nothing is left of their state.
 */
export async function openState(
  log: Pick<ArchiveSource, "id" | "lastSeq" | "archived">,
  { data, host, rebuild, report }: StateOptions,
): Promise<LmdbStore> {
  const folder = join(data, "state");
  if (rebuild) discard(folder);
  let store = new LmdbStore(folder, log.id);
  if (store.discarded !== null) report("the state is made again from the log", store.discarded);
  if (store.seq > log.lastSeq) {
    report("the state is made again from the log", `it has events up to ${store.seq}, the log ends at ${log.lastSeq}`);
    store = await emptied(store, folder, log.id);
  }
  if (store.seq < log.archived.through) {
    store = await emptied(store, folder, log.id);
    await restoreFromArchive(store, log, { data, host });
  }
  return store;
}

async function emptied(store: LmdbStore, folder: string, log: string): Promise<LmdbStore> {
  await store.close();
  discard(folder);
  return new LmdbStore(folder, log);
}
