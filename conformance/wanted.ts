import type { ObjectSpec } from "../src/syscall/command.ts";
import type { StreamType } from "./shapes.ts";

/** What objects and what other maps the maps of a type want to be with. */

/** enum bpf_prog_type and bpf_attach_type. */
const SOCKET_FILTER = 1;
const XDP = 6;
const XDP_DEVMAP = 33;
const XDP_CPUMAP = 35;

const SOCKETS: readonly ObjectSpec[] = [
  { kind: "tcp_idle" },
  { kind: "tcp_listen" },
  { kind: "tcp_listen", reuseport: true },
  { kind: "tcp_connected" },
  { kind: "udp_idle" },
  { kind: "udp_bound" },
  { kind: "udp_bound", reuseport: true },
  { kind: "unix_stream" },
  { kind: "unix_dgram" },
];
const XSK: ObjectSpec = { kind: "xsk" };
const XDP_PROGRAMS: readonly ObjectSpec[] = [0, XDP_DEVMAP, XDP_CPUMAP].map((expectedAttachType) => ({
  kind: "prog",
  progType: XDP,
  expectedAttachType,
}));
const PROGRAMS: readonly ObjectSpec[] = [...XDP_PROGRAMS, { kind: "prog", progType: SOCKET_FILTER }];
const TASKS: readonly ObjectSpec[] = [{ kind: "pidfd_self" }, { kind: "pidfd_self" }, { kind: "pidfd_dead" }];
/** The directory is the subject's own. */
const FILES: readonly ObjectSpec[] = [{ kind: "pipe" }, { kind: "file" }, { kind: "dir" }];
const CGROUP: ObjectSpec = { kind: "cgroup" };
const PERF_EVENT: ObjectSpec = { kind: "perf_event" };

/** Objects of kinds that cost the kernel much are among them once. */
export const ALL_SPECS: readonly ObjectSpec[] = [...SOCKETS, XSK, ...PROGRAMS, ...TASKS, ...FILES, CGROUP, PERF_EVENT];

/** What the maps of a type hold, or name. */
export const SPECS: Partial<Record<StreamType, readonly ObjectSpec[]>> = {
  DEVMAP: XDP_PROGRAMS,
  DEVMAP_HASH: XDP_PROGRAMS,
  CPUMAP: XDP_PROGRAMS,
  PROG_ARRAY: PROGRAMS,
  PERF_EVENT_ARRAY: [PERF_EVENT],
  CGROUP_ARRAY: [CGROUP],
  SOCKMAP: SOCKETS,
  SOCKHASH: SOCKETS,
  XSKMAP: [XSK, XSK, XSK, { kind: "udp_bound" }],
  REUSEPORT_SOCKARRAY: [...SOCKETS, ...SOCKETS.filter(({ reuseport }) => reuseport === true)],
  SK_STORAGE: [...SOCKETS, XSK],
  INODE_STORAGE: ALL_SPECS,
  TASK_STORAGE: TASKS,
  CGRP_STORAGE: [CGROUP],
};

/** What streams on maps of these types open most. */
export function specsFor(types: readonly StreamType[]): readonly ObjectSpec[] {
  return [...FILES, ...types.flatMap((type) => SPECS[type] ?? [])];
}

/** Maps that go into maps of a type. */
export const COMPANIONS: Partial<Record<StreamType, readonly StreamType[]>> = {
  ARRAY_OF_MAPS: ["ARRAY", "HASH", "PERCPU_ARRAY", "LPM_TRIE", "XSKMAP", "QUEUE"],
  HASH_OF_MAPS: ["ARRAY", "HASH", "PERCPU_ARRAY", "LPM_TRIE", "XSKMAP", "QUEUE"],
  // One socket cannot be in both.
  REUSEPORT_SOCKARRAY: ["SOCKMAP", "SOCKHASH"],
};

export type Want = "map" | "prog" | "perf_event" | "cgroup" | "socket" | "process" | "any" | null;

/** What a type's values name by descriptor. */
export const VALUE_WANTS: Partial<Record<StreamType, Want>> = {
  ARRAY_OF_MAPS: "map",
  HASH_OF_MAPS: "map",
  PROG_ARRAY: "prog",
  PERF_EVENT_ARRAY: "perf_event",
  CGROUP_ARRAY: "cgroup",
  SOCKMAP: "socket",
  SOCKHASH: "socket",
  XSKMAP: "socket",
  REUSEPORT_SOCKARRAY: "socket",
  DEVMAP: "prog",
  DEVMAP_HASH: "prog",
  CPUMAP: "prog",
};

/** What a type's keys name by descriptor. */
export const KEY_WANTS: Partial<Record<StreamType, Want>> = {
  SK_STORAGE: "socket",
  INODE_STORAGE: "any",
  TASK_STORAGE: "process",
  CGRP_STORAGE: "cgroup",
};
