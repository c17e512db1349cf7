import { existsSync } from "node:fs";
import { join } from "node:path";
import { LAYOUT, layoutOf } from "../lmdb/store.ts";
import { DATABASES } from "../sqlite/databases.ts";
import { migrationsIn } from "../sqlite/migrate.ts";
import { schemaVersion } from "../sqlite/schema_version.ts";
import { LOG_FILE, namesOf, TREE_FILE } from "./layout.ts";

/** Files beside a log that was signed, or is ready to be. */
const OF_A_LOG = [TREE_FILE, "checkpoint"] as const;

/**
 * Looks at a data directory before anything in it is touched. Throws an Error if a newer mapledger has written to it, or if its log
 * is gone: a new one in its place would be another log beside the proofs of this one. `rebuild`: whose state is to be made again.
 */
export function checkWritten(data: string, rebuild = false): void {
  const databases = [...newerDatabases(data)];
  const newer = [...databases, ...(rebuild ? [] : newerStores(data))];
  const advice = databases.length > 0 ? "" : ". A start with --rebuild makes it again from the log";
  if (newer.length > 0)
    throw new Error(`${data} was written by a newer mapledger: ${newer.join(", ")}; nothing was changed${advice}`);
  const fault = logFault(data);
  const left = OF_A_LOG.filter((name) => existsSync(join(data, name)));
  if (fault !== null && left.length > 0)
    throw new Error(
      `${data}: ${fault}, but there is ${left.join(" and ")}: its log is gone. Put ${LOG_FILE} back, or have a backup in another directory ` +
        "(mapledger restore-backup); to begin another log, name an empty directory. Nothing was changed",
    );
}

/** Why a directory has no log, in words; null: it has one, or something that is no database. */
export function logFault(data: string): string | null {
  const file = join(data, LOG_FILE);
  if (!existsSync(file)) return `there is no ${LOG_FILE}`;
  return tablesFault(file, LOG_FILE);
}

/** Of a database that is there: as a machine leaves one that goes down before anything is in it. */
export function tablesFault(file: string, name: string): string | null {
  return schemaVersion(file) === 0 ? `${name} has no tables: nothing was ever recorded in it` : null;
}

function* newerDatabases(data: string): Iterable<string> {
  for (const [name, migrations] of Object.entries(DATABASES)) {
    const version = schemaVersion(join(data, name)) ?? 0;
    const known = migrationsIn(migrations).length;
    if (version > known) yield `${name} is of version ${version}, this one knows ${known}`;
  }
}

function* newerStores(data: string): Iterable<string> {
  for (const name of namesOf("store")) {
    const layout = layoutOf(join(data, name)) ?? 0;
    if (layout > LAYOUT) yield `${name}/ is of layout ${layout}, this one knows ${LAYOUT}`;
  }
}
