import { Connection, type Room } from "../client/connection.ts";
import { readHost } from "../host.ts";
import type { OpenTarget, TargetSpec } from "../http/jobs/replays.ts";
import { KernelTarget } from "../mirror/kernel_target.ts";
import type { Bpf } from "../native/bpf.ts";
import { openBpf, probe } from "../native/probe.ts";
import { ApiTarget } from "../replay/api_target.ts";

/** Opens the target of a replay: another mapledger, or this machine's kernel if the process may use bpf(2). */
export const openTarget: OpenTarget = (spec) => openIn(spec);

/** As openTarget. `room` limits the bytes of another mapledger's answers that are held at once. */
export function openTargetIn(room: Room): OpenTarget {
  return (spec) => openIn(spec, room);
}

function openIn(spec: TargetSpec, room?: Room): ReturnType<OpenTarget> {
  if (spec === "kernel") return openKernel();
  const connection = new Connection(spec.url, spec.token, undefined, room);
  return { target: new ApiTarget(connection), close: () => connection.close() };
}

function openKernel(): ReturnType<OpenTarget> {
  const bpf = openBpf();
  const refused = probe(bpf);
  if (refused !== null) return { refused };
  const target = new KernelTarget(bpf as Bpf, readHost().possibleCpus);
  return { target, close: () => target.close() };
}
