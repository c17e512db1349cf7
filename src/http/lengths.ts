import type { MapReference } from "../engine/queries.ts";
import type { EngineDoor } from "./parts.ts";
import { Problem } from "./problems.ts";
import type { Origin } from "./views.ts";

interface Sizes {
  readonly keySize: number;
  readonly valueSize: number;
}

/** Sizes of maps by id: an id is never used again, and a map's sizes never change. */
const KNOWN_MAX = 10_000;

/**
 * The kernel reads as many bytes as a map's keys have and does not look beyond; whoever sends a key in a URL or in a list
 * has miscounted. This finds such requests out before they run; the engine is to do it in the command itself, where
 * nothing can come between.
 */
export class Lengths {
  readonly #engine: EngineDoor;
  readonly #known = new Map<number, Sizes>();

  constructor(engine: EngineDoor) {
    this.#engine = engine;
  }

  /** A key and a value that are longer than the map's. Those that are shorter, the kernel's own rule refuses. */
  async checkElement(origin: Origin, key: Buffer | null, value: Buffer | null): Promise<void> {
    const sizes = await this.#sizes(origin);
    if (sizes === null) return;
    if (key !== null && key.length > sizes.keySize) throw mismatch("key", key.length, sizes.keySize);
    if (value !== null && value.length > sizes.valueSize) throw mismatch("value", value.length, sizes.valueSize);
  }

  /** Keys and values of a batch lie end to end: each must have the map's length exactly. */
  async checkBatch(origin: Origin, count: number, keys: Buffer, values: Buffer | null): Promise<void> {
    const sizes = count === 0 ? null : await this.#sizes(origin);
    if (sizes === null) return;
    if (keys.length !== count * sizes.keySize) throw mismatch("key", keys.length / count, sizes.keySize);
    if (values !== null && values.length !== count * sizes.valueSize)
      throw mismatch("value", values.length / count, sizes.valueSize);
  }

  /** null where there is no map: the command will say so. */
  async #sizes({ session, target }: Origin): Promise<Sizes | null> {
    switch (target.by) {
      case "id":
        return this.#known.get(target.id) ?? this.#ask({ id: target.id });
      case "name":
        return this.#ask({ name: target.name });
      case "pinned":
        return this.#ask({ pinned: target.pathname });
      case "fd": {
        const fds = await this.#engine.query("fds", { session });
        const map = typeof fds === "string" ? undefined : fds.find(({ fd }) => fd === target.fd)?.map;
        return map === undefined || map === 0 ? null : (this.#known.get(map) ?? this.#ask({ id: map }));
      }
    }
  }

  async #ask(reference: MapReference): Promise<Sizes | null> {
    const map = await this.#engine.query("map", { reference });
    if (map === null || "ambiguous" in map) return null;
    if (this.#known.size === KNOWN_MAX) this.#known.clear();
    this.#known.set(map.id, map);
    return map;
  }
}

function mismatch(what: "key" | "value", found: number, size: number): Problem {
  const detail = `${what} has ${found} bytes: this map's ${what}s have ${size}`;
  return new Problem("EINVAL", detail, { errno: "EINVAL", where: what });
}
