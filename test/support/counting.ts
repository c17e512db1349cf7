import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import {
  add,
  assemble,
  exit,
  goto,
  ifAbove,
  ifEqual,
  type Line,
  label,
  lookup,
  move,
  r0,
  r1,
  r2,
  r7,
  r10,
  read,
  set,
  write,
  writeBytes,
  writeNumber,
} from "../../examples/bpf/assembler.ts";
import { loadXdp } from "../../examples/bpf/xdp.ts";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { CONTROL, type RunData, TIMES } from "./run_program.ts";
import { bare } from "./service_process.ts";

/** The element whose u64 a program counts up. */
export interface Counter {
  readonly mapFd: number;
  readonly key: Buffer;
}

/** `back`: it was less than the program had made it; `absent`: it was not there. */
export interface Counted {
  readonly runs: number;
  readonly absent: number;
  readonly back: number;
  readonly last: number;
}

const SEEN = { runs: 0, absent: 8, back: 16, last: 24 } as const;
const SEEN_BYTES = 32;
const INDEX_AT = -4;
const KEY_AT = -24;

/** A program in the kernel, run in a loop by a thread of its own, that counts, and remembers to where it has counted. */
export class Counting {
  readonly #bpf: Bpf;
  readonly #mapFd: number;
  readonly #count: number;
  readonly #program: number;
  readonly #control = new SharedArrayBuffer(12);
  readonly #worker: Worker;

  constructor(bpf: Bpf, counters: readonly Counter[]) {
    this.#bpf = bpf;
    this.#count = counters.length;
    const plain = { keySize: 4, mapFlags: 0, name: "counted", mapExtra: 0n, numaNode: 0 };
    const shape = { ...plain, valueSize: SEEN_BYTES, maxEntries: counters.length };
    this.#mapFd = bpf.create({ ...shape, type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY });
    const lines = counters.flatMap((counter, at) => counting(this.#mapFd, at, counter));
    this.#program = loadXdp(bpf, assemble([...lines, set(r0, 0), exit()]));
    const workerData: RunData = { program: this.#program, pins: [], control: this.#control };
    const options = { workerData, env: bare(process.env), execArgv: [] };
    this.#worker = new Worker(new URL("run_program.ts", import.meta.url), options);
  }

  counted(): Counted[] {
    return Array.from({ length: this.#count }, (_, at) => {
      const key = Buffer.alloc(4);
      key.writeUInt32LE(at);
      const value = Buffer.alloc(SEEN_BYTES);
      const ret = this.#bpf.lookup(this.#mapFd, key, value);
      if (ret < 0) throw new Error(`reading what was counted in map ${at}: ${ret}`);
      const of = (name: keyof typeof SEEN): number => Number(value.readBigUInt64LE(SEEN[name]));
      return { runs: of("runs"), absent: of("absent"), back: of("back"), last: of("last") };
    });
  }

  /** What was counted when the program has run with the maps as they are now. */
  async settled(): Promise<Counted[]> {
    const before = this.counted();
    for (;;) {
      const now = this.counted();
      if (now.every(({ runs }, at) => runs >= (before[at] as Counted).runs + 2 * TIMES)) return now;
      await sleep(1);
    }
  }

  async stop(): Promise<void> {
    const ended = once(this.#worker, "exit");
    Atomics.store(new Int32Array(this.#control), CONTROL.stop, 1);
    await ended;
    for (const fd of [this.#program, this.#mapFd]) this.#bpf.close(fd);
  }
}

/** r7 points to what is remembered of it, r0 to its value. */
function counting(seenFd: number, index: number, { mapFd, key }: Counter): Line[] {
  const [absent, forward, end] = ["absent", "forward", "end"].map((name) => `${name} ${index}`) as [
    string,
    string,
    string,
  ];
  return [
    writeNumber(r10, INDEX_AT, index, 4),
    ...lookup(seenFd, INDEX_AT),
    ifEqual(r0, 0, end),
    move(r7, r0),
    ...increase(SEEN.runs),
    ...writeBytes(KEY_AT, key),
    ...lookup(mapFd, KEY_AT),
    ifEqual(r0, 0, absent),
    read(r1, r0, 0, 8),
    read(r2, r7, SEEN.last, 8),
    add(r1, 1),
    ifAbove(r1, r2, forward),
    ...increase(SEEN.back),
    label(forward),
    read(r1, r0, 0, 8),
    add(r1, 1),
    write(r0, 0, r1, 8),
    write(r7, SEEN.last, r1, 8),
    goto(end),
    label(absent),
    ...increase(SEEN.absent),
    label(end),
  ];
}

function increase(at: number): Line[] {
  return [read(r1, r7, at, 8), add(r1, 1), write(r7, at, r1, 8)];
}
