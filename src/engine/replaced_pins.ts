/**
 * Follows the pins of adopted maps. If such a pin comes to name another kernel map, the map follows that kernel map. If
 * its definition differs, or the old map cannot import, a new map takes the old one's place.
 */

import type { MapRecord } from "../maps/map.ts";
import type { AdoptAnswer, AdoptAsk } from "./adopt.ts";
import type { Drift } from "./drift.ts";
import type { MirrorNotes } from "./mirror_notes.ts";
import type { MirrorSources } from "./mirror_sources.ts";
import { mirrorFollow, SERVICE } from "./own_commands.ts";
import type { ForeignMap, Mirror } from "./ports.ts";
import type { Request } from "./request.ts";

export interface ReplacedPinsParts {
  readonly mirror: Mirror;
  readonly sources: MirrorSources;
  readonly drift: Drift;
  readonly notes: MirrorNotes;
  /** Runs the engine's own commands at once. Returns whether the log has them. */
  readonly run: (requests: readonly Request[]) => boolean;
  readonly adopt: (ask: AdoptAsk) => AdoptAnswer;
}

export class ReplacedPins {
  readonly #parts: ReplacedPinsParts;
  /** Maps whose pin names another kernel map that cannot be followed, with that kernel map's id. */
  readonly #unfollowed = new Map<number, number>();

  constructor(parts: ReplacedPinsParts) {
    this.#parts = parts;
  }

  /** Whether it is known that a map cannot follow this kernel map. */
  isUnfollowed(mapId: number, kernelId: number): boolean {
    return this.#unfollowed.get(mapId) === kernelId;
  }

  /**
   * Call when the pin of an adopted map names another kernel map. The map follows it, or a new map takes the same
   * pathname.
   */
  async follow(mapId: number, kernelId: number, pin: string): Promise<void> {
    const { mirror, sources, notes } = this.#parts;
    const why = await this.#follow(mapId, kernelId, pin);
    if (why === null) return;
    this.#unfollowed.set(mapId, kernelId);
    if (sources.map(mapId) !== undefined)
      mirror.lost(mapId, `${pin} names kernel map ${kernelId} now, which cannot be followed: ${why}`);
    notes.found([{ mapId, what: "not followed", path: pin, kernelId, detail: why }]);
  }

  /** Returns null, or the reason why it was not followed. */
  async #follow(mapId: number, kernelId: number, pin: string): Promise<string | null> {
    const { mirror, sources, drift, notes, run } = this.#parts;
    const before = sources.map(mapId);
    if (before === undefined) return null;
    const importable = mirror.cannotImport(before) === null;
    // The last elements of the old kernel map are imported before the map leaves it.
    if (importable && mirror.status(mapId).state !== "waiting") await drift.settle(mapId, "import", null, "replaced");
    const done = mirror.adopting<"followed" | { readonly errno: string; readonly detail: string } | "another shape">(
      { pinned: pin },
      (foreign) => {
        if (foreign.facts.id !== kernelId)
          return { errno: "EAGAIN", detail: "the pin names yet another kernel map by now" };
        if (!importable || !isAlike(before, foreign.facts)) return "another shape";
        const ran = run([mirrorFollow(mapId, kernelId, before.adopted ?? 0, pin)]);
        return ran ? "followed" : { errno: "EIO", detail: "the log did not take the event" };
      },
    );
    if (typeof done === "object") return "refused" in done ? done.refused.detail : done.detail;
    if (done === "another shape") return this.#adoptAnew(before, kernelId, pin);
    const map = sources.map(mapId);
    const source = sources.of(mapId);
    if (map === undefined || source === null) return null;
    notes.refused(mirror.follow(map));
    await drift.settle(mapId, "import", null, "followed");
    drift.settleOuter(mapId, sources.all());
    return null;
  }

  /** Adopts the kernel map at the pin as a new map, which takes the pathname of the old one. */
  #adoptAnew(before: MapRecord, kernelId: number, pin: string): string | null {
    const { sources, notes, adopt } = this.#parts;
    const pathname = sources.of(before.id)?.pathnames[0];
    if (pathname === undefined) return "it is pinned nowhere in the ledger, so that no other map can take its place";
    const detail = `${pin} names a kernel map of another definition: another map takes the place of map ${before.id} at ${pathname}`;
    notes.found([{ mapId: before.id, what: "pin names another definition", path: pin, kernelId, detail }]);
    const answer = adopt({
      which: { pinned: pin },
      pathname,
      replaces: pathname,
      caller: SERVICE.caller,
      drift: before.drift ?? null,
      onReplace: before.onReplace ?? "follow",
    });
    return "refused" in answer ? answer.refused.detail : "failure" in answer ? answer.detail : null;
  }
}

function isAlike(map: MapRecord, facts: ForeignMap["facts"]): boolean {
  return (
    map.type === facts.type &&
    map.keySize === facts.keySize &&
    map.valueSize === facts.valueSize &&
    map.maxEntries === facts.maxEntries &&
    map.mapFlags === facts.mapFlags &&
    map.name === facts.name &&
    map.mapExtra === facts.mapExtra &&
    map.frozen === facts.frozen
  );
}
