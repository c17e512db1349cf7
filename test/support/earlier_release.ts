import { readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { u32, u64 } from "./mirror.ts";

/**
 * Leaves a stopped ledger as a release did that knew no marks and no places: `own` is the directory of pins. Its link `owner`
 * names the log alone, an array of one u64 says how far all kernel maps have come, and the state has another layout.
 */
export function leaveAsEarlier(bpf: Bpf, own: string, data: string, log: string, seq: number): void {
  const link = join(own, "owner");
  unlinkSync(link);
  symlinkSync(log, link);
  const carried = join(own, "carried");
  rmSync(carried, { force: true });
  const shape = { keySize: 4, valueSize: 8, maxEntries: 1, mapFlags: 0, name: "ml_carried", mapExtra: 0n, numaNode: 0 };
  const fd = bpf.create({ ...shape, type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY });
  bpf.update(fd, u32(0), u64(seq));
  const pinned = bpf.pin(fd, carried);
  bpf.close(fd);
  if (pinned < 0) throw new Error(`pinning ${carried}: ${pinned}`);
  const marker = join(data, "state", "marker.json");
  writeFileSync(marker, JSON.stringify({ ...JSON.parse(readFileSync(marker, "utf8")), layout: 0 }));
}
