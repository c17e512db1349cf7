/**
 * The messages between the service's thread and an HTTP thread, a front of it: a thread that accepts connections of the
 * TCP port, answers requests for single elements by its own port to the engine, and passes all others on to the
 * service's thread. `service/http_threads.ts` is the other end.
 */

import type { MessagePort } from "node:worker_threads";
import type { CallersCopy } from "../../access/callers.ts";
import type { Settings } from "../../config.ts";
import { type Nothing, Protocol, type ThreadOrders } from "../../supervisor/protocol.ts";
import type { Refusal } from "../server/access.ts";
import type { Tls } from "../server/certificates.ts";
import type { ClientAddress } from "../server/client_address.ts";

export interface FrontData {
  readonly settings: Settings;
  /** The number of this thread; the service's own is 0. */
  readonly thread: number;
  /** Where the service's thread listens: this one does, too (SO_REUSEPORT), and Linux spreads the connections. */
  readonly host: string;
  readonly port: number;
  /** The port to the engine. */
  readonly engine: MessagePort;
  readonly counts: SharedArrayBuffer;
  readonly signs: SharedArrayBuffer;
  readonly callers: CallersCopy;
  /** null: the port has no TLS. */
  readonly tls: Tls | null;
  /** null: as many as come. */
  readonly connectionsMax: number | null;
}

export interface FrontProtocol {
  readonly data: FrontData;
  readonly questions: Nothing;
  readonly inquiries: {
    /** A connection to the service's thread, for the requests of this client: the descriptor of the front's end. */
    connection: { ask: ClientAddress; answer: number };
  };
  readonly orders: ThreadOrders & {
    callers: CallersCopy;
    tls: Tls;
  };
  readonly news: {
    /** A known caller's request was refused. */
    refused: Refusal;
  };
}

export const FRONT = new Protocol<FrontProtocol>({ thread: "front", doing: "an HTTP thread" });

const READY = 0;
const CALLERS_VERSION = 1;

/** What a front must know at once, not only when a message has come: whether the service is ready, and the callers' version. */
export class Signs {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(memory = new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT)) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
  }

  get isReady(): boolean {
    return Atomics.load(this.#words, READY) === 1;
  }

  set isReady(is: boolean) {
    Atomics.store(this.#words, READY, is ? 1 : 0);
  }

  get callersVersion(): number {
    return Atomics.load(this.#words, CALLERS_VERSION);
  }

  set callersVersion(version: number) {
    Atomics.store(this.#words, CALLERS_VERSION, version);
  }
}
