import { afterPrefix, type Cell, type CellKey } from "../maps/cells.ts";
import { elementsPrefix } from "../maps/common.ts";
import type { OpenMap } from "../syscall/open_map.ts";

/**
 * An element that differs between two moments, in the form that pages show; null: no element before, or none after.
 */
export interface ChangedElement {
  readonly key: Buffer;
  readonly before: Buffer | null;
  readonly after: Buffer | null;
}

/**
 * Elements of a map that differ between two moments, in the state's order; null: the map did not exist. If an array did
 * not exist at one of them, only its written elements count. `touched`: the only cells that may differ, ascending, if they are known;
 * otherwise the cost depends on the elements of both moments.
 */
export function* changedElements(
  before: OpenMap | null,
  after: OpenMap | null,
  touched: readonly CellKey[] | null = null,
): Iterable<ChangedElement> {
  const type = (before ?? after)?.type;
  if (type === undefined) return;
  const cells = touched === null ? joined(cellsOf(before), cellsOf(after)) : gotten(touched, before, after);
  for (const [cell, then, now] of cells) {
    const earlier = before === null ? null : type.element(before, cell, then);
    const later = after === null ? null : type.element(after, cell, now);
    const key = earlier?.key ?? later?.key;
    if (key === undefined || (earlier !== null && later !== null && earlier.value.equals(later.value))) continue;
    yield { key, before: earlier?.value ?? null, after: later?.value ?? null };
  }
}

function cellsOf(map: OpenMap | null): Iterable<Cell> {
  if (map === null) return [];
  const prefix = elementsPrefix(map.map);
  return map.cells.range(prefix, afterPrefix(prefix));
}

/** A cell of both sides; undefined: this side has no such cell. */
type Pair = readonly [cell: CellKey, left: Buffer | undefined, right: Buffer | undefined];

/** The given cells. Those that neither side has are left out. */
function* gotten(keys: readonly CellKey[], left: OpenMap | null, right: OpenMap | null): Iterable<Pair> {
  for (const key of keys) {
    const pair = [key, left?.cells.get(key), right?.cells.get(key)] as const;
    if (pair[1] !== undefined || pair[2] !== undefined) yield pair;
  }
}

/** Joins the cells of both sides by key. */
function* joined(left: Iterable<Cell>, right: Iterable<Cell>): Iterable<Pair> {
  const rights = right[Symbol.iterator]();
  let next = rights.next();
  for (const [cell, bytes] of left) {
    for (; !next.done && next.value[0] < cell; next = rights.next()) yield [next.value[0], undefined, next.value[1]];
    const same = !next.done && next.value[0] === cell;
    yield [cell, bytes, same ? next.value[1] : undefined];
    if (same) next = rights.next();
  }
  for (; !next.done; next = rights.next()) yield [next.value[0], undefined, next.value[1]];
}
