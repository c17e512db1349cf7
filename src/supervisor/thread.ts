/** A thread's own end of its protocol. `asked_thread.ts` is the other end. */

import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { OpenQuestions, receive } from "./correspondence.ts";
import type { PartFault } from "./derived_parts.ts";
import type { Answer, Answers, Asked, Listeners, OwnNews, Protocol, Said, ThreadTables } from "./protocol.ts";

/** A thread's own end of its protocol. */
export function thisThread<Of extends ThreadTables<Of>>(protocol: Protocol<Of>): OwnThread<Of> {
  if (parentPort === null)
    throw new Error(`threads/${protocol.thread}.ts is a thread of the service: start src/main.ts`);
  return new OwnThread(protocol, parentPort);
}

class OwnThread<Of extends ThreadTables<Of>> {
  readonly data: Of["data"] = workerData;
  readonly #protocol: Protocol<Of>;
  /** For whoever reads or writes messages apart from `serve`. */
  readonly port: MessagePort;
  readonly #open: OpenQuestions<Of["inquiries"]>;

  constructor(protocol: Protocol<Of>, port: MessagePort) {
    this.#protocol = protocol;
    this.port = port;
    this.#open = new OpenQuestions(protocol, this.#post);
  }

  say<Name extends keyof Of["news"]>(name: Name, fields: Of["news"][Name]): void {
    this.port.postMessage({ ...fields, say: name });
  }

  /** How it stands with the part that the thread keeps; null: it serves. */
  tell(fault: PartFault | null): void {
    this.port.postMessage({ own: "part", fault } satisfies OwnNews);
  }

  /** For the operator. */
  report(message: string): void {
    this.port.postMessage({ own: "report", message } satisfies OwnNews);
  }

  ask<Name extends keyof Of["inquiries"]>(
    name: Name,
    ask: Of["inquiries"][Name]["ask"],
  ): Promise<Of["inquiries"][Name]["answer"]> {
    return this.#open.ask(name, ask);
  }

  /** Messages are read from now on. */
  serve(answers: Answers<Of["questions"]>, listeners: Listeners<Of["orders"]>): void {
    const end = { answers, listeners, open: this.#open, errors: this.#protocol, post: this.#post };
    this.port.on("message", (message: Asked<Of["questions"]> | Answer<never> | Said<Of["orders"]>) =>
      receive(end, message),
    );
  }

  /** Nothing more is read: the thread ends when it has nothing else to do. */
  close(): void {
    this.port.close();
  }

  readonly #post = (message: object, transfer: ArrayBuffer[]): void => this.port.postMessage(message, transfer);
}
