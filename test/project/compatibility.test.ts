import { readFileSync } from "node:fs";
import t from "tap";
import { SAMPLES, type ServedType } from "../../scripts/compatibility_maps.ts";
import { COMMANDS, type CommandName, cell, compatibilityPage } from "../../scripts/compatibility_page.ts";

t.test("COMPATIBILITY.md is what the service answers", async (t) => {
  const page = readFileSync(new URL("../../COMPATIBILITY.md", import.meta.url), "utf8");
  t.ok(page === compatibilityPage(), "run npm run compatibility");
});

/** What a 6.18 kernel was seen to answer, in the order of COMMANDS up to DELETE_BATCH: y for yes, k for kernel only. */
const KERNEL: Readonly<Record<ServedType, string>> = {
  BPF_MAP_TYPE_HASH: "y y y y y y y y y",
  BPF_MAP_TYPE_PERCPU_HASH: "y y y y y y y y y",
  BPF_MAP_TYPE_LRU_HASH: "y y y y y y y y y",
  BPF_MAP_TYPE_LRU_PERCPU_HASH: "y y y y y y y y y",
  BPF_MAP_TYPE_HASH_OF_MAPS: "y y y y ENOTSUPP y y y y",
  BPF_MAP_TYPE_ARRAY: "y y EINVAL y ENOTSUPP y ENOTSUPP y ENOTSUPP",
  BPF_MAP_TYPE_PERCPU_ARRAY: "y y EINVAL y ENOTSUPP y ENOTSUPP y ENOTSUPP",
  BPF_MAP_TYPE_ARRAY_OF_MAPS: "y y y y ENOTSUPP y ENOTSUPP y ENOTSUPP",
  BPF_MAP_TYPE_LPM_TRIE: "y y y y ENOTSUPP y ENOTSUPP y y",
  BPF_MAP_TYPE_PROG_ARRAY: "y y y y ENOTSUPP -",
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: "ENOTSUPP y y y ENOTSUPP -",
  BPF_MAP_TYPE_CGROUP_ARRAY: "ENOTSUPP y y y ENOTSUPP -",
  BPF_MAP_TYPE_STACK_TRACE: "k EINVAL k k k -",
  BPF_MAP_TYPE_DEVMAP: "y y y y ENOTSUPP -",
  BPF_MAP_TYPE_DEVMAP_HASH: "y y y y ENOTSUPP -",
  BPF_MAP_TYPE_CPUMAP: "y y y y ENOTSUPP -",
  BPF_MAP_TYPE_SOCKMAP: "y y y y ENOTSUPP -",
  BPF_MAP_TYPE_SOCKHASH: "y y y y ENOTSUPP -",
  BPF_MAP_TYPE_XSKMAP: "EOPNOTSUPP y y y ENOTSUPP -",
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: "y y y y ENOTSUPP -",
  BPF_MAP_TYPE_CGROUP_STORAGE: "k k EINVAL k ENOTSUPP -",
  BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: "k k EINVAL k ENOTSUPP -",
  BPF_MAP_TYPE_QUEUE: "y y EINVAL EINVAL y -",
  BPF_MAP_TYPE_STACK: "y y EINVAL EINVAL y -",
  BPF_MAP_TYPE_BLOOM_FILTER: "y y EOPNOTSUPP EOPNOTSUPP ENOTSUPP -",
  BPF_MAP_TYPE_SK_STORAGE: "y y y ENOTSUPP ENOTSUPP -",
  BPF_MAP_TYPE_INODE_STORAGE: "y y y ENOTSUPP ENOTSUPP -",
  BPF_MAP_TYPE_TASK_STORAGE: "y y y ENOTSUPP ENOTSUPP -",
  BPF_MAP_TYPE_CGRP_STORAGE: "y y y ENOTSUPP ENOTSUPP -",
  BPF_MAP_TYPE_RINGBUF: "ENOTSUPP ENOTSUPP ENOTSUPP ENOTSUPP ENOTSUPP -",
  BPF_MAP_TYPE_USER_RINGBUF: "ENOTSUPP ENOTSUPP ENOTSUPP ENOTSUPP ENOTSUPP -",
  BPF_MAP_TYPE_ARENA: "EINVAL EOPNOTSUPP EOPNOTSUPP EOPNOTSUPP ENOTSUPP -",
  BPF_MAP_TYPE_STRUCT_OPS: "k k k k k k k k k",
};
const SHORT: Readonly<Record<string, string>> = { y: "yes", k: "kernel only" };

for (const type of Object.keys(SAMPLES) as ServedType[])
  t.test(`${type} answers each command as the kernel was seen to`, async (t) => {
    // "-": all four batches are ENOTSUPP.
    const seen = KERNEL[type].replace("-", "ENOTSUPP ENOTSUPP ENOTSUPP ENOTSUPP").split(" ");
    seen.forEach((answer, at) => {
      const command = COMMANDS[at] as CommandName;
      t.equal(cell(type, command), SHORT[answer] ?? answer, command);
    });
  });
