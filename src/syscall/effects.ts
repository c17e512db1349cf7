/** The changes of elements, derived from events alone: a replay applies them, and a watch shows them. */

import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { keptValue, roundUp8, u32Buffer } from "../maps/common.ts";
import type { MapRecord } from "../maps/map.ts";
import type { BatchCommand, Command, ElementCommand, MemoryCommand, Origin } from "./command.ts";
import type { Out, Outcome } from "./outcome.ts";

/**
 * A change of an element, derived from an event alone: replays apply it by `put` and `remove` of the map's type, and
 * watches of the map report it.
 */
export type Effect =
  | {
      readonly kind: "put";
      readonly key: Buffer;
      /** As MapType.put takes it. */
      readonly value: Buffer;
      /** As pages of elements show it. */
      readonly shown: Buffer;
    }
  | { readonly kind: "remove"; readonly key: Buffer };

/** The properties of a map that are needed to read its events. */
export interface EffectShape {
  readonly map: Pick<MapRecord, "id" | "keySize" | "valueSize" | "maxEntries" | "special">;
  /** The bytes of a value in user space. */
  readonly valueBytes: number;
}

type Batch = Origin & BatchCommand;

const NOTHING = Buffer.alloc(0);

/**
 * All changes of a map's elements by an event, including those deleted with an object, where the event names another
 * map.
 */
export function* effectsOn(shape: EffectShape, command: Command, outcome: Outcome): Iterable<Effect> {
  if (outcome.map === shape.map.id) yield* namedEffects(shape, command, outcome);
  for (const [map, key] of outcome.out?.gone ?? []) if (map === shape.map.id) yield removal(Buffer.from(key, "hex"));
}

function namedEffects(shape: EffectShape, command: Command, outcome: Outcome): Iterable<Effect> {
  switch (command.cmd) {
    case CMD.BPF_MAP_UPDATE_ELEM:
    case CMD.BPF_MAP_DELETE_ELEM:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM:
      return elementEffects(shape, command, outcome);
    case CMD.BPF_MAP_UPDATE_BATCH:
    case CMD.BPF_MAP_DELETE_BATCH:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH:
      return batchEffects(shape, command, outcome);
    case CMD.MEMORY_WRITE:
      return memoryEffects(shape, command, outcome);
    default:
      return [];
  }
}

/** The effects of BPF_MAP_UPDATE_ELEM, _DELETE_ELEM and _LOOKUP_AND_DELETE_ELEM. */
export function elementEffects(
  { map, valueBytes }: EffectShape,
  command: Pick<ElementCommand, "cmd" | "key" | "value">,
  { errno, out }: Pick<Outcome, "errno" | "out">,
): readonly Effect[] {
  if ((errno !== 0 && out?.taken !== true) || out?.unchanged === true) return [];
  const key = given(out?.stored_keys) ?? upTo(command.key ?? NOTHING, map.keySize);
  const knownAs = given(out?.known_as?.[0]?.[1]);
  const effects: Effect[] = (out?.evicted ?? []).map(([, evicted]) => removal(Buffer.from(evicted, "hex")));
  const removes = command.cmd !== CMD.BPF_MAP_UPDATE_ELEM || out?.emptied === true;
  if (removes) effects.push(removal(knownAs ?? key));
  else {
    if (knownAs !== undefined) effects.push(removal(knownAs));
    const value = given(out?.stored_values) ?? keptValue(map, upTo(command.value ?? NOTHING, valueBytes));
    effects.push({ kind: "put", key, value, shown: given(out?.shown_values) ?? upTo(value, valueBytes) });
  }
  return effects;
}

/**
 * The effects of an update or delete batch on its first elements, and of a lookup-and-delete batch on all keys that it
 * deleted.
 */
export function* batchEffects({ map, valueBytes }: EffectShape, command: Batch, outcome: Outcome): Iterable<Effect> {
  const takes = command.cmd === CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH;
  const keys = takes ? keysTaken(outcome, map.keySize) : (command.key ?? NOTHING);
  const done = takes ? keys.length / map.keySize : elementsDone(command, outcome);
  const values = given(outcome.out?.stored_values) ?? command.value ?? NOTHING;
  const evicted = [...(outcome.out?.evicted ?? [])];
  const knownAs = new Map(outcome.out?.known_as);
  for (let at = 0; at < done; at++) {
    for (; evicted[0]?.[0] === at; evicted.shift()) yield removal(Buffer.from(evicted[0][1], "hex"));
    const key = keys.subarray(at * map.keySize, (at + 1) * map.keySize);
    const known = given(knownAs.get(at));
    if (command.cmd !== CMD.BPF_MAP_UPDATE_BATCH) yield removal(known ?? key);
    else {
      if (known !== undefined) yield removal(known);
      const value = keptValue(map, values.subarray(at * valueBytes, (at + 1) * valueBytes));
      yield { kind: "put", key, value, shown: value };
    }
  }
}

/**
 * The number of elements that an update or delete batch has written or deleted. A batch that fails at an element has a
 * smaller count than it was given; an error with the full count means that nothing was done, and the count is the
 * caller's.
 */
export function elementsDone(command: BatchCommand, { errno, out }: Outcome): number {
  const count = out?.count ?? 0;
  return errno === 0 || count < command.attr.count ? count : 0;
}

/**
 * The keys that a lookup-and-delete batch has deleted: all that it answered, or that it lost because the answer could
 * not be written. A refused one has answered none.
 */
function keysTaken({ errno, out, key }: Outcome, keySize: number): Buffer {
  const answered = errno === 0 || errno === ERRNO.ENOENT ? (out?.count ?? 0) * keySize : 0;
  return (key ?? NOTHING).subarray(0, out?.taken === true ? undefined : answered);
}

/**
 * The effects of a write to an array's memory: the elements that it has covered at least in part. Padding belongs to no
 * element.
 */
function* memoryEffects({ map }: EffectShape, command: MemoryCommand, { errno, out }: Outcome): Iterable<Effect> {
  if (errno !== 0) return;
  const { offset } = command.attr;
  const data = command.value ?? NOTHING;
  const stride = roundUp8(map.valueSize);
  const partly = storedElements(out, map.valueSize);
  for (let index = Math.floor(offset / stride); index < map.maxEntries; index++) {
    const start = index * stride - offset;
    if (start >= data.length) return;
    if (start + map.valueSize <= 0) continue;
    const key = u32Buffer(index);
    const value = partly.get(index) ?? data.subarray(start, start + map.valueSize);
    yield { kind: "put", key, value, shown: value };
  }
}

function storedElements(out: Out | null, valueSize: number): ReadonlyMap<number, Buffer> {
  const keys = given(out?.stored_keys) ?? NOTHING;
  const values = given(out?.stored_values) ?? NOTHING;
  const elements = new Map<number, Buffer>();
  for (let at = 0; at * 4 < keys.length; at++)
    elements.set(keys.readUInt32LE(at * 4), values.subarray(at * valueSize, (at + 1) * valueSize));
  return elements;
}

function removal(key: Buffer): Effect {
  return { kind: "remove", key };
}

/** The first `bytes` bytes, which nearly always are all. */
function upTo(buffer: Buffer, bytes: number): Buffer {
  return buffer.length <= bytes ? buffer : buffer.subarray(0, bytes);
}

function given(hex: string | undefined): Buffer | undefined {
  return hex === undefined ? undefined : Buffer.from(hex, "hex");
}
