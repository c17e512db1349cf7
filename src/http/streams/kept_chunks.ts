import { Frame } from "./outlet.ts";
import type { Place } from "./subject.ts";

export interface Chunk {
  /** null: the messages of a large event, which are not kept. */
  readonly frame: Frame | null;
  /** The place where the chunk ends. */
  readonly to: Place;
}

/** The last chunks of a shared tail, numbered from its beginning on. */
export class KeptChunks {
  readonly #hold: (bytes: number) => void;
  #chunks: Chunk[] = [];
  #first = 0;
  #bytes = 0;

  /** `hold`: called with the number of bytes that are kept, and with a negative number when chunks are dropped. */
  constructor(hold: (bytes: number) => void) {
    this.#hold = hold;
  }

  /** The number of the first chunk that is kept; if none is, of the next chunk. */
  get first(): number {
    return this.#first;
  }

  /** The number of the next chunk. */
  get end(): number {
    return this.#first + this.#chunks.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** A chunk by its number; undefined: it is not kept. */
  at(number: number): Chunk | undefined {
    return this.#chunks[number - this.#first];
  }

  /** Adds a chunk. `text` null: it stands for a large event, whose messages are not kept. */
  add(text: string | null, to: Place): void {
    const frame = text === null ? null : new Frame(text);
    this.#chunks.push({ frame, to });
    this.#count(frame?.bytes.length ?? 0);
  }

  /** Drops the chunks before a number. */
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
