import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { processMemory } from "../src/http/server/process_memory.ts";
import { postJson } from "./load.ts";
import type { Subject } from "./service.ts";

const MIB = 1024 * 1024;
const EXPORTS = 20;
const BODIES = 16;
const READERS = 10;
const SECONDS = 5;
const SAMPLE_MS = 50;

/** MiB of anonymous memory: before, at most while connections do their worst, and when they are gone. */
export interface AnonymousMemory {
  readonly before: number;
  readonly most: number;
  readonly after: number;
}

/**
 * What a service takes while 20 clients begin exports of 64 MiB and take nothing of them, 16 send 64 MiB but for the last byte, and
 * ten read an export at ten bytes a second.
 */
export async function crowd({ url, pid }: Subject & { readonly pid: number }): Promise<AnonymousMemory> {
  const { id } = await postJson(`${url}/v1/sessions`, { name: "flight", ttl_seconds: 86_400 });
  const attr = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: 1024, max_entries: 64 * 1024 };
  const { fd } = await postJson(`${url}/v1/sessions/${id}/maps`, attr);
  const path = `/v1/sessions/${id}/fds/${fd}`;
  const before = anonymousMib(pid);
  const { hostname, port } = new URL(url);
  const sockets: Socket[] = [];
  const open = (head: string): Socket => {
    const socket = connect(Number(port), hostname);
    socket.on("error", () => {}).pause();
    socket.write(`${head}host: localhost\r\n\r\n`);
    sockets.push(socket);
    return socket;
  };
  const exported = `GET ${path}/elements HTTP/1.1\r\naccept: application/x-ndjson\r\n`;
  for (let at = 0; at < EXPORTS; at++) open(exported);
  const body = Buffer.alloc(64 * MIB - 1, " ");
  const head = `content-type: application/json\r\ncontent-length: ${64 * MIB}\r\n`;
  for (let at = 0; at < BODIES; at++) open(`POST ${path}/batch/update HTTP/1.1\r\n${head}`).write(body);
  const readers = Array.from({ length: READERS }, () => open(exported));
  const reading = setInterval(() => {
    for (const reader of readers) reader.read(10);
  }, 1000);
  const memory = new MemorySampler(pid);
  await sleep(SECONDS * 1000);
  memory.end();
  clearInterval(reading);
  for (const socket of sockets) socket.destroy();
  await sleep(1000);
  return { before, most: memory.most, after: anonymousMib(pid) };
}

/** Samples a process's anonymous memory, in MiB, until end() is called. */
export class MemorySampler {
  most = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(pid: number) {
    this.#timer = setInterval(() => {
      this.most = Math.max(this.most, anonymousMib(pid));
    }, SAMPLE_MS);
  }

  end(): void {
    clearInterval(this.#timer);
  }
}

export function anonymousMib(pid: number): number {
  return (processMemory(`/proc/${pid}/status`).get("anonymous") ?? Number.NaN) / MIB;
}
