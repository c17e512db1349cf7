/**
 * The engine in its thread: batches and questions come from the service's thread, and the engine's own work is done
 * between them.
 */

import type { MessagePort } from "node:worker_threads";
import { CMD } from "../abi/service.ts";
import type { Ledger } from "../log/position.ts";
import type { PartFault, PartName } from "../supervisor/derived_parts.ts";
import type { AskPast } from "./asked_past.ts";
import type { Engine } from "./engine.ts";
import { FrameWriter, readRequests } from "./frames.ts";
import { BUG, LargeCommands } from "./large_commands.ts";
import { isLarge, type LargeRequest, mayBeLarge } from "./pieces.ts";
import type { Clock } from "./ports.ts";
import { answerQuery, type QueryName } from "./queries.ts";
import type { Reply, Request } from "./request.ts";
import type { BatchFigures } from "./stats.ts";

/** What the service's thread sends to the engine's. */
export type ToEngine =
  | { readonly kind: "batch"; readonly frames: ArrayBuffer; readonly length: number }
  | { readonly kind: "query"; readonly id: number; readonly name: QueryName; readonly ask: unknown }
  /** The answer to what the engine has asked of the past; `error`: why there is none. */
  | { readonly kind: "past"; readonly id: number; readonly answer: unknown; readonly error: string | null }
  | { readonly kind: "close" };

/** And back. */
export type FromEngine =
  | {
      readonly kind: "ready";
      readonly seq: number;
      readonly ledger: Ledger;
      readonly mirrorOff: string | null;
      readonly replayed: number;
    }
  /** Of the recovery: events replayed, then kernel maps taken up. */
  | {
      readonly kind: "progress";
      readonly what: "events" | "kernel maps";
      readonly done: number;
      readonly total: number;
    }
  | {
      readonly kind: "replies";
      readonly frames: ArrayBuffer;
      readonly length: number;
      readonly figures: BatchFigures;
      /** Of the log's last event. */
      readonly seq: number;
    }
  /** One that a batch's replies said comes later. */
  | { readonly kind: "reply"; readonly id: number; readonly frames: ArrayBuffer; readonly length: number }
  /** The log has grown without a batch: what the service does of its own accord, and pieces of large commands. */
  | { readonly kind: "grown"; readonly seq: number }
  | { readonly kind: "past"; readonly id: number; readonly ask: AskPast }
  /** Whether kernel maps follow: null, or why not. Told whenever it changes. */
  | { readonly kind: "mirror"; readonly off: string | null }
  | { readonly kind: "answer"; readonly id: number; readonly answer: unknown }
  /** A query that had none. */
  | { readonly kind: "failed"; readonly id: number; readonly error: string }
  | { readonly kind: "report"; readonly message: string; readonly error: string }
  /** What an operator should know. */
  | { readonly kind: "notice"; readonly message: string }
  /** A part that is made from the log does not serve, or serves again: null. */
  | { readonly kind: "part"; readonly part: PartName; readonly fault: PartFault | null }
  /** Nothing is taken on any more, and the process is to end: the answers that are due are the last ones. */
  | { readonly kind: "ended"; readonly why: string }
  | { readonly kind: "closed" };

/** Where a bug or a broken machine is told of. */
type Report = (message: string, error: unknown) => void;

/** How long the engine must have been idle before it does what can wait. */
const IDLE_MS = 100;

/** Between two pieces of what goes on beside batches. */
const BUSY_MS = 10;

/** How often the processes that sessions live by are looked at, while there are any: such a session ends within 100 ms. */
const PROCESS_MS = 25;

/**
 * Serves batches and queries from a port until it is told to close; leases and clean-up run between them. What fails is told,
 * and answers its caller: the thread goes on.
 */
export function serveEngine(
  engine: Engine,
  port: MessagePort,
  clock: Pick<Clock, "nowMs">,
  closed: () => void,
  report: Report,
): void {
  const replies = new FrameWriter();
  let lastBatchMs = clock.nowMs();

  /** Runs what may make the log grow without a batch, and tells of it. */
  const growing = <Answer>(run: () => Answer): Answer => {
    const before = engine.seq;
    const answer = run();
    if (engine.seq > before) post(port, { kind: "grown", seq: engine.seq });
    return answer;
  };

  const attempt = <Answer>(doing: string, run: () => Answer): Answer | null => {
    try {
      return run();
    } catch (error) {
      report(doing, error);
      return null;
    }
  };

  let mirrorOff = engine.mirrorOff;
  const tellMirror = (): void => {
    if (engine.mirrorOff === mirrorOff) return;
    mirrorOff = engine.mirrorOff;
    post(port, { kind: "mirror", off: mirrorOff });
  };

  const tick = (): void => {
    const leasesOnly = clock.nowMs() - lastBatchMs < IDLE_MS;
    const more = attempt("the work between batches", () => growing(() => engine.idle(leasesOnly))) ?? false;
    tellMirror();
    timer = setTimeout(tick, more ? (leasesOnly ? BUSY_MS : 0) : IDLE_MS);
  };
  let timer = setTimeout(tick, IDLE_MS);

  // By a timer of its own, and behind each batch: timers may have to wait while batches follow one another.
  let lookedMs = Number.NEGATIVE_INFINITY;
  let looking: NodeJS.Timeout | undefined;
  const lookAtProcesses = (): void => {
    clearTimeout(looking);
    if (engine.leases.processCount === 0) return;
    const dueMs = lookedMs + PROCESS_MS - clock.nowMs();
    if (dueMs <= 0) {
      attempt("ending sessions whose process has exited", () => growing(() => engine.endExited()));
      lookedMs = clock.nowMs();
    }
    looking = setTimeout(lookAtProcesses, dueMs <= 0 ? PROCESS_MS : dueMs);
  };
  lookAtProcesses();

  const large = new LargeCommands({
    engine,
    run: (piece) => attempt("running a piece", () => growing(() => engine.run([piece])))?.[0] ?? BUG,
  });

  let lastLater = 0;
  /** Puts a number in a reply's place; the reply follows by the function that is answered. */
  const replyLater = (): ((reply: Reply) => void) => {
    const id = ++lastLater;
    replies.later(id);
    return (reply) => {
      replies.reply(reply);
      const { frames, length } = replies.take();
      post(port, { kind: "reply", id, frames, length }, [frames]);
    };
  };

  const behindCommands = (): void => {
    attempt("writing the state", () => engine.writeLarge());
    lookAtProcesses();
    lastBatchMs = clock.nowMs();
  };

  /** A piece each turn of the event loop: what others have sent meanwhile goes between. */
  const step = (): void => {
    const { room } = engine;
    if (room !== null) {
      room.then(step);
      return;
    }
    attempt("going on with a large command", () => large.step());
    behindCommands();
    if (large.count > 0) setImmediate(step);
  };

  const serve = (message: ToEngine): void => {
    switch (message.kind) {
      case "batch": {
        const requests = readRequests(message.frames, message.length);
        const isLater = (request: Request): boolean =>
          mayBeLarge(request) && attempt("looking at a large command", () => isLarge(engine, request)) === true;
        const later = new Set(requests.filter(isLater));
        const now = later.size === 0 ? requests : requests.filter((request) => !later.has(request));
        const ran = attempt("running a batch", () => engine.run(now)) ?? now.map(() => BUG);
        let at = 0;
        for (const request of requests) {
          if (later.has(request)) {
            if (large.count === 0) setImmediate(step);
            large.add(request as LargeRequest, replyLater());
            continue;
          }
          const reply = ran[at++] as Reply;
          const making = request.cmd === CMD.BPF_MAP_CREATE ? makingOf(engine, reply) : null;
          if (making === null) replies.reply(reply);
          else making.then(replyLater().bind(null, reply));
        }
        const { frames, length } = replies.take();
        post(port, { kind: "replies", frames, length, figures: engine.figures, seq: engine.seq }, [frames]);
        behindCommands();
        break;
      }
      case "query": {
        const tell = (answer: unknown): void => {
          // Whoever has ordered a take-over finds the mirror on when it is answered.
          tellMirror();
          post(port, { kind: "answer", id: message.id, answer });
        };
        const fail = (error: unknown): void => {
          report(`answering the query ${message.name}`, error);
          post(port, { kind: "failed", id: message.id, error: error instanceof Error ? error.message : String(error) });
        };
        try {
          const answer = growing(() => answerQuery(engine.sources, message.name, message.ask as never));
          if (answer instanceof Promise) answer.then(tell, fail);
          else tell(answer);
        } catch (error) {
          fail(error);
        }
        break;
      }
      case "past":
        break;
      case "close":
        clearTimeout(timer);
        clearTimeout(looking);
        engine.close().then(() => {
          closed();
          post(port, { kind: "closed" });
          port.close();
        });
        break;
    }
  };

  // Messages wait here, in their order, while the store is too far behind to take on more.
  const waiting: ToEngine[] = [];
  const pump = (): void => {
    for (let message = waiting[0]; message !== undefined; message = waiting[0]) {
      const { room } = engine;
      if (room !== null) {
        room.then(pump);
        return;
      }
      waiting.shift();
      serve(message);
    }
  };
  port.on("message", (message: ToEngine) => {
    if (message.kind === "past") return;
    waiting.push(message);
    if (waiting.length === 1) pump();
  });
}

/** Until when the kernel map of a map that was created is being made: programs find it when the creation is answered. */
function makingOf({ kernelMaps }: Engine, reply: Reply): Promise<void> | null {
  return "outcome" in reply && reply.outcome.errno === 0 ? kernelMaps.making(reply.outcome.map) : null;
}

function post(port: MessagePort, message: FromEngine, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}
