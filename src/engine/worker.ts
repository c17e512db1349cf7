/**
 * Serves the engine in its thread: batches and queries come from the service's thread, batches from HTTP threads, too,
 * and the engine's own work is done between them. Messages wait here, in their order, while the store is too far
 * behind. Batches of several threads that have come run as one, so that one sync of the log serves them all.
 */

import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { CMD } from "../abi/service.ts";
import { hear } from "../supervisor/correspondence.ts";
import type { Answer, Asked, Listeners, Said } from "../supervisor/protocol.ts";
import { type Frames, FrameWriter, readRequests } from "./frames.ts";
import type { KernelMaps } from "./kernel_maps.ts";
import { BUG, LargeCommands } from "./large_commands.ts";
import { isLarge, type LargeRequest, mayBeLarge } from "./pieces.ts";
import type { Clock } from "./ports.ts";
import { type CommandNews, ENGINE, type EngineOrders, type ServiceNews, type ToEngine } from "./protocol.ts";
import { answerQuery, type Queries, type QueryName, type QuerySources } from "./queries.ts";
import type { Reply, Request } from "./request.ts";
import type { BatchFigures } from "./stats.ts";

/** Called with bugs and with failures of the machine. */
type Report = (message: string, error: unknown) => void;

/** After this time without a batch the engine does work that can wait. It is also the interval of its own work. */
const IDLE_MS = 100;

/** The pause between two pieces of the engine's own work while batches come. */
const BUSY_MS = 10;

/**
 * The interval in which the processes of sessions are polled, if any session lives by one. Such a session ends within
 * 100 ms of its process.
 */
const PROCESS_MS = 25;

/** The path of batches. */
interface BatchPath {
  readonly seq: number;
  /** null: another batch can be accepted; otherwise resolves when there is room. */
  readonly room: Promise<void> | null;
  /** The same for a piece of a large command. */
  readonly roomForPiece: Promise<void> | null;
  readonly figures: BatchFigures;
  run(requests: readonly Request[]): Reply[];
  /** Call after the replies were sent: begins to write pending cells, if there are enough. */
  writeLarge(): void;
  close(): Promise<void>;
}

/** The engine's work between batches. */
interface OwnWork {
  /** Does a piece; if `leasesOnly`, no work that can wait. Returns whether there is more to do. */
  idle(leasesOnly: boolean): boolean;
  /** Ends the sessions whose process has exited. */
  endExited(): void;
}

/** A batch, and the port by which it came and its replies leave. */
interface SentBatch {
  readonly port: MessagePort;
  readonly batch: Frames;
}

export interface ServedParts {
  readonly path: BatchPath;
  readonly ownWork: OwnWork;
  readonly sources: QuerySources;
  readonly clock: Pick<Clock, "nowMs">;
  /** Called when the engine is closed. */
  readonly closed: () => void;
  readonly report: Report;
}

/**
 * Serves batches and queries from a port, and batches from the ports that it sends, until it receives `close`. Failures
 * are reported and answered, and the thread goes on.
 */
export function serveEngine({ path, ownWork, sources, clock, closed, report }: ServedParts, port: MessagePort): void {
  const { reads, leases, kernelMaps } = sources;
  const replies = new FrameWriter();
  let lastBatchMs = clock.nowMs();

  /** Runs an operation that may append events without a batch, and says so to the client. */
  const growing = <Answer>(run: () => Answer): Answer => {
    const before = path.seq;
    const answer = run();
    if (path.seq > before) post(port, { say: "grown", seq: path.seq });
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

  let mirrorOff = kernelMaps.off;
  const tellMirror = (): void => {
    if (kernelMaps.off === mirrorOff) return;
    mirrorOff = kernelMaps.off;
    post(port, { say: "mirror", off: mirrorOff });
  };

  const tick = (): void => {
    const leasesOnly = clock.nowMs() - lastBatchMs < IDLE_MS;
    const more = attempt("the work between batches", () => growing(() => ownWork.idle(leasesOnly))) ?? false;
    tellMirror();
    timer = setTimeout(tick, more ? (leasesOnly ? BUSY_MS : 0) : IDLE_MS);
  };
  let timer = setTimeout(tick, IDLE_MS);

  // The look at processes has a timer of its own, and runs after each batch, too: timers can be late while batches
  // follow one another.
  let lookedMs = Number.NEGATIVE_INFINITY;
  let looking: NodeJS.Timeout | undefined;
  const lookAtProcesses = (): void => {
    clearTimeout(looking);
    if (leases.processCount === 0) return;
    const dueMs = lookedMs + PROCESS_MS - clock.nowMs();
    if (dueMs <= 0) {
      attempt("ending sessions whose process has exited", () => growing(() => ownWork.endExited()));
      lookedMs = clock.nowMs();
    }
    looking = setTimeout(lookAtProcesses, dueMs <= 0 ? PROCESS_MS : dueMs);
  };
  lookAtProcesses();

  const large = new LargeCommands({
    sources: reads,
    run: (piece) => attempt("running a piece", () => growing(() => path.run([piece])))?.[0] ?? BUG,
  });

  let lastLater = 0;
  /** Writes a number in place of a reply. Returns the function that sends the reply. */
  const replyLater = (to: MessagePort): ((reply: Reply) => void) => {
    const id = ++lastLater;
    replies.later(id);
    return (reply) => {
      replies.reply(reply);
      const { frames, length } = replies.take();
      post(to, { say: "reply", id, frames, length }, [frames]);
    };
  };

  const behindCommands = (): void => {
    attempt("writing the state", () => path.writeLarge());
    lookAtProcesses();
    lastBatchMs = clock.nowMs();
  };

  /** Runs a piece in each turn of the event loop. Messages that came meanwhile run between two pieces. */
  const step = (): void => {
    const { roomForPiece } = path;
    if (roomForPiece !== null) {
      roomForPiece.then(step);
      return;
    }
    attempt("going on with a large command", () => large.step());
    behindCommands();
    if (large.count > 0) setImmediate(step);
  };

  const clients = new Set<MessagePort>();
  /** Messages that wait, in their order, while the store is too far behind to accept more. */
  const waiting: (SentBatch | Said<Omit<EngineOrders, "batch">> | Asked<Queries>)[] = [];

  /** The batch, with those that have come from other threads meanwhile, one of each. */
  const withOthers = (first: SentBatch): readonly SentBatch[] => {
    const sent = [first];
    const isIn = (from: MessagePort): boolean => sent.some(({ port: known }) => known === from);
    for (let next = waiting[0]; next !== undefined && "batch" in next && !isIn(next.port); next = waiting[0]) {
      sent.push(next);
      waiting.shift();
    }
    // What waits came before what is still in the ports.
    if (waiting.length > 0) return sent;
    for (const client of clients) {
      const next = isIn(client) ? undefined : receiveMessageOnPort(client);
      if (next !== undefined) sent.push({ port: client, batch: next.message });
    }
    return sent;
  };

  const runBatches = (sent: readonly SentBatch[]): void => {
    const read = sent.map(({ batch: { frames, length, bodies } }) => readRequests(frames, length, bodies));
    const requests = read.length === 1 ? (read[0] as Request[]) : read.flat();
    const isLater = (request: Request): boolean =>
      mayBeLarge(request) && attempt("looking at a large command", () => isLarge(reads, request)) === true;
    let later: Set<Request> | null = null;
    for (const request of requests) {
      if (!isLater(request)) continue;
      later ??= new Set();
      later.add(request);
    }
    const now = later === null ? requests : requests.filter((request) => !later.has(request));
    const ran = attempt("running a batch", () => path.run(now)) ?? now.map(() => BUG);
    const { figures, seq } = path;
    let at = 0;
    for (const [index, { port: to }] of sent.entries()) {
      for (const request of read[index] as Request[]) {
        if (later?.has(request) === true) {
          if (large.count === 0) setImmediate(step);
          large.add(request as LargeRequest, replyLater(to));
          continue;
        }
        const reply = ran[at++] as Reply;
        const making = request.cmd === CMD.BPF_MAP_CREATE ? makingOf(kernelMaps, reply) : null;
        if (making === null) replies.reply(reply);
        else making.then(replyLater(to).bind(null, reply));
      }
      const taken = replies.take();
      post(to, { say: "replies", ...taken, figures, seq }, [taken.frames]);
    }
    if (sent.every(({ port: from }) => from !== port)) post(port, { say: "grown", figures, seq });
    behindCommands();
  };

  const orders: Omit<Listeners<EngineOrders>, "batch"> = {
    client({ port: client }) {
      clients.add(client);
      client.on("message", (message: Said<EngineOrders, "batch">) => arrived({ port: client, batch: message }));
      client.on("close", () => clients.delete(client));
    },

    close() {
      clearTimeout(timer);
      clearTimeout(looking);
      path.close().then(() => {
        closed();
        for (const each of [port, ...clients]) each.close();
      });
    },
  };

  const answer = <Name extends QueryName>({ id, name, ask }: Asked<Queries, Name>): void => {
    const tell = (answer: Queries[Name]["answer"]): void => {
      // The caller of a take-over must find the mirror on when it has the answer.
      tellMirror();
      port.postMessage({ id, answer } satisfies Answer);
    };
    const fail = (error: unknown): void => {
      report(`answering the query ${name}`, error);
      port.postMessage({ id, error: ENGINE.sent(error) } satisfies Answer);
    };
    try {
      const answer = growing(() => answerQuery(sources, name, ask));
      if (answer instanceof Promise) answer.then(tell, fail);
      else tell(answer);
    } catch (error) {
      fail(error);
    }
  };

  const pump = (): void => {
    for (let message = waiting[0]; message !== undefined; message = waiting[0]) {
      const { room } = path;
      if (room !== null) {
        room.then(pump);
        return;
      }
      waiting.shift();
      if ("batch" in message) runBatches(withOthers(message));
      else if ("say" in message) hear(orders, message);
      else answer(message);
    }
  };
  const arrived = (message: (typeof waiting)[number]): void => {
    waiting.push(message);
    if (waiting.length === 1) pump();
  };
  port.on("message", (message: ToEngine) => {
    // Answers to the engine's own questions go to AskedPast.
    if (!("say" in message) && !("name" in message)) return;
    arrived("say" in message && message.say === "batch" ? { port, batch: message } : message);
  });
}

/**
 * Resolves when the kernel map of a created map has been made. The creation is answered then, so that programs find the
 * kernel map. null: none is being made.
 */
function makingOf(kernelMaps: Pick<KernelMaps, "making">, reply: Reply): Promise<void> | null {
  return "outcome" in reply && reply.outcome.errno === 0 ? kernelMaps.making(reply.outcome.map) : null;
}

function post(port: MessagePort, message: Said<CommandNews> | Said<ServiceNews>, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}
