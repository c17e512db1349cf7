import { isDeepStrictEqual } from "node:util";
import type { Test } from "tap";
import { Service } from "../../conformance/service.ts";
import type { Answer, Subject } from "../../conformance/subject.ts";
import { BPF_MAP_TYPE, MAP_INFO, MAP_INFO_BYTES, type MapTypeName } from "../../src/abi/bpf.ts";

/** What a rung sends: all that the rungs below it refuse is still wrong with it. */
export interface Rung {
  readonly refuses: string;
  readonly attr: Readonly<Record<string, unknown>>;
  readonly errno: string | null;
  /** Of the detail, where another rung has the same errno; a kernel tells none. */
  readonly detail?: RegExp;
}

/** Guards in the kernel's order: moving one makes a rung fail, since its request breaks every later rule, too. */
export function climb(t: Test, subject: Subject, cmd: string, rungs: readonly Rung[]): void {
  for (const { refuses, attr, errno, detail } of rungs) {
    const answer = send(subject, cmd, attr);
    t.equal(answer.errno, errno, `${cmd} ${errno === null ? "takes" : "refuses"} ${refuses}`);
    if (detail !== undefined && subject instanceof Service) t.match(answer.detail, detail, `the rule is ${detail}`);
  }
}

/** A kernel knows map types by number only. */
function send(subject: Subject, cmd: string, attr: Readonly<Record<string, unknown>>): Answer {
  const { map_type: type } = attr;
  return subject.bpf({
    cmd,
    attr: typeof type === "string" ? { ...attr, map_type: BPF_MAP_TYPE[type as MapTypeName] } : attr,
  });
}

/** A new map's descriptor. */
export function create(subject: Subject, attr: Readonly<Record<string, unknown>>): number {
  return succeed(send(subject, "BPF_MAP_CREATE", attr)).ret;
}

export function update(subject: Subject, map_fd: number, key: string | null, value: string): void {
  succeed(subject.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, key, value } }));
}

/** Every element, in the order of BPF_MAP_GET_NEXT_KEY. */
export function walk(subject: Subject, map_fd: number): [key: string, value: string | undefined][] {
  const found: [string, string | undefined][] = [];
  let key: string | null = null;
  for (;;) {
    const next: Answer = subject.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key } });
    if (next.errno === "ENOENT") return found;
    key = succeed(next).attr.next_key as string;
    found.push([key, subject.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key } }).attr.value]);
  }
}

export function succeed(answer: Answer): Answer {
  if (answer.errno !== null) throw new Error(`a command of the test's set-up: ${answer.errno}: ${answer.detail}`);
  return answer;
}

/** What one command answers: its errno, or what it put out. */
export function ask(subject: Subject, cmd: string, attr: Readonly<Record<string, unknown>>): unknown {
  const answer = send(subject, cmd, attr);
  return answer.errno ?? answer.attr.value ?? answer.attr.next_key ?? null;
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

/** A u64 as the machine has it in memory. */
export function u64(number: bigint | string): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(number));
  return bytes.toString("hex");
}

/** What BPF_OBJ_GET_INFO_BY_FD says of a map. */
export function infoOf(subject: Subject, bpf_fd: number): Record<"id" | "max_entries" | "map_flags", number> {
  const { attr } = succeed(subject.bpf({ cmd: "BPF_OBJ_GET_INFO_BY_FD", attr: { bpf_fd, info_len: MAP_INFO_BYTES } }));
  const info = Buffer.from(attr.info as string, "hex");
  const at = (offset: number): number => info.readUInt32LE(offset);
  return { id: at(MAP_INFO.id), max_entries: at(MAP_INFO.max_entries), map_flags: at(MAP_INFO.map_flags) };
}

/** Whether a map with this id lives. */
export function lives(subject: Subject, map_id: number): boolean {
  const { ret, errno } = subject.bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id } });
  if (errno === null) subject.close(ret);
  return errno === null;
}

/** Of ten milliseconds. */
const SETTLES_MAX = 1000;

/** Checks an answer that depends on what was let go of to be gone: it is asked for until it is as wanted. */
export function settles<T>(t: Test, subject: Subject, ask: () => T, want: T, message: string): void {
  let answer = ask();
  for (let turn = 0; turn < SETTLES_MAX && !isDeepStrictEqual(answer, want) && subject.settle(); turn++) answer = ask();
  t.same(answer, want, message);
}

/** Checks that a map goes that nothing holds any more. */
export function goes(t: Test, subject: Subject, map_id: number, message: string): void {
  settles(t, subject, () => lives(subject, map_id), false, message);
}
