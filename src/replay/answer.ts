import { errnoName } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { type DoorAttr, doorAnswer } from "../codec/door.ts";
import type { Event } from "../log/event.ts";
import type { Call, MemoryCall } from "./call.ts";
import type { Id } from "./ids.ts";

/** The outcome of a command as a client sees it: recorded in an event, or received from a target. */
export interface Answer {
  /** -1, 0, or the descriptor that was opened. */
  readonly ret: Id;
  readonly errno: string | null;
  readonly outputs: Outputs;
  /** The session that was opened, and the map that was created or opened. */
  readonly session?: Id;
  readonly map?: Id;
  /** The id of the BTF that was loaded or opened. */
  readonly btf?: Id;
  /** The id of the cgroup that was opened. */
  readonly cgroup?: string;
  /** The seq of the target's event. */
  readonly seq?: number;
  /** Why the target refused the request without an outcome, such as a 400 of its schema. */
  readonly refused?: string;
}

/** Outputs by the names of union bpf_attr, and those of mapledger's own commands. */
export interface Outputs extends DoorAttr {
  readonly freed?: readonly number[];
  readonly pathname?: string;
  /** The size of the map's memory in bytes, as mmap(2) can map it. */
  readonly memory?: number;
  /** Whether more elements follow this page. */
  readonly more?: boolean;
}

/** The recorded outcome, reduced to the fields that the response to `call` has. */
export function recordedAnswer({ command, outcome, seq }: Event, call: Call): Answer {
  const { ret, out } = outcome;
  const errno = outcome.errno === 0 ? null : errnoName(outcome.errno);
  const answer = { ret, errno, outputs: {} };
  switch (call.kind) {
    case "bpf": {
      const { attr } = doorAnswer(command, outcome, seq);
      return {
        ...answer,
        outputs: attr,
        ...(errno === null && outcome.map !== 0 && { map: outcome.map }),
        ...(errno === null && out?.btf_id !== undefined && { btf: out.btf_id }),
      };
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

/** A range that begins after the memory's end: the route answers 416 (RFC 9110), which stands for EINVAL. */
function readAnswer({ offset, length }: MemoryCall, memory: number): Answer {
  if (length === 0 || offset >= memory) return { ret: -1, errno: "EINVAL", outputs: {} };
  return { ret: 0, errno: null, outputs: { memory } };
}

/**
 * The outputs of a batch that was sent by its resource route. A refused batch has a count only if some elements, but
 * not all, were done.
 */
function batchOutputs(name: string, attr: DoorAttr, errno: string | null, given: number): Outputs {
  if (errno === null || (name.startsWith("lookup") && attr.values !== undefined)) return attr;
  if (name.startsWith("lookup")) return {};
  const done = attr.count ?? 0;
  return { count: done < given ? done : 0 };
}

function givenCount(command: object): number {
  return (command as { attr: { count: number } }).attr.count;
}

/**
 * The id of the cgroup that an event opened: recorded from the machine, or made up by the ledger for a cgroup without a
 * path.
 */
function cgroupOf(command: Event["command"], object: number | undefined): { cgroup?: string } {
  if (command.cmd !== CMD.OPEN || object === undefined) return {};
  const { kind, path, found } = command.attr as {
    kind: string;
    path?: string;
    found?: { facts?: { cgroupId?: string } };
  };
  if (kind !== "cgroup") return {};
  if (found?.facts?.cgroupId !== undefined) return { cgroup: found.facts.cgroupId };
  return path === undefined ? { cgroup: String(object) } : {};
}
