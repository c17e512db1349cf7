import type { EventRow } from "../log/event.ts";

/** A row that has crossed threads: Buffers cross as plain byte arrays. */
export function withBuffers(row: EventRow): EventRow {
  return { ...row, key: buffer(row.key), value: buffer(row.value) };
}

function buffer(bytes: Uint8Array | null): Buffer | null {
  return bytes === null ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
