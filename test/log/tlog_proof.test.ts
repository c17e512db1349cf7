import { generateKeyPairSync } from "node:crypto";
import { test } from "tap";
import { CanonicalWriter, entryOf, rowBytes } from "../../src/log/canonical.ts";
import type { EventRow } from "../../src/log/event.ts";
import { proofText, readProof } from "../../src/log/tlog_proof.ts";
import { fullRoot, inclusionProof, leafHash, treeRoot } from "../../src/tlog/merkle.ts";
import { checkpointText, type Signer, signerOf, signNote } from "../../src/tlog/note.ts";

const signer = signerOf("mapledger/x", generateKeyPairSync("ed25519").privateKey);
const other = signerOf("mapledger/y", generateKeyPairSync("ed25519").privateKey);
const row = (seq: number): EventRow => ({
  seq,
  time_us: seq,
  session: 0,
  caller: "a",
  cmd: 1,
  map: 0,
  fd: null,
  key: null,
  value: Buffer.from([seq]),
  flags: 0n,
  ret: 0,
  errno: 0,
  detail: null,
  attr: null,
  out: null,
});
const canonical = Array.from({ length: 5 }, (_, at) => new CanonicalWriter().bytes(rowBytes(row(at + 1))));
const leaves = Buffer.concat(canonical.map((bytes) => leafHash(entryOf(bytes))));
const subtrees = (start: number, height: number): Buffer =>
  fullRoot(leaves.subarray(start * 32, (start + 2 ** height) * 32));
const root = treeRoot(5, subtrees);

function proof(index: number, changes: { canonical?: Buffer; signer?: Signer; origin?: string } = {}): string {
  const text = checkpointText({ origin: changes.origin ?? "mapledger/x", size: 5, root });
  return proofText({
    canonical: changes.canonical ?? (canonical[index] as Buffer),
    index,
    hashes: inclusionProof(index, 5, subtrees),
    checkpoint: signNote(text, changes.signer ?? signer),
  });
}

test("a proof of every event is read, and tells of the event", async (t) => {
  for (let index = 0; index < 5; index++)
    t.same(readProof(proof(index), signer), {
      event: row(index + 1),
      checkpoint: { origin: "mapledger/x", size: 5, root },
    });
});

test("a proof has the lines of tlog-proof", async (t) => {
  const lines = proof(4).split("\n");
  t.equal(lines[0], "c2sp.org/tlog-proof@v1");
  t.match(lines[1], /^extra [A-Za-z0-9+/=]+$/);
  t.equal(lines[2], "index 4");
  t.equal(lines[3], fullRoot(leaves.subarray(0, 128)).toString("base64"));
  t.same(lines.slice(4, 7), ["", "mapledger/x", "5"]);
});

test("readProof says why a proof proves nothing", async (t) => {
  const good = proof(2);
  const forged = Buffer.from(canonical[2] as Buffer);
  forged[forged.length - 1] = 99;
  const rows: readonly [text: string, wrong: RegExp][] = [
    [proof(2, { canonical: forged }), /^event 3 with these contents is not in the tree of size 5$/],
    [proof(2, { canonical: canonical[3] as Buffer }), /^the proof is for index 2, its event has seq 4$/],
    [proof(2, { canonical: Buffer.from("x") }), /^its extra data are not the canonical bytes/],
    [good.replace("index 2", "index 3"), /^the proof is for index 3, its event has seq 3$/],
    [good.replace("index 2", "index 02"), /^its third line/],
    [good.replace("extra ", "extra"), /^its second line/],
    [good.replace("@v1", "@v2"), /^it does not begin with/],
    [good.replace(/index 2\n.*\n/, "index 2\n"), /is not in the tree/],
    [good.replace(/index 2\n.*\n/, "index 2\nAAAA\n"), /^the lines of its inclusion proof/],
    [good.replace("\n5\n", "\n6\n"), /^its checkpoint: the signature of mapledger\/x does not hold$/],
    [proof(2, { signer: other }), /^its checkpoint: not signed by mapledger\/x\+/],
    [proof(2, { origin: "mapledger/z" }), /^its checkpoint is of mapledger\/z, the key of mapledger\/x$/],
    [
      proofText({ canonical: canonical[0] as Buffer, index: 0, hashes: [], checkpoint: signNote("x\n", signer) }),
      /not a checkpoint$/,
    ],
    ["", /^it does not begin with/],
  ];
  for (const [text, wrong] of rows) t.match(readProof(text, signer), { wrong });
});
