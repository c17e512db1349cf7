import Sqlite, { type Database } from "better-sqlite3";
import { migrate, migrationsIn } from "./migrate.ts";

const ENTRIES = "SELECT type, name, tbl_name AS of, sql FROM sqlite_schema ORDER BY type, name";

interface Entry {
  readonly type: string;
  readonly name: string;
  readonly of: string;
  readonly sql: string | null;
}

/**
 * Findings about a database's schema: entries that no migration makes, entries that are missing, and entries that
 * differ. `besides`: types of entries that somebody may have added, for example "index".
 */
export function schemaFindings(file: string, folder: URL, besides?: ReadonlySet<string>): string[] {
  const db = new Sqlite(file, { readonly: true, fileMustExist: true });
  try {
    return foreignSchema(db, folder, besides);
  } finally {
    db.close();
  }
}

/** As schemaFindings, for a database that is open. */
export function foreignSchema(db: Database, folder: URL, besides: ReadonlySet<string> = new Set()): string[] {
  const fresh = new Sqlite(":memory:");
  try {
    const version = db.pragma("user_version", { simple: true }) as number;
    const known = migrationsIn(folder).length;
    if (version > known)
      return [`it was written by a newer mapledger (version ${version}, this mapledger knows ${known})`];
    migrate(fresh, folder, version);
    const found = entriesOf(db);
    const right = entriesOf(fresh);
    const texts: string[] = [];
    for (const [key, entry] of found) {
      const made = right.get(key);
      if (made === undefined && besides.has(entry.type)) continue;
      if (made === undefined) texts.push(`it has ${named(entry)}, which no migration makes`);
      else if (made.sql !== entry.sql || made.of !== entry.of)
        texts.push(`${named(entry)} differs from the one that the migrations make`);
    }
    for (const [key, entry] of right) if (!found.has(key)) texts.push(`it does not have ${named(entry)}`);
    return texts;
  } finally {
    fresh.close();
  }
}

/** The tables that the migrations of a folder make. */
export function tablesMade(folder: URL): string[] {
  const fresh = new Sqlite(":memory:");
  try {
    migrate(fresh, folder);
    return [...entriesOf(fresh).values()].filter(({ type }) => type === "table").map(({ name }) => name);
  } finally {
    fresh.close();
  }
}

function entriesOf(db: Database): Map<string, Entry> {
  const entries = db.prepare(ENTRIES).all() as Entry[];
  return new Map(entries.map((entry) => [`${entry.type} ${entry.name}`, entry]));
}

function named({ type, name, of }: Entry): string {
  return `the ${type} ${JSON.stringify(name)}${name === of ? "" : ` on ${JSON.stringify(of)}`}`;
}
