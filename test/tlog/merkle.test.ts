import { createHash } from "node:crypto";
import fc from "fast-check";
import { test } from "tap";
import {
  consistencyProof,
  EMPTY_ROOT,
  inclusionProof,
  leafHash,
  nodeHash,
  provesConsistency,
  provesInclusion,
  type Subtrees,
  treeRoot,
} from "../../src/tlog/merkle.ts";
import { SEED } from "../support/seed.ts";

/** The entries and roots that implementations of RFC 6962 are tested with: certificate-transparency's. */
const ENTRIES = [
  "",
  "00",
  "10",
  "2021",
  "3031",
  "40414243",
  "5051525354555657",
  "606162636465666768696a6b6c6d6e6f",
].map((hex) => Buffer.from(hex, "hex"));
const ROOTS = [
  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
/** Inclusion proofs of that tree: index, size, hashes. */
const PATHS: readonly [index: number, size: number, path: readonly string[]][] = [
  [0, 1, []],
  [
    0,
    8,
    [
      "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
      "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
      "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
  ],
  [
    5,
    8,
    [
      "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
      "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
      "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
  ],
  [2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]],
];

const sha256 = (...parts: Buffer[]): Buffer => createHash("sha256").update(Buffer.concat(parts)).digest();

/** RFC 6962, 2.1, word for word. */
function plainRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0] as Buffer;
  const k = 2 ** Math.floor(Math.log2(leaves.length - 1));
  return sha256(Buffer.from([1]), plainRoot(leaves.slice(0, k)), plainRoot(leaves.slice(k)));
}

function plainPath(m: number, leaves: readonly Buffer[]): Buffer[] {
  if (leaves.length <= 1) return [];
  const k = 2 ** Math.floor(Math.log2(leaves.length - 1));
  return m < k
    ? [...plainPath(m, leaves.slice(0, k)), plainRoot(leaves.slice(k))]
    : [...plainPath(m - k, leaves.slice(k)), plainRoot(leaves.slice(0, k))];
}

function plainConsistency(m: number, leaves: readonly Buffer[], whole = true): Buffer[] {
  if (m === leaves.length) return whole ? [] : [plainRoot(leaves)];
  const k = 2 ** Math.floor(Math.log2(leaves.length - 1));
  return m <= k
    ? [...plainConsistency(m, leaves.slice(0, k), whole), plainRoot(leaves.slice(k))]
    : [...plainConsistency(m - k, leaves.slice(k), false), plainRoot(leaves.slice(0, k))];
}

const subtreesOf =
  (leaves: readonly Buffer[]): Subtrees =>
  (start, height) =>
    plainRoot(leaves.slice(start, start + 2 ** height));
const leavesOf = (count: number): Buffer[] =>
  Array.from({ length: count }, (_, at) => sha256(Buffer.from([0]), Buffer.from(`leaf ${at}`)));

test("roots and inclusion proofs are those of the known trees", async (t) => {
  const leaves = ENTRIES.map(leafHash);
  t.equal(EMPTY_ROOT.toString("hex"), ROOTS[0]);
  ROOTS.forEach((root, size) => {
    t.equal(treeRoot(size, subtreesOf(leaves.slice(0, size))).toString("hex"), root, `size ${size}`);
  });
  for (const [index, size, path] of PATHS) {
    const proof = inclusionProof(index, size, subtreesOf(leaves.slice(0, size)));
    t.same(
      proof.map((hash) => hash.toString("hex")),
      path,
      `${index} in ${size}`,
    );
    const root = Buffer.from(ROOTS[size] as string, "hex");
    t.ok(provesInclusion(leaves[index] as Buffer, index, size, proof, root));
  }
});

test("every proof in trees of up to 50 leaves is RFC 6962's, and proves what it is to prove", async (t) => {
  for (let size = 1; size <= 50; size++) {
    const leaves = leavesOf(size);
    const subtrees = subtreesOf(leaves);
    const root = plainRoot(leaves);
    for (let at = 0; at < size; at++) {
      const proof = inclusionProof(at, size, subtrees);
      if (!Buffer.concat(proof).equals(Buffer.concat(plainPath(at, leaves)))) t.fail(`inclusion ${at} of ${size}`);
      if (!provesInclusion(leaves[at] as Buffer, at, size, proof, root)) t.fail(`inclusion ${at} of ${size} holds`);
      const old = { size: at + 1, root: plainRoot(leaves.slice(0, at + 1)) };
      const consistency = consistencyProof(old.size, size, subtrees);
      if (!Buffer.concat(consistency).equals(Buffer.concat(plainConsistency(old.size, leaves))))
        t.fail(`consistency ${old.size} to ${size}`);
      if (!provesConsistency(old, { size, root }, consistency)) t.fail(`consistency ${old.size} to ${size} holds`);
    }
  }
  t.ok(provesConsistency({ size: 0, root: EMPTY_ROOT }, { size: 1, root: leafHash(Buffer.alloc(0)) }, []));
});

test("a proof with anything changed proves nothing", async (t) => {
  const trees = fc.integer({ min: 2, max: 600 }).chain((size) =>
    fc.record({
      size: fc.constant(size),
      index: fc.integer({ min: 0, max: size - 1 }),
      bit: fc.nat(),
      which: fc.nat(),
    }),
  );
  const property = fc.property(trees, ({ size, index, bit, which }) => {
    const leaves = leavesOf(size);
    const subtrees = subtreesOf(leaves);
    const root = plainRoot(leaves);
    const leaf = leaves[index] as Buffer;
    const proof = inclusionProof(index, size, subtrees);
    const damaged = flipped(proof, which, bit);
    const old = { size: index + 1, root: plainRoot(leaves.slice(0, index + 1)) };
    const now = { size, root };
    const consistency = consistencyProof(old.size, size, subtrees);
    return (
      !provesInclusion(leaf, index, size, damaged, root) &&
      !provesInclusion(flip(leaf, bit), index, size, proof, root) &&
      !provesInclusion(leaf, index, size, proof, flip(root, bit)) &&
      !provesInclusion(leaf, (index + 1) % size, size, proof, root) &&
      !provesInclusion(leaf, index, size, proof.slice(1), root) &&
      !provesInclusion(leaf, index, size, [...proof, leaf], root) &&
      !provesInclusion(leaf, size, size, proof, root) &&
      !provesConsistency({ ...old, root: flip(old.root, bit) }, now, consistency) &&
      !provesConsistency(old, { ...now, root: flip(root, bit) }, consistency) &&
      !provesConsistency(old, now, [...consistency, leaf]) &&
      (consistency.length === 0 || !provesConsistency(old, now, flipped(consistency, which, bit))) &&
      (consistency.length === 0 || !provesConsistency(old, now, consistency.slice(1))) &&
      !provesConsistency(now, { size: index, root: old.root }, consistency)
    );
  });
  t.doesNotThrow(() => fc.assert(property, { seed: SEED }));
});

function flip(hash: Buffer, bit: number): Buffer {
  const copy = Buffer.from(hash);
  const at = (bit >> 3) % copy.length;
  copy[at] = (copy[at] as number) ^ (1 << (bit & 7));
  return copy;
}

function flipped(proof: readonly Buffer[], which: number, bit: number): Buffer[] {
  return proof.map((hash, at) => (at === which % proof.length ? flip(hash, bit) : hash));
}

test("nodeHash hashes 0x01 and both of its hashes", async (t) => {
  const [left, right] = leavesOf(2) as [Buffer, Buffer];
  t.same(nodeHash(left, right), sha256(Buffer.from([1]), left, right));
});
