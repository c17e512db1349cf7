/**
 * A thread's messages, each declared once: a type has the tables of all questions and of all messages without an
 * answer, and a value names the thread's file and the classes of errors that cross between the threads.
 *
 *     export interface CounterProtocol {
 *       readonly data: { readonly from: number };
 *       readonly questions: { add: { ask: { readonly by: number }; answer: number } };
 *       readonly inquiries: Nothing;
 *       readonly orders: ThreadOrders;
 *       readonly news: { full: { readonly at: number } };
 *     }
 *     export const COUNTER = new Protocol<CounterProtocol>({ thread: "counter", doing: "counting" });
 *
 * The service's thread calls `ask("add", { by: 1 })`, and the counter's serves `{ add: ({ by }) => ... }`. Both take
 * their types from the table, so that a question without an answer does not compile.
 */
import { getCompileCacheDir } from "node:module";
import { dirname } from "node:path";
import { type Transferable, Worker } from "node:worker_threads";
import { PartFailed, type PartFault } from "./derived_parts.ts";

/** A question and its answer. Both are cloned: a Buffer arrives as a Uint8Array. */
interface Question {
  readonly ask: object;
  readonly answer: unknown;
}

export type Questions<Table> = { readonly [Name in keyof Table]: Question };
/** Messages without an answer: their names and fields. */
export type Sayings<Table> = { readonly [Name in keyof Table]: object };

/** The fields of a message that has none. */
export type Nothing = Readonly<Record<never, never>>;

interface Tables {
  /** The data with which the thread is started. */
  readonly data: object;
  /** The questions that the thread answers. */
  readonly questions: object;
  /** The questions that the thread asks. */
  readonly inquiries: object;
  /** The messages without an answer that are sent to the thread. */
  readonly orders: object;
  /** The messages without an answer that the thread sends, beside its news of itself (OwnNews). */
  readonly news: object;
}

export interface ThreadTables<Of extends Tables> extends Tables {
  readonly questions: Questions<Of["questions"]>;
  readonly inquiries: Questions<Of["inquiries"]>;
  readonly orders: Sayings<Of["orders"]> & ThreadOrders;
  readonly news: Sayings<Of["news"]>;
}

/** Every thread can be closed. */
export interface ThreadOrders {
  close: Nothing;
}

/** A thread's news of itself, as posted. */
export type OwnNews =
  /** The fault of the part that the thread keeps; null: the part works. */
  | { readonly own: "part"; readonly fault: PartFault | null }
  /** The last event that the thread's part includes. */
  | { readonly own: "reached"; readonly seq: number }
  /** It has loaded, and reads messages from now on. */
  | { readonly own: "serves" }
  /** A message for the operator. */
  | { readonly own: "report"; readonly message: string };

/** A question, as posted. */
export type Asked<Table extends Questions<Table>, Name extends keyof Table = keyof Table> = {
  readonly [Each in Name]: { readonly id: number; readonly name: Each; readonly ask: Table[Each]["ask"] };
}[Name];

/** An answer, as posted. Where it arrives, `Of` is never, because only the id tells to which question it belongs. */
export type Answer<Of = unknown> =
  | { readonly id: number; readonly answer: Of }
  | { readonly id: number; readonly error: SentError<Of> };

/** A message without an answer, as posted. */
export type Said<Table extends Sayings<Table>, Name extends keyof Table = keyof Table> = {
  readonly [Each in Name]: { readonly say: Each } & Table[Each];
}[Name];

/** An object to which questions can be put. */
export interface Asker<Table extends Questions<Table>> {
  ask<Name extends keyof Table>(name: Name, ask: Table[Name]["ask"]): Promise<Table[Name]["answer"]>;
}

/** The functions that answer the questions. Buffers that they push to `transfer` move to the asking thread. */
export type Answers<Table extends Questions<Table>> = {
  readonly [Name in keyof Table]: (
    ask: Table[Name]["ask"],
    transfer: ArrayBuffer[],
  ) => Table[Name]["answer"] | Promise<Table[Name]["answer"]>;
};

/** The functions that handle the messages without an answer. */
export type Listeners<Table extends Sayings<Table>> = {
  readonly [Name in keyof Table]: (said: Table[Name]) => void;
};

/** An error, as posted. `given`: the arguments for its class; null: it arrives as a plain Error. */
export interface SentError<Given = unknown> {
  readonly name: string;
  readonly message: string;
  readonly given: Given | null;
}

/** How errors cross: `sent` converts an error before it is posted, and `received` converts it back. */
export interface ErrorsThatCross {
  sent(error: unknown): SentError;
  received(error: SentError<never>): Error;
}

/** An error class whose instances arrive as instances of that class. */
export interface CrossingError {
  readonly name: string;
  /** The arguments that make such an error again; null: the error is of another class. */
  readonly given: (error: unknown) => readonly unknown[] | null;
  readonly make: (given: never) => Error;
}

export function crossing<Given extends readonly unknown[], Kind extends Error>(
  type: new (...given: Given) => Kind,
  given: (error: Kind) => Given,
): CrossingError {
  return {
    name: type.name,
    given: (error) => (error instanceof type ? given(error) : null),
    make: (all: Given) => new type(...all),
  };
}

interface ProtocolOptions {
  /** The name of the thread's file in src/threads/, without `.ts`. */
  readonly thread: string;
  /** A prefix for the messages of errors that arrive as plain Errors; empty: none. */
  readonly doing: string;
  /** The error classes that cross, beside PartFailed, with which every thread may answer. */
  readonly errors?: readonly CrossingError[];
  /** Descriptors that the thread opens stay open when it ends. */
  readonly keepsDescriptors?: boolean;
}

const PART_FAILED = crossing(PartFailed, ({ fault }): [PartFault] => [fault]);

export class Protocol<Of extends ThreadTables<Of>> implements ErrorsThatCross {
  readonly thread: string;
  readonly doing: string;
  readonly keepsDescriptors: boolean;
  readonly #errors: readonly CrossingError[];

  constructor({ thread, doing, errors = [], keepsDescriptors = false }: ProtocolOptions) {
    this.thread = thread;
    this.doing = doing;
    this.keepsDescriptors = keepsDescriptors;
    this.#errors = [PART_FAILED, ...errors];
  }

  /** `transfer`: what moves to the thread with its data. */
  start(data: Of["data"], transfer: Transferable[] = []): Worker {
    const file = new URL(`../threads/${this.thread}.ts`, import.meta.url);
    return new Worker(file, {
      name: this.thread,
      workerData: data,
      transferList: transfer,
      env: environment(),
      trackUnmanagedFds: !this.keepsDescriptors,
    });
  }

  /** An error in a form that can be cloned. */
  sent(error: unknown): SentError {
    const message = error instanceof Error ? error.message : String(error);
    for (const { name, given } of this.#errors) {
      const all = given(error);
      if (all !== null) return { name, message, given: all };
    }
    return { name: "Error", message, given: null };
  }

  /** Makes the error again that was sent. */
  received({ name, message, given }: SentError<never>): Error {
    const kind = given === null ? undefined : this.#errors.find((each) => each.name === name);
    if (given !== null && kind !== undefined) return kind.make(given);
    return new Error(this.doing === "" ? message : `${this.doing}: ${message}`);
  }
}

/** A thread has the compile cache of this one: node turns it on by the environment only, and adds a folder to it. */
function environment(): NodeJS.ProcessEnv {
  const cache = getCompileCacheDir();
  return cache === undefined ? process.env : { ...process.env, NODE_COMPILE_CACHE: dirname(cache) };
}
