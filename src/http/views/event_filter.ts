/** The filter of events in a query. */

import type { Static } from "typebox";
import { ERRNO } from "../../abi/errno.ts";
import { CMD } from "../../abi/service.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import { readTimeUs } from "../../codec/moments.ts";
import { bytes } from "../../codec/scalars.ts";
import type { EventFilter } from "../../log/event_filter.ts";
import { Type } from "../schemas/type.ts";
import type { Asked } from "./as_of.ts";
import { askMap } from "./lookups.ts";
import { readReference } from "./targets.ts";

/** The query's fields that select events. */
export const FilterFields = {
  map: Type.Optional(
    Type.String({
      description:
        "A map's id; or name:NAME or pinned:PATH of a live map. Selects events whose command named the map, and events that " +
        "deleted elements of it or freed it.",
      examples: ["1"],
    }),
  ),
  session: Type.Optional(Type.Integer({ minimum: 0, description: "0: commands without a session." })),
  caller: Type.Optional(Type.String()),
  cmd: Type.Optional(Type.String({ description: "A command's name or number.", examples: ["BPF_MAP_UPDATE_ELEM"] })),
  errno: Type.Optional(
    Type.String({ description: "An errno's name or number; 0 for commands that succeeded.", examples: ["ENOENT"] }),
  ),
  changes: Type.Optional(
    Type.Boolean({
      description:
        "true: only events that changed a map, an element, a pin or a directory; reads, and refusals without an effect, are left out. false: only the others.",
    }),
  ),
  failed: Type.Optional(
    Type.Boolean({
      description: "true: only events with an errno. false: only those that succeeded.",
    }),
  ),
  key: Type.Optional(
    Type.String({
      description:
        "The beginning of a key, in hex. It is compared with the command's key or, for a batch, with each of its keys that the event keeps, and with keys that were stored or evicted.",
    }),
  ),
  since: Type.Optional(
    Type.String({
      description: "A moment in RFC 3339: only events after the last one that is stamped before it.",
      examples: ["2026-11-23T20:00:00Z"],
    }),
  ),
  until: Type.Optional(
    Type.String({
      description: "A moment in RFC 3339: only events up to the last one that is stamped at or before it.",
    }),
  ),
};

const Filter = Type.Object(FilterFields);
export type FilterQuery = Static<typeof Filter>;

/** Throws the problem if the caller may not see the map. */
export async function readFilter(state: Asked, query: FilterQuery): Promise<EventFilter> {
  const { map, session, caller, cmd, errno, changes, failed, key, since, until } = query;
  return {
    ...(map !== undefined && { map: await readMap(state, map) }),
    ...(session !== undefined && { session }),
    ...(caller !== undefined && { caller }),
    ...(cmd !== undefined && { cmd: readNamed(CMD, cmd, "cmd") }),
    ...(errno !== undefined && { errno: readNamed(ERRNO, errno, "errno") }),
    ...(changes !== undefined && { changed: changes }),
    ...(failed !== undefined && { failed }),
    ...(key !== undefined && { key: bytes(key, "key") }),
    ...(since !== undefined && { sinceUs: readTimeUs(since, "since") }),
    ...(until !== undefined && { untilUs: readTimeUs(until, "until") }),
  };
}

/**
 * The map that the filter's name or pin refers to now; later it may refer to another. null: the filter names no map, or
 * its id.
 */
export function referredMap({ map }: Pick<FilterQuery, "map">, filter: EventFilter): number | null {
  return map === undefined || "id" in readReference(map, "map") ? null : (filter.map ?? null);
}

/** An id may be of a freed map; a name or a pin finds only live maps. */
async function readMap(state: Asked, reference: string): Promise<number> {
  const asked = readReference(reference, "map");
  return "id" in asked ? asked.id : (await askMap(state, asked, reference)).id;
}

function readNamed(names: Readonly<Record<string, number>>, given: string, where: string): number {
  if (Object.hasOwn(names, given)) return names[given] as number;
  if (/^-?\d{1,9}$/.test(given)) return Number(given);
  throw new InvalidInput(where, `a name or a number required, found ${JSON.stringify(given.slice(0, 40))}`);
}
