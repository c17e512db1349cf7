import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { Btf } from "./btf/btf.ts";
import { undestroyed } from "./btf/objects.ts";
import type { Host } from "./maps/map.ts";
import { isRefusal } from "./maps/refusal.ts";

const PAGE_BYTES = 4096;

/** Facts of this machine that bpf(2)'s rules depend on. On systems other than Linux, the facts of a plain machine. */
export function readHost(): Host {
  return {
    possibleCpus: countList(readLine("/sys/devices/system/cpu/possible")) || availableParallelism(),
    pageBytes: PAGE_BYTES,
    memoryBytes: totalmem(),
    onlineNodes: expandList(readLine("/sys/devices/system/node/online") ?? "0"),
    ifindexes: interfaces() ?? [1],
    undestroyed: undestroyedHere,
  };
}

let structs: ReadonlySet<string> | null = null;

/**
 * Read on first use, because the kernel's BTF has a few megabytes. BTF of modules is not read, because modules come and
 * go.
 */
function undestroyedHere(): ReadonlySet<string> {
  structs ??= structsIn("/sys/kernel/btf/vmlinux");
  return structs;
}

function structsIn(file: string): ReadonlySet<string> {
  try {
    const btf = Btf.parse(readFileSync(file));
    return isRefusal(btf) ? new Set() : undestroyed(btf);
  } catch {
    return new Set();
  }
}

/**
 * Indices of network interfaces, ascending. An interface that goes away during the walk is skipped. null:
 * /sys/class/net cannot be read, for example because no descriptors are left; nothing is known about any interface
 * then.
 */
export function interfaces(directory = "/sys/class/net"): number[] | null {
  try {
    return readdirSync(directory)
      .map((name) => ifindexOf(`${directory}/${name}/ifindex`))
      .filter((ifindex) => ifindex > 0)
      .sort((a, b) => a - b);
  } catch {
    return null;
  }
}

/** The index in a file of sysfs; 0 if the interface is gone or the entry is not an interface (bonding_masters). */
function ifindexOf(file: string): number {
  try {
    return Number(readFileSync(file, "utf8"));
  } catch (error) {
    if (NO_INTERFACE.has((error as NodeJS.ErrnoException).code)) return 0;
    throw error;
  }
}

const NO_INTERFACE: ReadonlySet<string | undefined> = new Set(["ENOENT", "ENODEV", "ENOTDIR", "EINVAL"]);

function countList(list: string | null): number {
  return list === null ? 0 : expandList(list).length;
}

/** Parses a list of numbers as the kernel writes it: "0-3,8" gives 0, 1, 2, 3, 8. */
function expandList(list: string): number[] {
  return list.split(",").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number) as [number, number?];
    return Array.from({ length: (last as number) - first + 1 }, (_, at) => first + at);
  });
}

function readLine(file: string): string | null {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return null;
  }
}
