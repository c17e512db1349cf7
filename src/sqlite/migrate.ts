import { readdirSync, readFileSync } from "node:fs";
import type { Database } from "better-sqlite3";

const FILE_NAME = /^(\d{4})_[a-z0-9_]+\.sql$/;

/**
 * Brings a database to the newest of the numbered files in a folder, each in one transaction with its user_version.
 * Throws where the database is of a newer mapledger, and where the files are not 0001, 0002, ... without a gap. `until`: only
 * to that one of them.
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
      `opening ${db.name}: it was written by a newer mapledger (version ${version}, this one knows ${files.length})`,
    );
  files.slice(version).forEach((name, at) => {
    const sql = readFileSync(new URL(name, folder), "utf8");
    db.transaction(() => {
      db.exec(sql);
      db.pragma(`user_version = ${version + at + 1}`);
    }).immediate();
  });
}

/** Their files' names, in order. */
export function migrationsIn(folder: URL): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".sql"))
    .sort();
}
