/**
 * Compares a kernel map with its map, and does what the map's policy says (docs/mirror.md). A comparison runs in pieces
 * between batches, and a piece acts on the differences that it has found before another command can run, so that
 * commands are not taken for drift. At a start nothing is served yet, and a comparison runs in one go. Before a repair
 * an event records how many elements differ, with the first keys. An import is an ordinary batch of the service's own,
 * which the mirror does not write to the kernel map, where something newer may be by then.
 *
 * Three values tell lag from drift: the ledger's at the map's place (`windows.ts`), the ledger's now, and the kernel's.
 * For example, 1, 2 and 1: the kernel map lags, and 2 is written. 1, 2 and 3: another program wrote 3, and the policy
 * decides. A key that is in no window does not lag.
 */

import type { CellKey } from "../maps/cells.ts";
import type { DriftPolicy, MapRecord, MapType } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import { type DriftReport, driftAttr, isMissing, NOTHING_TOLD, Tally } from "./drift_tally.ts";
import type { MirrorNotes } from "./mirror_notes.ts";
import type { MirrorSources } from "./mirror_sources.ts";
import { imports, mirrorDrift, mirrorResync, SERVICE } from "./own_commands.ts";
import type { ElementDifference, Lagging, Mirror, MirrorRefusal, MirrorSource, ScanOrder, Untold } from "./ports.ts";
import type { Request } from "./request.ts";
import type { Window } from "./windows.ts";

/**
 * A report; or the reason why there is none: the map is gone, the kernel does not show its elements, or the kernel
 * refused.
 */
export type DriftAnswer = DriftReport | { readonly gone: true } | Untold | MirrorRefusal;

export type Policy = DriftPolicy["policy"];

/** The purpose of a comparison. */
export interface Comparison {
  readonly map: number;
  /** null: nothing is changed, and no event is recorded. */
  readonly policy: Policy | null;
  /** The map's window: only its elements can lag; null: no element counts as lagging. */
  readonly window: Window;
  /** The occasion that the event names; null: a comparison that the map's interval began. */
  readonly at: string | null;
  /** The most differences in the report. */
  readonly limit: number;
  /** Whether no commands run meanwhile, so that one piece may do everything. */
  readonly atOnce: boolean;
}

/** The counts in the last report of a map that is compared in intervals. */
export interface LastReport {
  told: string;
}

export interface ComparisonsParts {
  readonly mirror: Mirror;
  readonly sources: Pick<MirrorSources, "of">;
  /** Runs the engine's own commands at once. Returns whether the log has them. */
  readonly run: (requests: readonly Request[]) => boolean;
  readonly notes: Pick<MirrorNotes, "refused">;
  /** undefined: the map is not compared in intervals. */
  readonly lastReport: (map: number) => LastReport | undefined;
}

/** Runs comparisons, and acts on their differences. */
export class Comparisons {
  readonly #parts: ComparisonsParts;
  /** The differing elements that comparisons with a policy have found since the start. */
  found = 0;

  constructor(parts: ComparisonsParts) {
    this.#parts = parts;
  }

  /** Compares a map, and acts by the policy. Each step is a piece. */
  *of(ask: Comparison): Generator<void, DriftAnswer> {
    const { map, policy, at } = ask;
    const tally = new Tally(ask.limit);
    // An import is an event itself, so a comparison at an interval need not count the differences before it.
    if (policy === "import" && at === null) return yield* this.#act(ask, tally);
    const unread = yield* this.#look(ask, tally);
    if (unread !== null) {
      if ("operation" in unread && policy !== null) this.#parts.notes.refused([unread]);
      return unread;
    }
    if (policy === null) return tally.report;
    this.found += tally.total;
    if (!this.#tell(ask, tally)) return { gone: true };
    if (policy === "report" || tally.isEmpty) {
      this.#parts.mirror.takenUp(map, tally.isEmpty ? "yes" : "no");
      return tally.report;
    }
    return yield* this.#act(ask, tally);
  }

  /** Writes the ledger's elements with these keys to the kernel map, or imports the kernel's. */
  decide(map: number, take: "ledger" | "kernel", keys: readonly Buffer[]): void {
    const source = this.#parts.sources.of(map);
    if (source === null) return;
    const found = keys.map((key) => this.#parts.mirror.look(source, key)).filter((one) => one != null);
    if (take === "kernel") this.#import(map, found);
    else this.#parts.notes.refused(this.#mend(source, found));
  }

  /** Counts the differences, and writes elements that only lag. */
  *#look(ask: Comparison, tally: Tally): Generator<void, { gone: true } | Untold | MirrorRefusal | null> {
    const { mirror } = this.#parts;
    let redone = 0;
    const changed = this.#changedBy(ask);
    const ended = yield* this.#pieces(ask.map, ask.atOnce ? "at once" : "kernel", (source, found) => {
      const { evicts } = mirror.traits(source.map);
      const lagging: Buffer[] = [];
      for (const difference of found) {
        if (ask.policy !== null && mirror.isPending(ask.map, difference.key)) continue;
        const then = changed(source.map, difference.key);
        if (then !== undefined && isThen(difference, mirror.shown(source, then))) lagging.push(difference.key);
        else tally.add(difference, evicts && isMissing(difference), then !== undefined);
      }
      if (lagging.length > 0) this.#parts.notes.refused(mirror.write(source, lagging));
      redone += lagging.length;
    });
    if (redone > 0) {
      const detail = `${redone} elements written that the kernel map had not received`;
      this.#parts.run([mirrorResync(ask.map, SERVICE, ask.at ?? "interval", detail)]);
    }
    return ended;
  }

  /**
   * Returns a function that gives an element's value at the map's place; null: it did not exist; undefined: the ledger
   * has not changed it since, or nobody knows.
   */
  #changedBy({ map, window }: Comparison): (record: MapRecord, key: Buffer) => Buffer | null | undefined {
    if (window === null) return () => undefined;
    if (window === "born") return () => null;
    const record = this.#parts.sources.of(map)?.map;
    if (record === undefined || window.length === 0) return () => undefined;
    const { cellOf } = mapType(record.type) as MapType;
    const thens = new Map<CellKey, Lagging>(window.map((one) => [cellOf(record, one.key), one]));
    return (_record, key) => thens.get(cellOf(record, key))?.before;
  }

  /** Records the result of a comparison, if it is news. false: the log has not taken it, and nothing may be done. */
  #tell({ map, policy, at }: Comparison, tally: Tally): boolean {
    const told = tally.described;
    const last = this.#parts.lastReport(map);
    const isNews = at !== null || policy === "repair" ? !tally.isEmpty : told !== (last?.told ?? NOTHING_TOLD);
    if (last !== undefined) last.told = told;
    if (!isNews) return true;
    const done = this.#parts.run([mirrorDrift(map, driftAttr(policy as Policy, tally, at))]);
    if (!done && last !== undefined) last.told = NOTHING_TOLD;
    return done;
  }

  /** Repairs or imports. It scans again, and acts on the differences that it finds then. */
  *#act(ask: Comparison, tally: Tally): Generator<void, DriftAnswer> {
    const { map, policy } = ask;
    const { mirror } = this.#parts;
    const counts = ask.at === null && policy === "import";
    const refusals: MirrorRefusal[] = [];
    const acted = new Tally(0);
    let full = false;
    let left = false;
    const mend = (source: MirrorSource, found: readonly ElementDifference[]): void => {
      refusals.push(...this.#mend(source, found));
      if (found.some(({ key }) => mirror.isPending(map, key))) full = true;
    };
    const act = (source: MirrorSource, found: readonly ElementDifference[]): void => {
      const drifted = found.filter(({ key }) => !mirror.isPending(map, key));
      if (counts) {
        for (const difference of drifted) tally.add(difference, false, false);
        this.found += drifted.length;
      }
      for (const difference of drifted) acted.add(difference, false, false);
      if (policy !== "import") mend(source, drifted);
      else {
        const fitting = mirror.traits(source.map).evicts ? withinRoom(source, drifted) : drifted;
        if (!this.#import(map, fitting) || fitting.length < drifted.length) left = true;
      }
    };
    // Elements that the kernel lacks come first: if one element replaces another, a program that looks for both always
    // finds one.
    let ended = yield* this.#pieces(map, "ledger", act);
    if (full) {
      // Elements that only the kernel had have taken up the room of others. They are gone by now, so the others are
      // written again; if that succeeds, the refusals before are not reported.
      full = false;
      ended ??= yield* this.#pieces(map, "ledger", mend);
    }
    // A second event records what others wrote after the comparison that the first one records.
    if (policy === "repair" && acted.total > tally.total)
      this.#parts.run([mirrorDrift(map, driftAttr(policy, acted, "repaired more"))]);
    if (full || ended !== null) this.#parts.notes.refused(refusals);
    if (ended !== null) {
      if ("operation" in ended) this.#parts.notes.refused([ended]);
      return ended;
    }
    mirror.takenUp(map, full || left ? "no" : "yes");
    return tally.report;
  }

  /**
   * Writes the ledger's elements to the kernel map. An element that an LRU kernel map has evicted is deleted in the
   * ledger instead, because the kernel chooses which elements to evict.
   */
  #mend(source: MirrorSource, found: readonly ElementDifference[]): MirrorRefusal[] {
    const { mirror } = this.#parts;
    const { evicts } = mirror.traits(source.map);
    const evicted = evicts ? found.filter(isMissing) : [];
    if (evicted.length > 0) this.#import(source.map.id, evicted);
    const others = evicts ? found.filter((difference) => !isMissing(difference)) : found;
    return mirror.write(
      source,
      others.map(({ key }) => key),
    );
  }

  /** false: the log has not taken the import. */
  #import(map: number, found: readonly ElementDifference[]): boolean {
    return found.length === 0 || this.#parts.run(imports(map, found));
  }

  /**
   * Scans a map, and gives the differences of each piece to `take`. null: the scan is complete; otherwise the reason
   * why it is not.
   */
  *#pieces(
    map: number,
    first: ScanOrder,
    take: (source: MirrorSource, found: readonly ElementDifference[]) => void,
  ): Generator<void, { gone: true } | Untold | MirrorRefusal | null> {
    const begun = this.#parts.sources.of(map);
    if (begun === null) return { gone: true };
    const { mirror } = this.#parts;
    const scan = mirror.scan(begun, first);
    const kernelId = mirror.kernelId(map);
    for (;;) {
      const source = this.#parts.sources.of(map);
      if (source === null) return { gone: true };
      // Differences of the former kernel map must not be written to the new one.
      if (mirror.kernelId(map) !== kernelId) return { untold: "the map got another kernel map while it was compared" };
      const { value, done } = scan.next();
      if (done === true) return value;
      if (value.length > 0) take(source, value);
      yield;
    }
  }
}

/**
 * The differences that an LRU map of the ledger has room for. An import beyond its room would make the ledger evict
 * other elements, which the next comparison would import again.
 */
function withinRoom(source: MirrorSource, found: readonly ElementDifference[]): readonly ElementDifference[] {
  let room = source.room() + found.filter(isMissing).length;
  return found.filter(({ ledger }) => ledger !== null || room-- > 0);
}

/**
 * Whether the kernel has what the ledger had at the map's place. If the kernel shows keys alone, an element is there or
 * it is not.
 */
function isThen({ ledger, kernel }: ElementDifference, before: Buffer | null): boolean {
  if (ledger === null && kernel === null) return before !== null;
  return kernel === null || before === null ? kernel === before : kernel.equals(before);
}
