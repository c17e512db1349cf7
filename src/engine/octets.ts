/**
 * Batches whose body is bytes: all keys end to end, then all values, as union bpf_attr's batch has them. Only the
 * engine knows the sizes of the map, so it divides the body, and the number of elements follows from the length. For
 * example, 144 bytes for a map of 8-byte keys and 64-byte values are 2 elements: keys at 0 and 8, values at 16 and 80.
 * Keys and values are views into the body.
 */

import { CMD } from "../abi/service.ts";
import { isRefusal } from "../maps/refusal.ts";
import type { BatchCommand, Origin } from "../syscall/command.ts";
import { checkSession, openMap } from "../syscall/guards.ts";
import type { OpenMap } from "../syscall/open_map.ts";
import type { State } from "../syscall/state.ts";
import type { NotDone } from "./request.ts";

const NOTHING = Buffer.alloc(0);

/** The part of a batch that is read and changed here. */
type Octets = Pick<BatchCommand, "cmd" | "key" | "value" | "attr"> & { readonly octets?: true };

/** The same batch with keys, values and count; or the refusal of a body that is not a whole number of elements. */
export function divided<Batch extends Octets>(state: State, batch: Batch, { map, type }: OpenMap): Batch | NotDone {
  const updates = batch.cmd === CMD.BPF_MAP_UPDATE_BATCH;
  const keyBytes = map.keySize;
  const valueBytes = updates ? type.valueBytes(map, state.host) : 0;
  const body = batch.value ?? NOTHING;
  const elementBytes = keyBytes + valueBytes;
  const count = elementBytes === 0 ? 0 : Math.floor(body.length / elementBytes);
  const left = body.length - count * elementBytes;
  const isRefused = (updates ? type.batch.update : type.batch.delete) !== null;
  if (left > 0 && !isRefused) return remainder(body.length, keyBytes, updates ? valueBytes : null, left);
  const keys = body.subarray(0, count * keyBytes);
  const values = updates ? body.subarray(keys.length, keys.length + count * valueBytes) : null;
  return withElements(batch, keys, values, count);
}

/**
 * The same for a command that is about to run. If its session or its map will be refused, it has no elements: nobody is
 * told the sizes of a map that another caller's session has open.
 */
export function dividedOn<Batch extends Octets & Origin & BatchCommand>(state: State, batch: Batch): Batch | NotDone {
  const map = checkSession(state, batch) === null ? openMap(state, batch, batch.target) : null;
  if (map === null || isRefusal(map)) return withElements(batch, NOTHING, NOTHING, 0);
  return divided(state, batch, map);
}

function withElements<Batch extends Octets>(batch: Batch, key: Buffer, value: Buffer | null, count: number): Batch {
  const { attr } = batch;
  const given = { ...attr, count, ...(attr.ifPresent !== undefined && { ifPresent: count }) };
  return { ...batch, octets: undefined, key, value, attr: given };
}

function remainder(found: number, keyBytes: number, valueBytes: number | null, left: number): NotDone {
  const element =
    valueBytes === null
      ? `keys of ${keyBytes} bytes`
      : `keys of ${keyBytes} bytes and values of ${valueBytes}, ${keyBytes + valueBytes} an element`;
  return { failure: "invalid body", detail: `${element} required, found ${found} bytes: ${left} are left over` };
}
