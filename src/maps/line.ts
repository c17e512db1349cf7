/**
 * Queues and stacks: values without keys, pushed at the tail and popped from one end. Source:
 * kernel/bpf/queue_stack_maps.c. A pushed value gets the number of the tail (eight bytes), by which its cell is found.
 * One more cell, number 0, has the numbers of both ends:
 *
 *   push a, push b, push c   0: head 1, tail 4   1: a   2: b   3: c
 *   pop of a queue: a        0: head 2, tail 4          2: b   3: c
 *   pop of a stack: c        0: head 2, tail 3          2: b
 */

import { BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { QUEUE_VALUE_BYTES_MAX } from "../abi/limits.ts";
import { afterPrefix, bytesKey, type CellKey } from "./cells.ts";
import {
  ACCESS_FLAGS,
  checkEntries,
  checkFlags,
  checkKeySize,
  ELEMENT_PREFIX_BYTES,
  elementsPrefix,
  NO_BATCHES,
  PROG_FLAGS,
  USUAL,
} from "./common.ts";
import { type MapRecord, type MapStore, type MapType, POSITION_BYTES } from "./map.ts";
import { PLAIN_FACTS } from "./map_facts.ts";
import { type Refusal, refuse, refused } from "./refusal.ts";

const FLAGS = BPF_F.BPF_F_NUMA_NODE | ACCESS_FLAGS | PROG_FLAGS;
const EMPTY = refuse("ENOENT", "the map is empty");
/** The number of the cell that has the numbers of both ends. */
const ENDS = 0n;

interface Ends {
  /** The number of the oldest value. */
  readonly head: bigint;
  /** The number that the next value gets. */
  readonly tail: bigint;
}

function cellOf(map: MapRecord, number: bigint): CellKey {
  return elementsPrefix(map) + bytesKey(positionOf(number));
}

function positionOf(number: bigint): Buffer {
  const bytes = Buffer.allocUnsafe(POSITION_BYTES);
  bytes.writeBigUInt64BE(number, 0);
  return bytes;
}

function ends(store: MapStore): Ends {
  const bytes = store.cells.get(cellOf(store.map, ENDS));
  return bytes === undefined
    ? { head: 1n, tail: 1n }
    : { head: bytes.readBigUInt64BE(0), tail: bytes.readBigUInt64BE(POSITION_BYTES) };
}

function setEnds(store: MapStore, { head, tail }: Ends): void {
  store.cells.put(cellOf(store.map, ENDS), Buffer.concat([positionOf(head), positionOf(tail)]));
  store.setEntryCount(Number(tail - head));
}

/** Pushes a value at the tail. */
function put(store: MapStore, place: Buffer, value: Buffer): void {
  const { head, tail } = ends(store);
  store.cells.put(cellOf(store.map, tail), value);
  setEnds(store, { head, tail: tail + 1n });
  store.changed(store.map, place, value);
}

/** Removes the value with this number, which is at one of the ends. */
function remove(store: MapStore, place: Buffer): void {
  const { head, tail } = ends(store);
  const number = place.readBigUInt64BE(0);
  store.cells.delete(cellOf(store.map, number));
  setEnds(store, number === head ? { head: head + 1n, tail } : { head, tail: tail - 1n });
  store.changed(store.map, place, null);
}

/** `newest`: a pop takes the value that was pushed last. */
export function line({ newest }: { newest: boolean }): MapType {
  const next = ({ head, tail }: Ends): bigint => (newest ? tail - 1n : head);

  function peek(store: MapStore): Buffer | Refusal {
    return store.entryCount() === 0 ? EMPTY : (store.cells.get(cellOf(store.map, next(ends(store)))) as Buffer);
  }

  return {
    ...USUAL,
    facts: { ...PLAIN_FACTS, line: true },

    allocCheck(attr) {
      const refusal = checkEntries(attr) ?? checkKeySize(attr, 0);
      if (refusal !== null) return refusal;
      if (attr.valueSize === 0) return refuse("EINVAL", "value_size is 0");
      const flags = checkFlags(attr, FLAGS, newest ? "a stack's" : "a queue's");
      if (flags !== null || attr.valueSize <= QUEUE_VALUE_BYTES_MAX) return flags;
      return refuse("E2BIG", `value_size is ${attr.valueSize}: more than ${QUEUE_VALUE_BYTES_MAX}`);
    },

    alloc: () => null,
    allocatedBytes: (attr) => attr.valueSize * (attr.maxEntries + 1),
    lookup: peek,

    update(store, _key, value, flags) {
      if (flags !== BPF_ELEM.BPF_ANY && flags !== BPF_ELEM.BPF_EXIST)
        return refuse("EINVAL", `flags ${flags}: BPF_ANY or BPF_EXIST required`);
      const count = store.entryCount();
      const { head, tail } = ends(store);
      const isFull = count >= store.map.maxEntries;
      if (isFull && flags === BPF_ELEM.BPF_ANY)
        return refuse("E2BIG", `map is full: ${count} of ${store.map.maxEntries} entries`);
      if (isFull) {
        remove(store, positionOf(head));
        store.evicted(positionOf(head));
      }
      put(store, positionOf(tail), value);
      store.stored(positionOf(tail), null);
      return null;
    },

    delete: refused("EINVAL", "the map has no keys: elements are deleted by popping"),
    nextKey: refused("EINVAL", "the map has no keys to walk"),

    lookupAndDelete(store) {
      const value = peek(store);
      if (!Buffer.isBuffer(value)) return value;
      const place = positionOf(next(ends(store)));
      remove(store, place);
      store.stored(place, null);
      return value;
    },

    batch: NO_BATCHES,
    put,
    remove,
    cellOf: (map, position) => elementsPrefix(map) + bytesKey(position),

    element({ map }, cell, bytes) {
      if (bytes === undefined || cell === cellOf(map, ENDS)) return null;
      return { key: Buffer.from(cell.slice(ELEMENT_PREFIX_BYTES), "latin1"), value: bytes };
    },

    *stored(store) {
      const prefix = elementsPrefix(store.map);
      for (const [cell, value] of store.cells.range(cellOf(store.map, ends(store).head), afterPrefix(prefix)))
        yield { key: Buffer.from(cell.slice(prefix.length), "latin1"), value };
    },
  };
}
