import type { InjectOptions, LightMyRequestResponse } from "fastify";
import type { Test } from "tap";
import type { Caller } from "../../src/access/caller.ts";
import { Callers } from "../../src/access/callers.ts";
import { ALL_SCOPES } from "../../src/access/scopes.ts";
import { readSettings, type Settings } from "../../src/config.ts";
import type { ArchiveJobStatus, Archiver } from "../../src/engine/archives.ts";
import { Engine, type Reply, type Request } from "../../src/engine/engine.ts";
import type { EventPage, EventRange, EventReader } from "../../src/engine/events.ts";
import { FrameWriter, readReplies, readRequests } from "../../src/engine/frames.ts";
import { History } from "../../src/engine/history.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { Past } from "../../src/engine/past.ts";
import { answerQuery } from "../../src/engine/queries.ts";
import { Refusals } from "../../src/http/access.ts";
import { type App, buildApp, type EngineDoor } from "../../src/http/app.ts";
import { tcpIdentity } from "../../src/http/auth.ts";
import { LogStreams } from "../../src/http/log_streams.ts";
import { Metrics } from "../../src/http/metrics.ts";
import type { PastDoor } from "../../src/http/parts.ts";
import { type OpenTarget, Replays } from "../../src/http/replays.ts";
import { UnderWay } from "../../src/http/under_way.ts";
import type { EventRow } from "../../src/log/event.ts";
import { type EventFilter, matches } from "../../src/log/event_filter.ts";
import { effectsIn, touchedKeys } from "../../src/log/touched.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { MemoryLog } from "../support/memory_log.ts";
import { MemoryTree } from "../support/memory_tree.ts";
import { noPast } from "../support/no_past.ts";
import { noProcesses } from "../support/processes.ts";
import { Conformance, type Document } from "./document.ts";

/** Events looked at in one query: few, so that answers that are not complete are seen, too. */
const LOOKED_AT_MAX = 50;

class MemoryReader implements EventReader {
  readonly #rows: readonly EventRow[];
  /** How often it was asked. */
  queries = 0;

  constructor(rows: readonly EventRow[]) {
    this.#rows = rows;
  }

  /** Events below it are archived, as far as anybody is told. */
  oldest = 1;

  async oldestSeq(): Promise<number> {
    return this.oldest;
  }

  async query(filter: EventFilter, { afterSeq, beforeSeq, limit }: EventRange): Promise<EventPage> {
    this.queries++;
    const backward = beforeSeq !== undefined;
    const range = this.#rows.slice(afterSeq, backward ? Math.max(beforeSeq - 1, 0) : undefined);
    if (backward) range.reverse();
    const rows: EventRow[] = [];
    for (const [at, row] of range.entries()) {
      if (matches(row, filter) && hasKey(row, filter)) rows.push(row);
      if (rows.length === limit || at === LOOKED_AT_MAX - 1)
        return { rows: backward ? rows.reverse() : rows, reached: row.seq, more: true, over: false };
    }
    const over = (this.#rows.at(-1)?.time_us ?? 0) > (filter.untilUs ?? Number.POSITIVE_INFINITY);
    const reached = backward ? afterSeq + 1 : Math.max(this.#rows.length, afterSeq);
    return { rows: backward ? rows.reverse() : rows, reached, more: false, over };
  }

  async event(seq: number): Promise<EventRow | null> {
    return this.#rows[seq - 1] ?? null;
  }

  async lastSeq(): Promise<number> {
    return this.#rows.length;
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

  async begin(before: string, caller: string): Promise<ArchiveJobStatus> {
    if (this.refusal !== null) throw this.refusal;
    const { directory } = this;
    const plan = { first: 1, through: 2 };
    this.job = { ...plan, state: "running", before, caller, directory, doneEvents: 0, seq: null, error: null };
    return this.job;
  }
}

const NO_MIRROR = disabledMirror("no mirror in this test");

export interface ServiceOptions {
  readonly settings?: Partial<Settings>;
  /** Who has a token; left out: nobody needs one. */
  readonly authenticate?: Authenticate;
  readonly ready?: () => string | null;
  /** Where replays may go. */
  readonly targets?: OpenTarget;
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
  readonly reader = new MemoryReader(this.log.rows);
  readonly #onGrowth = new Set<() => void>();
  #streams: LogStreams | undefined;
  /** Instead of the engine, where a test wants it to fail. */
  failing: (() => Promise<Reply>) | null = null;
  #app: App | undefined;
  #conformance: Conformance | undefined;

  private constructor() {
    this.engine = new Engine({
      log: this.log,
      store: new MemoryCells(),
      mirror: NO_MIRROR,
      past: noPast,
      clock: { nowUs: () => Date.now() * 1000 },
      host: HOST,
      interfaces: () => [1],
      processes: noProcesses,
      graceMs: 0,
      report() {},
    });
  }

  /** A service that is closed when the test is over. */
  static async start(t: Test, options: ServiceOptions = {}): Promise<Service> {
    const service = new Service();
    const settings = { ...readSettings({ MAPLEDGER_LOG_LEVEL: "silent" }), ...options.settings };
    service.#streams = new LogStreams(settings.streamsMax, settings.callerStreamsMax);
    const callers = options.authenticate === undefined ? new Callers(0, null) : new NamedCallers(options.authenticate);
    const engine = service.#door();
    service.#app = await buildApp({
      engine,
      events: service.reader,
      past: service.#past(),
      tree: service.tree,
      archiver: service.archiver,
      settings,
      metrics: service.metrics,
      replays: new Replays(options.targets ?? NO_TARGETS),
      streams: service.#streams,
      processesAt: () => null,
      objects: null,
      ready: options.ready ?? (() => null),
      mirrorOff: () => service.engine.mirrorOff,
      callers,
      refusals: new Refusals(engine),
      underWay: service.underWay,
      identity: tcpIdentity(callers, options.authenticate === undefined ? "off" : "on"),
      tls: null,
      version: "0.0.0",
    });
    t.teardown(() => service.app.close());
    service.#conformance = new Conformance(service.app.swagger() as unknown as Document);
    return service;
  }

  get app(): App {
    return this.#app as App;
  }

  /** Streams that are open. */
  get streams(): number {
    return this.#streams?.count ?? 0;
  }

  get seen(): ReadonlySet<string> {
    return (this.#conformance as Conformance).seen;
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
    this.#conformance?.check(method, url, response);
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
      query: async (name, ask) => {
        const answer = answerQuery(engine, name, ask);
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
    const there = writer.take();
    for (const reply of this.engine.run(readRequests(there.frames, there.length))) writer.reply(reply);
    this.metrics.batch(this.engine.figures);
    this.#grown();
    const back = writer.take();
    return readReplies(back.frames, back.length)[0] as Reply;
  }
}

export const HASH = {
  map_type: "BPF_MAP_TYPE_HASH",
  key_size: 4,
  value_size: 4,
  max_entries: 4,
  map_flags: ["BPF_F_NO_PREALLOC"],
};
