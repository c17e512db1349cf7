import { BPF_F } from "../abi/bpf.ts";
import { CMD } from "../abi/service.ts";
import { isMmapable, memoryBytes, readMemory, writeMemory } from "../maps/array.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import type { MemoryCommand, Origin } from "./command.ts";
import { effectsOut } from "./element.ts";
import { openMap, replayedMap } from "./guards.ts";
import type { OpenMap } from "./open_map.ts";
import { done, failed, type Outcome } from "./outcome.ts";
import type { State } from "./state.ts";

type MemoryCall = Origin & MemoryCommand;

/** Reads a map's memory, as through a shared mapping. */
export function readMapMemory(state: State, command: MemoryCall): Outcome {
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  const refusal = checkMapping(map, command);
  if (refusal !== null) return failed(refusal, map.map.id);
  const memory = memoryBytes(map.map, map.host);
  const { offset, length } = command.attr;
  const start = offset < 0 ? Math.max(memory + offset, 0) : offset;
  const outside = checkEnd(start + Math.min(length, 1), memory);
  if (outside !== null) return failed(outside, map.map.id, { memory });
  return done(map.map.id, readMemory(map, start, Math.min(length, memory - start)), { memory });
}

/** Writes to a map's memory, as through a shared mapping. */
export function writeMapMemory(state: State, command: MemoryCall): Outcome {
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  const memory = memoryBytes(map.map, map.host);
  const refusal = checkMapping(map, command) ?? checkEnd(command.attr.offset + command.attr.length, memory);
  if (refusal !== null) return failed(refusal, map.map.id);
  writeMemory(map, command.attr.offset, command.value as Buffer);
  return done(map.map.id, null, { ...effectsOut(map), memory });
}

export function redoWriteMapMemory(state: State, command: MemoryCall, outcome: Outcome): void {
  if (outcome.errno !== 0) return;
  writeMemory(replayedMap(state, outcome.map), command.attr.offset, command.value as Buffer);
}

/** bpf_map_mmap(), kernel/bpf/syscall.c: its checks in its order. */
function checkMapping(map: OpenMap, { cmd }: MemoryCall): Refusal | null {
  const { map: record, type } = map;
  const writes = cmd === CMD.MEMORY_WRITE;
  if (!map.readable) return refuse("EACCES", "the fd was opened with BPF_F_WRONLY: memory cannot be mapped through it");
  if (writes && !map.openedWritable) return refuse("EACCES", "the fd was opened with BPF_F_RDONLY");
  if (type.facts.memory === "kernel only")
    return refuse("ENOTSUPP", "the memory of a ring buffer or an arena exists inside a kernel only");
  if (type.facts.memory === null || record.special.length > 0)
    return refuse("ENOTSUPP", "the map's memory cannot be mapped");
  if (writes && record.frozen) return refuse("EPERM", "the map is frozen");
  if (writes && (record.mapFlags & BPF_F.BPF_F_RDONLY_PROG) !== 0)
    return refuse("EACCES", "BPF_F_RDONLY_PROG: the map's memory is read-only");
  if (!map.openedWritable)
    return refuse("EINVAL", "the fd was opened with BPF_F_RDONLY: memory cannot be mapped through it");
  return isMmapable(record) ? null : refuse("EINVAL", "the array was created without BPF_F_MMAPABLE");
}

function checkEnd(end: number, memory: number): Refusal | null {
  return end <= memory
    ? null
    : refuse("EINVAL", `byte ${end} is outside of the map's memory, which has ${memory} bytes`);
}
