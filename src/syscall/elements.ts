/**
 * Pages of elements, in the state's order. In pages of maps without keys a position of eight bytes takes the place of
 * the key. If the kernel refuses lookups in a map, its pages show the ids of the objects that its elements hold.
 */

import { afterKey, afterPrefix, type Cell } from "../maps/cells.ts";
import { elementsPrefix } from "../maps/common.ts";
import { cellAt, indexAt, indexOf } from "../maps/index_keys.ts";
import { type Element, POSITION_BYTES } from "../maps/map.ts";
import { showsIds } from "../maps/references.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import type { ElementsCommand, Origin } from "./command.ts";
import { checkReadable, openMap } from "./guards.ts";
import type { OpenMap } from "./open_map.ts";
import { done, failed, type Outcome } from "./outcome.ts";
import type { State } from "./state.ts";

/** The limit that requests the whole map, as of one moment. */
export const WHOLE_MAP = 2 ** 32 - 1;

/**
 * The most elements and bytes that are read at once, which takes some 20 ms, whatever the limit; at least one element
 * is read. Further elements are read as of the event's seq.
 */
const ELEMENTS_MAX = 4096;
const BYTES_MAX = 4 * 1024 * 1024;

/** A page of a map's elements in the order of the state's cells: a command of mapledger's, for people. */
export function elements(state: State, command: Origin & ElementsCommand): Outcome {
  const { after, limit } = command.attr;
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  const refusal = checkReadable(map) ?? checkPosition(map, after);
  if (refusal !== null) return failed(refusal, map.map.id);
  const elementBytes = map.map.keySize + map.type.valueBytes(map.map, state.host);
  const countMax = Math.min(limit, ELEMENTS_MAX, Math.max(1, Math.floor(BYTES_MAX / elementBytes)));

  const found: Element[] = [];
  let more = false;
  for (const element of elementsOf(map, after)) {
    more = found.length === countMax;
    if (more) break;
    found.push(element);
  }
  const keys = Buffer.concat(found.map(({ key }) => key));
  const values = Buffer.concat(found.map(({ value }) => value));
  const out = { count: found.length, ...(more && { more }), ...idsShown(map) };
  return done(map.map.id, values, out, keys);
}

/** Marks an answer that shows ids of objects in keys or values. */
export function idsShown({ map }: OpenMap): { readonly ids?: true } {
  return showsIds(map.type, map.valueSize) ? { ids: true } : {};
}

/** The elements in the order of the state's cells, after the one with the key `after`; null: from the start. */
export function* elementsOf(store: OpenMap, after: Buffer | null): Iterable<Element> {
  const { map, type, cells } = store;
  const prefix = elementsPrefix(map);
  const from = after === null ? prefix : afterKey(type.cellOf(map, after));
  const written = cells.range(from, afterPrefix(prefix));
  if (type.facts.dense) return yield* denseElements(store, after === null ? 0 : indexOf(after) + 1, written);
  for (const [cell, bytes] of written) {
    const element = type.element(store, cell, bytes);
    if (element !== null) yield element;
  }
}

/** All elements of a dense map: those that were written, and the zeros between them. */
function* denseElements(store: OpenMap, first: number, written: Iterable<Cell>): Iterable<Element> {
  const { map, type } = store;
  let index = first;
  for (const [cell, bytes] of written) {
    for (; index < Math.min(indexAt(cell), map.maxEntries); index++)
      yield type.element(store, cellAt(map, index), undefined) as Element;
    if (index < map.maxEntries) yield type.element(store, cell, bytes) as Element;
    index++;
  }
  for (; index < map.maxEntries; index++) yield type.element(store, cellAt(map, index), undefined) as Element;
}

function checkPosition(map: OpenMap, after: Buffer | null): Refusal | null {
  const size = map.map.keySize === 0 ? POSITION_BYTES : map.map.keySize;
  if (after === null || after.length === size) return null;
  return refuse("EINVAL", `after has ${after.length} bytes: this map requires ${size}`);
}
