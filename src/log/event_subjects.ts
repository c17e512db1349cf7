/**
 * The maps, keys and cells that an event is about beyond those that its command names: its effects have changed them.
 * `addsNoCells` names the commands that the engine still accepts if the state's disk has failed and no more cells may
 * become pending (`engine/pending.ts`).
 */

import { CMD } from "../abi/service.ts";
import type { Out } from "../syscall/outcome.ts";
import type { EventRow } from "./event.ts";

const BATCHES: ReadonlySet<number> = new Set([
  CMD.BPF_MAP_LOOKUP_BATCH,
  CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
  CMD.BPF_MAP_UPDATE_BATCH,
  CMD.BPF_MAP_DELETE_BATCH,
]);

/** Commands that change no element, and neither make nor free a map. */
export const READS: ReadonlySet<number> = new Set([
  CMD.BPF_MAP_LOOKUP_ELEM,
  CMD.BPF_MAP_GET_NEXT_KEY,
  CMD.BPF_MAP_LOOKUP_BATCH,
  CMD.BPF_MAP_GET_NEXT_ID,
  CMD.BPF_MAP_GET_FD_BY_ID,
  CMD.BPF_OBJ_GET,
  CMD.BPF_OBJ_GET_INFO_BY_FD,
  CMD.BPF_OBJ_PIN,
  CMD.MAP_ELEMENTS,
  CMD.MEMORY_READ,
]);

/** The commands of READS that make descriptors or pins, which are cells of the state. */
const MAKE_CELLS: ReadonlySet<number> = new Set([CMD.BPF_MAP_GET_FD_BY_ID, CMD.BPF_OBJ_GET, CMD.BPF_OBJ_PIN]);

/** Other commands that add no cell: they change none, or only their session's, which exists already. */
const ADD_NOTHING: ReadonlySet<number> = new Set([
  CMD.SESSION_RENEW,
  CMD.ACCESS_REFUSED,
  CMD.CALLERS,
  CMD.CERTIFICATES,
  CMD.CHECKPOINT,
  CMD.ARCHIVE,
]);

/** Whether a command adds no cell to the state, with every outcome that it can have. */
export function addsNoCells(cmd: number): boolean {
  return ADD_NOTHING.has(cmd) || (READS.has(cmd) && !MAKE_CELLS.has(cmd));
}

/** Commands that answer the values that they delete. */
export const TAKES: ReadonlySet<number> = new Set([
  CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM,
  CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
]);

/**
 * Commands that change maps, elements, pins or directories if they succeed. An outcome with `unchanged`, or a batch
 * with count 0, has changed nothing.
 */
const CHANGES: ReadonlySet<number> = new Set([
  CMD.BPF_MAP_CREATE,
  CMD.BPF_MAP_UPDATE_ELEM,
  CMD.BPF_MAP_DELETE_ELEM,
  CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM,
  CMD.BPF_MAP_FREEZE,
  CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
  CMD.BPF_MAP_UPDATE_BATCH,
  CMD.BPF_MAP_DELETE_BATCH,
  CMD.BPF_OBJ_PIN,
  CMD.UNLINK,
  CMD.MKDIR,
  CMD.RMDIR,
  CMD.MEMORY_WRITE,
]);

/**
 * Whether an event changed a map, an element, a pin or a directory, itself or by its effects (freed maps, evicted
 * elements, elements deleted with their object).
 */
export function hasChanged({ cmd, errno }: Pick<EventRow, "cmd" | "errno">, effects: Out | null): boolean {
  const { freed = [], gone = [], evicted = [], taken, unchanged, count } = effects ?? {};
  if (freed.length > 0 || gone.length > 0 || evicted.length > 0) return true;
  if (!CHANGES.has(cmd)) return false;
  if (BATCHES.has(cmd)) return (count ?? 0) > 0;
  return errno === 0 ? unchanged !== true : taken === true;
}

/** The outcome's `out`, which has the effects of an event; null for most events. */
export function effectsIn({ out }: Pick<EventRow, "out">): Out | null {
  return out === null ? null : (JSON.parse(out) as Out);
}

/** The map that the command named, and the maps that lost elements or were freed by it. */
export function touchedMaps({ map }: Pick<EventRow, "map">, effects: Out | null): ReadonlySet<number> {
  const maps = new Set([map]);
  for (const id of effects?.freed ?? []) maps.add(id);
  for (const [id] of effects?.gone ?? []) maps.add(id);
  return maps;
}

/** Every map that an event names: those that it touched, and the map that it restores. */
export function namedMaps(row: Pick<EventRow, "map" | "attr" | "out">): ReadonlySet<number> {
  const maps = new Set(touchedMaps(row, effectsIn(row)));
  maps.delete(0);
  const restored = row.attr?.includes('"restore"') === true ? JSON.parse(row.attr).restore?.map : undefined;
  return typeof restored === "number" ? maps.add(restored) : maps;
}

/**
 * The keys that the command named or stored, and those of elements that were evicted or were deleted with their object.
 * `keySizeOf` gives the key size at which a batch's keys are cut apart; undefined if it is not known: then the batch's
 * keys stay in one piece.
 */
export function touchedKeys(
  { cmd, map, key }: Pick<EventRow, "cmd" | "map" | "key">,
  effects: Out | null,
  keySizeOf: (map: number) => number | undefined,
): Buffer[] {
  const size = BATCHES.has(cmd) ? keySizeOf(map) : undefined;
  const keys = key === null ? [] : apart(key, size);
  if (effects === null) return keys;
  const { stored_keys: stored, evicted = [], known_as: knownAs = [], gone = [] } = effects;
  if (stored !== undefined) keys.push(...apart(Buffer.from(stored, "hex"), size));
  for (const [, hex] of [...evicted, ...knownAs, ...gone]) keys.push(Buffer.from(hex, "hex"));
  return keys;
}

function apart(keys: Buffer, size: number | undefined): Buffer[] {
  if (size === undefined || size === 0) return [keys];
  return Array.from({ length: Math.floor(keys.length / size) }, (_, at) => keys.subarray(at * size, (at + 1) * size));
}
