import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BPFFS } from "./bpffs.ts";
import { type Libbpf, openLibbpf } from "./libbpf.ts";
import { startService } from "./service_process.ts";

/**
 * Run in a mount namespace of its own, whose /sys/fs/bpf is a new bpffs: a service whose pins lie at the very paths that the
 * ledger has makes each map that it is told of (JSON: name to body), and libbpf loads the object's map of that name below its
 * default pin root. Prints the kernel's ids of both.
 */
const [, , object, told] = process.argv as [string, string, string, string];
const bpf = openBpf() as Bpf;
const libbpf = openLibbpf() as Libbpf;
const data = mkdtempSync(join(tmpdir(), "mapledger-root-"));
const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "required", MAPLEDGER_BPFFS: BPFFS });
try {
  const session = `/sessions/${(await post("/sessions", { ttl_seconds: 3600 })).id}`;
  const ids: Record<string, { ours: unknown; libbpf: number }> = {};
  for (const [name, body] of Object.entries(JSON.parse(told) as Record<string, object>)) {
    const made = await post(`${session}/maps`, { ...body, map_name: name });
    await post(`${session}/fds/${made.fd}/pin`, { pathname: `${BPFFS}/${name}` });
    const response = await fetch(`${service.url}/v1/maps/${made.map_id}`);
    const { mirror } = (await response.json()) as { mirror: { kernel_id: number } };
    ids[name] = { ours: mirror.kernel_id, libbpf: libbpf.load(object, null, name, kernelId) };
  }
  process.stdout.write(JSON.stringify(ids));
} finally {
  await service.end("SIGTERM");
  rmSync(data, { recursive: true });
}

function kernelId(fd: number): number {
  const info = bpf.infoByFd(fd);
  return typeof info === "number" ? info : info.id;
}

async function post(path: string, body: object): Promise<Record<string, unknown>> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${service.url}/v1${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  const json = (await response.json()) as Record<string, unknown>;
  if (!response.ok) throw new Error(`POST ${path}: ${response.status} ${JSON.stringify(json)}`);
  return json;
}
