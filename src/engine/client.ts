/**
 * The engine as the service's thread sees it. Commands of one turn of the event loop make a batch, in one ArrayBuffer
 * that is handed over. The next batch gathers meanwhile, and is sent when it is as large as the one under way, so both
 * threads work at once and a sync is shared by all that wait for it.
 *
 * A connection's command that may be large (`pieces.ts`) leaves its batch; later commands of that connection wait here
 * until it is answered, and other connections do not.
 */

import { availableParallelism } from "node:os";
import { hear, isHeard, OpenQuestions } from "../supervisor/correspondence.ts";
import type { Listeners } from "../supervisor/protocol.ts";
import { FrameWriter, type Later, readReplies } from "./frames.ts";
import { mayBeLarge } from "./pieces.ts";
import { type CommandNews, ENGINE, type FromEngine } from "./protocol.ts";
import type { Queries, QueryName } from "./queries.ts";
import type { Reply, Request } from "./request.ts";
import type { BatchFigures } from "./stats.ts";

/** The queue is full: nothing was taken on. */
export class EngineBusy extends Error {
  constructor(commands: number, bytes: number) {
    super(`${commands} commands with ${bytes} bytes are waiting`);
    this.name = "EngineBusy";
  }
}

/** The engine is gone, or going: nothing was taken on. */
export class EngineClosed extends Error {
  constructor() {
    super("the engine has stopped");
    this.name = "EngineClosed";
  }
}

/** The engine has gone with what it was asked: nobody can say what has become of it. */
export class EngineLost extends Error {
  constructor() {
    super(
      "the engine has stopped: whether the command is recorded is unknown; look at what has become of it before it is sent again",
    );
    this.name = "EngineLost";
  }
}

export interface QueueLimits {
  readonly commandsMax: number;
  readonly bytesMax: number;
}

/** Whoever sent the command has gone before the engine had it: it was not run. */
export class CallerGone extends Error {
  constructor() {
    super("the connection was closed before the command was run");
    this.name = "CallerGone";
  }
}

/** The connection that a command came by. */
export interface Connection {
  readonly destroyed: boolean;
}

/** The engine's thread, as it is written to. */
interface EngineEnd {
  on(event: "message", listener: (message: FromEngine) => void): unknown;
  on(event: "exit", listener: () => void): unknown;
  once(event: "exit", listener: () => void): unknown;
  postMessage(message: object, transfer: readonly ArrayBuffer[]): void;
}

interface Waiting {
  /** Where its frame begins. */
  readonly at: number;
  readonly connection: Connection | undefined;
  readonly bytes: number;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
}

/**
 * From this many commands a batch on, the service's thread polls (setImmediate) while the engine syncs: to sleep and be
 * woken takes about as long as the sync (measured: an eighth more answers a second). With one core it would be in the way.
 */
const BUSY_COMMANDS = 8;
const CAN_POLL = availableParallelism() > 1;

/** Sends commands in batches, and gives each answer to its command. No batch waits for a timer. */
export class EngineClient {
  readonly #worker: EngineEnd;
  readonly #limits: QueueLimits;
  readonly #onBatch: (figures: BatchFigures) => void;
  readonly #writer = new FrameWriter();
  #gathering: Waiting[] = [];
  readonly #underWay: Waiting[][] = [];
  /** Large commands that the engine answers apart from their batch, by the numbers that it has given them. */
  readonly #later = new Map<number, Waiting>();
  /** What each connection has sent last that may be large: what comes behind it on the connection waits for it. */
  readonly #before = new Map<Connection, Promise<unknown>>();
  readonly #questions: OpenQuestions<Queries>;
  #scheduled = false;
  #closed: Promise<void> | null = null;
  #gone = false;
  #drained: (() => void) | null = null;
  #seq = 0;
  readonly #onGrowth = new Set<() => void>();
  /** Commands and bytes taken on and not yet answered. */
  #commands = 0;
  #bytes = 0;

  constructor(worker: EngineEnd, limits: QueueLimits, onBatch: (figures: BatchFigures) => void) {
    this.#worker = worker;
    this.#limits = limits;
    this.#onBatch = onBatch;
    this.#questions = new OpenQuestions(ENGINE, (message) => worker.postMessage(message, []));
    worker.on("message", (message) => this.#receive(message));
    worker.on("exit", () => this.#lost());
  }

  /** Commands that are waiting for their answer. */
  get waiting(): number {
    return this.#commands;
  }

  /** Of the last event that is known to be in the log. */
  get seq(): number {
    return this.#seq;
  }

  /** Calls the listener whenever the log has grown, until the function that is answered is called. */
  onGrowth(listener: () => void): () => void {
    this.#onGrowth.add(listener);
    return () => this.#onGrowth.delete(listener);
  }

  /**
   * Takes a command on. Rejects with EngineBusy where the queue is full, EngineClosed after close(), and CallerGone if its
   * connection is closed before it goes to the engine.
   */
  run(request: Request, connection?: Connection): Promise<Reply> {
    const before = connection === undefined || this.#before.size === 0 ? undefined : this.#before.get(connection);
    const reply =
      before === undefined ? this.#take(request, connection) : before.then(() => this.#take(request, connection));
    if (connection !== undefined && mayBeLarge(request)) this.#goBefore(connection, reply);
    return reply;
  }

  #goBefore(connection: Connection, reply: Promise<Reply>): void {
    const settled = reply.then(
      () => {},
      () => {},
    );
    this.#before.set(connection, settled);
    settled.then(() => {
      if (this.#before.get(connection) === settled) this.#before.delete(connection);
    });
  }

  #take(request: Request, connection: Connection | undefined): Promise<Reply> {
    if (this.#closed !== null || this.#gone) return Promise.reject(new EngineClosed());
    if (this.#commands >= this.#limits.commandsMax || this.#bytes > this.#limits.bytesMax)
      return Promise.reject(new EngineBusy(this.#commands, this.#bytes));
    return new Promise((resolve, reject) => {
      const before = this.#writer.byteLength;
      this.#writer.request(request);
      const bytes = this.#writer.byteLength - before;
      this.#gathering.push({ at: before, connection, bytes, resolve, reject });
      this.#commands++;
      this.#bytes += bytes;
      this.#schedule();
    });
  }

  query<Name extends QueryName>(name: Name, ask: Queries[Name]["ask"]): Promise<Queries[Name]["answer"]> {
    if (this.#closed !== null || this.#gone) return Promise.reject(new EngineClosed());
    return this.#questions.ask(name, ask);
  }

  /** Takes nothing more on, answers what was taken on, then stops the engine. */
  close(): Promise<void> {
    this.#closed ??= this.#finish();
    return this.#closed;
  }

  async #finish(): Promise<void> {
    if (this.#gone) return;
    if (this.#commands > 0) await new Promise<void>((resolve) => (this.#drained = resolve));
    if (this.#gone) return;
    const stopped = new Promise<void>((resolve) => this.#worker.once("exit", () => resolve()));
    this.#worker.postMessage({ say: "close" }, []);
    await stopped;
  }

  #schedule(): void {
    if (this.#scheduled || !this.#isWorthSending()) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  /** Keeps the event loop from sleeping until the engine has answered. */
  #poll(): void {
    setImmediate(() => {
      if (this.#underWay.length > 0) this.#poll();
    });
  }

  /** Nothing is under way, or one batch that is no larger than what has gathered. */
  #isWorthSending(): boolean {
    const [first] = this.#underWay;
    return first === undefined || (this.#underWay.length === 1 && this.#gathering.length >= first.length);
  }

  #send(): void {
    if (this.#gathering.length === 0 || this.#gone || !this.#isWorthSending()) return;
    this.#dropGone();
    if (this.#gathering.length === 0) return;
    const { frames, length } = this.#writer.take();
    this.#underWay.push(this.#gathering);
    if (this.#underWay.length === 1 && this.#gathering.length >= BUSY_COMMANDS && CAN_POLL) this.#poll();
    this.#gathering = [];
    this.#worker.postMessage({ say: "batch", frames, length }, [frames]);
  }

  #dropGone(): void {
    const gone = this.#gathering.filter(({ connection }) => connection?.destroyed === true);
    if (gone.length === 0) return;
    this.#gathering = this.#gathering.filter(({ connection }) => connection?.destroyed !== true);
    for (const { at, bytes, reject } of gone) {
      this.#writer.drop(at);
      this.#commands--;
      this.#bytes -= bytes;
      reject(new CallerGone());
    }
    if (this.#gathering.length === 0) this.#writer.take();
    if (this.#commands === 0) this.#drained?.();
  }

  readonly #listeners: Listeners<CommandNews> = {
    replies: ({ frames, length, figures, seq }) => {
      const batch = this.#underWay.shift() ?? [];
      this.#send();
      const replies = readReplies(frames, length);
      batch.forEach((waiting, at) => {
        const reply = replies[at] as Reply | Later;
        if ("later" in reply) this.#later.set(reply.later, waiting);
        else this.#settle(waiting, reply);
      });
      this.#onBatch(figures);
      this.#grow(seq);
      if (this.#commands === 0) this.#drained?.();
    },

    reply: ({ id, frames, length }) => {
      const [reply] = readReplies(frames, length) as [Reply];
      this.#settle(this.#later.get(id) as Waiting, reply);
      this.#later.delete(id);
      if (this.#commands === 0) this.#drained?.();
    },

    grown: ({ seq }) => this.#grow(seq),
  };

  #receive(message: FromEngine): void {
    if ("say" in message) {
      if (isHeard(this.#listeners, message)) hear(this.#listeners, message);
    } else if (!("name" in message)) this.#questions.receive(message);
  }

  #settle({ bytes, resolve }: Waiting, reply: Reply): void {
    this.#commands--;
    this.#bytes -= bytes;
    resolve(reply);
  }

  #grow(seq: number): void {
    if (seq <= this.#seq) return;
    this.#seq = seq;
    for (const listener of [...this.#onGrowth]) listener();
  }

  /** The engine's thread is gone: whoever waits is told. */
  #lost(): void {
    this.#gone = true;
    for (const { reject } of [...this.#underWay.splice(0).flat(), ...this.#later.values()]) reject(new EngineLost());
    for (const { reject } of this.#gathering) reject(new EngineClosed());
    this.#later.clear();
    this.#gathering = [];
    this.#commands = 0;
    this.#bytes = 0;
    this.#questions.reject(() => new EngineLost());
    this.#drained?.();
  }
}
