import { parentPort, workerData } from "node:worker_threads";
import { type FromOpener, openForSession, type ToOpener } from "../mirror/object_opener.ts";
import { openPlaces } from "../mirror/real_objects.ts";
import { openBpf } from "../native/probe.ts";
import { passGate } from "../supervisor/gate.ts";

/** The thread that opens real objects for sessions: what it waits for, nobody else does. */
export interface OpenerData {
  readonly data: string;
  readonly openRoots: string;
  readonly gate: SharedArrayBuffer;
}

const port = parentPort;
if (port === null) throw new Error("threads/object_opener.ts is the opener's thread: start src/main.ts");
const bpf = openBpf();
const opener = workerData as OpenerData;
const places = openPlaces(opener);
passGate(opener.gate);

port.on("message", (message: ToOpener) => {
  if ("kind" in message) port.close();
  else port.postMessage(answer(message));
});

function answer({ id, spec }: Exclude<ToOpener, { kind: "close" }>): FromOpener {
  try {
    return "off" in bpf ? { id, error: bpf.off } : { id, answer: openForSession(bpf, spec, places) };
  } catch (error) {
    return { id, error: (error as Error).message };
  }
}
