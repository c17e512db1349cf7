import { readdirSync, readFileSync } from "node:fs";
import type { Database } from "better-sqlite3";

const FILE_NAME = /^(\d{4})_[a-z0-9_]+\.sql$/;

/**
 * Applies the numbered files of a folder that a database does not have yet, each in one transaction with its
 * user_version. `until`: the number of the last file to apply. Throws if a newer mapledger has written the database, or
 * if the files are not 0001, 0002, ... without a gap.
 */
export function migrate(db: Database, folder: URL, until?: number): void {
  const files = migrationsIn(folder).slice(0, until);
  files.forEach((name, at) => {
    if (Number(FILE_NAME.exec(name)?.[1]) !== at + 1)
      throw new Error(`migrating ${db.name}: ${name} is not number ${at + 1} of the migrations`);
  });
  const version = db.pragma("user_version", { simple: true }) as number;
  if (version > files.length)
    throw new Error(
      `opening ${db.name}: it was written by a newer mapledger (version ${version}, this mapledger knows ${files.length})`,
    );
  files.slice(version).forEach((name, at) => {
    const sql = readFileSync(new URL(name, folder), "utf8");
    db.transaction(() => {
      db.exec(sql);
      db.pragma(`user_version = ${version + at + 1}`);
    }).immediate();
  });
}

/** The file names of a folder's migrations, in order. */
export function migrationsIn(folder: URL): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".sql"))
    .sort();
}
