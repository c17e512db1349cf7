/** The history of one element: its versions, and the events that made them. */

import type { CellKey } from "../maps/cells.ts";
import { POSITION_BYTES } from "../maps/map.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";
import { mapCell } from "../syscall/map_table.ts";
import { OPERATOR, OpenMap } from "../syscall/open_map.ts";
import type { State } from "../syscall/state.ts";
import type { EventOrigin, History } from "./history.ts";
import type { MapEver } from "./maps_ever.ts";
import type { Version } from "./versions.ts";

/**
 * A version of an element, made by one event. Values are hex, in the form that pages show; null: no element before, or
 * none after.
 */
export interface ElementVersion extends EventOrigin {
  readonly before: string | null;
  readonly value: string | null;
}

/** The versions of events above `after`, or the last ones below `before`; none above `upTo`. */
export interface VersionRange {
  readonly after?: number;
  readonly before?: number;
  readonly upTo: number;
  readonly limit: number;
}

export interface VersionPage {
  /** Ascending by seq. */
  readonly versions: readonly ElementVersion[];
  /** Whether there are older versions, and newer ones up to the end of the range. */
  readonly older: boolean;
  readonly newer: boolean;
  /** The oldest event that is not archived, if the page ends there and the map is older; null: nothing is missing. */
  readonly oldestSeq: number | null;
}

export interface HistoryOf {
  readonly history: History;
  readonly stateAt: (seq: number) => State;
  readonly originOf: (seq: number) => EventOrigin;
  /** The last archived event. The senders of versions up to it are unknown. */
  readonly archivedThrough: number;
}

/** A page of an element's versions. If the map was freed, its elements end with the event that freed it. */
export function elementVersions(
  past: HistoryOf,
  ever: MapEver,
  key: Buffer,
  range: VersionRange,
): VersionPage | Refusal {
  const { map } = ever;
  // The cells of a freed map may be reclaimed after its event, and would seem to live longer.
  const upTo = Math.min(range.upTo, ever.freed ?? range.upTo);
  const within = { ...range, upTo };
  const bytes = map.keySize === 0 ? POSITION_BYTES : map.keySize;
  if (key.length !== bytes) return refuse("EINVAL", `key has ${key.length} bytes: this map's have ${bytes}`);
  const { type } = new OpenMap(past.stateAt(0), map, OPERATOR);
  const cell = type.cellOf(map, key);
  const floor = past.archivedThrough;
  const { found, older, newer } =
    range.after === undefined
      ? below(past.history, cell, ever, range.before ?? upTo + 1, floor, within)
      : above(past.history, cell, ever, Math.max(range.after, floor), floor, within);
  const shown = ({ seq, bytes }: Version): string | null => {
    if (ever.freed !== null && seq >= ever.freed) return null;
    const open = new OpenMap(past.stateAt(seq), map, OPERATOR);
    return type.element(open, cell, bytes ?? undefined)?.value.toString("hex") ?? null;
  };
  const [olderMap] = floor > 0 && !older ? past.history.versions(mapCell(map.id), floor) : [];
  const [first, ...versions] = found;
  let before = shown(first as Version);
  return {
    older,
    newer,
    oldestSeq: olderMap === undefined ? null : floor + 1,
    versions: versions.map((version) => {
      const value = shown(version);
      const one = { ...past.originOf(version.seq), before, value };
      before = value;
      return one;
    }),
  };
}

/** Versions, ascending; the first one precedes the page, so that the page's first version has a `before`. */
interface Found {
  readonly found: readonly Version[];
  readonly older: boolean;
  readonly newer: boolean;
}

/** A page ends once its versions have this many bytes. */
const PAGE_BYTES = 4 * 1024 * 1024;

const NEVER: Version = { seq: 0, bytes: null };

function below(
  history: History,
  cell: CellKey,
  ever: MapEver,
  before: number,
  floor: number,
  { upTo, limit }: VersionRange,
): Found {
  const last = Math.min(before - 1, upTo);
  const found: Version[] = [];
  let bytes = 0;
  let isFull = false;
  for (const version of withEnd(history.versions(cell, last), ever, last)) {
    found.unshift(version);
    bytes += version.bytes?.length ?? 0;
    isFull = found.length > limit || (found.length > 1 && bytes > PAGE_BYTES);
    if (isFull || version.seq <= floor) break;
  }
  const first = found[0] ?? NEVER;
  const older = isFull && first.seq > floor;
  if (!isFull && (found.length === 0 || first.seq > floor)) found.unshift(NEVER);
  return { found, older, newer: isAnyAbove(history, cell, ever, last, upTo) };
}

function above(
  history: History,
  cell: CellKey,
  ever: MapEver,
  after: number,
  floor: number,
  { upTo, limit }: VersionRange,
): Found {
  const [first = NEVER] = withEnd(history.versions(cell, after), ever, after);
  const found = [first];
  let bytes = first.bytes?.length ?? 0;
  const isFull = (): boolean => found.length > limit || (found.length > 1 && bytes > PAGE_BYTES);
  for (const version of history.versionsAfter(cell, after)) {
    if (version.seq > upTo || isFull()) break;
    found.push(version);
    bytes += version.bytes?.length ?? 0;
  }
  const last = found.at(-1) as Version;
  const { freed } = ever;
  if (!isFull() && freed !== null && freed > after && freed <= upTo && last.bytes !== null)
    found.push({ seq: freed, bytes: null });
  const end = (found.at(-1) as Version).seq;
  return { found, older: first.seq > floor, newer: isAnyAbove(history, cell, ever, Math.max(end, after), upTo) };
}

/** Versions from the newest on. If the map was freed with the element up to event `last`, that deletion comes first. */
function* withEnd(versions: Iterable<Version>, { freed }: MapEver, last: number): Iterable<Version> {
  let newest = true;
  for (const version of versions) {
    if (newest && freed !== null && freed <= last && version.bytes !== null) yield { seq: freed, bytes: null };
    newest = false;
    yield version;
  }
}

function isAnyAbove(history: History, cell: CellKey, { freed }: MapEver, seq: number, upTo: number): boolean {
  const [next] = history.versionsAfter(cell, seq);
  if (next !== undefined && next.seq <= upTo) return true;
  const [newest] = history.versions(cell, seq);
  return freed !== null && freed > seq && freed <= upTo && newest !== undefined && newest.bytes !== null;
}
