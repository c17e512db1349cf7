/**
 * Gives a restored log a life of its own. It keeps its id and gets another `life` and a branch, which is the suffix of
 * its name in checkpoints: facts of the ledger that its BACKUP_RESTORE event sets. The tree may be behind the log's
 * last recorded checkpoint, so it is brought to the log's end; `signers` in `tree.sqlite` keeps the key that signed
 * until then.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { KEY_FILE, TREE_FILE } from "../data/layout.ts";
import { openLogKey, settleKey } from "../data/log_key.ts";
import { BRANCH } from "../sqlite/facts.ts";
import { giveNewLife } from "../sqlite/life.ts";
import { SqliteLogRows, unrecorded } from "../sqlite/log_rows.ts";
import { SqliteTreeStore, TreeFile } from "../sqlite/tree_store.ts";
import { treeRoot } from "../tlog/merkle.ts";
import { notedCheckpoint, publicKeyOf, signerOf } from "../tlog/note.ts";
import { subtreesOf } from "../tlog/tiles.ts";
import { LogTree } from "../tree/log_tree.ts";

/**
 * Makes a ledger of its own of restored files: the log, which nobody has open, gets a new life and a first event that names the
 * checkpoint that it continues; the tree, if there is one, is brought to there, and signs under a name of its own from then on.
 * Throws an Error if the tree is not that of the log.
 */
export function beginNewLife(data: string, logFile: string): void {
  const before = new SqliteLogRows(logFile, false);
  const recorded = before.recorded();
  const formerBranch = before.fact(BRANCH);
  before.close();
  giveNewLife(logFile, continued(join(data, TREE_FILE), recorded));
  if (existsSync(join(data, TREE_FILE))) reopen(join(data, TREE_FILE));
  if (existsSync(join(data, TREE_FILE)) && existsSync(join(data, KEY_FILE))) renameTree(data, logFile, formerBranch);
}

/** The event that was written did not come from outside: the tree is closed no more. */
function reopen(file: string): void {
  const store = new SqliteTreeStore(file);
  store.setClosed(null);
  store.close();
}

/** The newest checkpoint: the log may have the event of one that its tree, which was copied before, does not have. */
function continued(file: string, recorded: string): { continues: string | null; signer: string | null } {
  if (!existsSync(file)) return { continues: null, signer: null };
  const tree = new TreeFile(file);
  try {
    const last = tree.lastCheckpoint();
    const isNewer = (notedCheckpoint(recorded)?.size ?? -1) > (last?.size ?? -1);
    return { continues: isNewer ? recorded : (last?.note ?? null), signer: tree.identity?.vkey ?? null };
  } finally {
    tree.close();
  }
}

function renameTree(data: string, logFile: string, formerBranch: string): void {
  const store = new SqliteTreeStore(join(data, TREE_FILE));
  const { identity } = store;
  if (identity === null) {
    store.close();
    return;
  }
  const log = new SqliteLogRows(logFile, false);
  settleKey(data, publicKeyOf(identity.vkey));
  const key = openLogKey(join(data, KEY_FILE));
  const signer = signerOf(identity.origin, key);
  const rows = unrecorded(log);
  const alone = { missing: null, published: null, publish() {}, witnesses: [] };
  const tree = new LogTree({ store, log: rows, signer, nowUs: () => 0, ...alone });
  try {
    while (tree.catchUp());
    if (tree.refusal !== null) return;
    const subtrees = subtreesOf((level, index) => store.tile(level, index) as Buffer);
    const signed = notedCheckpoint(log.recorded());
    if (signed !== null && !(signed.size <= tree.size && treeRoot(signed.size, subtrees).equals(signed.root)))
      throw new Error(`the backup is damaged: its log is not what a checkpoint of size ${signed.size} has signed`);
    const end = `/${formerBranch}`;
    const base =
      formerBranch !== "" && identity.origin.endsWith(end) ? identity.origin.slice(0, -end.length) : identity.origin;
    const { name, vkey } = signerOf(`${base}/${log.fact(BRANCH)}`, key);
    // The event of the new life is the first that the former name never signs.
    store.changeSigner({ origin: name, vkey }, tree.size - 1);
  } finally {
    tree.close(false);
  }
}
