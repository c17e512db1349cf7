/**
 * Gives a restored log a life of its own. The log keeps its id. Its BACKUP_RESTORE event sets two facts of the ledger:
 * another `life`, and a branch, which is the suffix of the log's name in checkpoints. The tree may be behind the log's
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
 * Turns restored files into a ledger of its own, so that it never contradicts the ledger that was backed up, which may
 * still run. The log, which no process has open, gets a new life, and a first event that names the checkpoint that it
 * continues. If there is a tree, it is brought to the log's end, and signs under a name of its own from then on. Throws
 * an Error if the tree does not belong to the log.
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

/**
 * Clears the tree's closing mark: the event that the restore has just appended must not be reported as one from outside
 * (data/closing_mark.ts).
 */
function reopen(file: string): void {
  const store = new SqliteTreeStore(file);
  store.setClosed(null);
  store.close();
}

/**
 * The newest checkpoint of log and tree. The log may have recorded a checkpoint that the tree's copy lacks, because a
 * backup copies the tree first.
 */
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
      throw new Error(
        `the backup is damaged: its log differs from the one that a checkpoint of size ${signed.size} signed`,
      );
    const end = `/${formerBranch}`;
    const base =
      formerBranch !== "" && identity.origin.endsWith(end) ? identity.origin.slice(0, -end.length) : identity.origin;
    const { name, vkey } = signerOf(`${base}/${log.fact(BRANCH)}`, key);
    // The new name signs sizes from the event of the new life on; the former name signed smaller ones only.
    store.changeSigner({ origin: name, vkey }, tree.size - 1);
  } finally {
    tree.close(false);
  }
}
