import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { Btf } from "./btf/btf.ts";
import { undestroyed } from "./btf/objects.ts";
import type { Host } from "./maps/map.ts";
import { isRefusal } from "./maps/refusal.ts";

const PAGE_BYTES = 4096;

/** What the machine is like, as far as bpf(2) asks it; elsewhere than on Linux, what a plain machine would be. */
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

/** Read when it is first asked for: a few megabytes. Of modules, which come and go, nothing is known. */
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
 * Indices of network interfaces, ascending; one that goes away while it is looked at is left out. null: they cannot be read, for
 * want of descriptors or of sysfs, which says nothing about any of them.
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

/** 0: there is no such interface, or it is something else, as bonding_masters is. */
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

/** The kernel's lists of numbers: "0-3,8". */
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
