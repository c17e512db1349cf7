/**
 * Takes kernel maps up, one by one: at a start before anything is served, beside commands if the mirror comes on later.
 * A kernel map is opened, or made if there is none, and then compared by the map's policy. If the kernel does not show
 * the elements of its type, only the elements in its window (`windows.ts`) are written.
 */

import { isOfMaps } from "../maps/facts.ts";
import type { MapRecord } from "../maps/map.ts";
import type { State } from "../syscall/state.ts";
import type { DriftAnswer } from "./comparisons.ts";
import { type Drift, policyOf } from "./drift.ts";
import type { Lags } from "./lags.ts";
import type { MirrorNotes } from "./mirror_notes.ts";
import type { MirrorSources } from "./mirror_sources.ts";
import type { LogEnd, Mirror, MirrorSource } from "./ports.ts";
import type { Stale, Window } from "./windows.ts";

export interface TakingUpParts {
  readonly mirror: Mirror;
  readonly state: State;
  readonly sources: MirrorSources;
  readonly drift: Drift;
  readonly notes: MirrorNotes;
  readonly lags: Lags;
}

/** "at once": before anything is served, each comparison in one go. "beside": in pieces, beside commands. */
export type Way = "at once" | "beside";

export class TakingUp {
  readonly #parts: TakingUpParts;
  #isUnderWay = false;
  /** By map: resolves when its kernel map has been made and taken up. */
  readonly #makings = new Map<number, Promise<void>>();

  constructor(parts: TakingUpParts) {
    this.#parts = parts;
  }

  /**
   * Whether work on kernel maps is under way that tolerates no other work on them: all are taken up, or a pin is
   * followed.
   */
  get isUnderWay(): boolean {
    return this.#isUnderWay;
  }

  /** Sets isUnderWay until `run` has ended. */
  async alone<Answer>(run: () => Promise<Answer>): Promise<Answer> {
    this.#isUnderWay = true;
    try {
      return await run();
    } finally {
      this.#isUnderWay = false;
    }
  }

  /**
   * Takes all kernel maps up, which then have reached the log's end; stops if the mirror goes off. Beside commands, a map
   * whose comparison fails is reported and passed over: a resync or the next start takes it up.
   */
  all(
    way: Way,
    at: string,
    log: Pick<LogEnd, "lastSeq">,
    progress: (done: number, total: number) => void,
  ): Promise<void> {
    return this.alone(async () => {
      const { mirror, sources, state, notes, lags } = this.#parts;
      try {
        if (way === "beside") mirror.takeUpObjects(state.objects.all());
        const stale = await lags.stale();
        // This comes before anything is pinned, because another map may belong where a stale pin is.
        if (stale !== null) notes.refused(mirror.dropStale(stillGone(state, stale), stalePins(state, stale)));
        notes.refused(mirror.ensureDirectories([...state.bpffs.directories()]));
        const ids = innerFirst(sources.all()).map(({ map }) => map.id);
        let areAll = true;
        for (const [done, id] of ids.entries()) {
          try {
            await this.one(id, way, at);
          } catch (error) {
            if (way === "at once") throw error;
            areAll = false;
            notes.failed(`taking up the kernel map of map ${id}`, error);
          }
          if (mirror.off !== null) return;
          progress(done + 1, ids.length);
        }
        if (areAll) mirror.reached(log.lastSeq);
      } finally {
        lags.end();
      }
    });
  }

  /** Takes one kernel map up. Resolves to the differences; null: it was not compared. */
  async one(id: number, way: Way, at: string): Promise<DriftAnswer | null> {
    const { mirror, sources, notes, lags } = this.#parts;
    const found = sources.of(id);
    if (found === null) return null;
    const { opening, refusals } = mirror.open(found);
    notes.refused(refusals);
    if (opening === "none") {
      this.stand(id);
      return null;
    }
    // mirror.open() has made the pins already, because asking the past may take a while.
    const since = opening === "made" ? null : await lags.of(id);
    const source = sources.of(id);
    if (source === null) return null;
    const { compared } = mirror.traits(source.map);
    const window = since === null || since === "born" ? since : mirror.lacks(source.map, since);
    let differed: DriftAnswer | null = null;
    if (opening === "made") mirror.takenUp(id, compared ? "yes" : "unknown");
    else if (opening === "found" && compared) differed = await this.#settle(source.map, way, window, at);
    else if (opening === "found") {
      notes.refused(mirror.catchUp(source, window === "born" ? bornOf(source) : window));
      mirror.takenUp(id, "unknown");
    }
    notes.say(id);
    return differed;
  }

  async #settle(map: MapRecord, way: Way, window: Window, at: string): Promise<DriftAnswer> {
    const { drift } = this.#parts;
    const policy = this.policyOf(map);
    return way === "beside" ? drift.settle(map.id, policy, window, at) : drift.settleNow(map.id, policy, window, at);
  }

  /** The policy of a map. `import` becomes `report` if the map cannot import. */
  policyOf(map: MapRecord): ReturnType<typeof policyOf> {
    const policy = policyOf(map);
    return policy === "import" && this.#parts.mirror.cannotImport(map) !== null ? "report" : policy;
  }

  /**
   * Call with a map that was created, or whose kernel map could not be opened. If the kernel map is being made, takes
   * it up afterwards; otherwise informs operators if it does not follow.
   */
  stand(id: number): void {
    const { mirror, notes } = this.#parts;
    const making = mirror.making(id);
    if (making === null) notes.say(id);
    else if (!this.#makings.has(id)) {
      const takenUp = making
        .then(() => {
          this.#makings.delete(id);
          // Nothing is written while the mirror is off. When it comes on, all maps are taken up.
          return mirror.off === null ? this.one(id, "beside", "making") : null;
        })
        .then(
          () => {},
          (error) => notes.failed("taking up a kernel map that was made", error),
        );
      this.#makings.set(id, takenUp);
    }
  }

  /** Resolves when a map's kernel map has been made and filled; null: none is being made. */
  making(id: number): Promise<void> | null {
    return this.#makings.get(id) ?? null;
  }
}

/** Maps of maps come last, because they need the kernel maps of the maps that they contain. */
function innerFirst(sources: Iterable<MirrorSource>): MirrorSource[] {
  const all = [...sources];
  const isOuter = ({ map }: MirrorSource): boolean => isOfMaps(map.type);
  return [...all.filter((source) => !isOuter(source)), ...all.filter(isOuter)];
}

function stillGone(state: State, { maps }: Stale): ReadonlySet<number> {
  return new Set([...maps].filter((map) => state.map(map) === undefined));
}

function stalePins(state: State, { pins }: Stale): Stale["pins"] {
  return pins.filter(({ pathname, map }) => state.bpffs.pinAt(pathname) !== map);
}

/** The window of a map that was born: all its elements. */
function bornOf(source: MirrorSource): { key: Buffer; before: null }[] {
  return [...source.elements()].map(({ key }) => ({ key, before: null }));
}
