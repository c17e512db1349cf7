/**
 * The maps and keys that an event is about: those that its command names, and those that its effects changed, such as
 * maps that were freed and elements that were evicted.
 */

import { commandFacts } from "../syscall/command_facts.ts";
import type { Out } from "../syscall/outcome.ts";
import type { EventRow } from "./event.ts";

/**
 * Whether an event changed a map, an element, a pin or a directory, itself or by its effects (freed maps, evicted
 * elements, elements deleted with their object). An outcome with `unchanged`, or a batch with count 0, has changed
 * nothing.
 */
export function hasChanged({ cmd, errno }: Pick<EventRow, "cmd" | "errno">, effects: Out | null): boolean {
  const { freed = [], gone = [], evicted = [], taken, unchanged, count } = effects ?? {};
  if (freed.length > 0 || gone.length > 0 || evicted.length > 0) return true;
  const facts = commandFacts(cmd);
  if (facts === undefined || facts.changes === null) return false;
  if (facts.elements === "batch") return (count ?? 0) > 0;
  return errno === 0 ? unchanged !== true : taken === true;
}

/** The outcome's `out`, which has the effects of an event; null for most events. */
export function effectsIn({ out }: Pick<EventRow, "out">): Out | null {
  return out === null ? null : (JSON.parse(out) as Out);
}

/** The session that an event of SESSION_OPEN opened, and the peer of its connection; null: it has none. */
export function openedPeer(
  { attr }: Pick<EventRow, "attr">,
  effects: Out | null,
): { readonly session: number; readonly peer: string } | null {
  const { peer } = JSON.parse(attr ?? "{}");
  const session = effects?.session_id;
  return typeof peer === "string" && session !== undefined ? { session, peer } : null;
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
  const size = commandFacts(cmd)?.elements === "batch" ? keySizeOf(map) : undefined;
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
