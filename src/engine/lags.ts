/**
 * Finds the windows of kernel maps (`windows.ts`). The recovery has noted those of maps that lag a little; for the
 * others the past is asked (`asked_past.ts`).
 */

import type { State } from "../syscall/state.ts";
import type { LogEnd, Mirror } from "./ports.ts";
import type { PastOfMaps, Stale, Window, Windows } from "./windows.ts";

export interface LagsParts {
  readonly mirror: Pick<Mirror, "carried" | "place">;
  readonly state: Pick<State, "map">;
  readonly log: Pick<LogEnd, "lastSeq">;
  readonly past: PastOfMaps;
  readonly report: (message: string, error: unknown) => void;
}

export class Lags {
  readonly #parts: LagsParts;
  /** The windows that the recovery has noted; null: it has noted none, or all kernel maps were taken up since. */
  #windows: Windows | null = null;

  constructor(parts: LagsParts) {
    this.#parts = parts;
  }

  begin(windows: Windows): void {
    this.#windows = windows;
  }

  /** Call when all kernel maps have been taken up. */
  end(): void {
    this.#windows = null;
  }

  /** The window of a map. */
  async of(map: number): Promise<Window> {
    const { mirror, past, log } = this.#parts;
    const known = this.#windows?.of(map);
    if (known !== undefined && (known === null || known === "born" || !("since" in known))) return known;
    const place = mirror.place(map);
    if (place === null) return null;
    if (place >= log.lastSeq) return [];
    return this.#asked(past.since(map, place));
  }

  /** Maps and pins that the state no longer has, and that the mirror may have pinned still; null: unknown. */
  async stale(): Promise<Stale | null> {
    const { mirror, past, state, log } = this.#parts;
    const known = this.#windows?.stale ?? null;
    const { carried } = mirror;
    if (known !== null || carried === null) return known;
    if (carried >= log.lastSeq) return { maps: new Set(), pins: [] };
    const stood = await this.#asked(past.stood(carried));
    if (stood === null) return null;
    return { maps: new Set(stood.maps.filter((map) => state.map(map) === undefined)), pins: stood.pins };
  }

  async #asked<Answer>(answer: Promise<Answer | null>): Promise<Answer | null> {
    try {
      return await answer;
    } catch (error) {
      this.#parts.report(
        "asking the past what kernel maps lack: all differences of theirs count as changes of others",
        error,
      );
      return null;
    }
  }
}
