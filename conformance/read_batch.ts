import { isDeepStrictEqual } from "node:util";
import { elementsOf, elementsRoom, sorted } from "./answers.ts";
import type { Bench } from "./bench.ts";
import { bothContents, type Contents, type Elements } from "./contents.ts";
import type { Judge } from "./judge.ts";
import type { Lossy } from "./lossy.ts";
import { isLossy } from "./lossy.ts";
import type { Pair } from "./pair.ts";
import { countOf, keyFor, roomFor, sizes, u32Hex } from "./requests.ts";
import type { StreamType } from "./shapes.ts";
import type { Of } from "./stream.ts";
import type { Answer } from "./subject.ts";
import type { Descriptor, Twin, Twins } from "./twins.ts";

type ReadBatch = Of<"read batch" | "take batch">;

/** Hash maps hand out whole buckets, in an order that the kernel does not promise. */
const BUCKETS: ReadonlySet<StreamType> = new Set([
  "HASH",
  "PERCPU_HASH",
  "LRU_HASH",
  "LRU_PERCPU_HASH",
  "HASH_OF_MAPS",
]);

/** ENOENT and ENOSPC end a batch, EFAULT takes its answer away. */
const ENDS = [null, "ENOENT", "ENOSPC", "EFAULT"];
const HASH_POSITION_BYTES = 4;

/** Batches that read, or take out, and what may differ in them: which elements are in one that is smaller than its map. */
export class ReadBatches {
  readonly #judge: Judge;
  readonly #twins: Twins;
  readonly #contents: Contents;
  readonly #lossy: Lossy;

  constructor({ judge, twins, contents, lossy }: Bench) {
    this.#judge = judge;
    this.#twins = twins;
    this.#contents = contents;
    this.#lossy = lossy;
  }

  run(step: ReadBatch, { fds, twin }: Descriptor): void {
    const { keySize, valueBytes, type } = sizes(twin);
    const inBuckets = BUCKETS.has(type);
    const lossy = twin !== null && isLossy(twin);
    const cmd = step.do === "take batch" ? "BPF_MAP_LOOKUP_AND_DELETE_BATCH" : "BPF_MAP_LOOKUP_BATCH";
    const count = countOf(step.count, twin);
    const rooms = {
      ...roomFor("keys", step.rooms[0], count * keySize),
      ...roomFor("values", step.rooms[1], count * valueBytes),
      ...roomFor("out_batch", step.rooms[2], inBuckets ? HASH_POSITION_BYTES : keySize),
    };
    const position = this.#from(step, twin);
    const before = twin !== null && inBuckets && !lossy ? this.#contents.check(twin, `before ${cmd}`) : undefined;
    const raw = this.#judge.ask(cmd, fds, (fd, side) => ({
      map_fd: fd,
      count,
      in_batch: position[side],
      flags: String(step.flags),
      elem_flags: String(step.elemFlags),
      ...rooms,
    }));
    const answers = [this.#twins.readable(twin, 0, raw[0]), this.#twins.readable(twin, 1, raw[1])] as const;
    if (twin !== null) remember(twin, answers);
    if (lossy) {
      this.#lossy.judge(cmd, twin, answers, []);
      return;
    }
    const refused = answers.some(({ errno }) => !ENDS.includes(errno));
    if (twin === null || before === undefined || count === 0 || step.from === "bad" || refused) {
      this.#judge.equal(cmd, answers, inBuckets ? [] : ["out_batch"]);
      return;
    }
    const whole = position[0] === null && count >= before.size;
    if (whole && answers[0].errno !== "EFAULT")
      this.#judge.equal(cmd, [sorted(answers[0]), sorted(answers[1])], ["out_batch"], answers);
    else if (whole && answers[1].errno !== "EFAULT") this.#judge.differ(cmd, answers);
    else {
      this.#judge.commands++;
      for (const answer of answers) this.#checkPart(cmd, answers, answer, before, count, Object.keys(rooms).length > 0);
    }
    const room = Math.min(elementsRoom(rooms.keys, keySize), elementsRoom(rooms.values, valueBytes));
    if (step.do === "take batch")
      this.#checkTaken(cmd, twin, answers, before, Math.min(count, before.size), whole ? room : -1);
  }

  /** A batch that is smaller than the map: some of its elements, each once. */
  #checkPart(
    cmd: string,
    answers: Pair<Answer>,
    answer: Answer,
    before: Elements,
    count: number,
    short: boolean,
  ): void {
    const elements = elementsOf(answer);
    const known = [...elements].every(([key, value]) => before.get(key) === value);
    const said = answer.attr.count as number;
    const counted = answer.errno === "ENOSPC" || answer.errno === "EFAULT" ? said === 0 : said === elements.size;
    const ended = ENDS.includes(answer.errno) && (answer.errno !== "EFAULT" || short);
    if (!known || !counted || !ended || said > count) this.#judge.differ(cmd, answers);
  }

  /**
   * What was taken out is gone, and nothing else. An answer that was lost took at most `most`, and of a whole map buckets
   * up to the one that there was no room for. Then both lose what one of them lost.
   */
  #checkTaken(cmd: string, twin: Twin, answers: Pair<Answer>, before: Elements, most: number, room: number): void {
    const after = bothContents(this.#contents, twin);
    if (after[0] === null || after[1] === null) return;
    for (const [side, answer] of answers.entries()) {
      const left = after[side] as Elements;
      const gone = [...before.keys()].filter((key) => !left.has(key));
      const taken = [...elementsOf(answer).keys()];
      const right =
        answer.errno === "EFAULT"
          ? gone.length > Math.min(room, most - 1) && gone.length <= most
          : isDeepStrictEqual(gone.sort(), taken.sort());
      if (!right) this.#judge.differ(`${cmd}: gone ${gone}, answered ${taken}`, answers);
    }
    for (const side of [0, 1] as const) {
      const other = after[1 - side] as Elements;
      const extra = [...(after[side] as Elements).keys()].filter((key) => !other.has(key));
      this.#twins.through(twin, side, (map_fd) => {
        for (const key of extra) this.#judge.subject(side).bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd, key } });
      });
    }
  }

  #from(step: ReadBatch, twin: Twin | null): Pair<string | null> {
    switch (step.from) {
      case "start":
        return [null, null];
      case "last":
        return twin?.positions ?? [null, null];
      case "key": {
        const position = BUCKETS.has(sizes(twin).type) ? u32Hex(step.at.number) : keyFor(step.at, twin, null);
        return [position, position];
      }
      case "bad":
        return ["", ""];
    }
  }
}

function remember(twin: Twin, answers: Pair<Answer>): void {
  const [service, kernel] = answers.map(({ attr }) => attr.out_batch);
  const width = (BUCKETS.has(twin.type) ? HASH_POSITION_BYTES : twin.keySize) * 2;
  const usable = answers.every(
    ({ errno, attr }) => (errno === null || errno === "ENOENT") && (attr.count as number) > 0,
  );
  if (usable && service !== undefined && kernel !== undefined && kernel.length >= width)
    twin.positions = [service, kernel.slice(0, width)];
}
