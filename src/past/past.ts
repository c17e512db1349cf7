/**
 * Answers requests as of earlier moments, with the state's own code over earlier cells (history.ts). So no map type has
 * code for the past.
 */

import type { Moment } from "../codec/moments.ts";
import { EventsArchived } from "../engine/archives.ts";
import { IGNORE } from "../engine/followers.ts";
import type { Request } from "../engine/request.ts";
import { type ReadName, type Reads, tell } from "../engine/views.ts";
import type { Host } from "../maps/map.ts";
import { execute } from "../syscall/execute.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { State } from "../syscall/state.ts";
import type { History, PastLog } from "./history.ts";
import { PAST_READS, type PastContext, type PastReadName, type PastReads } from "./reads.ts";
import { touchedCells } from "./touched_cells.ts";

/** An answer, and the event right after which it holds. */
export interface AsOf<Answer> {
  readonly seq: number;
  readonly answer: Answer;
}

/** The requested event does not exist yet. */
export class NotYet extends Error {
  readonly seq: number;
  readonly last: number;

  constructor(seq: number, last: number) {
    super(`there is no event ${seq}: the log ends at ${last}`);
    this.name = "NotYet";
    this.seq = seq;
    this.last = last;
  }
}

/**
 * The history does not have the requested event yet, and it takes too long to wait: it is being made. `seq`: the last
 * event that it has.
 */
export class HistoryBehind extends Error {
  readonly seq: number;
  readonly wanted: number;

  constructor(seq: number, wanted: number) {
    super(`the history is being made: it has ${seq} of ${wanted} events`);
    this.name = "HistoryBehind";
    this.seq = seq;
    this.wanted = wanted;
  }
}

/** If at most this many events are left to record, which takes about a second, a request waits for the history. */
const WAIT_EVENTS = 50_000;

const NO_LEASES = { view: () => ({ lease: null, leftMs: null }) };
const NO_PAST = { state: "off", detail: "kernel maps have no past: this is the ledger's" } as const;

export class Past {
  readonly #log: PastLog;
  readonly #history: History;
  readonly #host: Host;
  /** Resolves when the history has recorded what a question was far ahead of; null: no question was. */
  #catchingUp: Promise<void> | null = null;

  constructor(log: PastLog, history: History, host: Host) {
    this.#log = log;
    this.#history = history;
    this.#host = host;
  }

  /** Runs a command that only reads, as of a moment. It leaves no event. */
  async run(moment: Moment, request: Request): Promise<AsOf<Outcome>> {
    const seq = await this.#reach(moment);
    return { seq, answer: execute(this.#stateAt(seq), { ...request, timeUs: 0 }) };
  }

  async query<Name extends ReadName>(
    moment: Moment,
    name: Name,
    ask: Reads[Name]["ask"],
  ): Promise<AsOf<Reads[Name]["answer"]>> {
    const seq = await this.#reach(moment);
    const sources = {
      state: this.#stateAt(seq),
      leases: NO_LEASES,
      mirrorStatus: () => NO_PAST,
      limits: null,
    };
    return { seq, answer: tell(sources, name, ask) };
  }

  async ask<Name extends PastReadName>(name: Name, ask: PastReads[Name]["ask"]): Promise<PastReads[Name]["answer"]> {
    const past: PastContext = {
      history: this.#history,
      stateAt: (seq) => this.#stateAt(seq),
      originOf: (seq) => this.#log.origin(seq),
      archivedThrough: this.#log.archivedThrough,
      touched: (range) => touchedCells(this.#log, this.#history.at(range.after), this.#host, range),
      checkKept: (seq) => this.#checkKept(seq),
      reach: (moment) => this.#reach(moment ?? { seq: this.#log.lastSeq }),
    };
    return PAST_READS[name](past, ask);
  }

  /** Records new events. Call when no request waits. */
  async catchUp(): Promise<void> {
    await this.#history.reach(this.#log.lastSeq);
  }

  async #reach(moment: Moment): Promise<number> {
    const seq = "seq" in moment ? moment.seq : this.#log.seqAt(moment.timeUs);
    this.#checkKept(seq);
    if (seq <= this.#history.seq) return seq;
    const last = this.#log.lastSeq;
    if (seq > last) throw new NotYet(seq, last);
    const behind = this.#history.seq;
    if (seq - behind > WAIT_EVENTS) {
      // The history records once for all who ask meanwhile. If that fails, the next question begins it again.
      this.#catchingUp ??= this.catchUp()
        .catch(() => {})
        .finally(() => {
          this.#catchingUp = null;
        });
      throw new HistoryBehind(behind, seq);
    }
    await this.#history.reach(seq);
    return seq;
  }

  /** Throws EventsArchived for moments before the last archived event. */
  #checkKept(seq: number): void {
    const through = this.#log.archivedThrough;
    if (seq < through) throw new EventsArchived(through + 1);
  }

  #stateAt(seq: number): State {
    return new State(this.#history.at(seq), this.#host, IGNORE);
  }
}
