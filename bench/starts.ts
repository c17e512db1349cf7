import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BPFFS } from "../test/support/bpffs.ts";
import { startService } from "../test/support/service_process.ts";
import { post, postJson } from "./load.ts";

const VALUE_BYTES = 8;
const BATCH = 10_000;

/** Maps of which a start compares every element: one that the kernel reads in batches, and one that it walks key by key. */
const MAPS = {
  HASH: { map_type: "BPF_MAP_TYPE_HASH", key_size: 8, map_flags: 0, key: numbered },
  LPM_TRIE: { map_type: "BPF_MAP_TYPE_LPM_TRIE", key_size: 8, map_flags: 1, key: address },
} as const;

export type ComparedMap = keyof typeof MAPS;
export const COMPARED_MAPS = Object.keys(MAPS) as readonly ComparedMap[];

/** A data directory whose service has been stopped cleanly, with a mirrored map in it. */
export interface Stopped {
  /** Milliseconds from the process's start until it is ready; every element is compared by then. */
  start(): Promise<number>;
  remove(): void;
}

export async function stopped(compared: ComparedMap, elements: number): Promise<Stopped> {
  const data = mkdtempSync(join(tmpdir(), "mapledger-bench-"));
  const bpffs = join(BPFFS, `mapledger_bench_${process.pid}_${compared}`);
  const environment = { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "required", MAPLEDGER_BPFFS: bpffs };
  const service = await startService(environment);
  await fill(service.url, compared, elements);
  await service.end("SIGTERM");
  const start = async (): Promise<number> => {
    const again = await startService(environment);
    await again.end("SIGTERM");
    return again.lines.find(({ url }) => url === again.url)?.ms as number;
  };
  const remove = (): void => {
    rmSync(data, { recursive: true });
    rmSync(bpffs, { recursive: true });
  };
  return { start, remove };
}

async function fill(url: string, compared: ComparedMap, count: number): Promise<void> {
  const { key, ...shape } = MAPS[compared];
  const session = await postJson(`${url}/v1/sessions`, { name: "bench", ttl_seconds: 86_400 });
  const descriptors = `${url}/v1/sessions/${session.id}`;
  const { fd } = await postJson(`${descriptors}/maps`, { ...shape, value_size: VALUE_BYTES, max_entries: count });
  const value = Buffer.alloc(VALUE_BYTES, 0xa5).toString("hex");
  for (let first = 0; first < count; first += BATCH) {
    const elements = Array.from({ length: Math.min(BATCH, count - first) }, (_, at) => ({
      key: key(first + at),
      value,
    }));
    await post(`${descriptors}/fds/${fd}/batch/update`, [JSON.stringify({ elements })]);
  }
}

function numbered(number: number): string {
  const key = Buffer.alloc(8);
  key.writeUInt32LE(number);
  return key.toString("hex");
}

/** One address of 10.0.0.0/8 and what follows it. */
function address(number: number): string {
  const key = Buffer.alloc(8);
  key.writeUInt32LE(32, 0);
  key.writeUInt32BE(0x0a000000 + number, 4);
  return key.toString("hex");
}
