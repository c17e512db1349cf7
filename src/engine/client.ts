/**
 * The engine, for a thread that serves HTTP. The commands of one turn of the event loop make a batch, in one ArrayBuffer
 * that is transferred (`frames.ts`). The next batch gathers meanwhile, and is sent once the engine has replied, or as
 * soon as it has as many commands as the batch under way: so both threads work at once, and one sync of the log serves
 * all commands that wait for it.
 *
 * A command that may be large (`pieces.ts`) may be answered apart from its batch. Later commands of its connection wait
 * here until it is answered; other connections do not.
 */

import type { MessagePort } from "node:worker_threads";
import { hear, isHeard, OpenQuestions } from "../supervisor/correspondence.ts";
import type { Listeners } from "../supervisor/protocol.ts";
import type { ElementCommand } from "../syscall/command.ts";
import { type Digits, type ElementHead, FrameWriter, ReplyFrames, transferred } from "./frames.ts";
import { mayBeLarge } from "./pieces.ts";
import { type CommandNews, ENGINE, type FromEngine } from "./protocol.ts";
import type { Queries, QueryName } from "./queries.ts";
import type { Reply, Request } from "./request.ts";
import type { BatchFigures } from "./stats.ts";

/** The queue is full: the command was not accepted. */
export class EngineBusy extends Error {
  constructor(commands: number, bytes: number) {
    super(`${commands} commands with ${bytes} bytes are waiting`);
    this.name = "EngineBusy";
  }
}

/** The engine has stopped or is stopping: the command was not accepted. */
export class EngineClosed extends Error {
  constructor() {
    super("the engine has stopped");
    this.name = "EngineClosed";
  }
}

/** The engine's thread has ended before it answered: the outcome is unknown. */
export class EngineLost extends Error {
  constructor() {
    super(
      "the engine has stopped: whether the command is recorded is unknown; read what the command changes before you send it again",
    );
    this.name = "EngineLost";
  }
}

export interface QueueLimits {
  readonly commandsMax: number;
  readonly bytesMax: number;
}

/** What other threads of the process have waiting for the engine; the limits are for all threads together. */
export interface QueueElsewhere {
  readonly commands: number;
  readonly bytes: number;
  /** Tells the other threads what this one has waiting. */
  tell(commands: number, bytes: number): void;
}

/** There is no other thread. */
const NOWHERE: QueueElsewhere = { commands: 0, bytes: 0, tell() {} };

/** The client has closed its connection before the command was sent to the engine: it was not run. */
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

/** The methods of the engine's Worker that are used; a port to the engine's thread is wrapped (`portEnd`). */
interface EngineEnd {
  on(event: "message", listener: (message: FromEngine) => void): unknown;
  on(event: "exit", listener: () => void): unknown;
  once(event: "exit", listener: () => void): unknown;
  postMessage(message: object, transfer: readonly ArrayBuffer[]): void;
}

/** An accepted command without a reply. */
export abstract class QueuedRequest {
  readonly connection: Connection | undefined;
  /** The place of its frame. */
  at = 0;
  bytes = 0;

  constructor(connection: Connection | undefined) {
    this.connection = connection;
  }

  /** Called with the reply, which is at hand during the call only. */
  abstract replied(reply: ReplyFrames): void;
  /** Called if there is no reply. */
  abstract failed(error: Error): void;
}

class PromisedReply extends QueuedRequest {
  readonly #resolve: (reply: Reply) => void;
  readonly failed: (error: Error) => void;

  constructor(connection: Connection | undefined, resolve: (reply: Reply) => void, reject: (error: Error) => void) {
    super(connection);
    this.#resolve = resolve;
    this.failed = reject;
  }

  replied(reply: ReplyFrames): void {
    this.#resolve(reply.reply());
  }
}

/** Sends commands in batches, and resolves each with its reply. No batch waits for a timer. */
export class EngineClient {
  readonly #worker: EngineEnd;
  readonly #limits: QueueLimits;
  readonly #onBatch: (figures: BatchFigures) => void;
  readonly #elsewhere: QueueElsewhere;
  readonly #writer = new FrameWriter();
  #gathering: QueuedRequest[] = [];
  readonly #underWay: QueuedRequest[][] = [];
  /**
   * Requests that the engine answers apart from their batch, by the engine's numbers: large commands, and creations
   * whose kernel map is being made.
   */
  readonly #later = new Map<number, QueuedRequest>();
  /**
   * By connection: settles when its last command that may be large is answered. Later commands of the connection wait
   * for it.
   */
  readonly #before = new Map<Connection, Promise<unknown>>();
  readonly #questions: OpenQuestions<Queries>;
  #scheduled = false;
  #closed: Promise<void> | null = null;
  #gone = false;
  #drained: (() => void) | null = null;
  #seq = 0;
  readonly #onGrowth = new Set<() => void>();
  /** Accepted commands without a reply, and the bytes of their frames. */
  #commands = 0;
  #bytes = 0;

  /** `onBatch` is called with the figures of each batch that was run, of other clients' batches, too, where it is told. */
  constructor(
    worker: EngineEnd,
    limits: QueueLimits,
    onBatch: (figures: BatchFigures) => void,
    elsewhere: QueueElsewhere = NOWHERE,
  ) {
    this.#worker = worker;
    this.#limits = limits;
    this.#onBatch = onBatch;
    this.#elsewhere = elsewhere;
    this.#questions = new OpenQuestions(ENGINE, (message) => worker.postMessage(message, []));
    worker.on("message", (message) => this.#receive(message));
    worker.on("exit", () => this.#lost());
  }

  /** The number of accepted commands without a reply, in all threads. */
  get waiting(): number {
    return this.#commands + this.#elsewhere.commands;
  }

  /** The seq of the last event that is known to be in the log. */
  get seq(): number {
    return this.#seq;
  }

  /** Calls the listener whenever the log has grown. Returns a function that ends this. */
  onGrowth(listener: () => void): () => void {
    this.#onGrowth.add(listener);
    return () => this.#onGrowth.delete(listener);
  }

  /**
   * Runs a command. Rejects with EngineBusy if the queue is full, with EngineClosed after close(), with CallerGone if
   * the connection is closed before the command is sent to the engine, and with EngineLost if the engine's thread ends
   * before it answers.
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
    return new Promise((resolve, reject) => {
      const queued = new PromisedReply(connection, resolve, reject);
      if (this.#isRefused(queued)) return;
      const before = this.#writer.byteLength;
      queued.at = this.#writer.end;
      this.#writer.request(request);
      this.#queue(queued, before);
    });
  }

  /**
   * Runs a command on one element as `run` does, without a Request and a promise. Returns false, and does nothing, if
   * the digits are not whole bytes in lower-case hex, or if the command has to wait for a large one of its connection:
   * then call `run`.
   */
  runElement(
    head: ElementHead,
    cmd: ElementCommand["cmd"],
    key: Digits<string>,
    value: Digits<Uint8Array> | null,
    queued: QueuedRequest,
  ): boolean {
    const { connection } = queued;
    if (connection !== undefined && this.#before.size > 0 && this.#before.has(connection)) return false;
    if (this.#isRefused(queued)) return true;
    const before = this.#writer.byteLength;
    queued.at = this.#writer.end;
    if (!this.#writer.element(head, cmd, key, value)) return false;
    this.#queue(queued, before);
    return true;
  }

  /** Fails the request if the engine is closed or the queue is full. Returns whether it has. */
  #isRefused(queued: QueuedRequest): boolean {
    if (this.#closed !== null || this.#gone) {
      queued.failed(new EngineClosed());
      return true;
    }
    const [commands, bytes] = [this.waiting, this.#bytes + this.#elsewhere.bytes];
    if (commands < this.#limits.commandsMax && bytes <= this.#limits.bytesMax) return false;
    queued.failed(new EngineBusy(commands, bytes));
    return true;
  }

  /** `before`: the bytes of all frames before it. */
  #queue(queued: QueuedRequest, before: number): void {
    queued.bytes = this.#writer.byteLength - before;
    this.#gathering.push(queued);
    this.#count(1, queued.bytes);
    this.#schedule();
  }

  query<Name extends QueryName>(name: Name, ask: Queries[Name]["ask"]): Promise<Queries[Name]["answer"]> {
    if (this.#closed !== null || this.#gone) return Promise.reject(new EngineClosed());
    return this.#questions.ask(name, ask);
  }

  /** Accepts no more commands, waits until the accepted ones are answered, then stops the engine. */
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

  /** Whether no batch is under way; or only one, and the next batch has at least as many commands. */
  #isWorthSending(): boolean {
    const [first] = this.#underWay;
    return first === undefined || (this.#underWay.length === 1 && this.#gathering.length >= first.length);
  }

  #send(): void {
    if (this.#gathering.length === 0 || this.#gone || !this.#isWorthSending()) return;
    this.#dropGone();
    if (this.#gathering.length === 0) return;
    const taken = this.#writer.take();
    this.#underWay.push(this.#gathering);
    this.#gathering = [];
    this.#worker.postMessage({ say: "batch", ...taken }, transferred(taken));
  }

  #dropGone(): void {
    const gone = this.#gathering.filter(({ connection }) => connection?.destroyed === true);
    if (gone.length === 0) return;
    this.#gathering = this.#gathering.filter(({ connection }) => connection?.destroyed !== true);
    for (const queued of gone) {
      this.#writer.drop(queued.at);
      this.#count(-1, -queued.bytes);
      queued.failed(new CallerGone());
    }
    if (this.#gathering.length === 0) this.#writer.take();
    if (this.#commands === 0) this.#drained?.();
  }

  readonly #listeners: Listeners<CommandNews> = {
    replies: ({ frames, length, figures, seq }) => {
      const batch = this.#underWay.shift() ?? [];
      this.#send();
      const replies = new ReplyFrames(frames, length);
      for (const queued of batch) {
        replies.next();
        const { later } = replies;
        if (later === null) this.#settle(queued, replies);
        else this.#later.set(later, queued);
      }
      this.#onBatch(figures);
      this.#grow(seq);
      if (this.#commands === 0) this.#drained?.();
    },

    reply: ({ id, frames, length }) => {
      const replies = new ReplyFrames(frames, length);
      replies.next();
      this.#settle(this.#later.get(id) as QueuedRequest, replies);
      this.#later.delete(id);
      if (this.#commands === 0) this.#drained?.();
    },

    grown: ({ seq, figures }) => {
      if (figures !== undefined) this.#onBatch(figures);
      this.#grow(seq);
    },
  };

  #receive(message: FromEngine): void {
    if ("say" in message) {
      if (isHeard(this.#listeners, message)) hear(this.#listeners, message);
    } else if (!("name" in message)) this.#questions.receive(message);
  }

  #settle(queued: QueuedRequest, reply: ReplyFrames): void {
    this.#count(-1, -queued.bytes);
    queued.replied(reply);
  }

  #count(commands: number, bytes: number): void {
    this.#commands += commands;
    this.#bytes += bytes;
    this.#elsewhere.tell(this.#commands, this.#bytes);
  }

  #grow(seq: number): void {
    if (seq <= this.#seq) return;
    this.#seq = seq;
    for (const listener of [...this.#onGrowth]) listener();
  }

  /** The engine's thread has ended: rejects everything that waits for it. */
  #lost(): void {
    this.#gone = true;
    for (const queued of [...this.#underWay.splice(0).flat(), ...this.#later.values()]) queued.failed(new EngineLost());
    for (const queued of this.#gathering) queued.failed(new EngineClosed());
    this.#later.clear();
    this.#gathering = [];
    this.#count(-this.#commands, -this.#bytes);
    this.#questions.reject(() => new EngineLost());
    this.#drained?.();
  }
}

/** The engine's end of a port: it is lost when the port is closed. */
export function portEnd(port: MessagePort): EngineEnd {
  return {
    on: (event: "message" | "exit", listener: (message: FromEngine) => void) =>
      port.on(event === "exit" ? "close" : event, listener as () => void),
    once: (_event: "exit", listener: () => void) => port.once("close", listener),
    postMessage: (message: object, transfer: readonly ArrayBuffer[]): void => port.postMessage(message, transfer),
  };
}
