/**
 * Stands in for the engine in a read-only service (`service/read_only.ts`). The past answers the commands that read and
 * all questions, as of the log's last event; `READ_ONLY` in `server/route_scopes.ts` refuses all other operations.
 */

import { covers, type MapLimits } from "../../access/map_limits.ts";
import type { MapScope } from "../../access/scopes.ts";
import type { Queries, QueryName } from "../../engine/queries.ts";
import type { Reply, Request } from "../../engine/request.ts";
import type { MapView } from "../../engine/views.ts";
import type { EngineDoor, PastDoor } from "../server/ports.ts";

/** The pins that one read returns. */
const PAGE = 1000;

export class ReadOnlyEngine implements EngineDoor {
  readonly waiting = 0;
  readonly seq: number;
  readonly #past: PastDoor;
  readonly #limits: () => readonly MapLimits[];

  /** `limits`: those of callers whose scopes have globs. */
  constructor(past: PastDoor, seq: number, limits: () => readonly MapLimits[]) {
    this.#past = past;
    this.seq = seq;
    this.#limits = limits;
  }

  onGrowth(): () => void {
    return () => {};
  }

  /** Returns the outcome that the command would have. Only commands that read come here. */
  async run(request: Request): Promise<Reply> {
    const { seq, answer } = await this.#past.run({ seq: this.seq }, request);
    return { seq, outcome: answer };
  }

  async query<Name extends QueryName>(name: Name, ask: Queries[Name]["ask"]): Promise<Queries[Name]["answer"]> {
    const answer = ReadOnlyEngine.#QUERIES[name];
    if (answer === undefined) throw new Error(`the read-only engine has no answer to the question ${name}`);
    return answer(this, ask);
  }

  static readonly #QUERIES: {
    readonly [Name in QueryName]?: (
      engine: ReadOnlyEngine,
      ask: Queries[Name]["ask"],
    ) => Queries[Name]["answer"] | Promise<Queries[Name]["answer"]>;
  } = {
    covered: (engine, ask) => engine.#covered(ask),
    peers: (engine, ask) => engine.#peers(ask),
    // The engine keeps no moments: the past has all of them.
    elements: () => null,
    elementsRead: () => null,
    stats: ({ seq }) => STATS(seq),
  };

  async #covered({ limits: id, scope, maps }: Queries["covered"]["ask"]): Promise<(boolean | null)[]> {
    const limits = this.#limits().find((one) => one.id === id);
    return Promise.all(maps.map((map) => this.#isCovered(map, limits, scope)));
  }

  async #isCovered(id: number, limits: MapLimits | undefined, scope: MapScope): Promise<boolean | null> {
    const { answer } = await this.#past.query({ seq: this.seq }, "map", { reference: { id } });
    if (answer === null || !("name" in answer)) return null;
    return covers(limits?.[scope] ?? [], { name: answer.name, pins: await this.#pinsOf(answer) });
  }

  /** All pins of a map. The view has only the first of them. */
  async #pinsOf({ id, pins, pinned }: MapView): Promise<readonly string[]> {
    if (pins <= pinned.length) return pinned;
    const all: string[] = [];
    for (let after = ""; ; ) {
      const { answer } = await this.#past.query({ seq: this.seq }, "pins", { after, limit: PAGE });
      for (const { map, pathname } of answer) if (map === id) all.push(pathname);
      if (answer.length < PAGE) return all;
      after = answer.at(-1)?.pathname ?? "";
    }
  }

  #peers({ sessions }: Queries["peers"]["ask"]): Promise<(string | null | undefined)[]> {
    return Promise.all(
      sessions.map(async (id) => {
        const { answer } = await this.#past.query({ seq: this.seq }, "session", { id });
        return typeof answer === "string" ? undefined : (answer.peer ?? null);
      }),
    );
  }
}

const NO_MAPS = { on: 0, off: 0, failed: 0, lost: 0, waiting: 0, unequal: 0 };

const STATS = (seq: number): Queries["stats"]["answer"] => ({
  callers: [],
  commands: [],
  seq,
  stateSeq: seq,
  pendingCells: 0,
  sessions: 0,
  mirrorOff: "the service is read-only",
  mirrorRefusals: 0,
  driftFound: 0,
  mirrorMaps: NO_MAPS,
  mapCount: 0,
  maps: [],
});
