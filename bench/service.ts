import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startService } from "../test/support/service_process.ts";

/** A process under test, on a port of its own. */
export interface Subject {
  readonly url: string;
  stop(): Promise<void>;
}

/** The bare Fastify route. */
export function startEcho(): Promise<Subject & { readonly pid: number }> {
  return start("echo.ts");
}

/** node:http alone. */
export function startBare(): Promise<Subject & { readonly pid: number }> {
  return start("bare.ts");
}

async function start(name: string): Promise<Subject & { readonly pid: number }> {
  const file = new URL(name, import.meta.url).pathname;
  const child = spawn(process.execPath, [file], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const stop = async (): Promise<void> => {
    child.kill();
    await once(child, "exit");
  };
  return { url: `http://127.0.0.1:${JSON.parse(line.toString()).port}`, pid: child.pid as number, stop };
}

const MS_A_TICK = 10;

/** The CPU time of all threads of a process. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * MS_A_TICK;
}

/** The service, with data of its own. */
export async function startBenchService(
  mirror: "off" | "required",
  environment: Readonly<Record<string, string>> = {},
): Promise<Subject & { readonly pid: number; readonly data: string }> {
  const data = mkdtempSync(join(tmpdir(), "mapledger-bench-"));
  const bpffs = `/sys/fs/bpf/mapledger_bench_${process.pid}`;
  const service = await startService({
    MAPLEDGER_DATA: data,
    MAPLEDGER_MIRROR: mirror,
    MAPLEDGER_BPFFS: bpffs,
    ...environment,
  });
  const close = async (): Promise<void> => {
    await service.end("SIGTERM");
    rmSync(data, { recursive: true });
    rmSync(bpffs, { recursive: true, force: true });
  };
  return { url: service.url, pid: service.child.pid as number, data, stop: close };
}
