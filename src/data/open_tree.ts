import { generateKeyPairSync } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeWhole } from "../files/contents.ts";
import { BRANCH, SIGNING_KEY } from "../sqlite/facts.ts";
import { SqliteLogRows } from "../sqlite/log_rows.ts";
import { SqliteTreeStore } from "../sqlite/tree_store.ts";
import type { WitnessKey } from "../tlog/cosignature.ts";
import { type Checkpoint, notedCheckpoint, publicKeyOf, readVkey, type Signer, signerOf } from "../tlog/note.ts";
import { LogTree } from "../tree/log_tree.ts";
import { CHECKPOINT_FILE, KEY_FILE, LOG_FILE, NEXT_KEY_FILE, TREE_FILE } from "./layout.ts";
import { NoKey, openLogKey, readLogKey, settleKey, takeNextKey } from "./log_key.ts";

/** Who has to do with the tree's checkpoints. */
export interface Watchers {
  /** Whose cosignatures count. */
  readonly witnesses: readonly WitnessKey[];
  /** Told whenever one was signed. */
  readonly published: () => void;
}

const NOBODY: Watchers = { witnesses: [], published() {} };

/**
 * The tree of a data directory's log. A tree or a key that is missing, although something was signed, is not made again: the
 * tree that is answered then says so and signs nothing. A change of keys that was cut short is finished. `origin`: MAPLEDGER_ORIGIN.
 */
export function openTree(data: string, origin: string, watchers: Watchers = NOBODY): LogTree {
  const log = new SqliteLogRows(join(data, LOG_FILE), false);
  let store: SqliteTreeStore | null = null;
  try {
    const published = readPublished(data);
    const noTree = missingTree(data, log, published);
    store = new SqliteTreeStore(noTree === null ? join(data, TREE_FILE) : ":memory:");
    return treeOver({ data, origin, log, store, published, noTree }, watchers);
  } catch (error) {
    store?.close();
    log.close();
    throw error;
  }
}

/** The tree of a copy of a data directory, which is brought to the log's end, and signs nothing. */
export function openTreeToRead(data: string, { witnesses }: Pick<Watchers, "witnesses">): LogTree {
  const log = new SqliteLogRows(join(data, LOG_FILE), false);
  const store = new SqliteTreeStore(existsSync(join(data, TREE_FILE)) ? join(data, TREE_FILE) : ":memory:");
  const { identity } = store;
  const name = identity?.origin ?? originOf(log, "");
  const published = readPublished(data);
  return new LogTree({
    store,
    log,
    signer: { ...nobody(name), ...readVkey(identity?.vkey ?? "") },
    nowUs: () => Date.now() * 1000,
    missing: identity === null ? `there is no ${TREE_FILE}` : null,
    published: published === "unreadable" ? null : published,
    publish() {},
    witnesses,
    readOnly: true,
  });
}

interface Opened {
  readonly data: string;
  readonly origin: string;
  readonly log: SqliteLogRows;
  readonly store: SqliteTreeStore;
  readonly published: ReturnType<typeof readPublished>;
  readonly noTree: string | null;
}

function treeOver(
  { data, origin, log, store, published, noTree }: Opened,
  { witnesses, published: tell }: Watchers,
): LogTree {
  const known = origin === "" ? store.identity?.origin : undefined;
  const name = known ?? originOf(log, origin);
  const keys = noTree === null ? settledKeys(data, store, log, name) : { missing: noTree };
  const tree = new LogTree({
    store,
    log,
    signer: "missing" in keys ? nobody(name) : keys.signer,
    nowUs: () => Date.now() * 1000,
    missing: "missing" in keys ? keys.missing : null,
    published: published === "unreadable" ? null : published,
    publish(note) {
      writeWhole(join(data, CHECKPOINT_FILE), note);
      tell();
    },
    witnesses,
  });
  if ("next" in keys && keys.next !== null && tree.refusal === null) handOver(data, tree, keys.next);
  return tree;
}

/** An event has said that another key signs: it does from here on. */
function handOver(data: string, tree: LogTree, next: Signer): void {
  while (tree.catchUp());
  if (tree.handOver(next) === null) takeNextKey(data);
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

/** A key that cannot be read is one that is missing. */
function settledKeys(...of: Parameters<typeof keysOf>): ReturnType<typeof keysOf> {
  const [data, store] = of;
  try {
    settleKey(data, publicKeyOf(store.identity?.vkey ?? ""));
    return keysOf(...of);
  } catch (error) {
    if (error instanceof NoKey) return { missing: error.message };
    throw error;
  }
}

/** Who signs, and, if an event says so of another key, who is to sign next; or why nobody can. */
function keysOf(
  data: string,
  store: SqliteTreeStore,
  log: SqliteLogRows,
  name: string,
): { readonly signer: Signer; readonly next: Signer | null } | { readonly missing: string } {
  const file = join(data, KEY_FILE);
  const kept = store.lastCheckpoint();
  if (kept !== null && !existsSync(file))
    return { missing: `${KEY_FILE} is missing: it has signed a checkpoint of size ${kept.size}` };
  const named = log.fact(SIGNING_KEY);
  const isNamed = ({ vkey }: Signer): boolean => named === "" || publicKeyOf(vkey) === named;
  const signer = signerOf(name, openLogKey(file));
  if (isNamed(signer)) return { signer, next: null };
  const key = readLogKey(join(data, NEXT_KEY_FILE));
  const next = key === null ? null : signerOf(name, key);
  if (next !== null && isNamed(next)) return { signer, next };
  return {
    missing: `${KEY_FILE} is not the key that the last KEY_ROTATE event names, and ${NEXT_KEY_FILE} is not, either`,
  };
}

/** The name alone: what it would sign, nobody knows a key for. */
function nobody(name: string): Signer {
  return signerOf(name, generateKeyPairSync("ed25519").privateKey);
}
