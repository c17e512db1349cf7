import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { InjectOptions, LightMyRequestResponse } from "fastify";
import type { Test } from "tap";
import { CMD } from "../../src/abi/service.ts";
import type { Caller } from "../../src/access/caller.ts";
import { Callers } from "../../src/access/callers.ts";
import type { Limits } from "../../src/access/quotas.ts";
import { ALL_SCOPES } from "../../src/access/scopes.ts";
import { type Line, parseTokens } from "../../src/access/tokens_file.ts";
import { limitsOf, readSettings, type Settings } from "../../src/config.ts";
import type { ArchiveJobStatus, Archiver } from "../../src/engine/archives.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { EventPage, EventRange, EventReader, MarkedRow } from "../../src/engine/events.ts";
import { type Frames, FrameWriter, ReplyFrames, readRequests } from "../../src/engine/frames.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { answerQuery } from "../../src/engine/queries.ts";
import type { Reply, Request } from "../../src/engine/request.ts";
import { Turns } from "../../src/engine/turn_queue.ts";
import { buildApp } from "../../src/http/app.ts";
import { Jobs } from "../../src/http/jobs/jobs.ts";
import { type OpenTarget, Replays } from "../../src/http/jobs/replays.ts";
import type { Parts } from "../../src/http/parts.ts";
import { Refusals } from "../../src/http/server/access.ts";
import { tcpIdentity } from "../../src/http/server/auth.ts";
import { Flight } from "../../src/http/server/flight.ts";
import type { App } from "../../src/http/server/instance.ts";
import { Metrics } from "../../src/http/server/metrics.ts";
import type { EngineDoor, PastDoor } from "../../src/http/server/ports.ts";
import { UnderWay } from "../../src/http/server/requests_under_way.ts";
import { UnknownCallers } from "../../src/http/server/unknown_callers.ts";
import { LogStreams } from "../../src/http/streams/log_streams.ts";
import type { SharedTails } from "../../src/http/streams/shared_tails.ts";
import { KnownTypes } from "../../src/http/views/forms.ts";
import type { EventRow } from "../../src/log/event.ts";
import { type EventFilter, matches } from "../../src/log/event_filter.ts";
import { effectsIn, touchedKeys } from "../../src/log/event_subjects.ts";
import { Marks } from "../../src/log/position.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { Senders } from "../../src/net/senders.ts";
import { History } from "../../src/past/history.ts";
import { Past } from "../../src/past/past.ts";
import type { Who } from "../../src/syscall/command.ts";
import type { WitnessStatus } from "../../src/tree/ports.ts";
import { MemoryLog } from "../support/memory_log.ts";
import { MemoryTree } from "../support/memory_tree.ts";
import { noPast } from "../support/no_past.ts";
import { noProcesses } from "../support/processes.ts";
import { Conformance, type Document } from "./document.ts";

/** Events looked at in one query: few, so that answers that are not complete are seen, too. */
const LOOKED_AT_MAX = 50;

class MemoryReader implements EventReader {
  readonly #rows: readonly EventRow[];
  readonly #marks: Marks;
  /** How often it was asked, and what it has answered. */
  queries = 0;
  answered = 0;
  lookedAtMax = LOOKED_AT_MAX;

  constructor({ rows, life }: MemoryLog) {
    this.#rows = rows;
    this.#marks = new Marks(life);
  }

  /** Events below it are archived, as far as anybody is told. */
  oldest = 1;

  async oldestSeq(): Promise<number> {
    return this.oldest;
  }

  async keptSeq(): Promise<number> {
    return this.oldest;
  }

  async archivedRow(): Promise<null> {
    return null;
  }

  async query(filter: EventFilter, range: EventRange): Promise<EventPage> {
    const { rows, ...page } = this.#query(filter, range);
    const mark = (await this.mark(page.reached)) ?? 0;
    return { rows: rows.map((row) => this.#marked(row)), ...page, mark };
  }

  #marked(row: EventRow): MarkedRow {
    return { ...row, mark: this.#marks.ofRow(row) };
  }

  #query(
    filter: EventFilter,
    { afterSeq, beforeSeq, limit }: EventRange,
  ): Omit<EventPage, "rows" | "mark"> & { readonly rows: readonly EventRow[] } {
    this.queries++;
    const backward = beforeSeq !== undefined;
    const { sinceUs = Number.NEGATIVE_INFINITY, untilUs = Number.POSITIVE_INFINITY } = filter;
    const after = Math.max(afterSeq, this.#rows.findLast(({ time_us }) => time_us < sinceUs)?.seq ?? 0);
    const until = this.#rows.findLast(({ time_us }) => time_us <= untilUs)?.seq ?? 0;
    const range = this.#rows.slice(after, Math.min(backward ? Math.max(beforeSeq - 1, 0) : until, until));
    if (backward) range.reverse();
    const rows: EventRow[] = [];
    for (const [at, row] of range.entries()) {
      if (matches(row, filter) && hasKey(row, filter)) rows.push(row);
      if (rows.length < limit && at < this.lookedAtMax - 1) continue;
      this.answered += rows.length;
      return {
        rows: backward ? rows.reverse() : rows,
        reached: row.seq,
        lookedAt: at + 1,
        more: true,
        over: false,
      };
    }
    this.answered += rows.length;
    const over = (this.#rows.at(-1)?.time_us ?? 0) > (filter.untilUs ?? Number.POSITIVE_INFINITY);
    const reached = backward ? afterSeq + 1 : Math.max(this.#rows.length, afterSeq);
    return { rows: backward ? rows.reverse() : rows, reached, lookedAt: range.length, more: false, over };
  }

  async event(seq: number): Promise<MarkedRow | null> {
    const row = this.#rows[seq - 1];
    return row === undefined ? null : this.#marked(row);
  }

  /** Rows of archived events have gone. */
  async mark(seq: number): Promise<number | null> {
    const row = seq < this.oldest ? undefined : this.#rows[seq - 1];
    if (row === undefined) return seq === 0 ? 0 : null;
    return this.#marks.ofRow(row);
  }

  async isUntouched(map: number, afterSeq: number, untilSeq: number): Promise<boolean> {
    const filter = { map, changing: true };
    return !this.#rows.slice(afterSeq, untilSeq).some((row) => matches(row, filter));
  }

  async takeIn(): Promise<void> {}

  async lastSeq(): Promise<number> {
    return this.#rows.length;
  }

  async peers(sessions: readonly number[]): Promise<(string | null)[]> {
    const opened = this.#rows.filter(({ cmd }) => cmd === CMD.SESSION_OPEN);
    return sessions.map((session) => {
      const found = opened.find(({ out }) => JSON.parse(out as string).session_id === session);
      return JSON.parse(found?.attr ?? "{}").peer ?? null;
    });
  }

  async close(): Promise<void> {}
}

function hasKey(row: EventRow, { key }: EventFilter): boolean {
  if (key === undefined) return true;
  return touchedKeys(row, effectsIn(row), () => undefined).some((touched) =>
    touched.subarray(0, key.length).equals(key),
  );
}

const HOST = { possibleCpus: 2, pageBytes: 4096, memoryBytes: 2 ** 34, onlineNodes: [0], ifindexes: [1] };
/** Archives nothing, but says what it is told to. */
class ToldArchiver implements Archiver {
  readonly directory = "/archive";
  job: ArchiveJobStatus | null = null;
  refusal: Error | null = null;

  async begin(before: string, { caller }: Who): Promise<ArchiveJobStatus> {
    if (this.refusal !== null) throw this.refusal;
    const { directory } = this;
    const plan = { first: 1, through: 2 };
    this.job = { ...plan, state: "running", before, caller, directory, doneEvents: 0, seq: null, error: null };
    return this.job;
  }
}

/** What the routes say: `npm run openapi:check` holds the committed files to them. */
export const DOCUMENT: Document = readDocument("openapi.json");
const DOCUMENT_3_0: Document = readDocument("openapi-3.0.json");

function readDocument(name: string): Document {
  return JSON.parse(readFileSync(new URL(`../../openapi/${name}`, import.meta.url), "utf8"));
}

const NO_MIRROR = disabledMirror("no mirror in this test");

export interface ServiceOptions {
  readonly settings?: Partial<Settings>;
  /** Who has a token; left out: nobody needs one. */
  readonly authenticate?: Authenticate;
  /** Scopes by tokens, which are their callers' names, too: as a tokens' file has them. */
  readonly tokens?: Readonly<Record<string, string>>;
  readonly ready?: () => string | null;
  readonly witnesses?: readonly WitnessStatus[];
  /** Where replays may go. */
  readonly targets?: OpenTarget;
  /** What opens objects of the machine; left out: there is none. */
  readonly objects?: Parts["objects"];
  /** The kernel's own BTF; left out: there is none. */
  readonly kernelBtf?: Parts["kernelBtf"];
}

/** Whose token it is: by name who may do everything, or with what he may do; null: nobody's. */
type Authenticate = (token: string) => string | Caller | null;

class NamedCallers extends Callers {
  readonly #authenticate: Authenticate;

  constructor(authenticate: Authenticate) {
    super(0, null);
    this.#authenticate = authenticate;
  }

  override byToken(token: string): Caller | null {
    const found = super.byToken(token) ?? this.#authenticate(token);
    return typeof found === "string" ? { name: found, scopes: ALL_SCOPES } : found;
  }
}

function callersOf({ authenticate, tokens }: ServiceOptions): Callers {
  if (tokens !== undefined) return new Callers(0, null, linesOf(tokens));
  return authenticate === undefined ? new Callers(0, null) : new NamedCallers(authenticate);
}

function linesOf(tokens: Readonly<Record<string, string>>): readonly Line[] {
  const text = Object.entries(tokens).map(([token, scopes]) => `${token}:${hash("sha256", token, "hex")}:${scopes}`);
  return parseTokens(text.join("\n"), "tokens").lines;
}

const NO_TARGETS: OpenTarget = () => ({ refused: "there is no target in this test" });

/**
 * The whole service but for disk, threads and kernel: the engine over memory, behind the frames that carry its commands
 * between threads. Every answer is held against the OpenAPI document.
 */
export class Service {
  readonly log = new MemoryLog();
  readonly tree = new MemoryTree(this.log);
  readonly engine: Engine;
  readonly archiver = new ToldArchiver();
  readonly metrics = new Metrics();
  readonly underWay = new UnderWay();
  /** Lines about unknown callers. */
  readonly warned: object[] = [];
  /** Why the engine takes nothing on any more. */
  readonly ended: string[] = [];
  readonly turns = new Turns();
  #flight: Flight | undefined;
  readonly reader = new MemoryReader(this.log);
  readonly #onGrowth = new Set<() => void>();
  #streams: LogStreams | undefined;
  /** What the engine would answer with a kernel below, by the query. */
  readonly canned = new Map<string, unknown>();
  /** Instead of the engine, where a test wants it to fail. */
  failing: (() => Promise<Reply>) | null = null;
  #callers: Callers | undefined;
  #app: App | undefined;
  #parts: Parts | undefined;
  #conformance: readonly Conformance[] = [];

  private constructor(limits: Limits) {
    this.engine = new Engine({
      log: this.log,
      store: new MemoryCells(),
      mirror: NO_MIRROR,
      past: noPast,
      clock: { nowUs: () => Date.now() * 1000, nowMs: () => performance.now() },
      host: HOST,
      interfaces: () => [1],
      processes: noProcesses,
      graceMs: 0,
      limits,
      report() {},
      ended: (why) => this.ended.push(why),
    });
  }

  /** A service that is closed when the test is over. */
  static async start(t: Test, options: ServiceOptions = {}): Promise<Service> {
    const settings = { ...readSettings({ MAPLEDGER_LOG_LEVEL: "silent" }), ...options.settings };
    const limits = limitsOf(settings);
    const service = new Service(limits);
    const flight = new Flight(settings);
    service.#flight = flight;
    const most = { most: settings.streamsMax, by: "MAPLEDGER_STREAMS_MAX" } as const;
    service.#streams = new LogStreams(most, limits, { flight, turns: service.turns });
    const callers = callersOf(options);
    service.engine.callerLimits.set(callers.limits);
    service.#callers = callers;
    const isOpen = options.authenticate === undefined && options.tokens === undefined;
    const engine = service.#door();
    const replays = new Replays(options.targets ?? NO_TARGETS);
    const parts: Parts = {
      engine,
      events: service.reader,
      past: service.#past(),
      ledger: () => service.log,
      tree: service.tree,
      witnesses: () => options.witnesses ?? [],
      archiver: service.archiver,
      settings,
      metrics: service.metrics,
      replays,
      jobs: new Jobs(replays, service.archiver, limits),
      streams: service.#streams,
      degraded: () => [],
      reached: () => ({ index: 0, history: 0 }),
      processesAt: () => null,
      objects: options.objects ?? null,
      kernelBtf: options.kernelBtf ?? null,
      ready: options.ready ?? (() => null),
      mirrorOff: () => service.engine.kernelMaps.off,
      callers,
      refusals: new Refusals(engine),
      unknownCallers: new UnknownCallers((fields, message) => service.warned.push({ ...fields, message })),
      underWay: service.underWay,
      senders: new Senders(),
      knownTypes: new KnownTypes(),
      flight,
      turns: service.turns,
      identity: tcpIdentity(callers, isOpen ? "off" : "on"),
      tls: null,
      version: "0.0.0",
    };
    service.#parts = parts;
    service.#app = await buildApp(parts);
    t.teardown(() => service.app.close());
    service.#conformance = [DOCUMENT, DOCUMENT_3_0].map((document) => new Conformance(document));
    return service;
  }

  /** The tokens' file has been read again. */
  setTokens(tokens: Readonly<Record<string, string>>): void {
    this.callers.replace(linesOf(tokens));
    this.engine.callerLimits.set(this.callers.limits);
    this.underWay.recheck();
  }

  get app(): App {
    return this.#app as App;
  }

  get parts(): Parts {
    return this.#parts as Parts;
  }

  get callers(): Callers {
    return this.#callers as Callers;
  }

  /** Bytes that are counted as in flight. */
  get inFlight(): number {
    return this.#flight?.bytes ?? 0;
  }

  /** Streams that are open. */
  get streams(): number {
    return this.#streams?.count ?? 0;
  }

  /** The ends of the log that streams share. */
  get tails(): SharedTails {
    return (this.#streams as LogStreams).tails;
  }

  get seen(): ReadonlySet<string> {
    return (this.#conformance[0] as Conformance).seen;
  }

  /** Sends a request; throws where the answer is not what the document says. */
  async send(
    method: string,
    url: string,
    payload?: unknown,
    headers: Record<string, string> = {},
  ): Promise<LightMyRequestResponse> {
    const options: InjectOptions = { method: method as "GET", url, headers };
    if (payload !== undefined) options.payload = payload as object;
    const response = await this.app.inject(options);
    for (const document of this.#conformance) document.check(method, url, response);
    return response;
  }

  /** Opens a session; answers the path of it. */
  async session(headers: Record<string, string> = {}): Promise<string> {
    const response = await this.send("POST", "/v1/sessions", { name: "test" }, headers);
    return `/v1/sessions/${response.json().id}`;
  }

  /** Creates a map in a session; answers the path of its descriptor. */
  async map(session: string, attr: object = {}, headers: Record<string, string> = {}): Promise<string> {
    const response = await this.send("POST", `${session}/maps`, { ...HASH, ...attr }, headers);
    if (response.statusCode !== 201) throw new Error(response.body);
    return `${session}/fds/${response.json().fd}`;
  }

  #door(): EngineDoor {
    const { engine } = this;
    return {
      waiting: 0,
      get seq() {
        return engine.seq;
      },
      onGrowth: (listener) => {
        this.#onGrowth.add(listener);
        return () => this.#onGrowth.delete(listener);
      },
      run: async (request) => this.failing?.() ?? this.#run(request),
      runElement: (head, cmd, key, value, waiting) => {
        const writer = new FrameWriter();
        if (this.failing !== null || !writer.element(head, cmd, key, value)) return false;
        const back = this.#runFrames(writer);
        back.next();
        queueMicrotask(() => waiting.replied(back));
        return true;
      },
      query: async (name, ask) => {
        const answer = this.canned.has(name)
          ? (this.canned.get(name) as ReturnType<typeof answerQuery<typeof name>>)
          : answerQuery(engine.sources, name, ask);
        // What takes time goes on while the engine idles.
        while (answer instanceof Promise && engine.idle(true));
        return structuredClone(await answer);
      },
    };
  }

  /** What crosses threads is a copy. */
  #past(): PastDoor {
    const past = new Past(this.log, new History(this.log, new MemoryCells(), HOST), HOST);
    return {
      run: (moment, request) => past.run(moment, request),
      query: async (moment, name, ask) => structuredClone(await past.query(moment, name, ask)),
      ask: async (name, ask) => structuredClone(await past.ask(name, ask)),
    };
  }

  /** What the engine does while nobody asks anything of it. */
  idle(): void {
    this.engine.idle(true);
    this.#grown();
  }

  #grown(): void {
    for (const listener of [...this.#onGrowth]) listener();
  }

  #run(request: Request): Reply {
    const writer = new FrameWriter();
    writer.request(request);
    const back = this.#runFrames(writer);
    back.next();
    return back.reply();
  }

  #runFrames(writer: FrameWriter): ReplyFrames {
    const back = this.runBatch(writer.take());
    return new ReplyFrames(back.frames, back.length);
  }

  /** Runs a batch as the engine's thread does. */
  runBatch({ frames, length, bodies }: Frames): Frames {
    const writer = new FrameWriter();
    for (const reply of this.engine.run(readRequests(frames, length, bodies))) writer.reply(reply);
    this.metrics.batch(this.engine.figures);
    this.#grown();
    return writer.take();
  }
}

export const HASH = {
  map_type: "BPF_MAP_TYPE_HASH",
  key_size: 4,
  value_size: 4,
  max_entries: 4,
  map_flags: ["BPF_F_NO_PREALLOC"],
};
