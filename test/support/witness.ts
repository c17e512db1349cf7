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
  lookupInner,
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

/** The element that a program looks up: at `key`, and where that holds a map, there at `innerKey`. Its value is a u64. */
export interface Sentinel {
  readonly mapFd: number;
  readonly key: Buffer;
  readonly innerKey?: Buffer;
}

/** What the program has seen of a sentinel: `absent` and `back` (a value below the greatest before it) are gaps. */
export interface Seen {
  readonly runs: number;
  readonly absent: number;
  readonly back: number;
  readonly last: number;
}

/** An element of the witness' own map: four u64. */
const SEEN = { runs: 0, absent: 8, back: 16, last: 24 } as const;
const SEEN_BYTES = 32;
const INDEX_AT = -4;
const KEY_AT = -24;

/**
 * A program in the kernel, run in a loop by a thread of its own, that looks sentinels up and counts in a map of the witness'
 * own what it has seen: a few million looks a second, so that a gap has to be shorter than one of them to escape.
 */
export class Witness {
  readonly #bpf: Bpf;
  readonly #mapFd: number;
  readonly #count: number;
  readonly #program: number;
  readonly #control = new SharedArrayBuffer(12);
  readonly #counters = new Int32Array(this.#control);
  readonly #worker: Worker;

  /** `pins`: where a program that is loaded meanwhile would look for its maps, and the kernel's ids of these. */
  constructor(bpf: Bpf, sentinels: readonly Sentinel[], pins: RunData["pins"]) {
    this.#bpf = bpf;
    this.#mapFd = bpf.create({
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: SEEN_BYTES,
      maxEntries: sentinels.length,
      mapFlags: 0,
      name: "witness",
      mapExtra: 0n,
      numaNode: 0,
    });
    this.#count = sentinels.length;
    this.#program = loadXdp(bpf, witnessing(this.#mapFd, sentinels));
    const workerData: RunData = { program: this.#program, pins, control: this.#control };
    const options = { workerData, env: bare(process.env), execArgv: [] };
    this.#worker = new Worker(new URL("run_program.ts", import.meta.url), options);
  }

  /** How often all pins were looked at, and how often one of them was not there or another map's. */
  get pins(): { readonly looked: number; readonly missed: number } {
    const [, looked, missed] = this.#counters as unknown as [number, number, number];
    return { looked, missed };
  }

  seen(): Seen[] {
    return Array.from({ length: this.#count }, (_, at) => {
      const key = Buffer.alloc(4);
      key.writeUInt32LE(at);
      const value = Buffer.alloc(SEEN_BYTES);
      const ret = this.#bpf.lookup(this.#mapFd, key, value);
      if (ret < 0) throw new Error(`reading what is seen of sentinel ${at}: ${ret}`);
      const of = (name: keyof typeof SEEN): number => Number(value.readBigUInt64LE(SEEN[name]));
      return { runs: of("runs"), absent: of("absent"), back: of("back"), last: of("last") };
    });
  }

  /** What it has seen when it has run with the maps as they are now. */
  async settled(): Promise<Seen[]> {
    const before = this.seen();
    for (;;) {
      const now = this.seen();
      if (now.every(({ runs }, at) => runs >= (before[at] as Seen).runs + 2 * TIMES)) return now;
      await sleep(1);
    }
  }

  /** Ends the program, which holds its maps no more. */
  async stop(): Promise<void> {
    const ended = once(this.#worker, "exit");
    Atomics.store(this.#counters, CONTROL.stop, 1);
    await ended;
    for (const fd of [this.#program, this.#mapFd]) this.#bpf.close(fd);
  }
}

/** One program looks all of them up, so that none is left out of sight while another is looked up over and over. */
function witnessing(witnessFd: number, sentinels: readonly Sentinel[]): Buffer {
  return assemble([...sentinels.flatMap((sentinel, at) => looking(witnessFd, at, sentinel)), set(r0, 0), exit()]);
}

/** r7 points to what is seen of it, r0 to its value. */
function looking(witnessFd: number, index: number, { mapFd, key, innerKey }: Sentinel): Line[] {
  const [absent, back, end] = ["absent", "back", "end"].map((name) => `${name} ${index}`) as [string, string, string];
  const inner =
    innerKey === undefined ? [] : [ifEqual(r0, 0, absent), ...writeBytes(KEY_AT, innerKey), ...lookupInner(KEY_AT)];
  return [
    writeNumber(r10, INDEX_AT, index, 4),
    ...lookup(witnessFd, INDEX_AT),
    ifEqual(r0, 0, end),
    move(r7, r0),
    ...count(SEEN.runs),
    ...writeBytes(KEY_AT, key),
    ...lookup(mapFd, KEY_AT),
    ...inner,
    ifEqual(r0, 0, absent),
    read(r1, r0, 0, 8),
    read(r2, r7, SEEN.last, 8),
    ifAbove(r2, r1, back),
    write(r7, SEEN.last, r1, 8),
    goto(end),
    label(absent),
    ...count(SEEN.absent),
    goto(end),
    label(back),
    ...count(SEEN.back),
    label(end),
  ];
}

function count(at: number): Line[] {
  return [read(r1, r7, at, 8), add(r1, 1), write(r7, at, r1, 8)];
}
