/**
 * Takes kernel maps up, one by one: at a start before anything is served, beside commands if the mirror comes on later.
 * A kernel map is opened, or made if there is none, and then compared by the map's policy. If the kernel does not show
 * the elements of its type, the ledger's changes in the window (`windows.ts`) are made and nothing else.
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

/** How kernel maps are taken up: at once, where nothing is served before; piece by piece beside commands. */
export type Way = "at once" | "beside";

export class TakingUp {
  readonly #parts: TakingUpParts;
  #isUnderWay = false;
  /** Maps whose kernel map is being made, and until when. */
  readonly #makings = new Map<number, Promise<void>>();

  constructor(parts: TakingUpParts) {
    this.#parts = parts;
  }

  /** Whether all kernel maps are being taken up, or something else is done to them that nothing may be done beside. */
  get isUnderWay(): boolean {
    return this.#isUnderWay;
  }

  /** Nothing else is begun until `run` has ended. */
  async alone<Answer>(run: () => Promise<Answer>): Promise<Answer> {
    this.#isUnderWay = true;
    try {
      return await run();
    } finally {
      this.#isUnderWay = false;
    }
  }

  /** Takes all of them up: they have come to the log's end then. */
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
        // Before anything is pinned: another map may be pinned where a stale pin is.
        if (stale !== null) notes.refused(mirror.dropStale(stillGone(state, stale), stalePins(state, stale)));
        notes.refused(mirror.ensureDirectories([...state.bpffs.directories()]));
        const ids = innerFirst(sources.all()).map(({ map }) => map.id);
        for (const [done, id] of ids.entries()) {
          await this.one(id, way, at);
          if (mirror.off !== null) return;
          progress(done + 1, ids.length);
        }
        mirror.reached(log.lastSeq);
      } finally {
        lags.end();
      }
    });
  }

  /** Takes one of them up. Answers the differences; null: it was not compared. */
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
    // Its pins are there again before the past is asked, which may take a while.
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

  /** What is done about drift now: what the kernel cannot tell enough of to be imported is reported. */
  policyOf(map: MapRecord): ReturnType<typeof policyOf> {
    const policy = policyOf(map);
    return policy === "import" && this.#parts.mirror.cannotImport(map) !== null ? "report" : policy;
  }

  /** One that is being made is taken up when it has been: until then nobody need be told. */
  stand(id: number): void {
    const { mirror, notes } = this.#parts;
    const making = mirror.making(id);
    if (making === null) notes.say(id);
    else if (!this.#makings.has(id)) {
      const takenUp = making
        .then(() => {
          this.#makings.delete(id);
          // While it is off nothing is written; whatever turns it on takes all maps up.
          return mirror.off === null ? this.one(id, "beside", "making") : null;
        })
        .then(
          () => {},
          (error) => notes.failed("taking up a kernel map that was made", error),
        );
      this.#makings.set(id, takenUp);
    }
  }

  /** Until when a map's kernel map is being made and filled; null: it is not. */
  making(id: number): Promise<void> | null {
    return this.#makings.get(id) ?? null;
  }
}

/** Maps of maps need the kernel maps of the maps that they hold. */
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

/** Every element of a map that was born while its kernel map did not follow came since. */
function bornOf(source: MirrorSource): { key: Buffer; before: null }[] {
  return [...source.elements()].map(({ key }) => ({ key, before: null }));
}
