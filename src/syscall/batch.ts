/**
 * The four batch commands: kernel/bpf/syscall.c. A batch may fail in its middle; outcome and event then have the count
 * that was done.
 */

import { BPF_ELEM } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { keptValue } from "../maps/common.ts";
import type { BatchPage } from "../maps/map.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import type { BatchCommand, Command, Origin } from "./command.ts";
import { commandFacts } from "./command_facts.ts";
import { batchEffects } from "./effects.ts";
import { effectsOut } from "./element.ts";
import { idsShown } from "./elements.ts";
import {
  checkExact,
  checkLock,
  checkReadable,
  checkRoom,
  checkWritable,
  openMap,
  replayedMap,
  withoutLock,
} from "./guards.ts";
import type { OpenMap } from "./open_map.ts";
import { done, failed, type Out, type Outcome } from "./outcome.ts";
import type { State } from "./state.ts";

type BatchCall = Origin & BatchCommand;

/** bpf_map_do_batch() and the functions of the four commands, kernel/bpf/syscall.c, kernel/bpf/hashtab.c. */
export function batch(state: State, command: BatchCall): Outcome {
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map, 0, untouched(command));
  map.isImported = command.imported === true;
  const reads = commandFacts(command.cmd)?.answers === "elements";
  const refusal = (reads ? checkReadable(map) : null) ?? (writes(command) ? checkWritableBy(command, map) : null);
  if (refusal !== null) return failed(refusal, map.map.id, untouched(command));
  switch (command.cmd) {
    case CMD.BPF_MAP_LOOKUP_BATCH:
      return readBatch(command, map, map.type.batch.lookup);
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH:
      return readBatch(command, map, map.type.batch.lookupAndDelete);
    case CMD.BPF_MAP_UPDATE_BATCH:
      return map.deferCount(() => eachElement(state, command, map, map.type.batch.update));
    case CMD.BPF_MAP_DELETE_BATCH:
      return map.deferCount(() => eachElement(state, command, map, map.type.batch.delete));
  }
}

function writes(command: BatchCall): boolean {
  return command.cmd !== CMD.BPF_MAP_LOOKUP_BATCH;
}

/** An import of elements that programs have written may change a frozen map, too: freezing does not bind programs. */
function checkWritableBy({ imported }: BatchCall, map: OpenMap): Refusal | null {
  return imported === true ? null : checkWritable(map);
}

/** `count` is an output only after the kernel has written to it; before, it is the caller's. */
function untouched(command: BatchCall): { count: number } {
  return { count: command.attr.count };
}

/**
 * Of elem_flags, only BPF_F_LOCK is allowed, and only if the value has a lock. So an update batch writes each element
 * as with BPF_ANY.
 */
function checkElemFlags(command: BatchCall, map: OpenMap): Refusal | null {
  const flags = command.attr.elemFlags;
  if ((flags & ~BPF_ELEM.BPF_F_LOCK) !== 0n)
    return refuse("EINVAL", `elem_flags ${flags}: only BPF_F_LOCK is allowed in a batch`);
  return checkLock(map, flags);
}

/** generic_map_update_batch() and generic_map_delete_batch(): one element after the other, up to the first error. */
function eachElement(state: State, command: BatchCall, map: OpenMap, unsupported: Refusal | null): Outcome {
  const refusal = unsupported ?? checkElemFlags(command, map);
  if (refusal !== null) return failed(refusal, map.map.id, untouched(command));
  const { count } = command.attr;
  const keyBytes = map.map.keySize;
  const valueBytes = map.type.valueBytes(map.map, state.host);
  const update = command.cmd === CMD.BPF_MAP_UPDATE_BATCH;
  const inexact =
    checkExact(command, command.key, keyBytes, count, "key") ??
    (update ? checkExact(command, command.value, valueBytes, count, "value") : null);
  if (inexact !== null) return failed(inexact, map.map.id, { count: 0 });
  const flags = withoutLock(command.attr.elemFlags);
  const absent: number[] = [];
  const out = (at: number): Out => {
    const effects = { count: at - absent.length, ...effectsOut(map) };
    return absent.length === 0 ? effects : { ...effects, absent };
  };
  for (let at = 0; at < count; at++) {
    const key = slice(command.key, at, keyBytes, "keys");
    if (isRefusal(key)) return failed(key, map.map.id, out(at));
    let answer: Refusal | null;
    if (update) {
      const value = slice(command.value, at, valueBytes, "values");
      answer = isRefusal(value) ? value : map.type.update(map, key, keptValue(map.map, value), flags);
    } else {
      answer = map.type.delete(map, key);
      if (command.attr.ifPresent !== undefined && answer?.number === ERRNO.ENOENT) {
        absent.push(at);
        continue;
      }
    }
    if (answer !== null) return failed(answer, map.map.id, out(at));
    map.at++;
  }
  return done(map.map.id, null, out(count));
}

/**
 * The delete batch and outcome to record, without the keys that had no element: the recorded batch is one of bpf(2)
 * that does the same, in a replay and in a kernel. Other commands are returned unchanged.
 */
export function withoutAbsent(command: Command, outcome: Outcome): readonly [Command, Outcome] {
  const { absent, ...out } = outcome.out ?? {};
  if (absent === undefined) return [command, outcome];
  const { key, attr } = command as BatchCall;
  const keys = key as Buffer;
  const size = keys.length / attr.count;
  const passed = new Set(absent);
  const kept: Buffer[] = [];
  for (let at = 0; at < attr.count; at++) if (!passed.has(at)) kept.push(keys.subarray(at * size, (at + 1) * size));
  const told = { ...(command as BatchCall), key: Buffer.concat(kept), attr: { ...attr, count: kept.length } };
  return [told, { ...outcome, out }];
}

function slice(buffer: Buffer | null, at: number, size: number, what: string): Buffer | Refusal {
  if (buffer === null) return refuse("EFAULT", `${what} is the null pointer`);
  const end = (at + 1) * size;
  if (buffer.length >= end) return buffer.subarray(end - size, end);
  return refuse("EFAULT", `${what} has ${buffer.length} bytes: element ${at} ends at ${end}`);
}

/** generic_map_lookup_batch() and __htab_map_lookup_and_delete_batch(). */
function readBatch(command: BatchCall, map: OpenMap, walk: OpenMap["type"]["batch"]["lookup"]): Outcome {
  if (isRefusal(walk)) return failed(walk, map.map.id, untouched(command));
  const refusal = checkElemFlags(command, map) ?? (walk.checksFlags ? checkFlags(command.flags) : null);
  if (refusal !== null) return failed(refusal, map.map.id, untouched(command));
  const { count, inBatch, outBatch } = command.attr;
  if (count === 0) return done(map.map.id, null, { count: 0 });
  const positionBytes = walk.positionBytes(map.map);
  if (inBatch !== null && inBatch.length < positionBytes)
    return failed(
      refuse("EFAULT", `in_batch has ${inBatch.length} bytes: the command reads ${positionBytes}`),
      map.map.id,
      {
        count: 0,
      },
    );
  const page = walk.read(map, inBatch, count);
  if (isRefusal(page)) return failed(page, map.map.id, { count: 0 });

  const { elements } = page;
  const takes = command.cmd === CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH;
  const keys = Buffer.concat(elements.map(({ key }) => key));
  const values = Buffer.concat(elements.map(({ value }) => value));
  const fault = checkRoom(command.key, keys.length, "keys") ?? checkRoom(command.value, values.length, "values");
  if (takes) {
    const gone = fault === null ? elements.length : lostElements(command, page, keys.length, values.length);
    map.deferCount(() => {
      for (const { key } of elements.slice(0, gone)) map.type.remove(map, key);
    });
    if (fault !== null) return lost(fault, map, 0, keys.subarray(0, gone * map.map.keySize));
  }
  if (fault !== null) return failed(fault, map.map.id, { count: 0 });
  const position = walk.positionAlways || elements.length > 0 ? page.position : null;
  const unwritten = position === null ? null : checkRoom(outBatch, position.length, "out_batch");
  if (unwritten === null) return answerPage(map, page, keys, values, position);
  const delivered = walk.positionAlways ? 0 : elements.length;
  return takes ? lost(unwritten, map, delivered, keys) : failed(unwritten, map.map.id, { count: delivered });
}

/**
 * The outcome of a lookup-and-delete batch whose answer cannot be written: the elements of `keys` are deleted all the
 * same.
 */
function lost(fault: Refusal, map: OpenMap, count: number, keys: Buffer): Outcome {
  return failed(fault, map.map.id, { count, taken: true }, keys);
}

/**
 * The number of elements that a lookup-and-delete batch has deleted if its answer cannot be written: the kernel deletes
 * a bucket before it copies the bucket to the caller, and stops at the fault.
 */
function lostElements(
  command: BatchCall,
  { elements, bucketEnds }: BatchPage,
  keysBytes: number,
  valuesBytes: number,
): number {
  const keysRoom = elementsRoom(command.key, keysBytes / elements.length);
  const valuesRoom = elementsRoom(command.value, valuesBytes / elements.length);
  return bucketEnds.find((end) => end > Math.min(keysRoom, valuesRoom)) ?? elements.length;
}

function elementsRoom(buffer: Buffer | null, elementBytes: number): number {
  return buffer === null ? Number.POSITIVE_INFINITY : Math.floor(buffer.length / elementBytes);
}

function answerPage(map: OpenMap, page: BatchPage, keys: Buffer, values: Buffer, position: Buffer | null): Outcome {
  const count = page.elements.length;
  const out = { count, ...(position !== null && { out_batch: position.toString("hex") }), ...idsShown(map) };
  const outcome = done(map.map.id, values, out, keys);
  if (page.end === null) return outcome;
  return { ...outcome, ret: -1, errno: page.end.number, detail: page.end.detail };
}

function checkFlags(flags: bigint): Refusal | null {
  return flags === 0n ? null : refuse("EINVAL", `flags ${flags}: 0 required for a batch of a hash`);
}

/** Replays a batch's event. */
export function redoBatch(state: State, command: BatchCall, outcome: Outcome): void {
  if (outcome.map === 0) return;
  const map = replayedMap(state, outcome.map);
  map.deferCount(() => map.apply(batchEffects(map, command, outcome)));
}
