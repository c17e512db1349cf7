import { Frame } from "./outlet.ts";
import type { Place } from "./subject.ts";

export interface Chunk {
  /** null: the messages of a large event, which are not kept. */
  readonly frame: Frame | null;
  /** The place behind it. */
  readonly to: Place;
}

/** The last chunks of a shared tail, numbered from its beginning on. */
export class KeptChunks {
  readonly #hold: (bytes: number) => void;
  #chunks: Chunk[] = [];
  #first = 0;
  #bytes = 0;

  /** `hold`: told of bytes that are kept; of less than 0 where they are not any more. */
  constructor(hold: (bytes: number) => void) {
    this.#hold = hold;
  }

  /** The number of the first that is kept; without one, of the next. */
  get first(): number {
    return this.#first;
  }

  /** The number of the next. */
  get end(): number {
    return this.#first + this.#chunks.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** undefined: it is not kept. */
  at(number: number): Chunk | undefined {
    return this.#chunks[number - this.#first];
  }

  /** `text` null: of a large event. */
  add(text: string | null, to: Place): void {
    const frame = text === null ? null : new Frame(text);
    this.#chunks.push({ frame, to });
    this.#count(frame?.bytes.length ?? 0);
  }

  /** Drops those in front of a number. */
  drop(before: number): void {
    const dropped = this.#chunks.splice(0, Math.max(before - this.#first, 0));
    this.#first += dropped.length;
    for (const { frame } of dropped) this.#count(-(frame?.bytes.length ?? 0));
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    this.#hold(bytes);
  }
}
