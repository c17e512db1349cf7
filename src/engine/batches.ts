/** Builds the batches that the service makes itself: for imports, adoptions and restores. */

import { CMD } from "../abi/service.ts";
import type { Element, MapType } from "../maps/map.ts";
import type { BatchCommand, ElementCommand, Target } from "../syscall/command.ts";

/** A batch ends when it has this many bytes of keys and values. */
const BATCH_BYTES = 4 * 1024 * 1024;

/** `values` null: a delete batch. */
export function batch(
  cmd: typeof CMD.BPF_MAP_UPDATE_BATCH | typeof CMD.BPF_MAP_DELETE_BATCH,
  target: Target,
  keys: readonly Buffer[],
  values: readonly Buffer[] | null,
): BatchCommand {
  const attr = { count: keys.length, elemFlags: 0n, inBatch: null, outBatch: null };
  const value = values === null ? null : Buffer.concat(values);
  return { cmd, target, key: Buffer.concat(keys), value, flags: 0n, attr };
}

/**
 * The commands that write elements: batches of at most `most` elements, or single updates if the type has no update
 * batch.
 */
export function* updates(
  type: MapType,
  target: Target,
  elements: readonly Element[],
  most: number,
): Iterable<BatchCommand | ElementCommand> {
  if (type.batch.update !== null) for (const element of elements) yield update(target, element);
  else
    for (const some of inBatches(elements, most)) {
      const keys = some.map(({ key }) => key);
      const values = some.map(({ value }) => value);
      yield batch(CMD.BPF_MAP_UPDATE_BATCH, target, keys, values);
    }
}

export function update(target: Target, { key, value }: Element): ElementCommand {
  return { cmd: CMD.BPF_MAP_UPDATE_ELEM, target, key, value, flags: 0n };
}

/** Groups of at most `most` items, and of about BATCH_BYTES. */
export function* inBatches<Item extends Buffer | Element>(
  items: readonly Item[],
  most: number,
): Iterable<readonly Item[]> {
  let batch: Item[] = [];
  let bytes = 0;
  for (const item of items) {
    batch.push(item);
    bytes += Buffer.isBuffer(item) ? item.length : item.key.length + item.value.length;
    if (batch.length < most && bytes < BATCH_BYTES) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  if (batch.length > 0) yield batch;
}
