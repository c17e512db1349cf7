/**
 * Replays recorded commands:
 *
 *     source -> event -> callOf: a request with the target's ids -> target -> its answer -> learn: pairs of ids -> compare
 *
 * `replay` does no I/O: `http`, `sqlite`, `mirror` and `client` give it sources and targets. Commands keep their order.
 * There is one connection, and only commands of the syscall door that create no ids are sent before earlier answers
 * have come: their requests take the same way through the service, one behind the other. The target's seqs prove the
 * order; a seq that does not ascend is a difference.
 */

import { CMD } from "../abi/service.ts";
import { type Event, type EventRow, rowEvent } from "../log/event.ts";
import { commandFacts, factsOfNamed } from "../syscall/command_facts.ts";
import { type Answer, recordedAnswer } from "./answer.ts";
import type { Call, LeftOut } from "./call.ts";
import { callOf } from "./calls.ts";
import { compare, type Difference, differenceOf, opensFd } from "./compare.ts";
import type { Id, Ids } from "./ids.ts";
import { learn } from "./learn.ts";
import type { Pace } from "./pace.ts";
import { createdShape, isBehind, isSelected, type Selection } from "./selection.ts";
import { inSeqs, type Source } from "./source.ts";
import { type Summary, Tally } from "./summary.ts";
import type { Description, Target } from "./target.ts";

export interface ReplayOptions {
  readonly source: Source;
  readonly target: Target;
  readonly ids: Ids;
  readonly selection: Selection;
  /** Also send the commands that selected ones may depend on: those before and between them that changed something. */
  readonly prepare: boolean;
  /** null: without pauses. */
  readonly pace: Pace | null;
  /** Why a command is left out before it is translated; null: it is not. Default: none is. */
  readonly leaveOut?: (event: Event) => string | null;
  readonly signal?: AbortSignal;
  readonly onDifference: (difference: Difference) => void;
}

/** A command that was sent and whose answer is awaited. */
interface UnderWay {
  readonly event: Event;
  readonly selected: boolean;
  readonly recorded: Answer;
  readonly answer: Promise<Answer | LeftOut>;
}

const OUTSIDE = "the end of its session is outside of the range";

/**
 * Sends recorded commands to a target in order and compares each answer with the recorded one. An error of the source
 * or the target ends the replay; `summary` then says how far it has come.
 */
export class Replay {
  readonly #options: ReplayOptions;
  readonly #tally = new Tally();
  #selection: Selection;
  readonly #underWay: UnderWay[] = [];
  /**
   * CLOSE events that the end of a session caused, by session. They are not sent; they count as replayed with that end.
   */
  readonly #closing = new Map<number, Event[]>();
  #targetSeq = 0;

  constructor(options: ReplayOptions) {
    this.#options = options;
    this.#selection = options.selection;
  }

  get summary(): Summary {
    return this.#tally.summary();
  }

  /** The number of commands sent and not answered: if the target fails, they may or may not have run. */
  get unanswered(): number {
    return this.#underWay.length;
  }

  async run(): Promise<Summary> {
    const { source, prepare, signal } = this.#options;
    this.#selection = await inSeqs(source, this.#options.selection);
    const selection = this.#selection;
    // With `prepare`, and for the key size of batches, events are read from the log's beginning on.
    const fromStart = prepare || selection.key !== undefined;
    const range = { ...selection, afterSeq: fromStart ? 0 : (selection.afterSeq ?? 0) };
    try {
      for await (const row of source.read(range)) {
        if (signal?.aborted || isBehind(selection, row)) break;
        await this.#row(row);
      }
    } finally {
      // Also if the source fails: wait for the answers to all commands that were sent.
      await this.#drain();
    }
    for (const event of [...this.#closing.values()].flat()) this.#tally.leftOut(event, OUTSIDE);
    return this.summary;
  }

  async #row(row: EventRow): Promise<void> {
    const { ids, pace, prepare, signal } = this.#options;
    const selection = this.#selection;
    const shape = createdShape(row);
    if (shape !== null) ids.addShape(row.map, shape);
    const selected = isSelected(selection, row, ids.shape(row.map));
    if (!selected && !(prepare && isNeeded(row, selection))) return;
    if (selected) {
      this.#tally.selected++;
      if (pace !== null) await this.#waitFor(pace, row.time_us);
      if (signal?.aborted) return;
    }
    await this.#event(rowEvent(row), selected);
  }

  /** Waits until a recorded moment is due. Before that, all outstanding answers are awaited. */
  async #waitFor(pace: Pace, timeUs: number): Promise<void> {
    if (pace.leftMs(timeUs) <= 0) return;
    await this.#drain();
    const { target, signal } = this.#options;
    while (pace.leftMs(timeUs) > 0 && signal?.aborted !== true)
      await pace.wait(timeUs, target.keepAlive?.() ?? Number.POSITIVE_INFINITY, signal);
  }

  async #event(event: Event, selected: boolean): Promise<void> {
    const { ids, target, leaveOut } = this.#options;
    const why = leaveOut?.(event) ?? null;
    let call = why === null ? callOf(event, ids) : { leftOut: why };
    // An outstanding answer may contain the id that is missing.
    if (why === null && "leftOut" in call && this.#underWay.length > 0) {
      await this.#drain();
      call = callOf(event, ids);
    }
    if ("implied" in call) {
      const { session } = event.command;
      this.#closing.set(session, [...(this.#closing.get(session) ?? []), event]);
      return;
    }
    if ("leftOut" in call) {
      if (selected) this.#tally.leftOut(event, call.leftOut);
      this.#tally.lastSeq = event.seq;
      return;
    }
    const together = mayRunBesideOthers(call);
    await this.#drain(together ? target.window - 1 : 0);
    const recorded = recordedAnswer(event, call);
    const answer = target.send(call, event, recorded);
    // `#answered` awaits the answer later. Until then a rejection must not count as unhandled.
    answer.catch(() => {});
    this.#underWay.push({ event, selected, recorded, answer });
    if (!together) await this.#drain();
  }

  /** Awaits outstanding answers in order, until `left` are outstanding. */
  async #drain(left = 0): Promise<void> {
    while (this.#underWay.length > left) await this.#answered(this.#underWay[0] as UnderWay);
  }

  async #answered({ event, selected, recorded, answer }: UnderWay): Promise<void> {
    const { ids, target } = this.#options;
    const got = await answer;
    this.#underWay.shift();
    this.#tally.lastSeq = event.seq;
    if ("leftOut" in got) {
      if (selected) this.#tally.leftOut(event, got.leftOut);
      return;
    }
    if (selected) this.#tally.sent(event);
    else this.#tally.prepared++;
    learn(event, recorded, got, ids, await this.#described(event, recorded, got));
    if (event.command.cmd === CMD.SESSION_END) this.#ended(event.command.session);
    if (target.answers && selected) this.#compare(event, recorded, got);
  }

  /**
   * Asks the target for facts about a new descriptor that its answer does not have, if they are needed: the map's id
   * and shape, the ids of BTF and of the cgroup.
   */
  async #described(event: Event, recorded: Answer, got: Answer): Promise<Description> {
    const { ids, target } = this.#options;
    if (target.describe === undefined || recorded.errno !== null || got.errno !== null || !opensFd(event)) return {};
    const { session } = event.command;
    const isUnknown =
      recorded.map !== undefined && got.map === undefined && ids.map(recorded.map as number) === undefined;
    const isUnknownBtf =
      recorded.btf !== undefined && got.btf === undefined && ids.btf(recorded.btf as number) === undefined;
    if (!isUnknown && !isUnknownBtf && recorded.cgroup === undefined) return {};
    return target.describe(ids.session(session) as Id, got.ret);
  }

  #ended(session: number): void {
    this.#tally.implied += this.#closing.get(session)?.length ?? 0;
    this.#closing.delete(session);
  }

  #compare(event: Event, recorded: Answer, got: Answer): void {
    const { ids, target, onDifference } = this.#options;
    this.#tally.compared++;
    const found = compare(event, recorded, got, ids) ?? this.#misplaced(event, recorded, got);
    if (got.seq !== undefined) this.#targetSeq = got.seq;
    const shape = ids.shape(event.outcome.map);
    const difference = target.judge === undefined ? found : target.judge(found, event, shape, recorded, got);
    if (difference === null) return;
    this.#tally.differences++;
    if (difference.free !== undefined) this.#tally.free++;
    onDifference(difference);
  }

  /** The target's seqs must ascend, as the recorded ones do. */
  #misplaced(event: Event, recorded: Answer, got: Answer): Difference | null {
    if (got.seq === undefined || got.seq > this.#targetSeq) return null;
    return differenceOf(event, ["order"], recorded, got);
  }
}

/**
 * Whether later commands may depend on an event that is not selected: it changed something, and not only elements of a
 * map that is not selected.
 */
function isNeeded(row: EventRow, { map }: Selection): boolean {
  const facts = commandFacts(row.cmd);
  if (facts?.sent !== true || !facts.changesState || (row.errno !== 0 && !hasDone(row))) return false;
  return map === undefined || row.map === map || facts.changes !== "map";
}

/** Whether a refused batch, or a refused lookup-and-delete, has changed something before it failed. */
function hasDone({ cmd, out }: EventRow): boolean {
  return out !== null && commandFacts(cmd)?.changes === "map";
}

/**
 * Whether a call may be sent while others are outstanding: the syscall door keeps the order of requests, and these
 * commands create and close nothing, so later calls do not depend on their answers.
 */
function mayRunBesideOthers(call: Call): boolean {
  return call.kind === "bpf" && factsOfNamed(call.body.cmd)?.runsBeside === true;
}
