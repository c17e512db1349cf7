/**
 * The path of a command: decide, append to the log in one durable transaction with its batch, carry to the kernel maps,
 * answer. Changed cells stay pending until a transaction of the store is worth it (`state_writes.ts`); if the process
 * dies before, the log has the events.
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
import { MirrorSources } from "./mirror_sources.ts";
import { Moments } from "./moments.ts";
import { OpenedObjects } from "./opened_objects.ts";
import { clockStep } from "./own_commands.ts";
import { PendingCells } from "./pending.ts";
import type { Clock, EventLog, Interfaces, Mirror, MirrorChange, Processes, StateStore } from "./ports.ts";
import type { QuerySources } from "./queries.ts";
import { checkBehind, replayLog } from "./recovery.ts";
import type { Reply, Request, WholeReply } from "./request.ts";
import { type Pending, StateWrites } from "./state_writes.ts";
import { type BatchFigures, Stats } from "./stats.ts";
import { Uncommitted } from "./uncommitted.ts";
import { FREE_ELEMENTS, Upkeep } from "./upkeep.ts";
import { type PastOfMaps, Windows } from "./windows.ts";

export interface EngineParts {
  readonly log: EventLog;
  readonly store: StateStore<CellTable>;
  readonly mirror: Mirror;
  readonly clock: Clock;
  readonly host: Host;
  readonly interfaces: Interfaces;
  readonly processes: Processes;
  /** Asked what kernel maps lack that have not followed for long. */
  readonly past: PastOfMaps;
  readonly graceMs: number;
  /** What each caller may have; left out: whatever he wants. */
  readonly limits?: Limits;
  /** How much is pending when it is written to the store; left out: what costs least. */
  readonly large?: Pending;
  /** Where a bug or a broken machine is told of. */
  readonly report: (message: string, error: unknown) => void;
  /** Told when the state cannot be written, and when it can be again: null. Left out: nobody is. */
  readonly stateTold?: (fault: PartFault | null) => void;
  /** Told, once, that nothing is taken on any more: only another process can find out what the log has. Left out: nobody is. */
  readonly ended?: (why: string) => void;
  /** Where an operator is told of maps whose kernel map does not follow; left out: nobody is. */
  readonly notice?: (message: string) => void;
}

/** Cells reclaimed between two batches. */
const RECLAIM_CELLS = 2048;

/** Runs batches and queries, and does the engine's own work between batches. */
export class Engine {
  readonly state: State;
  readonly leases: Leases;
  /** What callers may do on which maps. */
  readonly callerLimits: CallerLimits;
  /** Of maps whose elements are being read page by page. */
  readonly moments: Moments;
  /** What is done about kernel maps. */
  readonly kernelMaps: KernelMaps;
  /** What queries are answered from. */
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
  /** The last event's. */
  #timeUs: number;
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
      sources: new MirrorSources(state),
      log,
      past: parts.past,
      run: (requests) => this.run(requests).every((reply) => "seq" in reply),
      runWhole: (requests) => this.runWhole(requests, { map: 0, seq: this.#seq }),
      note,
      report,
      notice: parts.notice ?? (() => {}),
      clock,
    });
    this.#stats = new Stats({
      state,
      leases: this.leases,
      kernelMaps: this.kernelMaps,
      progress: () => ({ seq: this.#seq, stateSeq: store.seq, pendingCells: this.#cells.size }),
    });
    this.sources = {
      told: { state, leases: this.leases, limits: this.callerLimits, mirrorStatus: (map) => mirror.status(map) },
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

  /** Why kernel maps do not follow at present; null: they do. */
  get mirrorOff(): string | null {
    return this.#parts.mirror.off;
  }

  /**
   * Brings the state up to the log, then the mirror up to the state. Every living session gets its full lease; one whose process
   * has exited meanwhile ends.
   */
  async recover(
    progress: (done: number, total: number) => void,
    mirroring: (done: number, total: number) => void = () => {},
  ): Promise<void> {
    const { log, store, mirror, host } = this.#parts;
    checkBehind(log, store);
    const state = new State(this.#cells, host, IGNORE);
    const before = store.seq;
    const windows = this.kernelMaps.begin(() => new Windows(state, before, mirror.carried, (map) => mirror.place(map)));
    await replayLog({ log, store, state, writes: this.#writes, windows }, progress);
    for (const [, session] of this.state.sessions.from("")) this.leases.lend(session);
    for (const [, map] of this.state.maps.from("")) {
      this.#machine.hasMap(map.type);
      this.kernelMaps.drift.watch(map);
    }
    // Counted and noted now, so that no command waits for it.
    this.state.bpffs.pinsOf(0);
    this.state.settle();
    mirror.takeUpObjects(this.state.objects.all());
    await this.kernelMaps.takeUpFirst(mirroring);
    this.endExited();
  }

  /** Decides, records, mirrors and answers a batch, in its order. */
  run(requests: readonly Request[]): Reply[] {
    return this.#run(requests, () => requests.map((request) => this.#answer(request)));
  }

  /**
   * Runs commands as one, nothing in between: all of them succeed, or none has happened. `guard`: only if no event after
   * this one has changed this map.
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
    if (step !== null) this.#decisions.decide(clockStep(step));
    this.#machine.look();
    const notes = this.#upkeep.take();
    for (const note of notes) this.#decisions.decide(note);
    const replies = decide();
    const decided = clock.nowMs();
    const { events } = this.#batch;
    const failure = this.#log.append(events);
    if (failure !== null) {
      this.#batch.rollbackAll();
      this.#upkeep.giveBack(notes);
      return requests.map(() => failure);
    }
    this.#seq += events.length;
    if (events.length > 0) this.#timeUs = timeUs;
    const changes = this.#batch.settle();
    for (const { command, outcome } of events) this.#follow(command, outcome);
    const committed = clock.nowMs();
    this.#carry(changes);
    const mirrored = clock.nowMs();
    this.figures = {
      commands: requests.length,
      executeMs: decided - started,
      commitMs: committed - decided,
      mirrorMs: mirrored - committed,
    };
    return replies;
  }

  /** Commands of the service's own; answers whether the log has anything new. */
  #runOwn(requests: readonly Request[]): boolean {
    const before = this.#seq;
    this.#run(requests, () => requests.map((request) => this.#decisions.run(request)));
    return this.#seq > before;
  }

  /** Runs a caller's request. Refuses commands that could add pending cells while the store fails and the bound is reached. */
  #answer(request: Request): Reply {
    const refusal = this.#writes.refusal;
    if (refusal !== null && commandFacts(cmdNumber(request))?.addsCells !== false) return refusal;
    return this.#decisions.run(request);
  }

  /** A command is in the log: whoever keeps count of sessions, maps and commands is told. */
  #follow(command: Command, outcome: Outcome): void {
    if (command.cmd === CMD.BPF_MAP_CREATE && outcome.errno === 0) this.#machine.hasMap(command.attr.mapType);
    if (command.cmd === CMD.MIRROR_POLICY && outcome.errno === 0)
      this.kernelMaps.drift.watch(this.state.map(outcome.map) as MapRecord);
    this.leases.follow(command, outcome);
    this.#stats.count(command, outcome);
  }

  /** What happened has happened: whatever fails here is told of, and the commands are answered. */
  #carry(changes: readonly MirrorChange[]): void {
    try {
      this.kernelMaps.refused(this.#parts.mirror.apply(changes, this.#seq));
      this.kernelMaps.applied(changes);
    } catch (error) {
      this.#parts.report("carrying changes into kernel maps", error);
    }
  }

  /** Begins to write to the store, if there is enough for that; to be called when the replies are out. */
  writeLarge(): void {
    this.#writes.beginLarge(this.#seq);
  }

  /** null: there is room for another batch. Otherwise when there will be: the store is behind. */
  get room(): Promise<void> | null {
    return this.#writes.room;
  }

  /**
   * Ends the sessions whose lease is over, removes archived events, tries what the mirror was refused, and looks for drift;
   * unless there is no time, also reclaims freed maps and writes pending cells. Answers whether there is more to do.
   */
  idle(leasesOnly: boolean): boolean {
    const scanning = this.kernelMaps.step();
    this.moments.trim();
    const owes = this.#upkeep.run();
    this.#log.seek();
    const archived = this.#log.deleteArchived();
    if (leasesOnly) return scanning || owes;
    const more = this.state.garbage.reclaim(RECLAIM_CELLS) || archived || scanning || owes;
    this.#cells.settle();
    if (this.#cells.size > 0) this.#writes.begin(this.#seq);
    return more;
  }

  /** Ends the sessions whose process has exited. */
  endExited(): void {
    this.#upkeep.endExited();
  }

  /** Writes everything that is pending, if the store takes it. */
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
