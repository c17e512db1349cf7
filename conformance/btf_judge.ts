import { errnoName } from "../src/abi/errno.ts";
import { checkedBtf } from "../src/btf/check.ts";
import { Warned } from "../src/btf/special_fields.ts";
import { readHost } from "../src/host.ts";
import { isRefusal } from "../src/maps/refusal.ts";
import { Bpf } from "../src/native/bpf.ts";
import { openBpf } from "../src/native/probe.ts";
import { BtfGenerator } from "./btf_random.ts";

/** Answers of the kernel, each with how often it came; "taken": without an errno. */
export type Answers = Readonly<Record<string, number>>;

/** What the kernel is asked by; a blob is its own copy. */
export class BtfJudge {
  readonly #bpf: Bpf;
  readonly #undestroyed = readHost().undestroyed;

  constructor() {
    const bpf = openBpf();
    if (!(bpf instanceof Bpf)) throw new Error(`opening bpf(2): ${bpf.off}`);
    this.#bpf = bpf;
  }

  /** "taken", an errno, or "kept": the kernel would print a WARNING, and has not been asked. Throws where the two differ. */
  judge(blob: Buffer): string {
    const ours = checkedBtf(Buffer.from(blob), this.#undestroyed);
    if (ours instanceof Warned) return "kept";
    const ret = this.#bpf.loadBtf(Buffer.from(blob));
    if (ret >= 0) this.#bpf.close(ret);
    const [answer, expected] = [isRefusal(ours) ? ours.errno : "taken", ret < 0 ? errnoName(-ret) : "taken"];
    if (answer === expected) return answer;
    const detail = isRefusal(ours) ? `${answer} (${ours.detail})` : answer;
    throw new Error(`BTF is ${detail}: the live kernel says ${expected}`, { cause: blob.toString("hex") });
  }
}

/** Random blobs until the kernel has taken as many, and refused as many. */
export function judgeRandomBtf(blobs: number, seed: number): Answers {
  const judge = new BtfJudge();
  const generator = new BtfGenerator(seed);
  const answers: Record<string, number> = {};
  let [taken, refused] = [0, 0];
  for (let round = 0; taken < blobs || refused < blobs; round++) {
    const isSound = taken < blobs && (refused >= blobs || round % 2 === 0);
    const answer = judge.judge(isSound ? generator.sound() : generator.malformed());
    answers[answer] = (answers[answer] ?? 0) + 1;
    if (answer === "taken") taken++;
    else if (answer !== "kept") refused++;
  }
  return answers;
}
