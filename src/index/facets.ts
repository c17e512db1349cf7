/**
 * The keys of an index's cells. A segment is known by its first event; it is the last part of a key, so that the
 * postings of one value are adjacent, in the order of events:
 *
 *     i                            which log the index is of, and where it begins
 *     n  first                     a segment: its last event
 *     s m d e  value  first        postings of a session, map, command, errno
 *     a  caller  first             postings of a caller
 *     c f r  first                 postings of events that changed something, that failed, whose command changes no map
 *     k  first  prefix  block      keys of elements (`key_entries.ts`)
 *     z  map                       the size of a map's keys
 *     p  session                   the peer that opened a session
 *
 * Each candidate that the index finds is compared with its event, so two values may share a key: callers are cut.
 */

import type { EventFilter } from "../log/event_filter.ts";
import { afterKey, type CellKey, readU32Key, u32Key } from "../maps/cells.ts";

export const INFO_KEY: CellKey = "i";
export const SEGMENTS = ["n", "o"] as const;
export const KEY_SIZES = ["z", "{"] as const;
export const PEERS = ["p", "q"] as const;
const KEYS = "k";

/** A property of events that the index has postings of. */
export const FACETS = {
  session: "s",
  map: "m",
  cmd: "d",
  errno: "e",
  caller: "a",
  changed: "c",
  failed: "f",
  reading: "r",
} as const;
export type Facet = keyof typeof FACETS;

const CALLER_BYTES_MAX = 128;
/** The bytes of a number in a key. */
export const U48_BYTES = 6;

/** Six bytes, most significant first. */
export function u48Key(number: number): CellKey {
  return u32Key(Math.floor(number / 2 ** 32)).slice(2) + u32Key(number % 2 ** 32);
}

export function readU48Key(key: CellKey, offset: number): number {
  return (key.charCodeAt(offset) * 256 + key.charCodeAt(offset + 1)) * 2 ** 32 + readU32Key(key, offset + 2);
}

/** A number as the bytes of a cell. */
export function u48Bytes(number: number): Buffer {
  return Buffer.from(u48Key(number), "latin1");
}

export function u48In(bytes: Buffer): number {
  return bytes.readUIntBE(0, U48_BYTES);
}

/** The first event of the segment that a key of postings ends with. */
export function segmentOf(key: CellKey): number {
  return readU48Key(key, key.length - U48_BYTES);
}

/** Whether a cell is one of the postings or keys of a segment. */
export function isOfSegment(key: CellKey): boolean {
  return key.startsWith(KEYS) || (Object.values(FACETS) as string[]).includes(key[0] as string);
}

/** The first event of the segment that a cell of postings or keys belongs to. */
export function ownerOf(key: CellKey): number {
  return key.startsWith(KEYS) ? readU48Key(key, KEYS.length) : segmentOf(key);
}

/** The beginning that the postings of a value have in common. */
export function postingsPrefix(facet: Facet, value: number | string): CellKey {
  if (facet === "changed" || facet === "failed" || facet === "reading") return FACETS[facet];
  if (typeof value === "number") return FACETS[facet] + u48Key(value);
  const bytes = Buffer.from(value).subarray(0, CALLER_BYTES_MAX);
  return `${FACETS[facet]}${String.fromCharCode(bytes.length)}${bytes.toString("latin1")}`;
}

export function keysPrefix(first: number): CellKey {
  return KEYS + u48Key(first);
}

export function segmentKey(first: number): CellKey {
  return SEGMENTS[0] + u48Key(first);
}

export function keySizeKey(map: number): CellKey {
  return KEY_SIZES[0] + u48Key(map);
}

export function peerKey(session: number): CellKey {
  return PEERS[0] + u48Key(session);
}

/** The cells from one segment's postings of a value to another's, both included. */
export function postingsBetween(prefix: CellKey, first: number, last: number): readonly [CellKey, CellKey] {
  return [prefix + u48Key(first), afterKey(prefix + u48Key(last))];
}

/** Events that have a value, or do not have it. */
export interface Wanted {
  readonly facet: Facet;
  readonly value: number | string;
}

/** The part of a filter that the index answers: events with all values of `having`, and none of `lacking`. */
export interface Asked {
  /** The most selective values first, judged by their facet. */
  readonly having: readonly Wanted[];
  readonly lacking: readonly Wanted[];
  /** The beginning of a key, not empty; null: any. */
  readonly key: Buffer | null;
}

export function askedOf(filter: EventFilter): Asked {
  const having: Wanted[] = [];
  const lacking: Wanted[] = [];
  const flag = (facet: Facet, asked: boolean | undefined): void => {
    if (asked !== undefined) (asked ? having : lacking).push({ facet, value: 0 });
  };
  const { errno, key } = filter;
  if (errno !== undefined && errno !== 0) having.push({ facet: "errno", value: errno });
  flag("failed", filter.failed);
  if (errno === 0) flag("failed", false);
  for (const facet of ["session", "map", "caller", "cmd"] as const) {
    const value = filter[facet];
    if (value !== undefined) having.push({ facet, value });
  }
  flag("changed", filter.changed);
  if (filter.changing === true) flag("reading", false);
  return { having, lacking, key: key === undefined || key.length === 0 ? null : key };
}

/** Whether a filter leaves out events only by their time. */
export function asksNothing({ having, lacking, key }: Asked): boolean {
  return having.length === 0 && lacking.length === 0 && key === null;
}
