import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { CMD } from "../abi/service.ts";
import { mayUseSessionOf } from "../access/caller.ts";
import type { MapLimits } from "../access/map_limits.ts";
import { type Limits, UNLIMITED } from "../access/quotas.ts";
import type { Scope } from "../access/scopes.ts";
import { nextTime } from "../log/clock_step.ts";
import { type Event, eventRow } from "../log/event.ts";
import { touchedMaps } from "../log/event_subjects.ts";
import { keptInput } from "../log/kept_input.ts";
import { sendsToInterfaces } from "../maps/facts.ts";
import type { Host, MapRecord } from "../maps/map.ts";
import { faultIn, type PartFault } from "../supervisor/derived_parts.ts";
import { withoutAbsent } from "../syscall/batch.ts";
import type { Command, CreateCommand, ElementsCommand, EndReason, OpenCommand } from "../syscall/command.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import { Coverage } from "../syscall/coverage.ts";
import { execute, redo } from "../syscall/execute.ts";
import { asRead, checkSession } from "../syscall/guards.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { permit } from "../syscall/permission.ts";
import { type SessionRecord, State } from "../syscall/state.ts";
import { type Made, noteMade, withMade } from "./atomic_requests.ts";
import type { CellTable } from "./cell_table.ts";
import { ChangeList, IGNORE } from "./followers.ts";
import { KernelMaps } from "./kernel_maps.ts";
import { Leases } from "./leases.ts";
import { MirrorSources } from "./mirror_sources.ts";
import { Moments } from "./moments.ts";
import { withOccupied } from "./occupied.ts";
import { clockStep, freeDeferred, interfacesChange, objectEnd, sessionEnd } from "./own_commands.ts";
import { PendingCells } from "./pending.ts";
import type { WalkRequest } from "./pieces.ts";
import {
  type Clock,
  type EventLog,
  type Interfaces,
  LogUncertain,
  type Mirror,
  type MirrorChange,
  type MirrorStatus,
  type OpenedObject,
  type Processes,
  type StateStore,
} from "./ports.ts";
import type { CallerStats, EngineStats, SessionView } from "./queries.ts";
import type { NotDone, Ran, Reply, Request, WholeReply } from "./request.ts";
import { visitMaps } from "./turns.ts";
import { type PastOfMaps, Windows } from "./windows.ts";

/** A request that opens a real object; `object` null: the machine has none of this kind. */
interface Opened {
  readonly request: OpenRequest;
  readonly object: OpenedObject | null;
}

type OpenRequest = OpenCommand & { readonly session: number; readonly caller: string };

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

/** Changed cells that the store does not have yet. */
export interface Pending {
  readonly cells: number;
  readonly bytes: number;
}

/** Figures of one batch, for the metrics. */
export interface BatchFigures {
  readonly commands: number;
  readonly executeMs: number;
  readonly commitMs: number;
  readonly mirrorMs: number;
}

/** When what is pending is written to the store, unless it rests before: large transactions cost least a cell. */
const LARGE: Pending = { cells: 65_536, bytes: 64 * 1024 * 1024 };
/** In a replay so many times as many cells: most change many times over, and only what they are in the end is written. */
const REPLAY_CELLS = 16;
/** How far what is pending may outgrow that while the store is still being written to, or fails. */
const OVERRUN = 3;
/** The same in a replay whose store fails: a state that is smaller is served from memory. */
const REPLAY_OVERRUN = 8;
/** Errnos end below: cmd and errno make one key of the counts. */
const ERRNO_END = 1024;
/** How long a store or a log that has failed is left alone. */
const RETRY_MS = 5000;
/** Events between two reports of a recovery's progress. */
const PROGRESS_EVENTS = 10_000;
/** How old what is known of interfaces and of processes may be. */
const MACHINE_MS = 100;
/** Cells reclaimed between two batches. */
const RECLAIM_CELLS = 2048;
/** Elements that go with maps and objects in one turn, and in one event of what was put off. */
const FREE_ELEMENTS = 2048;
/** Descriptors of sessions that end by themselves in one turn, unless one alone has more. */
const END_FDS = 4096;
/** How often it is looked whether the log's files are there, while nobody writes. */
const SEEK_MS = 1000;
/** Archived events removed from the log between two batches. */
const DELETE_EVENTS = 1000;

/**
 * The one path. A batch is decided command by command, appended to the log in one durable transaction, carried into the
 * mirror, and answered; its cells stay pending until there are enough for a transaction of the store's. What is pending
 * when the process dies, the log brings back.
 */
export class Engine {
  readonly state: State;
  readonly leases: Leases;
  /** Which maps callers' globs cover. */
  readonly coverage: Coverage;
  #mapLimits: ReadonlyMap<number, MapLimits> = new Map();
  readonly #parts: EngineParts;
  readonly #cells: PendingCells;
  readonly #changes = new ChangeList();
  /** Of maps whose elements are being read page by page. */
  readonly moments: Moments;
  /** What is done about kernel maps. */
  readonly kernelMaps: KernelMaps;
  #seq: number;
  /** The last event's. */
  #timeUs: number;
  /** What has happened to the mirror since the last batch: events of the next one. */
  #notes: Request[] = [];
  /** When the service may run commands of its own again, after the log has failed. */
  #ownAfterMs = 0;
  /** Real objects of the batch under way: kept when it is durable. */
  #opened: [object: OpenedObject, id: number][] = [];
  /** Whether any map has interfaces for elements. */
  #usesInterfaces = false;
  /** When the machine was last looked at. */
  #lookedMs = Number.NEGATIVE_INFINITY;
  /** When it was last looked whether the log's files are there. */
  #soughtMs = 0;
  /** Why nothing is taken on any more; null: it is. */
  #ended: string | null = null;
  /** When the store may be tried again, after it has failed. */
  #retryAtMs = 0;
  /** Why the store could not be written to last; null: it could. */
  #stateFault: PartFault | null = null;
  readonly #large: Pending;
  /** Commands that are in the log since the start, by cmd and errno. */
  readonly #counts = new Map<number, number>();
  /** The same by caller. */
  readonly #byCaller = new Map<string, { commands: number; refused: number; overQuota: number }>();
  figures: BatchFigures = { commands: 0, executeMs: 0, commitMs: 0, mirrorMs: 0 };

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#large = parts.large ?? LARGE;
    this.#cells = new PendingCells(parts.store);
    const follower = parts.mirror.follows ? this.#changes : IGNORE;
    this.state = new State(this.#cells, parts.host, follower, parts.limits ?? UNLIMITED);
    this.coverage = new Coverage(this.state);
    this.moments = new Moments(this.#cells, parts.host, parts.clock);
    this.leases = new Leases(parts.graceMs, parts.processes, parts.clock);
    this.#seq = parts.log.lastSeq;
    this.#timeUs = parts.log.lastTimeUs;
    this.kernelMaps = new KernelMaps({
      mirror: parts.mirror,
      state: this.state,
      sources: new MirrorSources(this.state),
      log: parts.log,
      past: parts.past,
      run: (requests) => this.run(requests).every((reply) => "seq" in reply),
      runWhole: (requests) => this.runWhole(requests, { map: 0, seq: this.#seq }),
      note: (request) => this.#notes.push(request),
      report: parts.report,
      notice: parts.notice ?? (() => {}),
      clock: parts.clock,
    });
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
    const { log, store, mirror } = this.#parts;
    if (store.seq > log.lastSeq)
      throw new Error(`recovering the state: it has events up to ${store.seq}, the log ends at ${log.lastSeq}`);
    const replayed = new State(this.#cells, this.#parts.host, IGNORE);
    const before = store.seq;
    const windows = this.kernelMaps.begin(
      () => new Windows(replayed, before, mirror.carried, (map) => mirror.place(map)),
    );
    let seq = before;
    let told = before;
    for await (const events of log.changes(before)) {
      for (const event of events) {
        windows?.before(event);
        redoEvent(replayed, event);
      }
      seq = events.at(-1)?.seq ?? seq;
      if (this.#isLarge(1, REPLAY_CELLS)) {
        await this.#cells.writing;
        this.#write(seq);
      }
      while (this.#isLarge(REPLAY_OVERRUN, REPLAY_CELLS) && this.#stateFault !== null) {
        await sleep(this.#retryAtMs - this.#nowMs());
        this.#write(seq);
        await this.#cells.writing;
      }
      if (seq - told < PROGRESS_EVENTS) continue;
      told = seq;
      progress(seq - before, log.lastSeq - before);
    }
    await this.written();
    for (const [, session] of this.state.sessions.from("")) this.#lend(session);
    for (const [, map] of this.state.maps.from("")) {
      this.#usesInterfaces ||= sendsToInterfaces(map.type);
      this.kernelMaps.drift.watch(map);
    }
    // Counted and noted now, so that no command waits for it.
    this.state.pinsOf(0);
    this.state.settle();
    mirror.takeUpObjects(this.state.objects.all());
    await this.kernelMaps.takeUpFirst(mirroring);
    this.endExited();
  }

  /** From now on callers may do this; what comes with the id of any other limits is refused. */
  setMapLimits(limits: readonly MapLimits[]): void {
    this.#mapLimits = new Map(limits.map((one) => [one.id, one]));
    this.coverage.keep(limits.map(({ read }) => read));
  }

  /** undefined: nobody has them any more. */
  mapLimits(id: number): MapLimits | undefined {
    return this.#mapLimits.get(id);
  }

  /** Whether a walk of ids by what globs cover looks at so few maps that nobody waits for it. */
  isNear({ limits }: WalkRequest): boolean {
    const reach = this.#mapLimits.get(limits)?.read ?? [];
    return reach === "all" || this.coverage.isNear(reach);
  }

  /** Looks at some maps for such a walk; answers whether that was enough. */
  walk({ limits, attr }: WalkRequest): boolean {
    const reach = this.#mapLimits.get(limits)?.read ?? [];
    return reach === "all" || this.coverage.walk(reach, attr.startId, 1);
  }

  /** Decides, records, mirrors and answers a batch, in its order. */
  run(requests: readonly Request[]): Reply[] {
    return this.#run(requests, (timeUs, events) => requests.map((request) => this.#answer(request, timeUs, events)));
  }

  /**
   * Runs commands as one, nothing in between: all of them succeed, or none has happened. `guard`: only if no event after
   * this one has changed this map.
   */
  runWhole(requests: readonly Request[], guard: { readonly map: number; readonly seq: number }): WholeReply {
    if (this.#hasChanged(guard.map, guard.seq)) return { changed: true };
    let refused: WholeReply | null = null;
    const replies = this.#run(requests, (timeUs, events) => {
      const mark = this.#cells.mark();
      const usage = this.state.usage.mark();
      const changes = this.#changes.length;
      const opened = this.#opened.length;
      const first = events.length;
      const made: Made = { session: 0, map: 0 };
      const replies: Reply[] = [];
      for (const request of requests) {
        const reply = this.#answer(withMade(request, made), timeUs, events);
        replies.push(reply);
        if ("failure" in reply) refused = reply;
        else if (reply.outcome.errno !== 0) refused = { refused: reply.outcome, cmd: request.cmd };
        if (refused !== null) break;
        noteMade(made, (reply as { outcome: Outcome }).outcome);
      }
      if (refused === null) return replies;
      this.#cells.rollback(mark);
      this.#changes.truncate(changes);
      this.state.forget(usage);
      for (const [object] of this.#opened.splice(opened)) object.drop();
      events.length = first;
      return [];
    });
    if (refused !== null) return refused;
    const failed = replies.find((reply) => "failure" in reply);
    return failed ?? { replies: replies as Ran[] };
  }

  #run(requests: readonly Request[], decide: (timeUs: number, events: Event[]) => Reply[]): Reply[] {
    if (this.#ended !== null || this.#isLost()) return requests.map(() => ENDED);
    const started = this.#nowMs();
    this.state.atOnce = FREE_ELEMENTS;
    const { timeUs, step } = nextTime(this.#parts.clock.nowUs(), this.#timeUs);
    const events: Event[] = [];
    if (step !== null) this.#decide(clockStep(step), timeUs, events);
    this.#look();
    const notes = this.#notes;
    this.#notes = [];
    for (const note of notes) this.#decide(note, timeUs, events);
    const replies = decide(timeUs, events);
    const decided = this.#nowMs();
    const failure = this.#append(events);
    const opened = this.#opened;
    this.#opened = [];
    if (failure !== null) {
      for (const [object] of opened) object.drop();
      this.#notes = notes;
      return requests.map(() => failure);
    }
    if (events.length > 0) this.#timeUs = timeUs;
    for (const [object, id] of opened) object.keep(id);
    for (const { command, outcome } of events) {
      this.#follow(command, outcome);
      this.#count(command, outcome);
    }
    const committed = this.#nowMs();
    const changes = this.#changes.take();
    this.#carry(changes);
    const mirrored = this.#nowMs();
    this.figures = {
      commands: requests.length,
      executeMs: decided - started,
      commitMs: committed - decided,
      mirrorMs: mirrored - committed,
    };
    return replies;
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
    if (this.#isLarge(1)) this.#write(this.#seq);
  }

  /** Null: there is room for another batch. Otherwise when there will be: the store is behind. */
  get room(): Promise<void> | null {
    return this.#isLarge(OVERRUN) ? this.#cells.writing : null;
  }

  /**
   * Ends the sessions whose lease is over, removes archived events, tries what the mirror was refused, and looks for drift;
   * unless there is no time, clears away and writes what is pending, too. Answers whether there is more to do.
   */
  idle(leasesOnly: boolean): boolean {
    const scanning = this.kernelMaps.step();
    this.moments.trim();
    const owes = this.#runOwn();
    if (this.#nowMs() - this.#soughtMs >= SEEK_MS) {
      this.#soughtMs = this.#nowMs();
      if (this.#ended === null) this.#isLost();
    }
    const archived = this.#deleteArchived();
    if (leasesOnly) return scanning || owes;
    const more = this.state.reclaim(RECLAIM_CELLS) || archived || scanning || owes;
    this.#cells.settle();
    if (this.#cells.size > 0) this.#write(this.#seq);
    return more;
  }

  /** Ends the sessions whose process has exited. */
  endExited(): void {
    if (this.leases.exited().length > 0) this.#runOwn();
  }

  /** What a session lives by at present. */
  lease(session: number): Pick<SessionView, "lease" | "leftMs"> {
    const leftMs = this.leases.leftMs(session);
    return {
      lease: this.leases.by(session),
      leftMs: leftMs === Number.POSITIVE_INFINITY ? null : Math.round(leftMs),
    };
  }

  mirrorStatus(mapId: number): MirrorStatus {
    return this.#parts.mirror.status(mapId);
  }

  /** Figures for the metrics; of at most `mapsMax` maps, the first by id. Maps are counted a piece a turn. */
  async stats(mapsMax: number): Promise<EngineStats> {
    const { store, mirror } = this.#parts;
    const maps: { id: number; name: string; type: number; entries: number; maxEntries: number }[] = [];
    const mirrorMaps = this.kernelMaps.noCounts();
    let mapCount = 0;
    await visitMaps(this.state, (map) => {
      const { id, name, type, maxEntries } = map;
      if (maps.length < mapsMax) maps.push({ id, name, type, maxEntries, entries: this.state.listedCount(map) });
      this.kernelMaps.count(id, mirrorMaps);
      mapCount++;
    });
    return {
      callers: this.#callerStats(),
      commands: [...this.#counts].map(([key, count]) => [Math.floor(key / ERRNO_END), key % ERRNO_END, count]),
      seq: this.#seq,
      stateSeq: store.seq,
      pendingCells: this.#cells.size,
      sessions: this.leases.count,
      mirrorOff: mirror.off,
      mirrorRefusals: this.kernelMaps.refusalCount,
      driftFound: this.kernelMaps.drift.found,
      mirrorMaps,
      mapCount,
      maps,
    };
  }

  #callerStats(): CallerStats[] {
    const { usage } = this.state;
    const names = new Set([...this.#byCaller.keys(), ...[...usage.all()].map(([caller]) => caller)]);
    const none = { commands: 0, refused: 0, overQuota: 0 };
    return [...names].map((caller) => ({
      caller,
      ...(this.#byCaller.get(caller) ?? none),
      amounts: usage.of(caller),
    }));
  }

  /** Writes everything that is pending, if the store takes it. */
  async written(): Promise<void> {
    await this.#cells.writing;
    this.#retryAtMs = 0;
    if (this.#cells.size > 0 || this.#parts.store.seq < this.#seq) this.#write(this.#seq);
    await this.#cells.writing;
  }

  async close(): Promise<void> {
    await this.written();
    this.kernelMaps.end();
    this.#parts.mirror.close();
    await this.#parts.store.close();
    this.#parts.log.close();
  }

  /** Begins to write to the store, unless it is being written to, or has failed a moment ago. */
  #write(seq: number): void {
    if (this.#cells.writing !== null || this.#nowMs() < this.#retryAtMs) return;
    let fault: PartFault | null = null;
    const written = this.#cells.write(seq, (error) => {
      this.#retryAtMs = this.#nowMs() + RETRY_MS;
      this.#parts.report("writing to the state: it stays pending, the log has it", error);
      const detail = (error as Error).message;
      fault = { part: "state", state: "failed", detail, full: faultIn(error) === "full" };
    });
    written.then(() => {
      this.#stateFault = fault;
      this.#parts.stateTold?.(fault);
    });
  }

  /** Whether any event after a seq may have changed a map. */
  #hasChanged(map: number, seq: number): boolean {
    for (const event of this.#parts.log.read(seq)) {
      const row = eventRow(event);
      if (commandFacts(row.cmd)?.leavesMaps !== true && touchedMaps(row, event.outcome.out).has(map)) return true;
    }
    return false;
  }

  #count({ cmd, caller }: Command, { errno, out }: Outcome): void {
    const key = cmd * ERRNO_END + errno;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    // What was refused before it was a command.
    if (cmd === CMD.ACCESS_REFUSED) return;
    let counts = this.#byCaller.get(caller);
    if (counts === undefined) {
      counts = { commands: 0, refused: 0, overQuota: 0 };
      this.#byCaller.set(caller, counts);
    }
    counts.commands++;
    if (errno !== 0) counts.refused++;
    if (out?.quota !== undefined) counts.overQuota++;
  }

  /** What the service does of its own accord; where the log fails it, it waits before it tries again. Answers whether there is more. */
  #runOwn(): boolean {
    this.#look();
    const nowMs = this.#nowMs();
    if (nowMs < this.#ownAfterMs) return false;
    const over = this.leases.expired();
    const ended = this.#inOneTurn(over);
    const deferred = this.state.deferred();
    if (ended.length === 0 && this.#notes.length === 0 && deferred === null) return false;
    const requests: Request[] = ended.map(({ session, reason }) =>
      sessionEnd(session, this.#callerOf(session), reason),
    );
    if (deferred !== null) requests.push(freeDeferred(deferred, FREE_ELEMENTS));
    const before = this.#seq;
    this.#run(requests, (timeUs, events) => requests.map((request) => this.#runOne(request, timeUs, events)));
    if (this.#seq === before) this.#ownAfterMs = nowMs + RETRY_MS;
    return ended.length < over.length || deferred !== null;
  }

  /** The first of the sessions that are over, as many as have few descriptors; at least one. */
  #inOneTurn<Ended extends { readonly session: number }>(over: readonly Ended[]): readonly Ended[] {
    let fds = 0;
    const end = over.findIndex(({ session }, at) => {
      fds += 1 + this.state.fdCount(session);
      return at > 0 && fds > END_FDS;
    });
    return end < 0 ? over : over.slice(0, end);
  }

  #isLarge(times: number, cellTimes = 1): boolean {
    const { cells, bytes } = this.#large;
    return this.#cells.size >= cells * times * cellTimes || this.#cells.bytes >= bytes * times;
  }

  /** What a caller has sent. While the store fails, and as much is pending as may be, nothing that would be pending, too. */
  #answer(request: Request, timeUs: number, events: Event[]): Reply {
    const fault = this.#stateFault;
    if (fault !== null && this.#isLarge(OVERRUN) && commandFacts(request.cmd)?.addsCells !== false)
      return noRoom(fault);
    return this.#runOne(request, timeUs, events);
  }

  /** One request; to end a session is to close its descriptors first, each by a command of its own. */
  #runOne(request: Request, timeUs: number, events: Event[]): Reply {
    if (request.cmd === CMD.SESSION_END && "attr" in request) {
      const { session, caller, peer, restore } = request;
      const by = { session, caller, peer, ...(restore !== undefined && { restore }) };
      const { reason } = (request as { attr: { reason: EndReason } }).attr;
      const opener = this.state.session(session)?.caller;
      if (opener !== undefined && mayUseSessionOf(opener, caller))
        for (const [fd] of [...this.state.fds(session)])
          this.#decide({ ...by, cmd: CMD.CLOSE, fd, attr: { reason } }, timeUs, events);
    }
    return this.#decide(request, timeUs, events);
  }

  #decide(request: Request, timeUs: number, events: Event[]): Reply {
    const mark = this.#cells.mark();
    const changes = this.#changes.length;
    const usage = this.state.usage.mark();
    let opened: Opened | null = null;
    try {
      if (request.cmd === CMD.OPEN && "attr" in request) opened = this.#open(request as OpenRequest, timeUs);
      const said = opened?.request ?? request;
      let asked: Command = this.#saysPeer(request) ? { ...said, timeUs, peer: undefined } : { ...said, timeUs };
      if (request.limits !== undefined) {
        const permitted = this.#permitted(asked, request.limits);
        if ("failure" in permitted) return permitted;
        asked = permitted;
      }
      const given = withOccupied(this.state, this.#parts.mirror, this.#changes, asRead(this.state, asked));
      const [done, outcome] = withoutAbsent(given, execute(this.state, given));
      const command = keptInput(done, outcome);
      if (command.imported === true && this.#parts.mirror.follows) this.#changes.imported(changes);
      if (opened?.object) this.#noteOpened(opened.object, outcome);
      const seq = this.#seq + events.length + 1;
      events.push({ seq, command, outcome });
      if (goesOn(request, outcome)) this.moments.open(seq, outcome.map);
      return { seq, outcome };
    } catch (error) {
      this.#cells.rollback(mark);
      this.#changes.truncate(changes);
      this.state.forget(usage);
      opened?.object?.drop();
      this.#parts.report(`executing command ${request.cmd}`, error);
      return { failure: "bug", detail: "the command failed inside the service", done: "nothing" };
    }
  }

  /** Whether the peer of a command is its session's, so that its event need not say it again. */
  #saysPeer({ session, peer }: Request): boolean {
    return peer !== undefined && session !== 0 && this.state.session(session)?.peer === peer;
  }

  #permitted(command: Command, id: number): Command | NotDone {
    const limits = this.#mapLimits.get(id);
    // They were taken back while the command was on its way.
    if (limits === undefined) return scopeMissing("read");
    const permitted = permit(this.coverage, command, limits);
    return "missing" in permitted ? scopeMissing(permitted.missing) : permitted.command;
  }

  /**
   * Asks the machine for the real object, unless that has been done: what it says comes with the command. Nothing is opened for
   * a session that is not the caller's.
   */
  #open(request: OpenRequest, timeUs: number): { readonly request: OpenRequest; readonly object: OpenedObject | null } {
    const { held, found, ...spec } = request.attr;
    const { mirror } = this.#parts;
    const taken =
      held !== undefined && found !== undefined && "facts" in found ? mirror.heldObject(found.facts, held) : null;
    if (checkSession(this.state, { ...request, timeUs }) !== null) {
      taken?.drop();
      return { request: { ...request, attr: spec }, object: null };
    }
    const object = found === undefined ? mirror.openObject(spec) : taken;
    const known = object?.found ?? found;
    return { request: { ...request, attr: known === undefined ? spec : { ...spec, found: known } }, object };
  }

  /** Whether the machine is asked for the real objects of a session's descriptors. */
  opensFor(session: number, caller: string): boolean {
    const { mirror } = this.#parts;
    return mirror.off === null && checkSession(this.state, { session, caller, timeUs: 0 }) === null;
  }

  #noteOpened(object: OpenedObject, outcome: Outcome): void {
    if (outcome.out?.object === undefined) object.drop();
    else this.#opened.push([object, outcome.out.object]);
  }

  /** What the machine did by itself since it was last looked at becomes commands of the service's. */
  #look(): void {
    const nowMs = this.#nowMs();
    if (nowMs - this.#lookedMs < MACHINE_MS) return;
    this.#lookedMs = nowMs;
    try {
      this.#lookNow();
    } catch (error) {
      this.#parts.report("looking at the machine", error);
    }
  }

  /** What cannot be told is not concluded from. */
  #lookNow(): void {
    for (const object of this.#parts.mirror.endedObjects()) this.#notes.push(objectEnd(object));
    if (!this.#usesInterfaces) return;
    const ifindexes = this.#parts.interfaces();
    if (ifindexes !== null && !isDeepStrictEqual(ifindexes, this.state.interfaces))
      this.#notes.push(interfacesChange(ifindexes));
  }

  /** The commit point. Null: durable; otherwise nothing of the batch has happened. */
  #append(events: readonly Event[]): Reply | null {
    try {
      if (events.length > 0) this.#parts.log.append(events);
      this.#seq += events.length;
      this.#cells.settle();
      this.state.settle();
      return null;
    } catch (error) {
      this.#cells.rollback(0);
      this.#changes.truncate(0);
      this.state.forget(0);
      this.moments.closeFrom(this.#seq + 1);
      this.#parts.report(`appending ${events.length} events to the log`, error);
      if (error instanceof LogUncertain) {
        this.#end(error.message);
        return UNKNOWN;
      }
      const full = (error as { code?: string }).code === "SQLITE_FULL";
      return {
        failure: full ? "disk full" : "log failed",
        detail: full ? "the log's disk is full" : "the log could not be written",
        done: "nothing",
      };
    }
  }

  /** Whether what is written to the log from now on would be gone with the process: then nothing is. */
  #isLost(): boolean {
    const missing = this.#parts.log.missing?.() ?? null;
    if (missing !== null) this.#end(missing);
    return missing !== null;
  }

  #end(why: string): void {
    if (this.#ended !== null) return;
    this.#ended = why;
    this.#parts.ended?.(why);
  }

  /** Whether any are left. Where the log fails, they stay for the next time. */
  #deleteArchived(): boolean {
    if (this.#ended !== null || this.#nowMs() < this.#ownAfterMs) return false;
    try {
      return this.#parts.log.deleteArchived(DELETE_EVENTS);
    } catch (error) {
      this.#ownAfterMs = this.#nowMs() + RETRY_MS;
      this.#parts.report("removing archived events from the log", error);
      if (error instanceof LogUncertain) this.#end(error.message);
      return false;
    }
  }

  /** Births, renewals, uses and ends, as the leases see them. */
  #follow(command: Command, outcome: Outcome): void {
    if (command.cmd === CMD.BPF_MAP_CREATE && outcome.errno === 0 && "attr" in command)
      this.#usesInterfaces ||= sendsToInterfaces((command as CreateCommand).attr.mapType);
    if (command.cmd === CMD.MIRROR_POLICY && outcome.errno === 0)
      this.kernelMaps.drift.watch(this.state.map(outcome.map) as MapRecord);
    const session = command.cmd === CMD.SESSION_OPEN ? (outcome.out?.session_id ?? 0) : command.session;
    if (session === 0 || outcome.out?.session !== undefined) return;
    const record = this.state.session(session);
    if (record === undefined) this.leases.end(session);
    else if (command.cmd === CMD.SESSION_OPEN) this.#lend(record);
    else if (command.cmd === CMD.SESSION_RENEW) this.leases.renew(session, record.ttlMs);
    else this.leases.used(session);
  }

  #lend({ id, ttlMs, process }: SessionRecord): void {
    if (process === undefined) this.leases.renew(id, ttlMs);
    else this.leases.bind(id, process);
  }

  #callerOf(session: number): string {
    return this.state.session(session)?.caller ?? "";
  }

  #nowMs(): number {
    return this.#parts.clock.nowMs();
  }
}

const UNKNOWN: Reply = {
  failure: "outcome unknown",
  detail:
    "the log could not be synced: whether the command is recorded is unknown until the service, which ends, has been started again; look at what has become of it before it is sent again",
};
const ENDED: Reply = {
  failure: "log failed",
  detail: "the service is ending: nothing can be written to its log",
  done: "nothing",
};

function noRoom({ detail, full }: PartFault): Reply {
  return {
    failure: full ? "disk full" : "state failed",
    detail: `the state cannot be written, and as many changes are pending as may be: ${detail}`,
    done: "nothing",
  };
}

/** Whether a page of elements has fewer than were asked for, so that whoever asked reads on as of its event. */
function goesOn(request: Request, { out }: Outcome): boolean {
  if (request.cmd !== CMD.MAP_ELEMENTS || !("attr" in request) || out?.more !== true) return false;
  return (out.count ?? 0) < (request.attr as ElementsCommand["attr"]).limit;
}

function redoEvent(state: State, { seq, command, outcome }: Event): void {
  try {
    redo(state, command, outcome);
  } catch (error) {
    throw new Error(`replaying event ${seq}: ${(error as Error).message}`, { cause: error });
  }
}

function scopeMissing(scope: Scope): NotDone {
  return { failure: "scope missing", detail: `a scope ${scope} is missing`, scope, done: "nothing" };
}
