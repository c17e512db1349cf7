/** The commands on one element, and BPF_MAP_FREEZE. */

import { BPF_ELEM } from "../abi/bpf.ts";
import { CMD } from "../abi/service.ts";
import { keptValue } from "../maps/common.ts";
import type { MapRecord } from "../maps/map.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import type { ElementCommand, Origin } from "./command.ts";
import { elementEffects } from "./effects.ts";
import {
  checkExact,
  checkLock,
  checkReadable,
  checkRoom,
  checkWritable,
  openMap,
  readUser,
  replayedMap,
  withoutLock,
} from "./guards.ts";
import type { OpenMap } from "./open_map.ts";
import { done, failed, type Out, type Outcome } from "./outcome.ts";
import type { State } from "./state.ts";

type ElementCall = Origin & ElementCommand;

/** map_lookup_elem(), kernel/bpf/syscall.c. */
export function lookupElem(state: State, command: ElementCall): Outcome {
  const unknown = checkLookupFlags(command.flags);
  if (unknown !== null) return failed(unknown);
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  const refusal = checkReadable(map) ?? checkLock(map, command.flags);
  if (refusal !== null) return failed(refusal, map.map.id);
  const key = readKey(map, command);
  if (isRefusal(key)) return failed(key, map.map.id);
  if (map.type.facts.asks) return ask(map, key, command);
  const value = map.type.lookup(map, key);
  if (isRefusal(value)) return failed(value, map.map.id);
  const room = checkRoom(command.value, value.length, "value");
  return room === null ? done(map.map.id, value) : failed(room, map.map.id);
}

/** A lookup with the value as input: may the map contain it? */
function ask(map: OpenMap, key: Buffer, command: ElementCall): Outcome {
  const size = map.type.valueBytes(map.map, map.host);
  const value = checkExact(command, command.value, size, 1, "value") ?? readUser(command.value, size, "value");
  if (isRefusal(value)) return failed(value, map.map.id);
  const answer = map.type.lookup(map, key, value);
  const out = { asked: value.toString("hex") };
  return isRefusal(answer) ? failed(answer, map.map.id, out) : done(map.map.id, null, out);
}

/** map_update_elem(), kernel/bpf/syscall.c. */
export function updateElem(state: State, command: ElementCall): Outcome {
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  const refusal = checkWritable(map) ?? checkLock(map, command.flags);
  if (refusal !== null) return failed(refusal, map.map.id);
  const key = readKey(map, command);
  if (isRefusal(key)) return failed(key, map.map.id);
  const valueBytes = map.type.valueBytes(map.map, state.host);
  const value =
    checkExact(command, command.value, valueBytes, 1, "value") ?? readUser(command.value, valueBytes, "value");
  if (isRefusal(value)) return failed(value, map.map.id);
  const flags = withoutLock(command.flags);
  map.updateFlags = Number(flags);
  const answer = map.type.update(map, key, keptValue(map.map, value), flags);
  return answer === null ? done(map.map.id, null, elementOut(map)) : failed(answer, map.map.id);
}

/** map_delete_elem(), kernel/bpf/syscall.c. */
export function deleteElem(state: State, command: ElementCall): Outcome {
  if (command.value !== null || command.flags !== 0n) return failed(unusedFields("value and flags"));
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  const refusal = checkWritable(map);
  if (refusal !== null) return failed(refusal, map.map.id);
  const key = readKey(map, command);
  if (isRefusal(key)) return failed(key, map.map.id);
  const answer = map.type.delete(map, key);
  return answer === null ? done(map.map.id, null, elementOut(map)) : failed(answer, map.map.id);
}

/** map_get_next_key(), kernel/bpf/syscall.c: with the null pointer, the first key. */
export function getNextKey(state: State, command: ElementCall): Outcome {
  if (command.flags !== 0n) return failed(unusedFields("flags"));
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  const refusal = checkReadable(map);
  if (refusal !== null) return failed(refusal, map.map.id);
  const key = command.key === null ? null : readKey(map, command);
  if (isRefusal(key)) return failed(key, map.map.id);
  const next = map.type.nextKey(map, key);
  if (isRefusal(next)) return failed(next, map.map.id);
  const room = checkRoom(command.value, next.length, "next_key");
  return room === null ? done(map.map.id, next) : failed(room, map.map.id);
}

/**
 * map_lookup_and_delete_elem(), kernel/bpf/syscall.c: the element is deleted even if the value cannot be written
 * (EFAULT).
 */
export function lookupAndDeleteElem(state: State, command: ElementCall): Outcome {
  const unknown = checkLookupFlags(command.flags);
  if (unknown !== null) return failed(unknown);
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  const refusal = checkReadable(map) ?? checkWritable(map) ?? checkTakeFlags(map, command.flags);
  if (refusal !== null) return failed(refusal, map.map.id);
  const key = readKey(map, command);
  if (isRefusal(key)) return failed(key, map.map.id);
  const value = map.type.lookupAndDelete(map, key);
  if (isRefusal(value)) return failed(value, map.map.id);
  const room = checkRoom(command.value, value.length, "value");
  const out = effectsOut(map);
  return room === null ? done(map.map.id, value, out) : failed(room, map.map.id, { ...out, taken: true });
}

/** map_freeze(), kernel/bpf/syscall.c. */
export function freeze(state: State, command: ElementCall): Outcome {
  if (command.key !== null || command.value !== null || command.flags !== 0n)
    return failed(unusedFields("key, value and flags"));
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  const refusal = checkFreezable(map) ?? checkWritable(map);
  if (refusal !== null) return failed(refusal, map.map.id);
  setFrozen(state, map.map);
  return done(map.map.id);
}

function setFrozen(state: State, map: MapRecord): void {
  const frozen = { ...map, frozen: true };
  state.changeMap(frozen);
  state.follower.frozen(frozen);
}

/** The effects for the event's `out`; null if command and errno say everything. */
export function effectsOut({ effects }: OpenMap): Out | null {
  if (effects === null) return null;
  const { keys, values, shown, emptied, evicted, knownAs } = effects;
  return {
    ...(keys.length > 0 ? { stored_keys: Buffer.concat(keys).toString("hex") } : {}),
    ...(values.length > 0 ? { stored_values: Buffer.concat(values).toString("hex") } : {}),
    ...(shown === null ? {} : { shown_values: shown.toString("hex") }),
    ...(emptied ? { emptied } : {}),
    ...(evicted.length > 0 ? { evicted: evicted.map(inHex) } : {}),
    ...(knownAs.length > 0 ? { known_as: knownAs.map(inHex) } : {}),
  };
}

function inHex([after, key]: readonly [number, Buffer]): readonly [number, string] {
  return [after, key.toString("hex")];
}

/** The effects of an update or delete of one element; `unchanged` if it succeeded without changing anything. */
function elementOut(map: OpenMap): Out | null {
  const out = effectsOut(map);
  return map.isChanged ? out : { ...out, unchanged: true };
}

/** Replays an element command's event. */
export function redoElement(state: State, command: ElementCall, outcome: Outcome): void {
  if (outcome.errno !== 0 && outcome.out?.taken === undefined) return;
  const map = replayedMap(state, outcome.map);
  if (command.cmd === CMD.BPF_MAP_FREEZE) setFrozen(state, map.map);
  else map.apply(elementEffects(map, command, outcome));
}

function checkFreezable({ map, type }: OpenMap): Refusal | null {
  if (type.facts.kernelStruct) return refuse("ENOTSUPP", "a struct_ops cannot be frozen");
  if (map.special.length === 0) return null;
  return refuse("ENOTSUPP", `the map cannot be frozen: its values have a ${map.special[0]?.kind}`);
}

/** ___bpf_copy_key(): in a map without keys, key must be the null pointer. */
function readKey(map: OpenMap, command: ElementCall): Buffer | Refusal {
  const { key } = command;
  const inexact = checkExact(command, key, map.map.keySize, 1, "key");
  if (inexact !== null) return inexact;
  if (map.map.keySize > 0) return readUser(key, map.map.keySize, "key");
  return key === null ? Buffer.alloc(0) : refuse("EINVAL", "the map has no keys: key must be null");
}

/** A pop of a queue or stack allows no flags at all. */
function checkTakeFlags(map: OpenMap, flags: bigint): Refusal | null {
  if (flags !== 0n && map.type.facts.line) return refuse("EINVAL", `flags ${flags}: 0 required for popping`);
  return checkLock(map, flags);
}

function checkLookupFlags(flags: bigint): Refusal | null {
  return (flags & ~BPF_ELEM.BPF_F_LOCK) === 0n
    ? null
    : refuse("EINVAL", `flags ${flags}: only BPF_F_LOCK is allowed for a lookup`);
}

/** CHECK_ATTR(): fields after the last one that the command uses must be zero. */
function unusedFields(names: string): Refusal {
  return refuse("EINVAL", `${names}: must be 0, because the command does not use them`);
}
