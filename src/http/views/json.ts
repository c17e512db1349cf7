/** The API's JSON of sessions, descriptors, maps, pins and kernel maps. */

import { BPF_F, mapTypeName } from "../../abi/bpf.ts";
import { CAPABILITIES } from "../../abi/service.ts";
import { policyOf } from "../../engine/drift.ts";
import type { DriftCounts } from "../../engine/drift_tally.ts";
import type { KernelMapFacts, MirrorStatus } from "../../engine/ports.ts";
import type { FdView, MapView, PinView, SessionView } from "../../engine/views.ts";
import { timeText } from "../../log/event_json.ts";
import { mirrorShapeOf } from "../../maps/facts.ts";
import type { DriftPolicy, InnerShape, MapBtf, MapRecord, SpecialField } from "../../maps/map.ts";
import type { ObjectRecord } from "../../maps/object.ts";
import type { ClientProcess } from "../../syscall/command.ts";

const MS = 1000;
/** NUMA_NO_NODE */
const ANY_NODE = -1;

export function sessionJson({
  id,
  name,
  caller,
  ttlMs,
  openedUs,
  lease,
  leftMs,
  fdCount,
  capabilities = CAPABILITIES,
  process,
}: SessionView): object {
  return {
    id,
    name,
    caller,
    ttl_seconds: process === undefined ? ttlMs / MS : null,
    opened_at: timeText(openedUs),
    lease,
    process: process === undefined ? null : processJson(process),
    left_seconds: leftMs === null ? null : leftMs / MS,
    fd_count: fdCount,
    capabilities,
  };
}

export function processJson({ pid, uid, startTime }: ClientProcess): object {
  return { pid, uid, start_time: startTime };
}

export function descriptorJson({ fd, kind, map, about, readable, writable }: FdView): object {
  const access = readable && writable ? "rw" : readable ? "r" : "w";
  return { fd, kind, map_id: map === 0 ? null : map, object: about === null ? null : objectJson(about), access };
}

function objectJson(object: ObjectRecord): object {
  switch (object.kind) {
    case "process":
      return { id: object.id, pid: object.pid, exited: object.exited };
    case "cgroup":
      return { id: object.id, path: object.path, cgroup_id: object.cgroupId, removed: object.removed };
    case "prog": {
      const { id, progId, progType, expectedAttachType, name, tag = null, loadTime = null } = object;
      const loaded = { prog_type: progType, expected_attach_type: expectedAttachType, name, tag, load_time: loadTime };
      return { id, prog_id: progId, ...loaded };
    }
    case "btf":
      return { id: object.id, btf_id: object.btfId };
    case "file":
    case "dir":
      return { id: object.id, path: object.path };
    case "socket": {
      const { id, protocol, state, reuseport, cookie } = object;
      return { id, protocol, state, reuseport, cookie };
    }
    case "pipe":
    case "perf_event":
      return { id: object.id };
  }
}

export function mapJson(map: MapView): object {
  return {
    id: map.id,
    map_type: mapTypeName(map.type) ?? String(map.type),
    key_size: map.keySize,
    value_size: map.valueSize,
    max_entries: map.maxEntries,
    map_flags: flagNames(map.mapFlags),
    name: map.name,
    map_extra: String(map.mapExtra),
    numa_node: map.numaNode === ANY_NODE ? null : map.numaNode,
    mirror_shape: mirrorShapeOf(map),
    frozen: map.frozen,
    inner_map: map.inner === null ? null : innerJson(map.inner),
    btf: map.btf === null ? null : btfJson(map.btf, map.special),
    entries: map.entries,
    written: map.written,
    possible_cpus: map.possibleCpus,
    holds: map.holds,
    pinned: map.pinned,
    pins: map.pins,
    mirror: mirrorJson(map.mirror),
    adopted: adoptedJson(map),
    released: map.released === true,
    drift: mapDriftJson(map),
  };
}

function adoptedJson({ adopted, adoptedPin, onReplace }: MapRecord): object | null {
  if (adopted === undefined) return null;
  return { kernel_id: adopted, pin: adoptedPin ?? null, on_replace: onReplace ?? null };
}

/** The policy in force; null: nobody has set one for a map that is not adopted. */
function mapDriftJson(map: MapRecord): object | null {
  const undecided = map.undecided === true;
  if (map.drift === undefined && map.adopted === undefined && !undecided) return null;
  const policy = { policy: policyOf(map), intervalMs: map.drift?.intervalMs ?? 0 };
  return { ...driftJson(policy), ...(undecided ? { undecided } : {}) };
}

export function driftJson({ policy, intervalMs }: DriftPolicy): object {
  return { policy, interval_seconds: intervalMs / MS };
}

function innerJson(inner: InnerShape): object {
  return {
    map_type: mapTypeName(inner.type) ?? String(inner.type),
    key_size: inner.keySize,
    value_size: inner.valueSize,
    max_entries: inner.maxEntries,
    map_flags: flagNames(inner.mapFlags),
    mirror_shape: mirrorShapeOf(inner),
  };
}

function btfJson({ btfId, keyTypeId, valueTypeId }: MapBtf, special: readonly SpecialField[]): object {
  return { btf_id: btfId, btf_key_type_id: keyTypeId, btf_value_type_id: valueTypeId, fields: special };
}

export function mirrorJson(mirror: MirrorStatus): object {
  const { state } = mirror;
  switch (state) {
    case "on": {
      const { kernelId, pinned, maxEntries, equal, held, detail } = mirror;
      return { state, kernel_id: kernelId, pinned, max_entries: maxEntries, equal, held, detail };
    }
    case "failed": {
      const { operation, errno, detail, kernelId } = mirror;
      return { state, kernel_id: kernelId, operation, errno, detail };
    }
    case "lost":
      return { state, kernel_id: mirror.kernelId, detail: mirror.detail };
    default:
      return { state, detail: mirror.detail };
  }
}

export function driftCountsJson({ missing, changed, extra, both, evicted }: DriftCounts): object {
  return { missing, changed, extra, both_changed: both, evicted };
}

export function kernelMapJson({ id, type, map, cannot, ...facts }: KernelMapFacts): object {
  return {
    kernel_id: id,
    map_type: mapTypeName(type) ?? String(type),
    key_size: facts.keySize,
    value_size: facts.valueSize,
    max_entries: facts.maxEntries,
    map_flags: flagNames(facts.mapFlags),
    name: facts.name,
    frozen: facts.frozen,
    btf_id: facts.btf?.btfId ?? null,
    map_id: map,
    was: facts.was,
    not_adoptable: cannot,
    pins: facts.pins,
    holders: facts.holders,
    holders_unknown: facts.holdersUnknown,
  };
}

function flagNames(flags: number): string[] {
  return Object.entries(BPF_F).flatMap(([name, bit]) => ((flags & bit) === 0 ? [] : [name]));
}

export function pinJson({ pathname, map }: PinView): object {
  return { pathname, map_id: map };
}
