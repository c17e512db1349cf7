/** Changed cells over stored ones, in the order of their keys. */

import type { Cell, CellKey } from "../maps/cells.ts";
import type { Change } from "./sorted_cells.ts";

/**
 * Changes over cells, both in order and up to `to`: of two with one key the change counts. `gone` is called for each change that says
 * that its cell is not there.
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
