import { generateKeyPairSync } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LogTree } from "./engine/log_tree.ts";
import { writeWhole } from "./files.ts";
import { type Checkpoint, notedCheckpoint, type Signer, signerOf } from "./log/note.ts";
import { openLogKey } from "./log_key.ts";
import { BRANCH } from "./sqlite/facts.ts";
import { SqliteLogRows } from "./sqlite/log_rows.ts";
import { SqliteTreeStore } from "./sqlite/tree_store.ts";

/** The newest checkpoint, for those who send it away: the note as GET /checkpoint has it. */
export const CHECKPOINT_FILE = "checkpoint";
export const TREE_FILE = "tree.sqlite";
export const KEY_FILE = "log.key";

/**
 * The tree of a data directory's log. A tree or a key that is missing, although something was signed, is not made again: the
 * tree that is answered then says so and signs nothing. `origin`: MAPLEDGER_ORIGIN.
 */
export function openTree(data: string, origin: string): LogTree {
  const log = new SqliteLogRows(join(data, "events.sqlite"), false);
  const published = readPublished(data);
  const noTree = missingTree(data, log, published);
  const store = new SqliteTreeStore(noTree === null ? join(data, TREE_FILE) : ":memory:");
  const missing = noTree ?? missingKey(data, store);
  const known = origin === "" ? store.identity?.origin : undefined;
  const name = known ?? originOf(log, origin);
  return new LogTree({
    store,
    log,
    signer: missing === null ? signerOf(name, openLogKey(join(data, KEY_FILE))) : nobody(name),
    nowUs: () => Date.now() * 1000,
    missing,
    published: published === "unreadable" ? null : published,
    publish: (note) => writeWhole(join(data, CHECKPOINT_FILE), note),
  });
}

/** What a log is called in its checkpoints: MAPLEDGER_ORIGIN, or mapledger/ with its id; and its branch, where it has one. */
export function originOf(log: Pick<SqliteLogRows, "id" | "fact">, origin: string): string {
  const branch = log.fact(BRANCH);
  return `${origin || `mapledger/${log.id}`}${branch === "" ? "" : `/${branch}`}`;
}

/** null: there is none yet. */
export function readPublished(data: string): Checkpoint | null | "unreadable" {
  const file = join(data, CHECKPOINT_FILE);
  if (!existsSync(file)) return null;
  return notedCheckpoint(readFileSync(file, "utf8")) ?? "unreadable";
}

/** Why there is no tree, although the log had one; null: there is, or none was ever begun. */
function missingTree(data: string, log: SqliteLogRows, published: ReturnType<typeof readPublished>): string | null {
  if (published === "unreadable") return `the file ${CHECKPOINT_FILE} is no checkpoint`;
  if (existsSync(join(data, TREE_FILE))) return null;
  const signed = Math.max(published?.size ?? 0, notedCheckpoint(log.recorded())?.size ?? 0);
  if (signed > 0) return `${TREE_FILE} is missing: a checkpoint of size ${signed} was signed`;
  const hasKey = existsSync(join(data, KEY_FILE));
  return hasKey && log.lastSeq() > 0 ? `${TREE_FILE} is missing: the log has a key, and so had a tree` : null;
}

function missingKey(data: string, store: SqliteTreeStore): string | null {
  const kept = store.lastCheckpoint();
  if (kept === null || existsSync(join(data, KEY_FILE))) return null;
  return `${KEY_FILE} is missing: it has signed a checkpoint of size ${kept.size}`;
}

/** The name alone: what it would sign, nobody knows a key for. */
function nobody(name: string): Signer {
  return signerOf(name, generateKeyPairSync("ed25519").privateKey);
}
