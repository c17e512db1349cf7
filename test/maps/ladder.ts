import type { Test } from "tap";
import type { Service } from "../conformance/service.ts";
import type { Answer } from "../conformance/subject.ts";

/** What a rung sends: all that the rungs below it refuse is still wrong with it. */
export interface Rung {
  readonly refuses: string;
  readonly attr: Readonly<Record<string, unknown>>;
  readonly errno: string | null;
  /** Of the detail, where another rung has the same errno. */
  readonly detail?: RegExp;
}

/** Guards in the kernel's order: moving one makes a rung fail, since its request breaks every later rule, too. */
export function climb(t: Test, service: Service, cmd: string, rungs: readonly Rung[]): void {
  for (const { refuses, attr, errno, detail } of rungs) {
    const answer = service.bpf({ cmd, attr });
    t.equal(answer.errno, errno, `${cmd} ${errno === null ? "takes" : "refuses"} ${refuses}`);
    if (detail !== undefined) t.match(answer.detail, detail, `the rule is ${detail}`);
  }
}

/** A new map's descriptor. */
export function create(service: Service, attr: Readonly<Record<string, unknown>>): number {
  return succeed(service.bpf({ cmd: "BPF_MAP_CREATE", attr })).ret;
}

export function update(service: Service, map_fd: number, key: string, value: string): void {
  succeed(service.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, key, value } }));
}

/** Every element, in the order of BPF_MAP_GET_NEXT_KEY. */
export function walk(service: Service, map_fd: number): [key: string, value: string | undefined][] {
  const found: [string, string | undefined][] = [];
  let key: string | null = null;
  for (;;) {
    const next: Answer = service.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key } });
    if (next.errno === "ENOENT") return found;
    key = succeed(next).attr.next_key as string;
    found.push([key, service.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key } }).attr.value]);
  }
}

export function succeed(answer: Answer): Answer {
  if (answer.errno !== null) throw new Error(`a command of the test's set-up: ${answer.errno}: ${answer.detail}`);
  return answer;
}

/** A u32 as the machine has it in memory. */
export function u32(number: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes.toString("hex");
}

/** A batch's keys or values, one by one. */
export function split(hex: string | undefined, size: number): string[] {
  const all = hex ?? "";
  return Array.from({ length: all.length / 2 / size }, (_, at) => all.slice(at * size * 2, (at + 1) * size * 2));
}
