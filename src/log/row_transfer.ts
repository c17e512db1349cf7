/**
 * Rows that have crossed threads: structured clone turns their Buffers into Uint8Arrays, which these functions turn
 * back.
 */

import type { RowBytes } from "./canonical.ts";
import type { EventFilter } from "./event_filter.ts";

/** A value that has crossed threads: its Buffers are Uint8Arrays. */
export type Crossed<Value> = Value extends Uint8Array
  ? Uint8Array
  : Value extends object
    ? { readonly [Name in keyof Value]: Crossed<Value[Name]> }
    : Value;

interface RowValues {
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
}

export function withBuffers<Row extends RowValues>(row: Row): Row & { key: Buffer | null; value: Buffer | null } {
  const { key, value } = row;
  return { ...row, key: key === null ? null : asBuffer(key), value: value === null ? null : asBuffer(value) };
}

export function columnsWithBuffers(row: Crossed<RowBytes>): RowBytes {
  const [seq, timeUs, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out] = row;
  const [callerBytes, keyBytes, valueBytes] = [bytesOf(caller), bytesOf(key), bytesOf(value)];
  const texts = [bytesOf(detail), bytesOf(attr), bytesOf(out)] as const;
  return [seq, timeUs, session, callerBytes, cmd, map, fd, keyBytes, valueBytes, flags, ret, errno, ...texts];
}

function bytesOf(column: Uint8Array | string | null): Buffer | string | null {
  return column instanceof Uint8Array ? asBuffer(column) : column;
}

export function filterWithBuffer({ key, ...filter }: Crossed<EventFilter>): EventFilter {
  return key === undefined ? filter : { ...filter, key: asBuffer(key) };
}

/** A Buffer over the same memory. */
export function asBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
