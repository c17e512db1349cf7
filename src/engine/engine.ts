/**
 * The path of a command. The engine decides a batch of commands, appends their events to the log in one durable
 * transaction, applies the changes to the kernel maps, and replies. If the append fails, it rolls the batch back.
 * Changed cells stay in memory until a transaction of the store is worth it (`state_writes.ts`); if the process dies
 * before, the next start redoes their events from the log (`recovery.ts`). `worker.ts` calls the engine in its thread.
 */

import { CMD } from "../abi/service.ts";
import { type Limits, UNLIMITED } from "../access/quotas.ts";
import { nextTime } from "../log/clock_step.ts";
import type { Host, MapRecord } from "../maps/map.ts";
import type { PartFault } from "../supervisor/derived_parts.ts";
import { type Command, cmdNumber } from "../syscall/command.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { State } from "../syscall/state.ts";
import { decideWhole, hasChanged } from "./atomic_requests.ts";
import { CallerLimits } from "./caller_limits.ts";
import type { CellTable } from "./cell_table.ts";
import { Decisions } from "./decisions.ts";
import { ChangeList, IGNORE } from "./followers.ts";
import { KernelMaps } from "./kernel_maps.ts";
import { Leases } from "./leases.ts";
import { LogWrites } from "./log_writes.ts";
import { MachineWatch } from "./machine_watch.ts";
import { Moments } from "./moments.ts";
import { OpenedObjects } from "./opened_objects.ts";
import { clockStep } from "./own_commands.ts";
import { PendingCells } from "./pending.ts";
import type { Clock, EventLog, Interfaces, Mirror, Processes, StateStore } from "./ports.ts";
import type { QuerySources } from "./queries.ts";
import { replayLog, resume } from "./recovery.ts";
import type { Reply, Request, WholeReply } from "./request.ts";
import { type Pending, StateWrites } from "./state_writes.ts";
import { type BatchFigures, Stats } from "./stats.ts";
import { Uncommitted } from "./uncommitted.ts";
import { FREE_ELEMENTS, Upkeep } from "./upkeep.ts";
import type { PastOfMaps } from "./windows.ts";

export interface EngineParts {
  readonly log: EventLog;
  readonly store: StateStore<CellTable>;
  readonly mirror: Mirror;
  readonly clock: Clock;
  readonly host: Host;
  readonly interfaces: Interfaces;
  readonly processes: Processes;
  /** Answers which changes a kernel map lacks if the recovery has not noted them (`lags.ts`). */
  readonly past: PastOfMaps;
  readonly graceMs: number;
  /** The quotas of callers. Absent: none has a quota. */
  readonly limits?: Limits;
  /** The amount of pending cells that is written to the store at once. Absent: the one with the least cost per cell. */
  readonly large?: Pending;
  /** Called with bugs and with failures of the machine. */
  readonly report: (message: string, error: unknown) => void;
  /** Called after each write to the store: with the fault, or with null if it succeeded. Absent: nobody is informed. */
  readonly stateTold?: (fault: PartFault | null) => void;
  /**
   * Called once, with the reason, if nothing can be written to the log any more: the engine then refuses all batches,
   * and the process must end, because only another process can find out what the log has. Absent: nobody is informed.
   */
  readonly ended?: (why: string) => void;
  /** Called with messages for the operator about maps whose kernel map does not follow. Absent: nobody is informed. */
  readonly notice?: (message: string) => void;
}

/** Runs batches of commands, and between them the engine's own work. Queries are answered from its `sources`. */
export class Engine {
  readonly state: State;
  readonly leases: Leases;
  /** The limits of callers whose scopes have globs. */
  readonly callerLimits: CallerLimits;
  /** The moments from which readers of long maps read further pages. */
  readonly moments: Moments;
  readonly kernelMaps: KernelMaps;
  /** The parts that answer queries (`queries.ts`). */
  readonly sources: QuerySources;
  readonly #parts: EngineParts;
  readonly #cells: PendingCells;
  readonly #writes: StateWrites;
  readonly #log: LogWrites;
  readonly #batch: Uncommitted;
  readonly #decisions: Decisions;
  readonly #machine: MachineWatch;
  readonly #upkeep: Upkeep;
  readonly #stats: Stats;
  #seq: number;
  /** The time of the last event. */
  #timeUs: number;
  /** The figures of the last batch, which may be one of the engine's own. */
  figures: BatchFigures = { commands: 0, executeMs: 0, commitMs: 0, mirrorMs: 0 };

  constructor(parts: EngineParts) {
    const { log, store, mirror, clock, host, report } = parts;
    this.#parts = parts;
    this.#seq = log.lastSeq;
    this.#timeUs = log.lastTimeUs;
    this.#cells = new PendingCells(store);
    this.#writes = new StateWrites({
      cells: this.#cells,
      store,
      clock,
      large: parts.large,
      report,
      told: parts.stateTold,
    });
    this.#log = new LogWrites({ log, clock, report, ended: parts.ended });
    const changes = new ChangeList();
    const state = new State(this.#cells, host, mirror.follows ? changes : IGNORE, parts.limits ?? UNLIMITED);
    this.state = state;
    this.callerLimits = new CallerLimits(state);
    this.moments = new Moments(this.#cells, host, clock);
    this.leases = new Leases({
      graceMs: parts.graceMs,
      processes: parts.processes,
      clock,
      session: (id) => state.session(id),
    });
    const objects = new OpenedObjects(state, mirror);
    this.#batch = new Uncommitted({ state, cells: this.#cells, changes, objects, moments: this.moments });
    this.#decisions = new Decisions({
      state,
      batch: this.#batch,
      callerLimits: this.callerLimits,
      moments: this.moments,
      mirror,
      report,
    });
    const note = (request: Request): void => this.#upkeep.note(request);
    this.#machine = new MachineWatch({ state, mirror, interfaces: parts.interfaces, clock, note, report });
    this.#upkeep = new Upkeep({
      state,
      leases: this.leases,
      machine: this.#machine,
      log: this.#log,
      run: (requests) => this.#runOwn(requests),
    });
    this.kernelMaps = new KernelMaps({
      mirror,
      state,
      history: { log, past: parts.past },
      commands: {
        run: (requests) => this.run(requests).every((reply) => "seq" in reply),
        runWhole: (requests) => this.runWhole(requests, { map: 0, seq: this.#seq }),
        note,
      },
      operators: { report, notice: parts.notice ?? (() => {}) },
      clock,
    });
    this.#stats = new Stats({
      state,
      leases: this.leases,
      kernelMaps: this.kernelMaps,
      progress: () => ({ seq: this.#seq, stateSeq: store.seq, pendingCells: this.#cells.size }),
    });
    this.sources = {
      reads: { state, leases: this.leases, limits: this.callerLimits, mirrorStatus: (map) => mirror.status(map) },
      leases: this.leases,
      moments: this.moments,
      kernelMaps: this.kernelMaps,
      stats: this.#stats,
      commands: {
        runWhole: (requests, guard) => this.runWhole(requests, guard),
        opensFor: (session, caller) => objects.opensFor(session, caller),
      },
    };
  }

  get seq(): number {
    return this.#seq;
  }

  /**
   * Redoes the events that the state lacks, then takes up the kernel maps. A session whose process has exited in the
   * meantime ends.
   */
  async recover(
    progress: (done: number, total: number) => void,
    mirroring: (done: number, total: number) => void = () => {},
  ): Promise<void> {
    const { log, store, mirror, host } = this.#parts;
    const { leases, kernelMaps } = this;
    const state = new State(this.#cells, host, IGNORE);
    const windows = (from: number) => kernelMaps.begin(state, from);
    await replayLog({ log, store, state, writes: this.#writes, windows }, progress);
    this.#cells.recovered(state.lastId("map"));
    resume({ state: this.state, leases, machine: this.#machine, drift: kernelMaps.drift, mirror });
    await kernelMaps.takeUpFirst(mirroring);
    this.endExited();
  }

  /** Runs a batch of commands in order. Returns their replies in the same order. */
  run(requests: readonly Request[]): Reply[] {
    return this.#run(requests, () => requests.map((request) => this.#answer(request)));
  }

  /**
   * Runs commands as one: no other command runs between them, and all succeed, or none happens. They are refused if an
   * event after `guard.seq` may have changed the map `guard.map`.
   */
  runWhole(requests: readonly Request[], guard: { readonly map: number; readonly seq: number }): WholeReply {
    if (hasChanged(this.#parts.log, guard)) return { changed: true };
    let whole: WholeReply = { replies: [] };
    const replies = this.#run(requests, () => {
      whole = decideWhole(this.#batch, requests, (request) => this.#answer(request));
      return "replies" in whole ? [...whole.replies] : [];
    });
    return "replies" in whole ? (replies.find((reply) => "failure" in reply) ?? whole) : whole;
  }

  #run(requests: readonly Request[], decide: () => Reply[]): Reply[] {
    const refusal = this.#log.refusal;
    if (refusal !== null) return requests.map(() => refusal);
    const { clock } = this.#parts;
    const started = clock.nowMs();
    this.state.deferral.atOnce = FREE_ELEMENTS;
    const { timeUs, step } = nextTime(clock.nowUs(), this.#timeUs);
    this.#batch.begin(this.#seq, timeUs);
    let notes: readonly Request[] = [];
    let replies: Reply[];
    let missed: readonly Request[];
    try {
      if (step !== null) this.#decisions.decide(clockStep(step));
      this.#machine.look();
      notes = this.#upkeep.take();
      missed = notes.filter((note) => isForLater(this.#decisions.decide(note)));
      replies = decide();
    } catch (error) {
      this.#batch.rollbackAll();
      this.#upkeep.giveBack(notes);
      throw error;
    }
    const decided = clock.nowMs();
    const { events } = this.#batch;
    const failure = this.#log.append(events);
    if (failure !== null) {
      this.#batch.rollbackAll();
      this.#upkeep.giveBack(notes);
      return requests.map(() => failure);
    }
    this.#upkeep.giveBack(missed);
    this.#seq += events.length;
    if (events.length > 0) this.#timeUs = timeUs;
    const changes = this.#batch.settle();
    for (const { command, outcome } of events) this.#follow(command, outcome);
    const committed = clock.nowMs();
    this.kernelMaps.apply(changes, this.#seq);
    const mirrored = clock.nowMs();
    this.figures = {
      commands: requests.length,
      executeMs: decided - started,
      commitMs: committed - decided,
      mirrorMs: mirrored - committed,
    };
    return replies;
  }

  /** Runs the engine's own commands. Returns whether the log has grown. */
  #runOwn(requests: readonly Request[]): boolean {
    const before = this.#seq;
    this.#run(requests, () => requests.map((request) => this.#decisions.run(request)));
    return this.#seq > before;
  }

  /**
   * Decides a caller's request. If the store fails and the bound of pending cells is reached, commands that could add
   * cells are refused.
   */
  #answer(request: Request): Reply {
    const refusal = this.#writes.refusal;
    if (refusal !== null && commandFacts(cmdNumber(request))?.addsCells !== false) return refusal;
    return this.#decisions.run(request);
  }

  /** Updates leases, statistics and watches with a command that is in the log. */
  #follow(command: Command, outcome: Outcome): void {
    if (command.cmd === CMD.BPF_MAP_CREATE && outcome.errno === 0) this.#machine.hasMap(command.attr.mapType);
    if (command.cmd === CMD.MIRROR_POLICY && outcome.errno === 0)
      this.kernelMaps.drift.watch(this.state.map(outcome.map) as MapRecord);
    this.leases.follow(command, outcome);
    this.#stats.count(command, outcome);
  }

  /** Begins to write pending cells to the store, if there are enough. Call after the replies were sent. */
  writeLarge(): void {
    this.#writes.beginLarge(this.#seq);
  }

  /**
   * null: another batch can be accepted. Otherwise too many cells are pending; the promise resolves when the present
   * write to the store is over.
   */
  get room(): Promise<void> | null {
    return this.#writes.room;
  }

  /** As room, for a piece of a large command: large commands wait before others do. */
  get roomForPiece(): Promise<void> | null {
    return this.#writes.roomForPiece;
  }

  /**
   * Does the engine's work between batches: a piece of the work on kernel maps, and of the upkeep (`upkeep.ts`). Unless
   * `leasesOnly`, it also writes pending cells. Returns whether there is more to do.
   */
  idle(leasesOnly: boolean): boolean {
    const scanning = this.kernelMaps.step();
    this.moments.trim();
    const owes = this.#upkeep.step(leasesOnly);
    if (!leasesOnly) this.#writes.beginRest(this.#seq);
    return scanning || owes;
  }

  /** Ends the sessions whose process has exited. */
  endExited(): void {
    this.#upkeep.endExited();
  }

  /** Writes all pending cells, unless the store fails. */
  written(): Promise<void> {
    return this.#writes.all(this.#seq);
  }

  async close(): Promise<void> {
    await this.written();
    this.kernelMaps.end();
    this.#parts.mirror.close();
    await this.#parts.store.close();
    this.#parts.log.close();
  }
}

/** Whether a command could not be decided because the state cannot be read at present. */
function isForLater(reply: Reply): boolean {
  return "failure" in reply && (reply.failure === "state failed" || reply.failure === "disk full");
}
