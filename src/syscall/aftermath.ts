import type { Deferral } from "./deferral.ts";
import type { Out } from "./outcome.ts";

/** The part of an event's `out` that names maps and elements that its command does not name. */
type AftermathOut = Pick<Out, "freed" | "gone" | "deferred">;

/** Collects the maps that a command frees and the elements that go with them, for its event. */
export class Aftermath {
  readonly #deferral: Pick<Deferral, "take" | "forget">;
  #freed: number[] = [];
  #gone: [map: number, key: string][] = [];

  /** `deferral`: the work that is done later, by events of its own. */
  constructor(deferral: Pick<Deferral, "take" | "forget">) {
    this.#deferral = deferral;
  }

  freed(map: number): void {
    this.#freed.push(map);
  }

  gone(map: number, key: Buffer): void {
    this.#gone.push([map, key.toString("hex")]);
  }

  /** The maps and elements that went since the last call, and the deferred work; null: none. */
  take(): AftermathOut | null {
    const deferred = this.#deferral.take();
    const freed = this.#freed;
    const gone = this.#gone;
    if (deferred === null && freed.length === 0 && gone.length === 0) return null;
    this.#freed = [];
    this.#gone = [];
    return { ...(freed.length > 0 && { freed }), ...(gone.length > 0 && { gone }), ...(deferred && { deferred }) };
  }

  /** The cells have gone back to an earlier state. */
  forget(): void {
    this.#deferral.forget();
    this.#freed = [];
    this.#gone = [];
  }
}
