import { workerData } from "node:worker_threads";
import { PACKET_BYTES_MIN, runXdp } from "../../examples/bpf/xdp.ts";
import { openBpf } from "../../src/native/probe.ts";

/** A thread that runs a program over and over, and looks whether pins are where they were. */
export interface RunData {
  /** The program's fd: a process has one table of them for all its threads. */
  readonly program: number;
  readonly pins: readonly Pin[];
  /** Int32s: see CONTROL. */
  readonly control: SharedArrayBuffer;
}

interface Pin {
  readonly path: string;
  readonly kernelId: number;
}

/** `stop`: the thread ends when it is 1. `looked`: how often all pins were looked at; `missed`: how often one was not there. */
export const CONTROL = { stop: 0, looked: 1, missed: 2 } as const;

/** Runs by one command: they follow each other within a fraction of a microsecond. */
export const TIMES = 2000;
/** The thread leaves the processor to others about half of the time. */
const REST_MS = 1;

if (workerData !== null) run(workerData as RunData);

function run({ program, pins, control }: RunData): void {
  const bpf = openBpf();
  if ("off" in bpf) throw new Error(bpf.off);
  const counters = new Int32Array(control);
  const packet = Buffer.alloc(PACKET_BYTES_MIN);
  const kernelIdAt = (path: string): number => {
    const fd = bpf.get(path);
    if (fd < 0) return fd;
    const info = bpf.infoByFd(fd);
    bpf.close(fd);
    return typeof info === "number" ? info : info.id;
  };
  while (Atomics.load(counters, CONTROL.stop) === 0) {
    runXdp(bpf, program, packet, TIMES);
    for (const { path, kernelId } of pins) if (kernelIdAt(path) !== kernelId) Atomics.add(counters, CONTROL.missed, 1);
    Atomics.add(counters, CONTROL.looked, 1);
    Atomics.wait(counters, CONTROL.stop, 0, REST_MS);
  }
}
