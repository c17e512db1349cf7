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
  /** null: the directory has no tree. */
  readonly tree: TreeFile | null;
  /** The ledger's fact SIGNING_KEY: the public key part of a verifier key; "" if no event has named a key. */
  readonly signingKey: string;
  /** The key that signs checkpoints of that size; null if it is unknown. */
  readonly verifierOf: (size: number) => Verifier | null;
  /** The content of the file `checkpoint`, read before the tree; null if the file does not exist. */
  readonly published: string | null;
}

/** Findings about the files beside the databases: the lock, the keys, and the newest checkpoint. */
export function fileFindings(parts: FilesCheckParts): Finding[] {
  const texts = [...lockFaults(parts.data), ...keyFaults(parts), ...publishedFaults(parts)];
  return texts.map((text) => ({ seq: null, text }));
}

/**
 * Reads the file `checkpoint`; null if it does not exist. Call this before the tree is read: the tree of a running
 * service grows, and must not end before the checkpoint.
 */
export function readPublishedNote(data: string): string | null {
  const file = join(data, CHECKPOINT_FILE);
  return existsSync(file) ? readSmall(file).toString() : null;
}

/** The lock is SQLite's lock on this file; the file stays empty. */
function* lockFaults(data: string): Iterable<string> {
  const bytes = lstatSync(join(data, LOCK_FILE), { throwIfNoEntry: false })?.size ?? 0;
  if (bytes > 0)
    yield `${LOCK_FILE} has ${bytes} bytes: it is only a lock, and must be empty; remove it while the service is stopped`;
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
  // Until a checkpoint is signed, any key may become the signer.
  if (tree === null || signed === undefined) return;
  if (!keys.has(KEY_FILE)) {
    yield `${KEY_FILE} is missing: it has signed a checkpoint of size ${signed}`;
    return;
  }
  const vkey = tree.identity?.vkey ?? "";
  const known = new Set(keys.values());
  if (!known.has(publicKeyOf(vkey))) yield `${KEY_FILE} is not the key that the tree names, ${vkey}`;
  else if (signingKey !== "" && !known.has(signingKey))
    yield `neither ${KEY_FILE} nor ${NEXT_KEY_FILE} is the key that the last KEY_ROTATE event names`;
}

/** The published checkpoint must be signed by the right key, and have the tree's root. */
function* publishedFaults({ tree, published: note, verifierOf }: FilesCheckParts): Iterable<string> {
  if (note === null) return;
  const said = notedCheckpoint(note);
  if (said === null) {
    yield `the file ${CHECKPOINT_FILE} is not a checkpoint`;
    return;
  }
  const { size, root } = said;
  const verifier = verifierOf(size);
  const fault = verifier === null ? null : checkpointFault({ size, root, note, timeUs: 0 }, verifier);
  if (fault !== null) yield `the file ${CHECKPOINT_FILE}: ${fault}`;
  else if (tree !== null && size > tree.size)
    yield `the file ${CHECKPOINT_FILE} has size ${size}, the tree has ${tree.size} events`;
  else if (
    tree !== null &&
    !treeRoot(
      size,
      subtreesOf((level, index) => tileOf(tree, level, index)),
    ).equals(root)
  )
    yield `the root of the file ${CHECKPOINT_FILE}, of size ${size}, differs from the tree's`;
}

/** Missing hashes are read as zeros, so that the root does not match. */
function tileOf(tree: TreeFile, level: number, index: number): Buffer {
  return Buffer.concat([tree.tile(level, index) ?? Buffer.alloc(0)], TILE_BYTES);
}
