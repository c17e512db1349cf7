/** Checks that this mapledger can use a data directory, before anything in it is changed. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { layoutOf, STATE_LAYOUT } from "../lmdb/marker.ts";
import { LAYOUT as RUNS_LAYOUT, runsLayoutOf } from "../runs/manifest.ts";
import { DATABASES } from "../sqlite/databases.ts";
import { migrationsIn } from "../sqlite/migrate.ts";
import { schemaVersion } from "../sqlite/schema_version.ts";
import { LOG_FILE, namesOf, TREE_FILE } from "./layout.ts";

/** Files that only a log has: if one of them exists without a log, the log is gone. */
const OF_A_LOG = [TREE_FILE, "checkpoint"] as const;

/**
 * Throws an Error if a newer mapledger has written to a data directory, or if its log is gone: a new log in its place
 * would contradict the checkpoints of the former one. `rebuild`: the state will be built anew, so its layout does not
 * matter.
 */
export function checkWritten(data: string, rebuild = false): void {
  const databases = [...newerDatabases(data)];
  const newer = [...databases, ...(rebuild ? [] : newerStores(data))];
  const advice = databases.length > 0 ? "" : ". A start with --rebuild builds it anew from the log";
  if (newer.length > 0)
    throw new Error(`${data} was written by a newer mapledger: ${newer.join(", ")}; nothing was changed${advice}`);
  const fault = logFault(data);
  const left = OF_A_LOG.filter((name) => existsSync(join(data, name)));
  if (fault !== null && left.length > 0)
    throw new Error(
      `${data}: ${fault}, but there is ${left.join(" and ")}: its log is gone. Put ${LOG_FILE} back, or restore a backup to another directory ` +
        "(mapledger restore-backup); to begin another log, name an empty directory. Nothing was changed",
    );
}

/** The reason why a directory has no log; null if it has one, or if its log file is not a database. */
export function logFault(data: string): string | null {
  const file = join(data, LOG_FILE);
  if (!existsSync(file)) return `there is no ${LOG_FILE}`;
  return tablesFault(file, LOG_FILE);
}

/**
 * The reason why a database is unusable if it has no tables, as a machine leaves it that crashed before the first write;
 * null if it has tables or does not exist.
 */
export function tablesFault(file: string, name: string): string | null {
  return schemaVersion(file) === 0 ? `${name} has no tables: nothing was ever recorded in it` : null;
}

function* newerDatabases(data: string): Iterable<string> {
  for (const [name, migrations] of Object.entries(DATABASES)) {
    const version = schemaVersion(join(data, name)) ?? 0;
    const known = migrationsIn(migrations).length;
    if (version > known) yield `${name} has version ${version}, this mapledger knows ${known}`;
  }
}

function* newerStores(data: string): Iterable<string> {
  for (const name of namesOf("store")) {
    const layout = layoutOf(join(data, name)) ?? 0;
    if (layout > STATE_LAYOUT) yield `${name}/ has layout ${layout}, this mapledger knows ${STATE_LAYOUT}`;
  }
  for (const name of namesOf("runs")) {
    const layout = runsLayoutOf(join(data, name)) ?? 0;
    if (layout > RUNS_LAYOUT) yield `${name}/ has layout ${layout}, this mapledger knows ${RUNS_LAYOUT}`;
  }
}
