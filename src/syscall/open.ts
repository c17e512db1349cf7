/** Opens descriptors of objects that are not maps, and BPF_BTF_LOAD. */

import { createHash } from "node:crypto";
import { BPF_F } from "../abi/bpf.ts";
import { BTF_BYTES_MAX } from "../abi/limits.ts";
import { checkedBtf } from "../btf/check.ts";
import { type BtfFacts, type ObjectFacts, type ObjectRecord, objectBytes, type SocketFacts } from "../maps/object.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import type {
  BtfLoadCommand,
  InterfacesCommand,
  ObjectEndCommand,
  ObjectSpec,
  OpenCommand,
  Origin,
} from "./command.ts";
import { openAt, ownProcess } from "./descriptors.ts";
import type { FdRecord } from "./fd_table.ts";
import { checkCapability, newFd, readUser } from "./guards.ts";
import { done, failed, type Outcome } from "./outcome.ts";
import { checkQuota } from "./quota.ts";
import type { State } from "./state.ts";

/**
 * Opens descriptors of objects that are not maps. If the machine was asked for a real object, the command has its
 * facts. Otherwise the object exists in the ledger only, and its facts are derived from the command.
 */
export function open(state: State, command: Origin & OpenCommand): Outcome {
  const { found } = command.attr;
  if (found !== undefined && "errno" in found) return failed(refuse(found.errno, found.detail));
  const facts = found?.facts ?? imagined(state, command);
  return isRefusal(facts) ? failed(facts) : openObject(state, command, facts, command.attr.openFlags);
}

export function redoOpen(state: State, command: Origin & OpenCommand, outcome: Outcome): void {
  if (outcome.errno !== 0) return;
  const { found } = command.attr;
  const facts = found !== undefined && "facts" in found ? found.facts : (imagined(state, command) as ObjectFacts);
  openObject(state, command, facts, command.attr.openFlags);
}

function openObject(state: State, { session, caller }: Origin, facts: ObjectFacts, openFlags = 0): Outcome {
  const known = state.objects.known(facts);
  const id = known?.id ?? state.lastId("object") + 1;
  const file: FdRecord = {
    kind: facts.kind,
    file: state.lastId("file") + 1,
    map: 0,
    object: id,
    readable: true,
    writable: (openFlags & BPF_F.BPF_F_RDONLY) === 0,
  };
  const refusal = known === undefined ? checkNew(state, caller, facts) : null;
  if (refusal !== null) return failed(refusal);
  const fd = newFd(state, session);
  if (isRefusal(fd)) return failed(fd);
  state.usedId("object", id);
  state.objects.put({ ...(known ?? { creator: caller }), ...facts, id } as ObjectRecord);
  count(state, facts);
  const outcome = openAt(state, session, file);
  return { ...outcome, out: { ...outcome.out, object: id } };
}

/** The quotas of a new object: one object, and for BTF the blob's bytes of kernel memory. */
function checkNew(state: State, caller: string, facts: ObjectFacts): Refusal | null {
  return (
    checkQuota(state.charges, caller, "kernel_bytes", objectBytes(facts)) ??
    checkQuota(state.charges, caller, "objects", 1)
  );
}

/** Marks the object's numbers as used, so that they are not assigned again. */
function count(state: State, facts: ObjectFacts): void {
  if (facts.kind === "socket") state.usedId("cookie", Number(facts.cookie));
  else if (facts.kind === "prog") state.usedId("prog", facts.progId);
  else if (facts.kind === "btf") state.usedId("btf", facts.btfId);
}

const SOCKETS = {
  tcp_idle: ["tcp", "idle"],
  tcp_listen: ["tcp", "listening"],
  tcp_connected: ["tcp", "connected"],
  udp_idle: ["udp", "idle"],
  udp_bound: ["udp", "bound"],
  unix_stream: ["unix_stream", "connected"],
  unix_dgram: ["unix_dgram", "connected"],
  xsk: ["xsk", "idle"],
} as const satisfies Record<string, readonly [SocketFacts["protocol"], SocketFacts["state"]]>;

/** The facts of an object that exists in the ledger only. */
function imagined(state: State, { session, attr }: Origin & { attr: ObjectSpec }): ObjectFacts | Refusal {
  const { kind, path = null } = attr;
  switch (kind) {
    case "pipe":
    case "perf_event":
      return { kind };
    case "file":
    case "dir":
      return { kind, path };
    case "pidfd":
      if (attr.pid === undefined) return refuse("EINVAL", "pid is required for a pidfd");
      return { kind: "process", pid: attr.pid, startTime: "", exited: false };
    case "pidfd_self":
      return ownProcess(session);
    case "pidfd_dead":
      return { kind: "process", pid: 0, startTime: `dead ${state.lastId("object") + 1}`, exited: true };
    case "cgroup": {
      const cgroupId = path === null ? String(state.lastId("object") + 1) : idOfPath(path);
      return { kind, path, cgroupId, removed: false };
    }
    case "prog":
      return program(state, attr);
    default: {
      const [protocol, socketState] = SOCKETS[kind];
      const cookie = String(state.lastId("cookie") + 1);
      return { kind: "socket", protocol, state: socketState, reuseport: attr.reuseport ?? false, cookie };
    }
  }
}

/** A program that exists in the ledger only: a new one, or the known one with this id. */
function program(state: State, { id, path, progType = 0, expectedAttachType = 0 }: ObjectSpec): ObjectFacts | Refusal {
  if (path !== undefined) return refuse("ENOENT", `no kernel is available to open the program pinned at ${path}`);
  const progId = id ?? state.lastId("prog") + 1;
  const facts = { kind: "prog", progId, progType, expectedAttachType, name: "" } as const;
  const known = state.objects.known(facts) ?? (id === undefined ? undefined : state.objects.program(id));
  if (known?.kind === "prog") return known;
  return progType === 0
    ? refuse("ENOENT", `no program has id ${progId}: one of the ledger's own needs a prog_type`)
    : facts;
}

/** The id of a cgroup of which only the path is known; it depends on the path alone. */
function idOfPath(path: string): string {
  return String(createHash("sha256").update(path).digest().readBigUInt64LE(0) >> 1n);
}

/** bpf_btf_load(), kernel/bpf/syscall.c. */
export function loadBtf(state: State, command: Origin & BtfLoadCommand): Outcome {
  const facts = checkBtf(state, command);
  if (isRefusal(facts)) return failed(facts);
  const outcome = openObject(state, command, facts);
  return outcome.errno === 0 ? { ...outcome, out: { ...outcome.out, btf_id: facts.btfId } } : outcome;
}

export function redoLoadBtf(state: State, command: Origin & BtfLoadCommand, outcome: Outcome): void {
  if (outcome.errno === 0) openObject(state, command, btfFacts(state, command));
}

function checkBtf(state: State, command: Origin & BtfLoadCommand): BtfFacts | Refusal {
  const refusal = checkCapability(state, command.session, "CAP_BPF", "loading BTF");
  if (refusal !== null) return refusal;
  const { btfSize } = command.attr;
  if (btfSize > BTF_BYTES_MAX) return refuse("E2BIG", `btf_size is ${btfSize}: more than ${BTF_BYTES_MAX}`);
  const { btfBytesMax = BTF_BYTES_MAX } = state.host;
  if (btfSize > btfBytesMax)
    return refuse("E2BIG", `btf_size is ${btfSize}: more than the ${btfBytesMax} that MAPLEDGER_BTF_MAX allows`);
  const blob = readUser(command.value, btfSize, "btf");
  if (isRefusal(blob)) return blob;
  const btf = checkedBtf(blob, state.host.undestroyed);
  return isRefusal(btf) ? btf : btfFacts(state, command);
}

function btfFacts(state: State, { value, attr }: BtfLoadCommand): BtfFacts {
  return { kind: "btf", btfId: state.lastId("btf") + 1, data: (value as Buffer).toString("hex", 0, attr.btfSize) };
}

export function endObject(state: State, { attr }: Origin & ObjectEndCommand): Outcome {
  state.ties.end(attr.object);
  return done(0);
}

export function setInterfaces(state: State, { attr }: Origin & InterfacesCommand): Outcome {
  state.interfaces.set(attr.ifindexes);
  return done(0);
}
