/** Proofs that an event is in the log: https://c2sp.org/tlog-proof, with the event's canonical bytes as extra data. */

import { HASH_BYTES, leafHash, provesInclusion } from "../tlog/merkle.ts";
import { type Checkpoint, noteParts, openNote, readBase64, readCheckpoint, type Verifier } from "../tlog/note.ts";
import { entryOf, readCanonical } from "./canonical.ts";
import type { EventRow } from "./event.ts";

const FIRST_LINE = "c2sp.org/tlog-proof@v1";
/** The longest inclusion proof: that of a tree with 2^53 leaves. */
const HASHES_MAX = 53;

export interface Proof {
  readonly canonical: Buffer;
  /** The event's index in the tree, from 0: its seq - 1. */
  readonly index: number;
  readonly hashes: readonly Buffer[];
  /** The signed note. */
  readonly checkpoint: string;
}

export function proofText({ canonical, index, hashes, checkpoint }: Proof): string {
  const lines = [FIRST_LINE, `extra ${canonical.toString("base64")}`, `index ${index}`];
  return `${[...lines, ...hashes.map((hash) => hash.toString("base64"))].join("\n")}\n\n${checkpoint}`;
}

export interface Proven {
  readonly event: EventRow;
  readonly checkpoint: Checkpoint;
}

/**
 * The event and checkpoint that a proof proves, or `wrong`: why it proves nothing. `verifier` null: signatures are not
 * checked. `fault`: a further check of the checkpoint's note by the caller; it returns the reason to refuse the note,
 * or null.
 */
export function readProof(
  text: string,
  verifier: Verifier | null,
  fault: (note: string) => string | null = () => null,
): Proven | { readonly wrong: string } {
  const proof = parse(text);
  if ("wrong" in proof) return proof;
  const { canonical, index, hashes } = proof;
  const note = verifier === null ? noteParts(proof.checkpoint) : openNote(proof.checkpoint, verifier);
  if ("wrong" in note) return { wrong: `its checkpoint: ${note.wrong}` };
  const wrong = fault(proof.checkpoint);
  if (wrong !== null) return { wrong: `its checkpoint: ${wrong}` };
  const checkpoint = readCheckpoint(note.text);
  if (checkpoint === null) return { wrong: "its checkpoint: the signed note is not a checkpoint" };
  if (verifier !== null && checkpoint.origin !== verifier.name)
    return { wrong: `its checkpoint is of ${checkpoint.origin}, the key of ${verifier.name}` };
  const event = readCanonical(canonical);
  if (event === null) return { wrong: "its extra data are not the canonical bytes of an event" };
  if (event.seq !== index + 1) return { wrong: `the proof is for index ${index}, its event has seq ${event.seq}` };
  if (!provesInclusion(leafHash(entryOf(canonical)), index, checkpoint.size, hashes, checkpoint.root))
    return { wrong: `event ${event.seq} with these contents is not in the tree of size ${checkpoint.size}` };
  return { event, checkpoint };
}

function parse(text: string): Proof | { readonly wrong: string } {
  const end = text.indexOf("\n\n");
  const [first, extra = "", indexLine = "", ...rest] = text.slice(0, Math.max(end, 0)).split("\n");
  if (end === -1 || first !== FIRST_LINE) return { wrong: `it does not begin with ${FIRST_LINE}` };
  const canonical = extra.startsWith("extra ") ? readBase64(extra.slice("extra ".length)) : null;
  if (canonical === null) return { wrong: "its second line must be `extra` and base64" };
  const [, index] = /^index (0|[1-9]\d{0,15})$/.exec(indexLine) ?? [];
  if (index === undefined) return { wrong: "its third line must be `index` and a number" };
  const hashes = rest.map(readBase64);
  if (rest.length > HASHES_MAX || !hashes.every((hash) => hash?.length === HASH_BYTES))
    return { wrong: "the lines of its inclusion proof must be hashes in base64" };
  return { canonical, index: Number(index), hashes: hashes as Buffer[], checkpoint: text.slice(end + 2) };
}
