import { existsSync, lstatSync } from "node:fs";
import { join } from "node:path";
import { CHECKPOINT_FILE, KEY_FILE, LOCK_FILE, NEXT_KEY_FILE } from "../data/layout.ts";
import { readLogKey } from "../data/log_key.ts";
import { readSmall } from "../files/contents.ts";
import type { TreeFile } from "../sqlite/tree_store.ts";
import { treeRoot } from "../tlog/merkle.ts";
import { notedCheckpoint, publicKeyOf, signerOf, type Verifier } from "../tlog/note.ts";
import { subtreesOf, TILE_BYTES } from "../tlog/tiles.ts";
import { checkpointFault } from "../tree/log_tree.ts";
import type { Finding } from "./finding.ts";

const OTHERS = 0o077;

export interface FilesCheckParts {
  readonly data: string;
  /** null: there is none. */
  readonly tree: TreeFile | null;
  /** The ledger's fact of who signs: a public key as a verifier key ends; "": none is named. */
  readonly signingKey: string;
  /** Whose signatures count for a checkpoint of that size. */
  readonly verifierOf: (size: number) => Verifier | null;
  /** The file `checkpoint`, as it was before the tree was looked at; null: it is not there. */
  readonly published: string | null;
}

/** What is wrong with the files of a data directory beside its databases: the lock, the keys, the newest checkpoint. */
export function fileFindings(parts: FilesCheckParts): Finding[] {
  const texts = [...lockFaults(parts.data), ...keyFaults(parts), ...publishedFaults(parts)];
  return texts.map((text) => ({ seq: null, text }));
}

/** The file `checkpoint` of a data directory, read before its tree is, which may grow; null: it is not there. */
export function readPublishedNote(data: string): string | null {
  const file = join(data, CHECKPOINT_FILE);
  return existsSync(file) ? readSmall(file).toString() : null;
}

/** SQLite's lock is one on the file: nothing is ever written to it. */
function* lockFaults(data: string): Iterable<string> {
  const bytes = lstatSync(join(data, LOCK_FILE), { throwIfNoEntry: false })?.size ?? 0;
  if (bytes > 0)
    yield `${LOCK_FILE} has ${bytes} bytes: it is a lock, which nothing is written to; remove it while the service is stopped`;
}

function* keyFaults({ data, tree, signingKey }: FilesCheckParts): Iterable<string> {
  const keys = new Map<string, string>();
  for (const name of [KEY_FILE, NEXT_KEY_FILE]) {
    const file = join(data, name);
    const mode = lstatSync(file, { throwIfNoEntry: false })?.mode;
    if (mode === undefined) continue;
    if ((mode & OTHERS) !== 0)
      yield `${name} is open to others: its mode is ${(mode & 0o777).toString(8).padStart(4, "0")}`;
    try {
      const key = readLogKey(file);
      if (key !== null) keys.set(name, publicKeyOf(signerOf("key", key).vkey));
    } catch (error) {
      yield `${name} cannot be read: ${(error as Error).message}`;
      return;
    }
  }
  const signed = tree?.lastCheckpoint()?.size;
  // As long as nothing was signed, any key may begin.
  if (tree === null || signed === undefined) return;
  if (!keys.has(KEY_FILE)) {
    yield `${KEY_FILE} is missing: it has signed a checkpoint of size ${signed}`;
    return;
  }
  const vkey = tree.identity?.vkey ?? "";
  const known = new Set(keys.values());
  if (!known.has(publicKeyOf(vkey))) yield `${KEY_FILE} is not the key that the tree names, ${vkey}`;
  else if (signingKey !== "" && !known.has(signingKey))
    yield `${KEY_FILE} is not the key that the last KEY_ROTATE event names, and ${NEXT_KEY_FILE} is not, either`;
}

/** What is sent away is to be what the tree vouches for. */
function* publishedFaults({ tree, published: note, verifierOf }: FilesCheckParts): Iterable<string> {
  if (note === null) return;
  const said = notedCheckpoint(note);
  if (said === null) {
    yield `the file ${CHECKPOINT_FILE} is no checkpoint`;
    return;
  }
  const { size, root } = said;
  const verifier = verifierOf(size);
  const fault = verifier === null ? null : checkpointFault({ size, root, note, timeUs: 0 }, verifier);
  if (fault !== null) yield `the file ${CHECKPOINT_FILE}: ${fault}`;
  else if (tree !== null && size > tree.size)
    yield `the file ${CHECKPOINT_FILE} is of size ${size}, the tree has ${tree.size} events`;
  else if (
    tree !== null &&
    !treeRoot(
      size,
      subtreesOf((level, index) => tileOf(tree, level, index)),
    ).equals(root)
  )
    yield `the file ${CHECKPOINT_FILE} of size ${size} has another root than the tree`;
}

/** Hashes that are missing are zeros: they fit nothing. */
function tileOf(tree: TreeFile, level: number, index: number): Buffer {
  return Buffer.concat([tree.tile(level, index) ?? Buffer.alloc(0)], TILE_BYTES);
}
