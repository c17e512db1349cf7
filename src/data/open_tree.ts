/**
 * Opens the tree of a data directory's log, with the key that signs its checkpoints. The newest signed checkpoint is
 * recorded three times: in `tree.sqlite`, in the file `checkpoint`, and in a fact of the ledger that is written with the
 * CHECKPOINT event. If the tree is missing or behind any of them, nothing is signed: the tree stays as it is, for
 * evidence. It is never cut, filled up or made anew by itself; `verify/new_tree.ts` builds a tree anew on an operator's
 * order.
 *
 * A change of keys (`key_rotation.ts`) is finished here: `log.key.next`, the ledger's fact `key` and the tree's signer
 * say which of its steps are left.
 */

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

/** The receivers of the tree's checkpoints. */
export interface Watchers {
  /** Witnesses whose cosignatures are kept. */
  readonly witnesses: readonly WitnessKey[];
  /** Called after each new checkpoint. */
  readonly published: () => void;
}

const NOBODY: Watchers = { witnesses: [], published() {} };

/**
 * Opens the tree of a data directory's log, and finishes an interrupted change of keys. If the tree or the key is
 * missing although a checkpoint was signed, neither is made anew: the returned tree has a `refusal` and signs nothing.
 * `origin`: the setting MAPLEDGER_ORIGIN.
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

/** Opens the tree of a copied data directory. It can be brought to the log's end, but signs nothing. */
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

/** Signs with both keys, and lets the next key take over: the KEY_ROTATE event has named it. */
function handOver(data: string, tree: LogTree, next: Signer): void {
  while (tree.catchUp());
  if (tree.handOver(next) === null) takeNextKey(data);
}

/**
 * The name of a log in its checkpoints: MAPLEDGER_ORIGIN, or "mapledger/" and the log's id; and "/" and its branch, if
 * it has one.
 */
export function originOf(log: Pick<SqliteLogRows, "id" | "fact">, origin: string): string {
  const branch = log.fact(BRANCH);
  return `${origin || `mapledger/${log.id}`}${branch === "" ? "" : `/${branch}`}`;
}

/** null: no checkpoint was published. */
export function readPublished(data: string): Checkpoint | null | "unreadable" {
  const file = join(data, CHECKPOINT_FILE);
  if (!existsSync(file)) return null;
  return notedCheckpoint(readFileSync(file, "utf8")) ?? "unreadable";
}

/** The reason why the tree is missing although the log had one; null if it exists, or if the log never had a tree. */
function missingTree(data: string, log: SqliteLogRows, published: ReturnType<typeof readPublished>): string | null {
  if (published === "unreadable") return `the file ${CHECKPOINT_FILE} is not a checkpoint`;
  if (existsSync(join(data, TREE_FILE))) return null;
  const signed = Math.max(published?.size ?? 0, notedCheckpoint(log.recorded())?.size ?? 0);
  if (signed > 0) return `${TREE_FILE} is missing: a checkpoint of size ${signed} was signed`;
  const hasKey = existsSync(join(data, KEY_FILE));
  return hasKey && log.lastSeq() > 0 ? `${TREE_FILE} is missing: the log has a key, so it had a tree` : null;
}

/** As keysOf; a key that cannot be read counts as missing. */
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

/**
 * The signer, and the next signer if a KEY_ROTATE event has named it and it has not taken over yet; or the reason why
 * no key can sign.
 */
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
    missing: `neither ${KEY_FILE} nor ${NEXT_KEY_FILE} is the key that the last KEY_ROTATE event names`,
  };
}

/** A signer with the right name and a throwaway key, for a tree that signs nothing. */
function nobody(name: string): Signer {
  return signerOf(name, generateKeyPairSync("ed25519").privateKey);
}
