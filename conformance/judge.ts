import { isDeepStrictEqual } from "node:util";
import { plain, shown } from "./answers.ts";
import type { Attr, Pair, Side } from "./pair.ts";
import type { Answer, Subject } from "./subject.ts";

/** What is let go of is free after a grace period of the kernel's or a few. */
const SETTLES_MAX = 10_000;
const SETTLE_MS = 1;

/** Asks two subjects the same, and throws where they do not answer alike. */
export class Judge {
  /** Commands sent to each subject, but for those that only look whether all is as it should be. */
  commands = 0;
  readonly #subjects: Pair<Subject>;

  constructor(service: Subject, kernel: Subject) {
    this.#subjects = [service, kernel];
  }

  subject(side: Side): Subject {
    return this.#subjects[side];
  }

  both<T>(ask: (subject: Subject, side: Side) => T): Pair<T> {
    return [ask(this.#subjects[0], 0), ask(this.#subjects[1], 1)];
  }

  ask<T>(cmd: string, of: Pair<T>, attr: (one: T, side: Side) => Attr): Pair<Answer> {
    return this.both((subject, side) => subject.bpf({ cmd, attr: attr(of[side], side) }));
  }

  /** What the kernel answers once what was let go of is gone: asked until it is `ready`, at most for ten seconds. */
  settled<T>(ask: () => T, ready: (answer: T) => boolean): T {
    let answer = ask();
    for (let settles = 0; settles < SETTLES_MAX && !ready(answer); settles++) {
      this.#subjects[1].settle(SETTLE_MS);
      answer = ask();
    }
    return answer;
  }

  same(cmd: string, fds: Pair<number>, attr: (fd: number, side: Side) => Attr): void {
    this.equal(cmd, this.ask(cmd, fds, attr));
  }

  /** The outputs named in `prefixes` are longer in the kernel's buffer, and not there where it wrote nothing. */
  equal(cmd: string, answers: Pair<Answer>, prefixes: readonly string[] = [], shownAnswers = answers): void {
    this.commands++;
    const [service, kernel] = answers.map(({ errno, attr }) => ({ errno, ...attr }) as Record<string, unknown>) as [
      Attr,
      Attr,
    ];
    for (const field of ["out_batch"]) {
      const ours = service[field] as string | undefined;
      if (!prefixes.includes(field) || ours === undefined) {
        delete service[field];
        delete kernel[field];
      } else kernel[field] = (kernel[field] as string | undefined)?.slice(0, ours.length);
    }
    // A batch that ended in an error hands out nothing.
    for (const field of ["keys", "values"]) for (const side of [service, kernel]) side[field] ??= "";
    if (!isDeepStrictEqual(plain(service), plain(kernel))) this.differ(cmd, shownAnswers);
  }

  /** Only the errnos count: descriptors have other numbers. */
  alike(cmd: string, answers: Pair<Answer>): void {
    this.equal(cmd, [errnoOf(answers[0]), errnoOf(answers[1])], [], answers);
  }

  differ(cmd: string, [service, kernel]: Pair<Answer>): never {
    throw new Error(`${cmd}\n  service ${shown(service)}\n  kernel  ${shown(kernel)}`);
  }
}

function errnoOf({ errno }: Answer): Answer {
  return { ret: 0, errno, attr: {} };
}
