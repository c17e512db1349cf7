/**
 * Rows that have crossed threads: structured clone turns their Buffers into Uint8Arrays, which these functions turn
 * back.
 */

import type { RowBytes } from "./canonical.ts";
import type { EventRow } from "./event.ts";
import type { EventFilter } from "./event_filter.ts";

export function withBuffers<Row extends EventRow>(row: Row): Row {
  const { key, value } = row;
  return { ...row, key: key === null ? null : asBuffer(key), value: value === null ? null : asBuffer(value) };
}

export function columnsWithBuffers(row: RowBytes): RowBytes {
  return row.map((column) => (column instanceof Uint8Array ? asBuffer(column) : column)) as unknown as RowBytes;
}

export function filterWithBuffer(filter: EventFilter): EventFilter {
  return filter.key === undefined ? filter : { ...filter, key: asBuffer(filter.key) };
}

/** A Buffer over the same memory. */
export function asBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
