/** Rows of texts: aligned, with a header, on a terminal; with tabs between, for other programs. */

import type { Output } from "./output.ts";

const GAP = "  ";
/** Rows that are aligned together: a long list is printed as it comes. */
const ROWS_MAX = 200;

export class Table {
  readonly #output: Output;
  readonly #heads: readonly string[];
  #rows: (readonly string[])[] = [];
  #widths: readonly number[];
  #isBegun = false;

  constructor(output: Output, heads: readonly string[]) {
    this.#output = output;
    this.#heads = heads;
    this.#widths = heads.map(({ length }) => length);
  }

  row(...cells: readonly string[]): void {
    if (!this.#output.isTerminal) this.#output.cells(cells);
    else if (this.#rows.push(cells) === ROWS_MAX) this.flush();
  }

  flush(): void {
    if (this.#rows.length === 0) return;
    this.#widths = this.#widths.map((width, at) => Math.max(width, ...this.#rows.map((row) => row[at]?.length ?? 0)));
    if (!this.#isBegun) this.#output.line(this.#aligned(this.#heads), "bold");
    this.#isBegun = true;
    for (const row of this.#rows) this.#output.line(this.#aligned(row));
    this.#rows = [];
  }

  #aligned(cells: readonly string[]): string {
    return cells.map((cell, at) => (at === cells.length - 1 ? cell : cell.padEnd(this.#widths[at] ?? 0))).join(GAP);
  }
}
