import { Connection } from "./client/connection.ts";
import { readHost } from "./host.ts";
import type { OpenTarget } from "./http/replays.ts";
import { type Bpf, openBpf, probe } from "./mirror/bpf.ts";
import { KernelTarget } from "./mirror/kernel_target.ts";
import { ApiTarget } from "./replay/api_target.ts";

/** Where replays may go: another mapledger, or this machine's kernel where bpf(2) lets this process in. */
export const openTarget: OpenTarget = (spec) => {
  if (spec === "kernel") return openKernel();
  const connection = new Connection(spec.url, spec.token);
  return { target: new ApiTarget(connection), close: () => connection.close() };
};

function openKernel(): ReturnType<OpenTarget> {
  const bpf = openBpf();
  const refused = probe(bpf);
  if (refused !== null) return { refused };
  const target = new KernelTarget(bpf as Bpf, readHost().possibleCpus);
  return { target, close: () => target.close() };
}
