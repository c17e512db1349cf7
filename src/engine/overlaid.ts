/**
 * Merges changes with the cells beneath them, in the order of their keys: pending cells over stored ones
 * (`pending.ts`), earlier cells over present ones (`moments.ts`).
 */

import type { Cell, CellKey } from "../maps/cells.ts";
import type { Change } from "./sorted_cells.ts";

/**
 * Both are ascending; the result has keys below `to`. If both have a key, the result has the change. `gone` is called
 * for each change to null, a deleted cell.
 */
export function* overlaid(
  changes: Iterator<readonly [key: CellKey, change: Change]>,
  cells: Iterable<Cell>,
  to: CellKey,
  gone: () => void = () => {},
): Iterable<Cell> {
  let next = changes.next();
  for (const cell of cells) {
    for (; !next.done && next.value[0] < cell[0]; next = changes.next())
      if (next.value[1] === null) gone();
      else yield next.value as Cell;
    if (next.done || next.value[0] !== cell[0]) {
      yield cell;
      continue;
    }
    if (next.value[1] === null) gone();
    else yield next.value as Cell;
    next = changes.next();
  }
  for (; !next.done && next.value[0] < to; next = changes.next())
    if (next.value[1] === null) gone();
    else yield next.value as Cell;
}
