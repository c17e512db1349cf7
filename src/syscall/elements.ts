import { afterKey, afterPrefix, type Cell } from "../maps/cells.ts";
import { elementsPrefix } from "../maps/common.ts";
import { cellAt, indexAt, indexOf } from "../maps/index_keys.ts";
import { type Element, POSITION_BYTES } from "../maps/map.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";
import type { ElementsCommand, Origin } from "./command.ts";
import { checkReadable, openMap } from "./guards.ts";
import { done, failed, isRefusal, type Outcome } from "./outcome.ts";
import type { OpenMap, State } from "./state.ts";

/** The limit that asks for the whole map as it is at one moment. */
export const WHOLE_MAP = 2 ** 32 - 1;

/** A page ends after so many bytes, however few its elements are; and a whole map may have so many. */
const PAGE_BYTES = 16 * 1024 * 1024;
const WHOLE_BYTES_MAX = 1024 * 1024 * 1024;

/** A page of elements in the state's order: what mapledger adds to bpf(2) for people who look into maps. */
export function elements(state: State, command: Origin & ElementsCommand): Outcome {
  const { after, limit } = command.attr;
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  const refusal = checkReadable(map) ?? checkPosition(map, after);
  if (refusal !== null) return failed(refusal, map.map.id);
  const bytesMax = limit === WHOLE_MAP ? WHOLE_BYTES_MAX : PAGE_BYTES;
  const elementBytes = map.map.keySize + map.type.valueBytes(map.map, state.host);
  const countMax = Math.min(limit, Math.max(1, Math.floor(bytesMax / elementBytes)));

  const found: Element[] = [];
  let more = false;
  for (const element of elementsOf(map, after)) {
    more = found.length === countMax;
    if (more) break;
    found.push(element);
  }
  if (more && limit === WHOLE_MAP)
    return failed(refuse("ENOMEM", `the map has more than ${WHOLE_BYTES_MAX} bytes: read it in pages`), map.map.id);
  const keys = Buffer.concat(found.map(({ key }) => key));
  const values = Buffer.concat(found.map(({ value }) => value));
  return done(map.map.id, values, more ? { count: found.length, more } : { count: found.length }, keys);
}

/** Elements in the state's order, after the one with the key `after`; null: from the start. */
export function* elementsOf(store: OpenMap, after: Buffer | null): Iterable<Element> {
  const { map, type, cells } = store;
  const prefix = elementsPrefix(map);
  const from = after === null ? prefix : afterKey(type.cellOf(map, after));
  const written = cells.range(from, afterPrefix(prefix));
  if (type.dense) return yield* denseElements(store, after === null ? 0 : indexOf(after) + 1, written);
  for (const [cell, bytes] of written) {
    const element = type.element(store, cell, bytes);
    if (element !== null) yield element;
  }
}

/** Those that were written, and between them those that never were. */
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
  return refuse("EINVAL", `after has ${after.length} bytes: ${size} say where in this map`);
}
