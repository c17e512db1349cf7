/** Compares a target's answers with the recorded ones. Ids may differ if they correspond (ids.ts). */

import { hash } from "node:crypto";
import { BTF_INFO, MAP_INFO } from "../abi/bpf.ts";
import { CMD, cmdName, UNKNOWN_CMD } from "../abi/service.ts";
import type { Event } from "../log/event.ts";
import { type AnsweredId, idInKey, idInValue } from "../maps/references.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import type { CutAnswer } from "../syscall/outcome.ts";
import type { Answer, Outputs } from "./answer.ts";
import type { Ids, Shape } from "./ids.ts";

/** A command whose answer differs from the recorded one. */
export interface Difference {
  readonly seq: number;
  readonly cmd: string;
  /** The names of the fields that differ: "ret", "errno", "order" or an output. */
  readonly differs: readonly string[];
  readonly recorded: ShownFields;
  readonly got: ShownFields & { readonly seq?: number; readonly refused?: string };
  /** Why this difference is allowed: the kernel may choose here, and has chosen differently from mapledger. */
  readonly free?: string;
}

/** ret, errno and the outputs that differ, by name. */
type ShownFields = Readonly<Record<string, unknown>>;

/** The most hex digits shown of a key or a value. */
const SHOWN_DIGITS = 256;

/**
 * Compares the target's answer with the recorded one; null if they are equal. ret, errno and the outputs are compared;
 * times, seqs and the text of `detail` are not. An output that only one of the answers has is a difference. Ids may
 * differ in number but must correspond: ids of sessions, descriptors, maps and cgroups as they were assigned, ids of
 * programs and BTF and cookies as they were first met (3 in the recording and 7 in the target are equal if they were
 * met together, and 3 then always is 7).
 */
export function compare(event: Event, recorded: Answer, got: Answer, ids: Ids): Difference | null {
  const differs = [
    ...(got.refused !== undefined || !sameRet(event, recorded, got) ? ["ret"] : []),
    ...(recorded.errno === got.errno || endedAlready(event, got) ? [] : ["errno"]),
    ...outputsThatDiffer(event, recorded.outputs, got.outputs, ids),
  ];
  return differs.length === 0 ? null : differenceOf(event, differs, recorded, got);
}

export function differenceOf(event: Event, differs: readonly string[], recorded: Answer, got: Answer): Difference {
  const { seq, command } = event;
  const name = command.cmd === UNKNOWN_CMD ? command.name : (cmdName(command.cmd) ?? String(command.cmd));
  return {
    seq,
    cmd: name,
    differs,
    recorded: told(recorded, differs),
    got: {
      ...told(got, differs),
      ...(got.seq !== undefined && { seq: got.seq }),
      ...(got.refused !== undefined && { refused: got.refused }),
    },
  };
}

/** Whether the return values are equal. Descriptors are, whatever their numbers. */
function sameRet(event: Event, recorded: Answer, got: Answer): boolean {
  if (recorded.ret === got.ret || endedAlready(event, got)) return true;
  return recorded.errno === null && got.errno === null && opensFd(event);
}

/**
 * Whether a SESSION_END that fails with EBADF is the recorded end of a lease: the target's lease may have ended earlier
 * by itself.
 */
function endedAlready({ command }: Event, got: Answer): boolean {
  if (command.cmd !== CMD.SESSION_END || got.errno !== "EBADF") return false;
  return command.attr.reason !== "ended by request";
}

/** Whether a command returns a new descriptor if it succeeds. */
export function opensFd({ command }: Event): boolean {
  return (commandFacts(command.cmd)?.opens ?? null) !== null;
}

function outputsThatDiffer(event: Event, recorded: Outputs, got: Outputs, ids: Ids): string[] {
  if (isFirstPage(event)) return (got.count ?? 0) >= (recorded.count ?? 0) ? [] : ["count"];
  const names = new Set([...Object.keys(recorded), ...Object.keys(got)]) as Set<keyof Outputs>;
  return [...names].filter((name) => !sameOutput(event, name, recorded, got, ids));
}

/**
 * Whether the event records only the first page of a read that was answered with all elements: later pages were read
 * from the history.
 */
function isFirstPage({ command, outcome }: Event): boolean {
  if (command.cmd !== CMD.MAP_ELEMENTS || outcome.out?.more !== true) return false;
  return (outcome.out.count ?? 0) < command.attr.limit;
}

/** The event's column that keeps an output which may be cut. */
const COLUMNS: Readonly<Partial<Record<keyof Outputs, keyof CutAnswer>>> = {
  value: "value",
  values: "value",
  next_key: "value",
  keys: "key",
  btf: "key",
};

function sameOutput(
  { command, outcome }: Event,
  name: keyof Outputs,
  recorded: Outputs,
  got: Outputs,
  ids: Ids,
): boolean {
  const [one, other] = [recorded[name], got[name]];
  if (one === undefined || other === undefined) return one === other;
  const shape = ids.shape(outcome.map);
  const column = COLUMNS[name];
  const whole = column === undefined ? undefined : outcome.out?.answer?.[column];
  if (whole !== undefined) {
    const where = name === "keys" || name === "next_key" ? idInKey : idInValue;
    return sameCut(one as string, other as string, { ...whole, count: recorded.count ?? 1, shape, where, ids });
  }
  switch (name) {
    case "value":
    case "values":
      return sameElements(one as string, other as string, recorded.count ?? 1, shape, idInValue, ids);
    case "keys":
    case "next_key":
      return sameElements(one as string, other as string, recorded.count ?? 1, shape, idInKey, ids);
    case "next_id":
      return ids.isSame(command.cmd === CMD.BPF_BTF_GET_NEXT_ID ? "btf" : "map", String(one), String(other));
    case "freed":
      return sameFreed(one as readonly number[], other as readonly number[], ids);
    case "info":
      return sameInfo(one as string, other as string, outcome.map === 0 ? BTF_IDS : MAP_IDS, ids);
    default:
      return one === other;
  }
}

type Where = (mapType: number, bytes: number) => AnsweredId | null;

/** Whether elements that lie end to end are equal, except for ids that correspond to each other. */
function sameElements(
  one: string,
  other: string,
  count: number,
  shape: Shape | undefined,
  where: Where,
  ids: Ids,
): boolean {
  if (one === other && shape === undefined) return true;
  const size = count === 0 ? 0 : one.length / 2 / count;
  const id = shape === undefined ? null : where(shape.type, size);
  if (id === null || size === 0 || one.length !== other.length) return one === other;
  const [from, to] = [id.at * 2, (id.at + id.bytes) * 2];
  for (let at = 0; at < one.length; at += size * 2) {
    const [mine, theirs] = [one.slice(at, at + size * 2), other.slice(at, at + size * 2)];
    if (mine.slice(0, from) + mine.slice(to) !== theirs.slice(0, from) + theirs.slice(to)) return false;
    const [recorded, got] = [numberOf(mine.slice(from, to)), numberOf(theirs.slice(from, to))];
    // Id 0: no program, no element.
    if (recorded === "0" || got === "0" ? recorded !== got : !ids.isSame(id.kind, recorded, got)) return false;
  }
  return true;
}

interface Whole {
  readonly bytes: number;
  readonly sha256: string;
  readonly count: number;
  readonly shape: Shape | undefined;
  readonly where: Where;
  readonly ids: Ids;
}

/**
 * Compares an answer with a recorded one that was cut. The whole is compared by length and SHA-256; if it has ids,
 * which may differ in number, only the part that was kept and the length are compared.
 */
function sameCut(kept: string, got: string, { bytes, sha256, count, shape, where, ids }: Whole): boolean {
  if (got.length !== bytes * 2) return false;
  const size = bytes / count;
  if (shape === undefined || where(shape.type, size) === null)
    return hash("sha256", Buffer.from(got, "hex")) === sha256;
  return sameElements(kept, got.slice(0, kept.length), kept.length / 2 / size, shape, where, ids);
}

/** The decimal number of little-endian hex digits. */
function numberOf(digits: string): string {
  const bytes = Buffer.alloc(8);
  bytes.write(digits, "hex");
  return String(bytes.readBigUInt64LE(0));
}

function sameFreed(one: readonly number[], other: readonly number[], ids: Ids): boolean {
  const left = new Set(other.map(String));
  return one.length === other.length && one.every((map) => left.delete(String(ids.map(map) ?? map)));
}

type IdsWithin = readonly (readonly [kind: "map" | "btf", at: number])[];

/** The ids in struct bpf_map_info and struct bpf_btf_info. */
const MAP_IDS: IdsWithin = [
  ["map", MAP_INFO.id],
  ["btf", MAP_INFO.btf_id],
];
const BTF_IDS: IdsWithin = [["btf", BTF_INFO.id]];

/** Compares two infos, in which ids must correspond. */
function sameInfo(one: string, other: string, within: IdsWithin, ids: Ids): boolean {
  const [mine, theirs] = [Buffer.from(one, "hex"), Buffer.from(other, "hex")];
  for (const [kind, at] of within) {
    if (mine.length < at + 4 || theirs.length < at + 4) {
      // A buffer that ends within the id: its bytes are not compared.
      for (const info of [mine, theirs]) info.fill(0, Math.min(at, info.length));
      continue;
    }
    const [recorded, got] = [mine.readUInt32LE(at), theirs.readUInt32LE(at)];
    const same = recorded === 0 || got === 0 ? recorded === got : ids.isSame(kind, String(recorded), String(got));
    // The kernel does not write btf_id of a map without BTF: it is as the caller left it.
    if (!same && !mine.subarray(at, at + 4).equals(theirs.subarray(at, at + 4))) return false;
    mine.fill(0, at, at + 4);
    theirs.fill(0, at, at + 4);
  }
  return mine.equals(theirs);
}

/** The part of an answer that is shown: ret, errno and the outputs that differ. */
function told({ ret, errno, outputs }: Answer, differs: readonly string[]): ShownFields {
  const shown = differs.flatMap((name) => {
    const output = outputs[name as keyof Outputs];
    return output === undefined ? [] : [[name, cut(output)]];
  });
  return { ret, errno, ...Object.fromEntries(shown) };
}

function cut(output: unknown): unknown {
  if (typeof output !== "string" || output.length <= SHOWN_DIGITS) return output;
  return `${output.slice(0, SHOWN_DIGITS)}... (${output.length} characters)`;
}
