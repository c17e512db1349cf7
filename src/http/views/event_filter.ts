import { type Static, Type } from "typebox";
import { ERRNO } from "../../abi/errno.ts";
import { CMD } from "../../abi/service.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import { readTimeUs } from "../../codec/moments.ts";
import { bytes } from "../../codec/scalars.ts";
import type { EventFilter } from "../../log/event_filter.ts";
import type { Asked } from "./as_of.ts";
import { askMap } from "./lookups.ts";
import { readReference } from "./targets.ts";

/** The fields of a query that say which events. */
export const FilterFields = {
  map: Type.Optional(
    Type.String({
      description:
        "A map's id; name:NAME or pinned:PATH of one that lives. Events that were meant for it, or that took elements or " +
        "its life from it.",
      examples: ["1"],
    }),
  ),
  session: Type.Optional(Type.Integer({ minimum: 0, description: "0: commands of no session." })),
  caller: Type.Optional(Type.String()),
  cmd: Type.Optional(Type.String({ description: "A command's name or number.", examples: ["BPF_MAP_UPDATE_ELEM"] })),
  errno: Type.Optional(
    Type.String({ description: "An errno's name or number; 0 for commands that succeeded.", examples: ["ENOENT"] }),
  ),
  changes: Type.Optional(
    Type.Boolean({
      description:
        "true: only events that changed a map, an element, a pin or a directory: no reads, and nothing that was refused without effect. false: only the others.",
    }),
  ),
  failed: Type.Optional(
    Type.Boolean({
      description: "true: only events that were refused, with whatever errno. false: only those that succeeded.",
    }),
  ),
  key: Type.Optional(
    Type.String({
      description:
        "The beginning of the key, in hex; of a batch, any of its keys that the event keeps; or a key that was stored or evicted.",
    }),
  ),
  since: Type.Optional(
    Type.String({
      description: "A moment in RFC 3339: selects the events behind the last one stamped before it.",
      examples: ["2026-11-23T20:00:00Z"],
    }),
  ),
  until: Type.Optional(
    Type.String({ description: "Up to this moment, itself included: to the last event stamped at or before it." }),
  ),
};

const Filter = Type.Object(FilterFields);
export type FilterQuery = Static<typeof Filter>;

/** Throws the problem of a map that the caller may not see. */
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

/** The map that a filter means by a name or a pin: another one may have that later. null: none, or by its id. */
export function referredMap({ map }: Pick<FilterQuery, "map">, filter: EventFilter): number | null {
  return map === undefined || "id" in readReference(map, "map") ? null : (filter.map ?? null);
}

/** Ids stand for maps that are no more, too; names and pins for those that live. */
async function readMap(state: Asked, reference: string): Promise<number> {
  const asked = readReference(reference, "map");
  return "id" in asked ? asked.id : (await askMap(state, asked, reference)).id;
}

function readNamed(names: Readonly<Record<string, number>>, given: string, where: string): number {
  if (Object.hasOwn(names, given)) return names[given] as number;
  if (/^-?\d{1,9}$/.test(given)) return Number(given);
  throw new InvalidInput(where, `a name or a number required, found ${JSON.stringify(given.slice(0, 40))}`);
}
