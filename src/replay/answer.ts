import { errnoName } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { type DoorAttr, doorAnswer } from "../codec/door.ts";
import type { Event } from "../log/event.ts";
import type { Call, MemoryCall } from "./call.ts";
import type { Id } from "./ids.ts";

/** What a command was answered with: recorded, or got from a target. */
export interface Answer {
  /** -1, 0, or the descriptor that was opened. */
  readonly ret: Id;
  readonly errno: string | null;
  readonly outputs: Outputs;
  /** The session or the map that was opened. */
  readonly session?: Id;
  readonly map?: Id;
  /** The cgroup that was opened, by its id. */
  readonly cgroup?: string;
  /** The target's event of it. */
  readonly seq?: number;
  /** The target could not make sense of the request; there is no outcome. */
  readonly refused?: string;
}

/** Outputs by the names of union bpf_attr, and what mapledger's own commands answer. */
export interface Outputs extends DoorAttr {
  readonly freed?: readonly number[];
  readonly pathname?: string;
  /** Bytes that mmap(2) can reach. */
  readonly memory?: number;
  /** A page of elements was not the last. */
  readonly more?: boolean;
}

/** What an event says was answered, as far as the call's route would tell it. */
export function recordedAnswer({ command, outcome, seq }: Event, call: Call): Answer {
  const { ret, out } = outcome;
  const errno = outcome.errno === 0 ? null : errnoName(outcome.errno);
  const answer = { ret, errno, outputs: {} };
  switch (call.kind) {
    case "bpf": {
      const { attr } = doorAnswer(command, outcome, seq);
      return { ...answer, outputs: attr, ...(errno === null && outcome.map !== 0 && { map: outcome.map }) };
    }
    case "create":
      return errno === null ? { ...answer, map: outcome.map } : answer;
    case "open session":
      return { ...answer, session: out?.session_id as number };
    case "open":
      return { ...answer, ...cgroupOf(command, out?.object), ...(outcome.map !== 0 && { map: outcome.map }) };
    case "close":
      return errno === null ? { ...answer, outputs: { freed: out?.freed ?? [] } } : answer;
    case "batch":
      return {
        ...answer,
        outputs: batchOutputs(call.name, doorAnswer(command, outcome, seq).attr, errno, givenCount(command)),
      };
    case "lookup":
    case "take":
    case "next key":
      return { ...answer, outputs: doorAnswer(command, outcome, seq).attr };
    case "elements":
      return errno === null ? { ...answer, outputs: { count: out?.count ?? 0, more: out?.more ?? false } } : answer;
    case "read memory":
      return errno === null ? readAnswer(call, out?.memory as number) : answer;
    case "mkdir":
    case "unlink":
    case "rmdir":
    case "pin":
      return errno === null ? { ...answer, outputs: { pathname: out?.pathname as string } } : answer;
    case "renew":
    case "end session":
    case "update":
    case "delete":
    case "freeze":
    case "write memory":
      return answer;
  }
}

/** Where nothing was read, its route answers 416 (RFC 9110), which is EINVAL's. */
function readAnswer({ offset, length }: MemoryCall, memory: number): Answer {
  if (length === 0 || offset >= memory) return { ret: -1, errno: "EINVAL", outputs: {} };
  return { ret: 0, errno: null, outputs: { memory } };
}

/** A route's batch that was refused tells of its count where some elements were done. */
function batchOutputs(name: string, attr: DoorAttr, errno: string | null, given: number): Outputs {
  if (errno === null || (name.startsWith("lookup") && attr.values !== undefined)) return attr;
  if (name.startsWith("lookup")) return {};
  const done = attr.count ?? 0;
  return { count: done < given ? done : 0 };
}

function givenCount(command: object): number {
  return (command as { attr: { count: number } }).attr.count;
}

/** A cgroup's id: as the machine said, or what the ledger makes one up from. */
function cgroupOf(command: Event["command"], object: number | undefined): { cgroup?: string } {
  if (command.cmd !== CMD.OPEN || !("attr" in command) || object === undefined) return {};
  const { kind, path, found } = command.attr as {
    kind: string;
    path?: string;
    found?: { facts?: { cgroupId?: string } };
  };
  if (kind !== "cgroup") return {};
  if (found?.facts?.cgroupId !== undefined) return { cgroup: found.facts.cgroupId };
  return path === undefined ? { cgroup: String(object) } : {};
}
