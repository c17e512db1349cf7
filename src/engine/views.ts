/**
 * Queries about the state, and their answers: about the present state (`queries.ts`), or about an earlier one
 * (`past/past.ts`).
 */

import type { MapScope } from "../access/scopes.ts";
import { u32Key } from "../maps/cells.ts";
import { writtenCount } from "../maps/index_keys.ts";
import type { MapBtf, MapRecord, MapType } from "../maps/map.ts";
import type { BtfFacts, ObjectRecord } from "../maps/object.ts";
import { mapType } from "../maps/types.ts";
import type { FdRecord } from "../syscall/fd_table.ts";
import { OPERATOR, OpenMap } from "../syscall/open_map.ts";
import type { SessionRecord } from "../syscall/sessions.ts";
import type { State } from "../syscall/state.ts";
import type { LeaseView } from "./leases.ts";
import { type MapReference, referenced } from "./map_reference.ts";
import type { MirrorStatus } from "./ports.ts";
import { type Asking, type Hidden, hiddenBy, type SightLimits, sightOf } from "./sight.ts";

/** Queries about the state. A query is no command: it needs no descriptor and leaves no event. */
export interface Reads {
  session: { ask: { id: number }; answer: SessionView | "ended" | "unknown" };
  sessions: { ask: { after: number; limit: number }; answer: SessionView[] };
  fds: { ask: { session: number } & Asking; answer: FdView[] | "ended" | "unknown" };
  /** `scopes`: one of them must cover the map. Absent: read. */
  map: {
    ask: { reference: MapReference; scopes?: readonly MapScope[] } & Asking;
    answer: MapView | null | { ambiguous: number[] } | Hidden;
  };
  maps: { ask: { after: number; limit: number } & Asking; answer: MapView[] };
  pins: { ask: { after: string; limit: number } & Asking; answer: PinView[] };
  directories: { ask: { after: string; limit: number } & Asking; answer: string[] };
  /** BTF that was loaded, by id. A page ends early if its BTF is large: see BTF_PAGE_BYTES. */
  btfs: { ask: { after: number; limit: number }; answer: { btfs: BtfView[]; more: boolean } };
  /** null: no BTF has the id. */
  btf: { ask: { id: number }; answer: BtfContents | null };
  /** A map's types, and the BTF that has them. `scopes`: as for `map`. */
  types: {
    ask: { reference: MapReference; scopes?: readonly MapScope[] } & Asking;
    answer: MapTypes | null | { ambiguous: number[] } | Hidden;
  };
}

interface BtfView {
  readonly id: number;
  readonly bytes: number;
}

interface BtfContents {
  readonly id: number;
  readonly data: Uint8Array;
}

export interface MapTypes {
  readonly map: number;
  /** null: the map was created without BTF. */
  readonly btf: (MapBtf & { readonly data: Uint8Array }) | null;
}

/** As of an earlier moment `lease` is null, because leases are not in the log. */
export interface SessionView extends SessionRecord, LeaseView {
  readonly fdCount: number;
}

export interface FdView extends FdRecord {
  readonly fd: number;
  /** The object, if the descriptor is not a map's. */
  readonly about: ObjectRecord | null;
}

export interface MapView extends MapRecord {
  /** The size of a value in user space. */
  readonly valueBytes: number;
  /** The number of elements in its pages. */
  readonly entries: number;
  /**
   * Of an array, whose pages have all indices: the number of elements that were ever written. null: not an array, or
   * not counted.
   */
  readonly written: number | null;
  /** The number of CPUs that each value has a part for; null: values are not per CPU. */
  readonly possibleCpus: number | null;
  /** The number of references to the map. */
  readonly holds: number;
  /** The first PINNED_MAX of its pins, and the number of all. */
  readonly pinned: readonly string[];
  readonly pins: number;
  readonly mirror: MirrorStatus;
}

export interface PinView {
  readonly pathname: string;
  readonly map: number;
}

/** The state that queries are answered from, and the facts besides it that answers need. */
export interface ReadSources {
  readonly state: State;
  readonly leases: { view(session: number): LeaseView };
  /** The limits of callers; null: queries name no caller. */
  readonly limits: SightLimits | null;
  mirrorStatus(mapId: number): MirrorStatus;
}

export type ReadName = keyof Reads;

/** Answers a query about the state. */
export function tell<Name extends ReadName>(
  sources: ReadSources,
  name: Name,
  ask: Reads[Name]["ask"],
): Reads[Name]["answer"] {
  return READS[name](sources, ask);
}

const READS: { [Name in ReadName]: (sources: ReadSources, ask: Reads[Name]["ask"]) => Reads[Name]["answer"] } = {
  session(sources, { id }) {
    const session = sources.state.session(id);
    return session === undefined ? missing(sources.state, id) : sessionView(sources, session);
  },

  sessions(sources, { after, limit }) {
    const views: SessionView[] = [];
    for (const session of sources.state.sessions.after(after)) {
      if (views.length === limit) break;
      views.push(sessionView(sources, session));
    }
    return views;
  },

  fds(sources, { session, ...asking }) {
    const { state } = sources;
    if (state.session(session) === undefined) return missing(state, session);
    const sight = sightOf(sources.limits, asking);
    const fds = [...state.fds.of(session)].map(([fd, file]) => ({
      fd,
      ...file,
      about: state.object(file.object) ?? null,
    }));
    if (sight === null) return fds;
    const { coverage, limits } = sight;
    return fds.filter(
      ({ map }) => map === 0 || coverage.covers(limits.read, map) || coverage.covers(limits.write, map),
    );
  },

  map(sources, { reference, scopes = ["read"], ...asking }) {
    return ofMap(sources, { reference, scopes, ...asking }, (map) => mapView(sources, map));
  },

  maps(sources, { after, limit }) {
    const views: MapView[] = [];
    for (const [, map] of sources.state.maps.from(u32Key(after + 1))) {
      if (views.length === limit) break;
      views.push(mapView(sources, map));
    }
    return views;
  },

  pins(sources, { after, limit }) {
    const views: PinView[] = [];
    for (const pin of sources.state.bpffs.pinned(after)) {
      if (views.length === limit) break;
      views.push(pin);
    }
    return views;
  },

  directories(sources, { after, limit }) {
    const directories: string[] = [];
    for (const directory of sources.state.bpffs.directories(after)) {
      if (directories.length === limit) break;
      directories.push(directory);
    }
    return directories;
  },

  btfs({ state: { objects } }, { after, limit }) {
    const btfs: BtfView[] = [];
    let bytes = 0;
    let id = objects.btfAfter(after);
    for (; id !== undefined && btfs.length < limit && bytes < BTF_PAGE_BYTES; id = objects.btfAfter(id)) {
      const { data } = objects.known({ kind: "btf", btfId: id, data: "" }) as BtfFacts & ObjectRecord;
      btfs.push({ id, bytes: data.length / 2 });
      bytes += data.length / 2;
    }
    return { btfs, more: id !== undefined };
  },

  btf({ state: { objects } }, { id }) {
    const btf = objects.known({ kind: "btf", btfId: id, data: "" });
    return btf?.kind === "btf" ? { id, data: bytesOf(btf.data) } : null;
  },

  types(sources, { reference, scopes = ["read"], ...asking }) {
    return ofMap(sources, { reference, scopes, ...asking }, (map) => {
      const blob = sources.state.btfBlob(map);
      return { map: map.id, btf: map.btf === null || blob === null ? null : { ...map.btf, data: alone(blob) } };
    });
  },
};

/** The answer about the map that a reference names; null: there is none. */
function ofMap<Answer>(
  { limits, state }: ReadSources,
  { reference, scopes, ...asking }: { reference: MapReference; scopes: readonly MapScope[] } & Asking,
  answer: (map: MapRecord) => Answer,
): Answer | null | { ambiguous: number[] } | Hidden {
  const hidden = hiddenBy(limits, reference, scopes, asking);
  if (hidden !== null) return hidden;
  const ids = referenced(state, reference);
  if (ids.length > 1) return { ambiguous: ids };
  const map = ids[0] === undefined ? undefined : state.map(ids[0]);
  return map === undefined ? null : answer(map);
}

/** To tell its size, BTF is read; a page reads about this much. */
const BTF_PAGE_BYTES = 1024 * 1024;

function bytesOf(hex: string): Uint8Array {
  return alone(Buffer.from(hex, "hex"));
}

/** The bytes in memory of their own: a Buffer crosses threads with all of the memory that it is a view of. */
function alone(bytes: Buffer): Uint8Array {
  return bytes.length === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
}

export const READ_NAMES = Object.keys(READS) as readonly ReadName[];

function missing(state: State, session: number): "ended" | "unknown" {
  return session > 0 && session <= state.lastId("session") ? "ended" : "unknown";
}

function sessionView(sources: ReadSources, session: SessionRecord): SessionView {
  return { ...session, ...sources.leases.view(session.id), fdCount: sources.state.fds.count(session.id) };
}

/** The most pins that a map's view has, because each path may have 4 KiB. The list of pins has all. */
export const PINNED_MAX = 64;

export function mapView(sources: ReadSources, map: MapRecord): MapView {
  const type = mapType(map.type) as MapType;
  const { host } = sources.state;
  const pins = sources.state.bpffs.pinsOf(map.id);
  return {
    ...map,
    valueBytes: type.valueBytes(map, host),
    entries: sources.state.counts.listed(map),
    written: type.facts.dense ? writtenCount(new OpenMap(sources.state, map, OPERATOR)) : null,
    possibleCpus: type.facts.perCpu ? host.possibleCpus : null,
    holds: sources.state.holds(map.id),
    pinned: [...pins].sort().slice(0, PINNED_MAX),
    pins: pins.size,
    mirror: sources.mirrorStatus(map.id),
  };
}
