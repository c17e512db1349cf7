import { readFileSync } from "node:fs";

const KIB = 1024;
/** The fields of /proc/self/status (proc(5)) by the kinds that the metrics have. */
const KINDS = { anonymous: "RssAnon", files: "RssFile", shared: "RssShmem" } as const;

export type MemoryKind = keyof typeof KINDS;

/** The bytes of the process that are in memory, by kind; no kinds where there is no /proc. */
export function processMemory(file = "/proc/self/status"): ReadonlyMap<MemoryKind, number> {
  let status = "";
  try {
    status = readFileSync(file, "utf8");
  } catch {
    // Without descriptors, or without /proc, the other metrics are answered.
  }
  const found = Object.entries(KINDS).flatMap(([kind, field]) => {
    const kib = status.match(new RegExp(`^${field}:\\s*(\\d+) kB$`, "m"))?.[1];
    return kib === undefined ? [] : [[kind as MemoryKind, Number(kib) * KIB] as const];
  });
  return new Map(found);
}
