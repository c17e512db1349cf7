/**
 * The witnesses' cosignatures of checkpoints. `service/witnesses.ts` collects them; each is verified before it is kept
 * in `tree.sqlite`.
 */

import { cosignaturesIn, countWitnesses, type WitnessKey } from "../tlog/cosignature.ts";
import { signatureLine } from "../tlog/note.ts";
import type { KeptCheckpoint, KeptCosignature, TreeStore } from "./ports.ts";

/** The key of a cosignature. */
type Key = Pick<KeptCosignature, "name" | "keyId">;

/** The checkpoints that the known witnesses have cosigned. */
export class Cosigned {
  readonly #store: TreeStore;
  readonly #witnesses: readonly WitnessKey[];
  /** Element n is the newest size with n cosignatures; null until it is first needed. */
  #newest: number[] | null = null;

  constructor(store: TreeStore, witnesses: readonly WitnessKey[]) {
    this.#store = store;
    this.#witnesses = witnesses;
  }

  /** The number of known witnesses; one with several keys counts once. */
  get count(): number {
    return countWitnesses(this.#witnesses);
  }

  /** The size of the newest checkpoint that `count` witnesses have cosigned; 0 if there is none. */
  newest(count: number): number {
    this.#newest ??= this.#read();
    return this.#newest[count] ?? 0;
  }

  /** The size of the newest checkpoint that a key has cosigned; 0 if there is none. */
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

  /** Keeps the lines that are cosignatures of known witnesses with a time. Returns their verifier keys. */
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
