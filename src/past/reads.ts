import type { Moment } from "../codec/moments.ts";
import { EventsArchived } from "../engine/archives.ts";
import { FrameWriter } from "../engine/frames.ts";
import type { MapReference } from "../engine/map_reference.ts";
import type { EngineInquiries, LaggingHex } from "../engine/protocol.ts";
import type { CellKey } from "../maps/cells.ts";
import { isRefusal } from "../maps/refusal.ts";
import { OPERATOR, OpenMap } from "../syscall/open_map.ts";
import type { State } from "../syscall/state.ts";
import { type ChangedElement, changedElements } from "./diff.ts";
import { elementVersions, type HistoryOf, type VersionPage } from "./element_history.ts";
import { mapEver } from "./maps_ever.ts";
import { planRestore, type RestorePlan } from "./restore.ts";
import type { Range } from "./touched_cells.ts";

/**
 * Requests that concern more than one moment. Bytes are hex; a string in place of an answer names the fault of a key.
 */
export interface PastReads extends EngineInquiries {
  elementVersions: {
    ask: {
      readonly reference: MapReference;
      readonly key: string;
      readonly after?: number;
      readonly before?: number;
      readonly limit: number;
    };
    answer: NoMap | string | (VersionPage & { readonly map: number });
  };
  diff: {
    ask: {
      readonly reference: MapReference;
      readonly from: Moment;
      /** null: the present state. */
      readonly to: Moment | null;
      /** The key of the last change of the previous page. */
      readonly after: string | null;
      readonly limit: number;
    };
    answer: NoMap | string | Diff;
  };
  /** The map that a reference names now; an id may also name a freed map. */
  ever: { ask: { readonly reference: MapReference }; answer: NoMap | { readonly map: number } };
  /** A freed map, and the event that freed it; null: no map has had this id, or it exists. */
  former: { ask: { readonly map: number }; answer: { readonly name: string; readonly freed: number } | null };
  /** The commands that restore a map, for the engine's `runWhole`. */
  restore: {
    ask: {
      readonly reference: MapReference;
      readonly at: Moment;
      readonly reason: string;
      readonly caller: string;
      readonly session: number | null;
    };
    answer: NoMap | string | Restore;
  };
}

interface Restore {
  readonly map: number;
  readonly at: number;
  /** The event on whose state the commands are based. */
  readonly now: number;
  readonly counts: RestorePlan["counts"];
  /** Requests in the form of engine/frames.ts. */
  readonly frames: ArrayBuffer;
  readonly length: number;
}

type NoMap = null | { readonly ambiguous: number[] };
export type PastReadName = keyof PastReads;

interface Diff {
  readonly map: number;
  /** The events right after which the map is compared. */
  readonly from: number;
  readonly to: number;
  readonly counts: { readonly added: number; readonly changed: number; readonly removed: number };
  readonly changes: readonly { readonly key: string; readonly before: string | null; readonly after: string | null }[];
  /** Whether more changes follow. */
  readonly more: boolean;
}

/** A page ends once its changes have this many bytes. */
const PAGE_BYTES = 4 * 1024 * 1024;

/** Everything that the answers are made from. */
export interface PastContext extends HistoryOf {
  /** Resolves to the seq of a moment once the history has recorded it. A moment of null: the log's last event. */
  readonly reach: (moment: Moment | null) => Promise<number>;
  /** `touchedCells` of these events. */
  readonly touched: (range: Range) => Promise<readonly CellKey[] | null>;
  /** Throws if the state right after an event can no longer be read. */
  readonly checkKept: (seq: number) => void;
}

export const PAST_READS: {
  [Name in PastReadName]: (past: PastContext, ask: PastReads[Name]["ask"]) => Promise<PastReads[Name]["answer"]>;
} = {
  async elementVersions(past, { reference, key, limit, after, before }) {
    const upTo = await past.reach(null);
    if (after !== undefined && after > 0) past.checkKept(after);
    if (before !== undefined) past.checkKept(Math.max(before - 2, 0));
    const ever = everOf(past, reference, upTo);
    if (ever === null || "ambiguous" in ever) return ever;
    const range = { upTo, limit, ...(after === undefined ? { before: before ?? upTo + 1 } : { after }) };
    const page = elementVersions(past, ever, Buffer.from(key, "hex"), range);
    return isRefusal(page) ? page.detail : { map: ever.map.id, ...page };
  },

  async diff(past, { reference, after, limit, ...moments }) {
    const from = await past.reach(moments.from);
    const to = await past.reach(moments.to);
    const ever = everOf(past, reference, Math.max(from, to));
    if (ever === null || "ambiguous" in ever) return ever;
    const { id } = ever.map;
    const counts = { added: 0, changed: 0, removed: 0 };
    const changes: Diff["changes"][number][] = [];
    let more = false;
    let bytes = 0;
    let passed = after === null;
    for (const { key, before, after: now } of await changesBetween(past, id, from, to)) {
      counts[before === null ? "added" : now === null ? "removed" : "changed"]++;
      const hex = key.toString("hex");
      more ||= passed && (changes.length === limit || bytes > PAGE_BYTES);
      if (passed && !more) {
        changes.push({ key: hex, before: before?.toString("hex") ?? null, after: now?.toString("hex") ?? null });
        bytes += key.length + (before?.length ?? 0) + (now?.length ?? 0);
      }
      passed ||= hex === after;
    }
    if (!passed) return `after is ${after}: no element with this key has changed`;
    return { map: id, from, to, counts, changes, more };
  },

  async lagging(past, { map, after }) {
    const from = await past.reach({ seq: after });
    const to = await past.reach(null);
    if (openAt(past, from, map) === null) return "born";
    const lagging: LaggingHex[] = [];
    for (const { key, before: was } of await changesBetween(past, map, from, to)) {
      if (lagging.length === LAGGING_MAX) return null;
      lagging.push({ key: key.toString("hex"), before: was?.toString("hex") ?? null });
    }
    return lagging;
  },

  async ever(past, { reference }) {
    const ever = everOf(past, reference, await past.reach(null));
    return ever === null || "ambiguous" in ever ? ever : { map: ever.map.id };
  },

  async former(past, { map }) {
    const upTo = await past.reach(null);
    const ever = everOf(past, { id: map }, upTo);
    if (ever === null || "ambiguous" in ever || ever.freed === null) return null;
    return { name: ever.map.name, freed: ever.freed };
  },

  async stood(past, { seq }) {
    const state = past.stateAt(await past.reach({ seq }));
    return { maps: [...state.maps.from("")].map(([, { id }]) => id), pins: [...state.bpffs.pinned()] };
  },

  async restore(past, { reference, reason, caller, session, ...moment }) {
    const at = await past.reach(moment.at);
    const now = await past.reach(null);
    const ever = everOf(past, reference, now);
    if (ever === null || "ambiguous" in ever) return ever;
    const { id } = ever.map;
    const then = openAt(past, at, id);
    if (then === null) return `map ${id} did not exist right after event ${at}`;
    const note = { map: id, at, reason };
    const plan = planRestore(then, past.stateAt(at), past.stateAt(now), { caller, note, session });
    if (typeof plan === "string") return plan;
    for (const request of plan.requests) writer.request(request);
    return { map: id, at, now, counts: plan.counts, ...writer.take() };
  },
};

/**
 * As mapEver, but throws EventsArchived if the map may have been freed by an archived event, which the history does not
 * know.
 */
function everOf(past: PastContext, reference: MapReference, seq: number): ReturnType<typeof mapEver> {
  const ever = mapEver(past.history, past.stateAt, reference, seq);
  const { archivedThrough: through } = past;
  if (ever !== null || !("id" in reference) || through === 0) return ever;
  if (reference.id < 1 || reference.id > past.stateAt(through).lastId("map")) return null;
  throw new EventsArchived(through + 1);
}

/** The elements of a map that differ between two moments; `to` may be the earlier one. */
async function changesBetween(
  past: PastContext,
  id: number,
  from: number,
  to: number,
): Promise<Iterable<ChangedElement>> {
  const [before, after] = [openAt(past, from, id), openAt(past, to, id)];
  const range = { map: id, after: Math.min(from, to), until: Math.max(from, to) };
  const isWorthIt = before !== null && after !== null && isByCell(before) && isLargeFor(before, after, range);
  const touched = isWorthIt ? await past.touched(range) : null;
  return changedElements(before, after, touched);
}

/** To redo an event takes as long as to compare some elements. */
const ELEMENTS_AN_EVENT = 4;

function isLargeFor(before: OpenMap, now: OpenMap, { after, until }: Range): boolean {
  return before.entryCount() + now.entryCount() > ELEMENTS_AN_EVENT * (until - after);
}

/** Whether a shown element depends on its cell alone. Otherwise it may differ although no event has changed the cell. */
function isByCell({ type }: OpenMap): boolean {
  return type.facts.value === null && type.facts.keyFd === null;
}

/** The most lagging elements in an answer. If there are more, the answer is null. */
const LAGGING_MAX = 1_000_000;

const writer = new FrameWriter();

function openAt(past: PastContext, seq: number, id: number): OpenMap | null {
  const state: State = past.stateAt(seq);
  const map = state.map(id);
  return map === undefined ? null : new OpenMap(state, map, OPERATOR);
}
