/** Opens the index of a data directory, and begins it anew if it is not the log's. */

import { rmSync } from "node:fs";
import { join } from "node:path";
import { emptyFolder } from "../files/contents.ts";
import { EventIndex } from "../index/event_index.ts";
import { readInfo } from "../index/stored_segments.ts";
import { RunsStore } from "../runs/store.ts";
import { FORMER_INDEX_FILE, INDEX_FOLDER, LOG_FILE } from "./layout.ts";

/** Opens the index, or begins an empty one. An index of another log, or one that is ahead of the log, is discarded. */
export async function openIndex(data: string): Promise<EventIndex> {
  const file = join(data, LOG_FILE);
  removeFormer(data);
  const log = new EventIndex(file, null);
  const [id, last] = [log.logId, log.lastSeq()];
  await log.close();
  let store = openStore(data, id);
  const info = store.seq === 0 ? null : readInfo(store);
  if (store.seq > last || (store.seq > 0 && info?.log !== id)) {
    await store.close();
    discardIndex(data);
    store = openStore(data, id);
  }
  try {
    return new EventIndex(file, store);
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Opens the sorted runs of a log's index, or begins them if there are none. */
export function openStore(data: string, log: string): RunsStore {
  return new RunsStore(join(data, INDEX_FOLDER), log);
}

/** Removes the index, so that it is made again from the log. */
export function discardIndex(data: string): void {
  emptyFolder(join(data, INDEX_FOLDER));
}

/** Removes an index of a former form, in SQLite. */
function removeFormer(data: string): void {
  for (const suffix of ["", "-wal", "-shm", "-journal"])
    rmSync(join(data, FORMER_INDEX_FILE + suffix), { force: true });
}
