/**
 * The witnesses' cosignatures of checkpoints. `service/witnesses.ts` collects them; each is verified before it is kept
 * in `tree.sqlite`.
 */

import { cosignaturesIn, countWitnesses, type WitnessKey } from "../tlog/cosignature.ts";
import { signatureLine } from "../tlog/note.ts";
import type { KeptCheckpoint, KeptCosignature, TreeStore } from "./ports.ts";

/** A key among those of the witnesses that are known. */
type Key = Pick<KeptCosignature, "name" | "keyId">;

/** Which checkpoints the known witnesses have cosigned. */
export class Cosigned {
  readonly #store: TreeStore;
  readonly #witnesses: readonly WitnessKey[];
  /** At n, the newest size that n witnesses have cosigned; null: nobody has asked yet. */
  #newest: number[] | null = null;

  constructor(store: TreeStore, witnesses: readonly WitnessKey[]) {
    this.#store = store;
    this.#witnesses = witnesses;
  }

  /** Witnesses that are known: one that has several keys is one. */
  get count(): number {
    return countWitnesses(this.#witnesses);
  }

  /** Size of the newest checkpoint that so many witnesses have cosigned; 0: there is none. */
  newest(count: number): number {
    this.#newest ??= this.#read();
    return this.#newest[count] ?? 0;
  }

  /** Size of the newest checkpoint that a key has cosigned; 0: there is none. */
  newestOf(key: Key): number {
    for (const one of this.#store.cosigners()) if (isSame(one, key)) return one.size;
    return 0;
  }

  /** A checkpoint's note with the cosignatures of known witnesses. */
  noteOf({ size, note }: KeptCheckpoint): string {
    const lines = this.#store
      .cosignatures(size)
      .filter((one) => this.#isKnown(one))
      .map(({ name, bytes }) => signatureLine(name, bytes));
    return note + lines.join("");
  }

  /** Keeps those of the lines that are cosignatures of known witnesses, at a time; answers the verifier keys of these. */
  add({ size, note }: KeptCheckpoint, lines: string): string[] {
    const found = cosignaturesIn(note + lines, this.#witnesses).filter(({ time }) => time > 0n);
    if (found.length === 0) return [];
    this.#store.keepCosignatures(
      found.map(({ witness, bytes }) => ({ size, name: witness.name, keyId: witness.id.toString("hex"), bytes })),
    );
    this.#note(size, this.#store.cosignatures(size));
    return found.map(({ witness }) => witness.vkey);
  }

  #read(): number[] {
    this.#newest = [];
    let at: Key[] = [];
    let size = -1;
    for (const one of this.#store.cosigners()) {
      if (one.size !== size) {
        this.#note(size, at);
        if (this.#newest.length > this.count) break;
        at = [];
        size = one.size;
      }
      at.push(one);
    }
    this.#note(size, at);
    return this.#newest;
  }

  #note(size: number, keys: readonly Key[]): void {
    const count = countWitnesses(keys.filter((key) => this.#isKnown(key)));
    for (let each = 1; this.#newest !== null && each <= count; each++)
      this.#newest[each] = Math.max(this.#newest[each] ?? 0, size);
  }

  #isKnown(key: Key): boolean {
    return this.#witnesses.some(({ name, id }) => isSame({ name, keyId: id.toString("hex") }, key));
  }
}

function isSame(one: Key, other: Key): boolean {
  return one.name === other.name && one.keyId === other.keyId;
}
