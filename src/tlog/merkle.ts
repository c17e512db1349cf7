/**
 * RFC 6962's Merkle trees over SHA-256. Sizes and indices may pass 2^32, so none of them goes through bit operators.
 */

import { hash } from "node:crypto";

export const HASH_BYTES = 32;

const LEAF = Buffer.from([0]);
const NODE = Buffer.alloc(1 + 2 * HASH_BYTES, 1);

export const EMPTY_ROOT = hash("sha256", Buffer.alloc(0), "buffer");

/** SHA-256(0x00 || entry). */
export function leafHash(entry: Buffer): Buffer {
  return hash("sha256", Buffer.concat([LEAF, entry]), "buffer");
}

/** SHA-256(0x01 || left || right). */
export function nodeHash(left: Buffer, right: Buffer): Buffer {
  const node = Buffer.allocUnsafe(HASH_BYTES);
  left.copy(NODE, 1);
  right.copy(NODE, 1 + HASH_BYTES);
  node.write(hash("sha256", NODE, "binary"), 0, "latin1");
  return node;
}

/** The root of a full tree. `hashes`: its leaves' hashes end to end; their number is a power of two. */
export function fullRoot(hashes: Buffer): Buffer {
  const nodes = Buffer.from(hashes);
  for (let count = hashes.length / HASH_BYTES; count > 1; count /= 2)
    for (let pair = 0; pair < count / 2; pair++) {
      nodes.copy(NODE, 1, pair * 2 * HASH_BYTES, (pair + 1) * 2 * HASH_BYTES);
      nodes.write(hash("sha256", NODE, "binary"), pair * HASH_BYTES, "latin1");
    }
  return Buffer.from(nodes.subarray(0, HASH_BYTES));
}

/** The root of the full subtree over the 2^height leaves that begin at `start`, a multiple of 2^height. */
export type Subtrees = (start: number, height: number) => Buffer;

/** The root of the tree of the first `size` leaves. */
export function treeRoot(size: number, subtrees: Subtrees): Buffer {
  return size === 0 ? EMPTY_ROOT : rangeRoot(0, size, subtrees);
}

/** RFC 6962's PATH(index, D[size]): from the leaf's sibling up. */
export function inclusionProof(index: number, size: number, subtrees: Subtrees): Buffer[] {
  const proof: Buffer[] = [];
  let [from, to] = [0, size];
  while (to - from > 1) {
    const middle = from + split(to - from);
    if (index < middle) {
      proof.unshift(rangeRoot(middle, to, subtrees));
      to = middle;
    } else {
      proof.unshift(rangeRoot(from, middle, subtrees));
      from = middle;
    }
  }
  return proof;
}

/** RFC 6962's PROOF(old, D[size]); 0 < old <= size. */
export function consistencyProof(old: number, size: number, subtrees: Subtrees): Buffer[] {
  const proof: Buffer[] = [];
  let [from, to] = [0, size];
  let whole = true;
  while (old < to) {
    const middle = from + split(to - from);
    if (old <= middle) {
      proof.unshift(rangeRoot(middle, to, subtrees));
      to = middle;
    } else {
      proof.unshift(rangeRoot(from, middle, subtrees));
      from = middle;
      whole = false;
    }
  }
  if (!whole) proof.unshift(rangeRoot(from, to, subtrees));
  return proof;
}

/** Whether an inclusion proof leads from a leaf's hash to the tree's root. */
export function provesInclusion(
  leaf: Buffer,
  index: number,
  size: number,
  proof: readonly Buffer[],
  root: Buffer,
): boolean {
  if (!(index >= 0 && index < size)) return false;
  let [at, last] = [index, size - 1];
  let node = leaf;
  for (const hash of proof) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      node = nodeHash(hash, node);
      while (at % 2 === 0 && at !== 0) [at, last] = [at / 2, Math.floor(last / 2)];
    } else {
      node = nodeHash(node, hash);
    }
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  return last === 0 && node.equals(root);
}

/** Whether a consistency proof shows that the tree `now` begins with all leaves of the tree `old`. */
export function provesConsistency(
  old: { readonly size: number; readonly root: Buffer },
  now: { readonly size: number; readonly root: Buffer },
  proof: readonly Buffer[],
): boolean {
  if (old.size === 0) return proof.length === 0 && old.root.equals(EMPTY_ROOT);
  if (old.size === now.size) return proof.length === 0 && old.root.equals(now.root);
  if (old.size > now.size) return false;
  let [at, last] = [old.size - 1, now.size - 1];
  while (at % 2 === 1) [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  const rest = [...proof];
  const first = at === 0 ? old.root : rest.shift();
  if (first === undefined) return false;
  let [oldRoot, nowRoot] = [first, first];
  for (const hash of rest) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      oldRoot = nodeHash(hash, oldRoot);
      nowRoot = nodeHash(hash, nowRoot);
      while (at % 2 === 0 && at !== 0) [at, last] = [at / 2, Math.floor(last / 2)];
    } else {
      nowRoot = nodeHash(nowRoot, hash);
    }
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  return last === 0 && oldRoot.equals(old.root) && nowRoot.equals(now.root);
}

/**
 * The root over the leaves from `from` (included) to `to` (excluded), for a range that RFC 6962's split can produce.
 */
function rangeRoot(from: number, to: number, subtrees: Subtrees): Buffer {
  let root: Buffer | null = null;
  // Full subtrees from right to left, one for each bit that is set in the number of leaves.
  for (let [end, count, height] = [to, to - from, 0]; count > 0; height++) {
    if (count % 2 === 1) {
      end -= 2 ** height;
      const subtree = subtrees(end, height);
      root = root === null ? subtree : nodeHash(subtree, root);
    }
    count = Math.floor(count / 2);
  }
  return root as Buffer;
}

/** The largest power of two below `count`: 5 -> 4, 4 -> 2. */
function split(count: number): number {
  let power = 1;
  while (power * 2 < count) power *= 2;
  return power;
}
