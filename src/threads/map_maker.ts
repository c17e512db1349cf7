import { parentPort, workerData } from "node:worker_threads";
import { type FromMaker, makeFor, type ToMaker } from "../mirror/map_maker.ts";
import type { Cpus } from "../mirror/map_types.ts";
import { openBpf } from "../native/probe.ts";
import { passGate } from "../supervisor/gate.ts";

/** The thread that makes kernel maps which take the kernel long. */
export interface MakerData {
  readonly cpus: Cpus;
  readonly gate: SharedArrayBuffer;
}

const port = parentPort;
if (port === null) throw new Error("threads/map_maker.ts is the maker's thread: start src/main.ts");
const bpf = openBpf();
const { cpus, gate } = workerData as MakerData;
passGate(gate);

port.on("message", (message: ToMaker) => {
  if ("kind" in message) port.close();
  else port.postMessage(answer(message));
});

function answer({ id, wanted }: Exclude<ToMaker, { kind: "close" }>): FromMaker {
  try {
    return "off" in bpf ? { id, error: bpf.off } : { id, answer: makeFor(bpf, cpus, wanted) };
  } catch (error) {
    return { id, error: (error as Error).message };
  }
}
