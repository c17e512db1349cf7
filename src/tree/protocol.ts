import type { RowBytes } from "../log/canonical.ts";
import type { Crossed } from "../log/row_transfer.ts";
import { type Nothing, Protocol, type ThreadOrders } from "../supervisor/protocol.ts";
import type { CheckpointCommand } from "../syscall/command.ts";
import type { TileName } from "../tlog/tiles.ts";
import type { NoAnswer, SigningRule, Submission, TreeStatus } from "./ports.ts";

/** A checkpoint, in the form of its event. */
export type SignedCheckpoint = CheckpointCommand["attr"];

interface TreeData {
  readonly data: string;
  /** "": the name that the tree has; a new tree gets mapledger/ and the log's id. */
  readonly origin: string;
  /** Verifier keys of the witnesses whose cosignatures count. */
  readonly witnesses: readonly string[];
  readonly rule: SigningRule;
  /** Nothing is signed. */
  readonly readOnly?: true;
}

/** As TreeReader has them, and what witnesses and a stop need beside. */
interface TreeQuestions {
  status: { ask: Nothing; answer: TreeStatus };
  checkpoint: { ask: Nothing; answer: { readonly note: string } | NoAnswer };
  cosigned: { ask: { readonly count: number }; answer: { readonly note: string } | NoAnswer };
  proof: {
    ask: { readonly seq: number; readonly cosigned: number | null; readonly row: Crossed<RowBytes> | null };
    answer: { readonly text: string } | NoAnswer | null;
  };
  tile: { ask: { readonly name: TileName }; answer: { readonly bytes: Uint8Array } | NoAnswer | null };
  /** The submission for a witness that has cosigned size `old`; null: nothing was signed. */
  submission: { ask: { readonly old: number }; answer: Crossed<Submission> | NoAnswer | null };
  /** Keeps the valid cosignatures of a witness' answer; answers their verifier keys. */
  keepCosignatures: { ask: { readonly size: number; readonly lines: string }; answer: readonly string[] };
  /** The size of the newest checkpoint that a witness' key has cosigned; 0 if there is none. */
  cosignedBy: { ask: { readonly vkey: string }; answer: number };
  /** The final checkpoint, to be recorded by the log's last event; null: none is needed. */
  last: { ask: Nothing; answer: SignedCheckpoint | null };
}

export interface TreeProtocol {
  readonly data: TreeData;
  readonly questions: TreeQuestions;
  readonly inquiries: {
    /** Appends the event of a checkpoint that was signed by the rule; answers whether the event is in the log. */
    record: { ask: { readonly checkpoint: SignedCheckpoint }; answer: boolean };
  };
  readonly orders: ThreadOrders;
  readonly news: {
    /** The thread has signed a checkpoint, by its rule or on request. */
    published: Nothing;
  };
}

export const TREE = new Protocol<TreeProtocol>({ thread: "tree", doing: "asking the tree" });
