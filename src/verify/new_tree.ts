/** Rebuilds a log's tree from the events, for a log whose tree was lost or damaged (`mapledger tree begin`). */

import { randomUUID } from "node:crypto";
import { existsSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CMD } from "../abi/service.ts";
import { CHECKPOINT_FILE, KEY_FILE, LOG_FILE, TREE_FILE } from "../data/layout.ts";
import { openLogKey, settleKey } from "../data/log_key.ts";
import { openTree, originOf, readPublished } from "../data/open_tree.ts";
import { StoppedLog } from "../data/stopped_log.ts";
import { sync } from "../files/contents.ts";
import { BRANCH, SIGNING_KEY } from "../sqlite/facts.ts";
import { SqliteLogRows, unrecorded } from "../sqlite/log_rows.ts";
import { SqliteTreeStore, TreeFile } from "../sqlite/tree_store.ts";
import { treeRoot } from "../tlog/merkle.ts";
import { type Checkpoint, notedCheckpoint, openNote, type Signer, signerOf } from "../tlog/note.ts";
import { subtreesOf } from "../tlog/tiles.ts";
import { LogTree } from "../tree/log_tree.ts";
import { AllEvents } from "./all_events.ts";

export interface BeginTree {
  readonly data: string;
  /** The setting MAPLEDGER_ORIGIN. */
  readonly origin: string;
  /** The folder of an archive to try first; null: no such folder. */
  readonly archive: string | null;
}

export interface BegunTree {
  readonly seq: number;
  readonly reason: string;
  /** Size of the newest checkpoint that is known to have been signed; null if none is known. */
  readonly signedSize: number | null;
  readonly continues: boolean;
  readonly origin: string;
  readonly vkey: string;
  /** The former tree's new file name; null if there was no tree. */
  readonly aside: string | null;
}

interface Signed extends Checkpoint {
  readonly note: string;
}

const NEW_FILE = `${TREE_FILE}.new`;
const BRANCH_DIGITS = 8;

/**
 * Rebuilds the tree of a stopped service's log from all events, if the service refuses to sign with the present one; a
 * TREE_BEGIN event records it. If the events match the newest known checkpoint, the new tree continues the signed
 * history. Otherwise the log gets another name in its checkpoints, because no key may sign two histories under one
 * name. The former tree is renamed and kept. Throws an Error with the reason if the tree cannot be rebuilt.
 */
export function beginTree({ data, origin, archive }: BeginTree): BegunTree {
  const stopped = StoppedLog.open(data);
  const log = new SqliteLogRows(join(data, LOG_FILE), false);
  try {
    const reason = refusalOf(data, origin);
    if (reason === null) throw new Error("the tree is not begun anew: it is sound");
    const signed = newestSigned(data, log);
    settleKey(data, log.fact(SIGNING_KEY));
    const key = openLogKey(join(data, KEY_FILE));
    const was = signed !== null && isOfBranch(signed, log) ? signed.origin : originOf(log, origin);
    const { store, continues } = build(data, log, archive, { signer: signerOf(was, key), signed });
    const branch = continues ? log.fact(BRANCH) : randomUUID().slice(0, BRANCH_DIGITS);
    const signer = continues ? signerOf(was, key) : signerOf(`${baseOf(was, origin, log)}/${branch}`, key);
    const { name, vkey } = signer;
    store.begin({ log: log.id, possibleCpus: log.possibleCpus, origin: name, vkey });
    if (signed !== null && continues && !("wrong" in openNote(signed.note, signer)))
      store.keep({ ...signed, timeUs: 0 });
    store.close();
    const attr = { reason, signed: signed?.note ?? null, continues, branch };
    const seq = stopped.append({ cmd: CMD.TREE_BEGIN, attr });
    const aside = replaceTree(data, seq, continues);
    return { seq, reason, signedSize: signed?.size ?? null, continues, origin: name, vkey, aside };
  } finally {
    log.close();
    stopped.close();
  }
}

function refusalOf(data: string, origin: string): string | null {
  const tree = openTree(data, origin);
  const { refusal } = tree;
  tree.close(false);
  return refusal;
}

/** The newest checkpoint of three places: the log's own fact, the file `checkpoint`, and the former tree. */
function newestSigned(data: string, log: SqliteLogRows): Signed | null {
  const notes = [log.recorded()];
  const file = join(data, CHECKPOINT_FILE);
  if (existsSync(file)) notes.push(readFileSync(file, "utf8"));
  if (existsSync(join(data, TREE_FILE))) notes.push(lastOf(join(data, TREE_FILE)));
  const signed = notes.flatMap((note): Signed[] => {
    const said = notedCheckpoint(note);
    return said === null ? [] : [{ ...said, note }];
  });
  return signed.reduce<Signed | null>((most, one) => (most === null || one.size > most.size ? one : most), null);
}

/** Returns "" if the tree cannot be read. */
function lastOf(file: string): string {
  try {
    const tree = new TreeFile(file);
    try {
      return tree.lastCheckpoint()?.note ?? "";
    } finally {
      tree.close();
    }
  } catch {
    return "";
  }
}

function build(
  data: string,
  log: SqliteLogRows,
  archive: string | null,
  { signer, signed }: { readonly signer: Signer; readonly signed: Signed | null },
): { store: SqliteTreeStore; continues: boolean } {
  const events = new AllEvents({ data, archive }, log);
  if (events.unread !== null) throw new Error(`the tree needs the archived events: ${events.unread}`);
  removeDatabase(join(data, NEW_FILE));
  const store = new SqliteTreeStore(join(data, NEW_FILE));
  const rows = {
    ...unrecorded(log),
    archivedThrough: () => 0,
    rows: (after: number, until: number) => events.rows(after, until),
  };
  const nowUs = (): number => 0;
  const alone = { missing: null, published: null, publish() {}, witnesses: [] };
  const tree = new LogTree({ store, log: rows, signer, nowUs, ...alone });
  while (tree.catchUp());
  if (tree.refusal !== null) throw new Error(`the log is not complete: ${tree.refusal}`);
  const subtrees = subtreesOf((level, index) => store.tile(level, index) as Buffer);
  const continues =
    signed === null || (signed.size <= tree.size && treeRoot(signed.size, subtrees).equals(signed.root));
  return { store, continues };
}

/**
 * Whether a checkpoint was signed after the log got its present branch: from then on the names of its checkpoints end
 * with the branch.
 */
function isOfBranch({ origin }: Checkpoint, log: SqliteLogRows): boolean {
  const branch = log.fact(BRANCH);
  return branch === "" || origin.endsWith(`/${branch}`);
}

/** The log's name without its branch. */
function baseOf(was: string, origin: string, log: SqliteLogRows): string {
  const branch = `/${log.fact(BRANCH)}`;
  if (origin !== "") return origin;
  return branch !== "/" && was.endsWith(branch) ? was.slice(0, -branch.length) : was;
}

/**
 * Puts the new tree in place of the former one. Returns the former tree's new file name, null if there was no tree.
 */
function replaceTree(data: string, seq: number, continues: boolean): string | null {
  const former = join(data, TREE_FILE);
  const aside = existsSync(former) ? `tree-until-${seq}.sqlite` : null;
  if (aside !== null)
    for (const suffix of ["", "-wal", "-shm"])
      if (existsSync(former + suffix)) renameSync(former + suffix, join(data, aside + suffix));
  const published = join(data, CHECKPOINT_FILE);
  if (existsSync(published) && (!continues || readPublished(data) === "unreadable"))
    renameSync(published, join(data, `${CHECKPOINT_FILE}-until-${seq}`));
  sync(join(data, NEW_FILE));
  renameSync(join(data, NEW_FILE), former);
  sync(data);
  return aside;
}

function removeDatabase(file: string): void {
  for (const suffix of ["", "-wal", "-shm"]) rmSync(file + suffix, { force: true });
}
