/**
 * The HTTP threads (MAPLEDGER_HTTP_THREADS): they accept connections of the TCP port beside the service's thread, and
 * pass on to it what they do not answer themselves (`http/fronts/`). One that dies is started again; its connections
 * break off, and nothing else does.
 */

import type { Server } from "node:http";
import { Socket } from "node:net";
import { MessageChannel, type MessagePort, type Worker } from "node:worker_threads";
import { errnoName } from "../abi/errno.ts";
import type { Callers, CallersCopy } from "../access/callers.ts";
import type { Settings } from "../config.ts";
import { FRONT, type FrontData, type FrontProtocol, type Signs } from "../http/fronts/protocol.ts";
import type { ThreadCounts } from "../http/fronts/thread_counts.ts";
import type { Refusals } from "../http/server/access.ts";
import type { Tls } from "../http/server/certificates.ts";
import { type ClientAddress, isPassedOn } from "../http/server/client_address.ts";
import type { Bpf } from "../native/bpf.ts";
import { openBpf } from "../native/probe.ts";
import { socketPair } from "../native/socket_pair.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";

const SOCK_STREAM = 1;
/** Programs that this process starts do not have the descriptors. */
const SOCK_CLOEXEC = 0o2000000;

/** What it takes to start HTTP threads. */
interface HttpThreadParts {
  readonly settings: Settings;
  /** Where the service's thread listens, with SO_REUSEPORT. */
  readonly at: { readonly host: string; readonly port: number };
  /** The server of the requests that are passed on; it listens nowhere. */
  readonly passedOn: Server;
  readonly counts: ThreadCounts;
  readonly signs: Signs;
  readonly callers: Callers;
  readonly refusals: Pick<Refusals, "note">;
  readonly tls: () => Tls | null;
  /** The most connections of each thread; null: as many as come. */
  readonly connectionsMax: number | null;
  /** Gives the engine the other end of a thread's port. */
  readonly connect: (port: MessagePort) => void;
  readonly report: (message: string) => void;
}

export class HttpThreads {
  readonly #parts: HttpThreadParts;
  readonly #threads: readonly AskedThread<FrontProtocol>[];
  readonly #bpf: Bpf;

  private constructor(parts: HttpThreadParts, bpf: Bpf, more: number) {
    this.#parts = parts;
    this.#bpf = bpf;
    this.#threads = Array.from({ length: more }, (_, at) => this.#thread(at + 1));
    const { callers, signs } = parts;
    signs.callersVersion = callers.linesVersion;
    // Until a thread has the new callers, it passes all requests on.
    callers.onChange = () => {
      signs.callersVersion = callers.linesVersion;
    };
  }

  /** Starts as many threads beside the service's. A string: why there can be none. */
  static start(parts: HttpThreadParts, more: number): HttpThreads | string {
    const bpf = openBpf();
    if ("off" in bpf) return bpf.off;
    const threads = new HttpThreads(parts, bpf, more);
    for (const thread of threads.#threads) thread.start();
    return threads;
  }

  /** Must be called when the callers have changed and the engine has the limits of their copy. */
  tellCallers(copy: CallersCopy): void {
    for (const thread of this.#threads) thread.say("callers", copy);
  }

  tellTls(tls: Tls): void {
    for (const thread of this.#threads) thread.say("tls", tls);
  }

  /** Ends when the threads have closed their connections. */
  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }

  #thread(number: number): AskedThread<FrontProtocol> {
    const { refusals, report } = this.#parts;
    /** This thread's ends of the connections by which it passes requests on. */
    const ends = new Set<Socket>();
    return new AskedThread(FRONT, {
      start: () => this.#start(number, ends),
      report,
      listeners: { refused: (refusal) => refusals.note(refusal) },
      answers: { connection: (client) => this.#connection(client, ends) },
    });
  }

  #start(number: number, ends: Set<Socket>): Worker {
    const { settings, at, counts, signs, callers, tls, connectionsMax, connect } = this.#parts;
    const { port1, port2 } = new MessageChannel();
    const shared = { counts: counts.memory, signs: signs.memory, callers: callers.copy(), tls: tls() };
    const data: FrontData = { settings, thread: number, ...at, engine: port2, connectionsMax, ...shared };
    const worker = FRONT.start(data, [port2]);
    connect(port1);
    worker.once("exit", () => {
      counts.clear(number);
      for (const end of ends) end.destroy();
    });
    return worker;
  }

  /** Makes a connection by which a thread passes a client's requests on. Returns the thread's end. */
  #connection(client: ClientAddress, ends: Set<Socket>): number {
    const pair = socketPair(this.#bpf, SOCK_STREAM | SOCK_CLOEXEC);
    if (typeof pair === "number") throw new Error(`no connection to the service's thread: ${errnoName(-pair)}`);
    const [own, its] = pair;
    const end = new Socket({ fd: own, readable: true, writable: true });
    ends.add(end);
    end.once("close", () => ends.delete(end));
    isPassedOn(end, client);
    this.#parts.passedOn.emit("connection", end);
    return its;
  }
}
