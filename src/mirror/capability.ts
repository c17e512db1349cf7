/** Capabilities that bpf(2) and bpffs demand, so that a refusal can name the missing one. */

import { accessSync, constants, readFileSync } from "node:fs";
import { BPF_F, BPF_PROG_TYPE } from "../abi/bpf.ts";
import { ERRNO, errnoName } from "../abi/errno.ts";
import { factsOf } from "../maps/facts.ts";

/** Bits of CapEff, include/uapi/linux/capability.h. */
const BITS = {
  CAP_DAC_OVERRIDE: 1n,
  CAP_DAC_READ_SEARCH: 2n,
  CAP_NET_ADMIN: 12n,
  CAP_NET_RAW: 13n,
  CAP_SYS_PTRACE: 19n,
  CAP_SYS_ADMIN: 21n,
  CAP_PERFMON: 38n,
  CAP_BPF: 39n,
} as const;

/** A capability that bpf(2), a path or the making of a socket may need. */
export type Privilege = keyof typeof BITS;

/**
 * Capabilities that the kernel accepts in place of another: bpf_ns_capable(), perfmon_capable(), generic_permission().
 */
const STANDS_FOR: Partial<Record<Privilege, Privilege>> = {
  CAP_BPF: "CAP_SYS_ADMIN",
  CAP_NET_ADMIN: "CAP_SYS_ADMIN",
  CAP_PERFMON: "CAP_SYS_ADMIN",
  CAP_DAC_READ_SEARCH: "CAP_DAC_OVERRIDE",
};

/** The errnos that a missing capability causes. For a path's permissions, that is only EACCES. */
const OF_PATHS: readonly number[] = [-ERRNO.EACCES];
const OF_OTHERS: readonly number[] = [-ERRNO.EPERM, -ERRNO.EACCES];

/**
 * The first of the needed capabilities that this process lacks; null if it has all, or if `ret` has another cause. A
 * process in a user namespace other than the initial one has capabilities that bpf(2) ignores, so null does not prove
 * that none is missing.
 */
export function lacking(ret: number, needed: readonly Privilege[]): Privilege | null {
  const may = needed.filter((one) => (one.startsWith("CAP_DAC_") ? OF_PATHS : OF_OTHERS).includes(ret));
  if (may.length === 0) return null;
  const held = effective();
  return may.find((one) => !has(held, one) && !has(held, STANDS_FOR[one] ?? one)) ?? null;
}

/** For example "listing maps: EPERM: it needs CAP_SYS_ADMIN". */
export function refusedFor(attempted: string, ret: number, needed: readonly Privilege[]): string {
  const missing = lacking(ret, needed);
  return `${attempted}: ${errnoName(-ret)}${missing === null ? "" : `: it needs ${missing}`}`;
}

/**
 * Capabilities for opening the pin at a path to read and write. The kernel returns EACCES if the path's permissions
 * forbid it, and also if no command of bpf(2) has made the entry; only in the first case a capability helps.
 */
export function neededAt(path: string): readonly Privilege[] {
  return isClosed(path, constants.R_OK | constants.W_OK) ? ["CAP_DAC_OVERRIDE"] : [];
}

/** Whether permissions forbid this process's user to access a path. */
export function isClosed(path: string, mode = constants.R_OK): boolean {
  try {
    accessSync(path, mode);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES";
  }
}

/** For BPF_MAP_CREATE: map_create(), and map_alloc_check() of the types. */
export function neededToCreate(mapType: number, mapFlags: number): readonly Privilege[] {
  const { capability = null, seeded = false } = factsOf(mapType) ?? {};
  const zeroSeed = (mapFlags & BPF_F.BPF_F_ZERO_SEED) !== 0 && seeded;
  return ["CAP_BPF", ...(capability === null ? [] : [capability]), ...(zeroSeed ? (["CAP_SYS_ADMIN"] as const) : [])];
}

/** For BPF_PROG_LOAD: is_net_admin_prog_type() and is_perfmon_prog_type(), kernel/bpf/syscall.c. */
export function neededToLoad(progType: number): readonly Privilege[] {
  if (PERFMON_TYPES.has(progType)) return ["CAP_BPF", "CAP_PERFMON"];
  return BPF_TYPES.has(progType) ? ["CAP_BPF"] : ["CAP_BPF", "CAP_NET_ADMIN"];
}

const PERFMON_TYPES: ReadonlySet<number> = new Set([
  BPF_PROG_TYPE.BPF_PROG_TYPE_KPROBE,
  BPF_PROG_TYPE.BPF_PROG_TYPE_TRACEPOINT,
  BPF_PROG_TYPE.BPF_PROG_TYPE_PERF_EVENT,
  BPF_PROG_TYPE.BPF_PROG_TYPE_RAW_TRACEPOINT,
  BPF_PROG_TYPE.BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE,
  BPF_PROG_TYPE.BPF_PROG_TYPE_TRACING,
  BPF_PROG_TYPE.BPF_PROG_TYPE_STRUCT_OPS,
  BPF_PROG_TYPE.BPF_PROG_TYPE_EXT,
  BPF_PROG_TYPE.BPF_PROG_TYPE_LSM,
]);

const BPF_TYPES: ReadonlySet<number> = new Set([
  BPF_PROG_TYPE.BPF_PROG_TYPE_SOCKET_FILTER,
  BPF_PROG_TYPE.BPF_PROG_TYPE_CGROUP_SKB,
  BPF_PROG_TYPE.BPF_PROG_TYPE_SK_REUSEPORT,
  BPF_PROG_TYPE.BPF_PROG_TYPE_SK_LOOKUP,
  BPF_PROG_TYPE.BPF_PROG_TYPE_SYSCALL,
]);

function has(held: bigint, one: Privilege): boolean {
  return ((held >> BITS[one]) & 1n) === 1n;
}

/** 0 if it cannot be read: the refusal is then attributed to a missing capability. */
function effective(): bigint {
  try {
    const found = /^CapEff:\t([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
    return found === undefined ? 0n : BigInt(`0x${found}`);
  } catch {
    return 0n;
  }
}
