import { readFileSync } from "node:fs";
import t from "tap";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { readHost } from "../../src/host.ts";
import { chargeOf } from "../../src/maps/charge.ts";
import type { MapRecord, MapType } from "../../src/maps/map.ts";
import { mapType } from "../../src/maps/types.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { unfitForKernel } from "../support/bpffs.ts";

const NO_PREALLOC = BPF_F.BPF_F_NO_PREALLOC;
/** What is the kernel's own beside buckets and elements: struct bpf_htab, the pages before a ring, what it counts by CPU. */
const BESIDE_BYTES = 20 * 1024;
const ELEMENTS = 2000;

type Asked = readonly [
  name: keyof typeof BPF_MAP_TYPE,
  keySize: number,
  valueSize: number,
  maxEntries: number,
  flags?: number,
];

const PREALLOCATED: readonly Asked[] = [
  ["BPF_MAP_TYPE_HASH", 8, 100, 100_000],
  ["BPF_MAP_TYPE_PERCPU_HASH", 8, 100, 10_000],
  ["BPF_MAP_TYPE_LRU_HASH", 8, 100, 10_000],
  ["BPF_MAP_TYPE_LRU_PERCPU_HASH", 8, 100, 10_000],
  ["BPF_MAP_TYPE_ARRAY", 4, 100, 10_000],
  ["BPF_MAP_TYPE_ARRAY", 4, 100, 10_000, BPF_F.BPF_F_MMAPABLE],
  ["BPF_MAP_TYPE_PERCPU_ARRAY", 4, 100, 10_000],
  ["BPF_MAP_TYPE_PROG_ARRAY", 4, 4, 10_000],
  ["BPF_MAP_TYPE_QUEUE", 0, 100, 10_000],
  ["BPF_MAP_TYPE_STACK", 0, 100, 10_000],
  ["BPF_MAP_TYPE_BLOOM_FILTER", 0, 8, 100_000],
  ["BPF_MAP_TYPE_RINGBUF", 0, 0, 1_048_576],
  ["BPF_MAP_TYPE_STACK_TRACE", 4, 80, 10_000],
  ["BPF_MAP_TYPE_SOCKHASH", 8, 4, 10_000],
  ["BPF_MAP_TYPE_DEVMAP", 4, 4, 10_000],
  ["BPF_MAP_TYPE_DEVMAP_HASH", 4, 4, 10_000],
];

const BY_ELEMENT: readonly Asked[] = [
  ["BPF_MAP_TYPE_HASH", 8, 100, 10_000, NO_PREALLOC],
  ["BPF_MAP_TYPE_PERCPU_HASH", 8, 100, 10_000, NO_PREALLOC],
  ["BPF_MAP_TYPE_LPM_TRIE", 8, 100, 10_000, NO_PREALLOC],
];

function recordOf([name, keySize, valueSize, maxEntries, mapFlags = 0]: Asked): MapRecord {
  const type = BPF_MAP_TYPE[name];
  return { type, keySize, valueSize, maxEntries, mapFlags, name: "", mapExtra: 0n, numaNode: 0 } as MapRecord;
}

/** What the kernel says that a map takes: bpf_map_memory_usage(). */
function memlock(fd: number): number {
  return Number(/^memlock:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"))?.[1]);
}

function run(bpf: Bpf): void {
  const host = readHost();
  const charged = (map: MapRecord, entries: number): number =>
    chargeOf(mapType(map.type) as MapType, map, entries, host).kernelBytes;

  for (const asked of [...PREALLOCATED, ...BY_ELEMENT])
    t.test(`${asked.join(" ")}: charged as the kernel accounts it`, async (t) => {
      const map = recordOf(asked);
      const fd = bpf.create(map);
      t.ok(fd > 0, `${fd}`);
      t.teardown(() => bpf.close(fd));
      const beside = memlock(fd) - charged(map, 0);
      t.ok(Math.abs(beside) <= BESIDE_BYTES, `${beside} bytes beside ${charged(map, 0)}`);
      if (!BY_ELEMENT.includes(asked)) return;
      const key = Buffer.alloc(map.keySize);
      const value = Buffer.alloc(Math.ceil(map.valueSize / 8) * 8 * host.possibleCpus);
      // Keys of a trie begin with their length in bits.
      let refused = 0;
      for (let at = 0; at < ELEMENTS; at++) {
        key.writeUInt32LE(map.type === BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE ? 32 : 0, 0);
        key.writeUInt32BE(at, 4);
        if (bpf.update(fd, key, value) !== 0) refused++;
      }
      t.equal(refused, 0);
      t.equal(memlock(fd) - beside, charged(map, ELEMENTS));
    });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
