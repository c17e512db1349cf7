import { isDeepStrictEqual } from "node:util";
import * as fc from "fast-check";
import t from "tap";
import { Differential } from "../../conformance/differential.ts";
import { HOST, Service } from "../../conformance/service.ts";
import { STREAM_TYPES } from "../../conformance/shapes.ts";
import { type Step, streams } from "../../conformance/stream.ts";
import { CMD } from "../../src/abi/service.ts";
import { IGNORE } from "../../src/engine/followers.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { type Event, eventRow } from "../../src/log/event.ts";
import { effectsIn, touchedMaps } from "../../src/log/event_subjects.ts";
import type { MapRecord } from "../../src/maps/map.ts";
import { effectsOn } from "../../src/syscall/effects.ts";
import { elementsOf } from "../../src/syscall/elements.ts";
import { redo } from "../../src/syscall/execute.ts";
import { OPERATOR, OpenMap } from "../../src/syscall/open_map.ts";
import { State } from "../../src/syscall/state.ts";
import { SEED } from "../support/seed.ts";

const STREAMS_EACH = 25;
/** Pages of larger maps are not compared after each event. */
const ENTRIES_MAX = 300;

type Elements = Map<string, string>;

/** What the page of a map's elements shows. */
function page(state: State, record: MapRecord): Elements {
  const map = new OpenMap(state, record, OPERATOR);
  return new Map([...elementsOf(map, null)].map(({ key, value }) => [key.toString("hex"), value.toString("hex")]));
}

/** Watches every map of a log from its birth on. Throws where what the events tell is not what the pages show. */
class Watcher {
  readonly #state = new State(new MemoryCells(), HOST, IGNORE);
  readonly #maps = new Map<number, Elements>();
  /** Elements that came or went. */
  effects = 0;

  see(event: Event): void {
    redo(this.#state, event.command, event.outcome);
    for (const [id, elements] of this.#maps) this.#apply(id, elements, event);
    for (const [, record] of this.#state.maps.from(""))
      if (!this.#maps.has(record.id)) this.#maps.set(record.id, page(this.#state, record));
  }

  #apply(id: number, elements: Elements, event: Event): void {
    const { command, outcome } = event;
    const record = this.#state.map(id);
    const isFreed = outcome.out?.freed?.includes(id) === true;
    if ((record === undefined) !== isFreed) throw new Error(`map ${id} is gone, or said to be`);
    if (record === undefined) {
      this.#maps.delete(id);
      return;
    }
    const shape = new OpenMap(this.#state, record, OPERATOR);
    let touches = false;
    for (const effect of effectsOn(shape, command, outcome)) {
      touches = true;
      this.effects++;
      const key = effect.key.toString("hex");
      if (effect.kind === "put") elements.set(key, effect.shown.toString("hex"));
      else if (!elements.delete(key)) throw new Error(`map ${id}: ${key} went, but was not there: ${tell(event)}`);
    }
    const row = eventRow(event);
    if (touches && !touchedMaps(row, effectsIn(row)).has(id)) throw new Error(`map ${id} is not found: ${tell(event)}`);
    if (record.maxEntries > ENTRIES_MAX) return;
    const shown = page(this.#state, record);
    const counted = this.#state.counts.listed(record);
    if (counted !== shown.size) throw new Error(`map ${id}: ${counted} are counted, the page has ${shown.size}`);
    for (const key of new Set([...shown.keys(), ...elements.keys()]))
      if (shown.get(key) !== elements.get(key))
        throw new Error(`map ${id}: ${key} is ${shown.get(key)}, told was ${elements.get(key)}: ${tell(event)}`);
  }
}

/** What each caller is charged with is what a start would count. */
function checkUsage(service: Service): void {
  const { kept, counted } = service.usage();
  if (!isDeepStrictEqual(kept, counted))
    throw new Error(`charged are ${JSON.stringify(kept)}, counted ${JSON.stringify(counted)}`);
}

function tell({ command, outcome }: Event): string {
  const plain = (_name: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value);
  return JSON.stringify({ ...command, out: outcome.out, errno: outcome.errno }, plain);
}

for (const type of STREAM_TYPES)
  t.test(`${type}: what events tell of elements is what pages of elements show after them`, async (t) => {
    t.comment(`SEED=${SEED}`);
    let effects = 0;
    const told = (steps: readonly Step[]): void => {
      const service = new Service();
      new Differential(service, new Service(), HOST.possibleCpus).run(steps);
      const objects = [...service.log.read(0)].map(({ outcome }) => outcome.out?.object ?? 0);
      for (const object of objects.slice(0, objects.length / 2))
        if (object !== 0) service.run({ cmd: CMD.OBJECT_END, attr: { object } }, 0);
      service.run({ cmd: CMD.INTERFACES, attr: { ifindexes: [] } }, 0);
      checkUsage(service);
      service.end();
      checkUsage(service);
      const watcher = new Watcher();
      for (const event of service.log.read(0)) watcher.see(event);
      effects += watcher.effects;
    };
    fc.assert(fc.property(streams([type]), told), { seed: SEED, numRuns: STREAMS_EACH });
    t.comment(`${effects} effects`);
  });
