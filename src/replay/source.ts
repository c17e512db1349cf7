import type { EventRow } from "../log/event.ts";
import type { Selection } from "./selection.ts";

/** Where events come from: a log's file, another mapledger, an export. */
export interface Source {
  /** How much there is, for a progress bar; null: nobody knows. */
  readonly extent: { readonly total: number; readonly unit: "events" | "bytes" } | null;
  /** How much has been read, in the same unit. */
  readonly done: number;
  /** Ascending by seq, those of the range at least; a source may give others, too. Throws an Error that says what is wrong where. */
  read(range: Pick<Selection, "afterSeq" | "beforeSeq">): AsyncIterable<EventRow>;
}
