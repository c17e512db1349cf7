import { join } from "node:path";
import { checkEntries, type Kind, type Wanted } from "../files/entries.ts";
import { RUNS } from "../state/runs_folder.ts";
import { CGROUPS_FOLDER, LAYOUT, namesOf } from "./layout.ts";

/** Suffixes of files that SQLite keeps beside a database. */
const DATABASE_SUFFIXES = ["", "-wal", "-shm", "-journal"];
/** Suffixes of files that are being written, and will be renamed to the name before the suffix. */
const PARTIAL_SUFFIXES = ["", ".new", ".partial"];
/** A snapshot of an archive, which lies in the data directory, too: `state-000000001000.ndjson.zst`. */
const SNAPSHOT = /^state-\d{12,}\.ndjson\.zst$/;
/** Files in a folder of LMDB. */
const STORE_FILES = new Set(["data.mdb", "data.mdb-lock", "marker.json"]);

const KINDS: ReadonlyMap<string, Kind> = new Map(
  Object.entries(LAYOUT).flatMap(([name, { is }]): [string, Kind][] => {
    if (is === "socket") return [];
    if (is === "folder" || is === "store" || is === "runs") return [[name, "directory"]];
    if (is === "file") return PARTIAL_SUFFIXES.map((suffix) => [name + suffix, "file"]);
    return ["", ".new"].flatMap((made) =>
      DATABASE_SUFFIXES.map((suffix): [string, Kind] => [name + made + suffix, "file"]),
    );
  }),
);

const inData: Wanted = (name) => (SNAPSHOT.test(name) ? "file" : (KINDS.get(name) ?? null));
const inStore: Wanted = (name) => (name === RUNS ? "directory" : STORE_FILES.has(name) ? "file" : null);
/** A folder of sorted runs has only files. */
const inRuns: Wanted = () => "file";

/**
 * Throws an Error that names the first entry of a data directory that is a symbolic link, or has another kind than
 * `layout.ts` says.
 */
export function checkData(data: string): void {
  checkEntries(data, inData);
  for (const store of namesOf("store")) checkEntries(join(data, store), inStore);
  for (const runs of [...namesOf("runs"), ...namesOf("store").map((store) => join(store, RUNS))])
    checkEntries(join(data, runs), inRuns);
  checkEntries(join(data, CGROUPS_FOLDER), () => "file");
}
