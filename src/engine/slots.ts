/**
 * Small numbers in place of ids, for facts about very many things: they are then in typed arrays, which take a tenth of
 * the memory of objects. A number is given again when its id has gone.
 */
export class Slots {
  readonly #slots = new Map<number, number>();
  readonly #free: number[] = [];
  #ids = new Float64Array(16);
  #end = 0;

  get size(): number {
    return this.#slots.size;
  }

  of(id: number): number | undefined {
    return this.#slots.get(id);
  }

  idOf(slot: number): number {
    return this.#ids[slot] as number;
  }

  /** Gives a slot to an id that has none. */
  take(id: number): number {
    const slot = this.#free.pop() ?? this.#end++;
    this.#ids = grown(this.#ids, this.#end);
    this.#ids[slot] = id;
    this.#slots.set(id, slot);
    return slot;
  }

  give(id: number): void {
    const slot = this.#slots.get(id);
    if (slot === undefined) return;
    this.#slots.delete(id);
    this.#free.push(slot);
  }
}

type Numbers = Float64Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/** The numbers, in an array with room for `count`: the same one, or one twice as long. */
export function grown<Kind extends Numbers>(numbers: Kind, count: number): Kind {
  if (count <= numbers.length) return numbers;
  const longer = new (numbers.constructor as new (length: number) => Kind)(Math.max(count, 2 * numbers.length));
  longer.set(numbers);
  return longer;
}
