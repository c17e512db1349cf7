import { generateKeyPairSync } from "node:crypto";
import { addCheckpointBody } from "../../src/tlog/add_checkpoint.ts";
import { consistencyProof, fullRoot, leafHash, type Subtrees, treeRoot } from "../../src/tlog/merkle.ts";
import { type Checkpoint, checkpointText, type Signer, signerOf, signNote } from "../../src/tlog/note.ts";

/** A log without a service: leaves, and what a witness is sent of them. */
export class SignedLog {
  readonly signer: Signer;
  readonly #leaves: Buffer[];
  readonly #subtrees: Subtrees = (start, height) =>
    fullRoot(Buffer.concat(this.#leaves.slice(start, start + 2 ** height)));

  /** `seed`: logs of other seeds have other leaves. */
  constructor(origin: string, seed = "a", leaves = 100) {
    this.signer = signerOf(origin, generateKeyPairSync("ed25519").privateKey);
    this.#leaves = Array.from({ length: leaves }, (_, at) => leafHash(Buffer.from(`${seed} ${at}`)));
  }

  head(size: number): Checkpoint {
    return { origin: this.signer.name, size, root: treeRoot(size, this.#subtrees) };
  }

  note(size: number, ...signers: Signer[]): string {
    return signNote(checkpointText(this.head(size)), ...(signers.length === 0 ? [this.signer] : signers));
  }

  proof(old: number, size: number): Buffer[] {
    return old === 0 ? [] : consistencyProof(old, size, this.#subtrees);
  }

  body(old: number, size: number, note = this.note(size)): string {
    return addCheckpointBody({ old, proof: this.proof(old, size), note });
  }
}
