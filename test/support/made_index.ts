import { join } from "node:path";
import { snapshotOf } from "../../src/data/archive_job.ts";
import { openIndex, openStore } from "../../src/data/open_index.ts";
import type { StateStore } from "../../src/engine/ports.ts";
import type { CellKey } from "../../src/maps/cells.ts";
import type { MapRecord } from "../../src/maps/map.ts";
import { SqlitePastLog } from "../../src/sqlite/past_log.ts";
import { mapsIn } from "../../src/syscall/map_table.ts";

/** Makes the index of a data directory, as the service does. */
export async function makeIndex(data: string): Promise<void> {
  const made = await openIndex(data);
  if (made.isCutOff()) {
    const archived = made.archived();
    const { cells } = await snapshotOf({ id: made.logId, archived }, data);
    const maps: MapRecord[] = [];
    for await (const batch of cells) maps.push(...mapsIn(batch));
    await made.begin(archived.through, maps);
  }
  while (await made.catchUp());
  await made.write();
  await made.close();
}

/** Changes cells of an index; null: the cell goes. */
export async function changeIndex(
  data: string,
  change: (store: StateStore) => readonly (readonly [CellKey, Buffer | null])[],
): Promise<void> {
  const log = new SqlitePastLog(join(data, "events.sqlite"));
  const store = openStore(data, log.id);
  log.close();
  await store.write(change(store), store.seq);
  await store.close();
}
