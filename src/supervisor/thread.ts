/** A thread's own end of its protocol. `asked_thread.ts` is the other end. */

import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { OpenQuestions, receive } from "./correspondence.ts";
import type { PartFault } from "./derived_parts.ts";
import type { Answer, Answers, Asked, Listeners, OwnNews, Protocol, Said, ThreadTables } from "./protocol.ts";

/** A thread's own end of its protocol. */
export function thisThread<Of extends ThreadTables<Of>>(protocol: Protocol<Of>): OwnThread<Of> {
  if (parentPort === null)
    throw new Error(`threads/${protocol.thread}.ts is a thread of the service: start src/main.js`);
  return new OwnThread(protocol, parentPort);
}

class OwnThread<Of extends ThreadTables<Of>> {
  readonly data: Of["data"] = workerData;
  readonly #protocol: Protocol<Of>;
  /** The port, for code that reads or writes messages without `serve`. */
  readonly port: MessagePort;
  readonly #open: OpenQuestions<Of["inquiries"]>;
  #reached = 0;

  constructor(protocol: Protocol<Of>, port: MessagePort) {
    this.#protocol = protocol;
    this.port = port;
    this.#open = new OpenQuestions(protocol, this.#post);
  }

  say<Name extends keyof Of["news"]>(name: Name, fields: Of["news"][Name]): void {
    this.port.postMessage({ ...fields, say: name });
  }

  /** Reports the fault of the part that the thread keeps; null: the part works. */
  tell(fault: PartFault | null): void {
    this.port.postMessage({ own: "part", fault } satisfies OwnNews);
  }

  /** Reports the last event that the part includes, if it is another one than before. */
  reached(seq: number): void {
    if (seq === this.#reached) return;
    this.#reached = seq;
    this.port.postMessage({ own: "reached", seq } satisfies OwnNews);
  }

  /** Sends a message for the operator. */
  report(message: string): void {
    this.port.postMessage({ own: "report", message } satisfies OwnNews);
  }

  ask<Name extends keyof Of["inquiries"]>(
    name: Name,
    ask: Of["inquiries"][Name]["ask"],
  ): Promise<Of["inquiries"][Name]["answer"]> {
    return this.#open.ask(name, ask);
  }

  /** Begins to read messages. */
  serve(answers: Answers<Of["questions"]>, listeners: Listeners<Of["orders"]>): void {
    const end = { answers, listeners, open: this.#open, errors: this.#protocol, post: this.#post };
    this.port.on("message", (message: Asked<Of["questions"]> | Answer<never> | Said<Of["orders"]>) =>
      receive(end, message),
    );
    this.port.postMessage({ own: "serves" } satisfies OwnNews);
  }

  /** Stops reading messages. The thread ends once it has nothing else to do. */
  close(): void {
    this.port.close();
  }

  readonly #post = (message: object, transfer: ArrayBuffer[]): void => this.port.postMessage(message, transfer);
}
