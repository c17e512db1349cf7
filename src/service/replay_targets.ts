import { Connection, type Room } from "../client/connection.ts";
import { readHost } from "../host.ts";
import type { OpenTarget, TargetSpec } from "../http/jobs/replays.ts";
import { KernelTarget } from "../mirror/kernel_target.ts";
import type { Bpf } from "../native/bpf.ts";
import { openBpf, probe } from "../native/probe.ts";
import { ApiTarget } from "../replay/api_target.ts";

/** Where replays may go: another mapledger, or this machine's kernel where bpf(2) lets this process in. */
export const openTarget: OpenTarget = (spec) => openIn(spec);

/** The same, where answers of another mapledger are kept in what `room` has. */
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
