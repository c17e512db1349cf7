import type { CellMemory } from "../engine/sorted_cells.ts";
import { crossing, type Nothing, Protocol, type ThreadOrders } from "../supervisor/protocol.ts";

/** Cells that are to be written at once, and the seq that the state then has. */
export interface WrittenCells {
  readonly cells: CellMemory;
  readonly seq: number;
  readonly bytes: number;
}

/** The write failed, and nothing was written. */
export class NotWritten extends Error {
  /** The code of the error in the writer's thread, by which `faultIn` judges it. */
  readonly code: string | undefined;

  constructor(message: string, code: string | undefined) {
    super(message);
    this.name = "NotWritten";
    this.code = code;
  }
}

/** The thread that writes to the state. */
export interface WriterProtocol {
  readonly data: {
    /** The folder of the state, which the engine's thread has open. */
    readonly folder: string;
    /** The id of the log that it is made from. */
    readonly log: string;
  };
  readonly questions: {
    /** Answered with whether there are runs. */
    write: { ask: WrittenCells; answer: boolean };
    /** Asked before the close: answered when everything is on the disk. */
    sync: { ask: Nothing; answer: null };
  };
  readonly inquiries: Nothing;
  readonly orders: ThreadOrders & {
    /** The engine's thread reads no run any more that was folded up to this event, or before. */
    released: { readonly seq: number };
  };
  readonly news: {
    /** A fold up to this event has ended: its runs are gone, and LMDB has their cells. */
    folded: { readonly seq: number };
    /** A fold has failed; nothing is lost. */
    foldFailed: { readonly message: string };
  };
}

export const STATE_WRITER = new Protocol<WriterProtocol>({
  thread: "state_writer",
  doing: "writing to the state",
  errors: [crossing(NotWritten, ({ message, code }): [string, string | undefined] => [message, code])],
  keepsDescriptors: true,
});
