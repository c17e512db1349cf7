import { cmdName } from "../abi/service.ts";
import type { Event } from "../log/event.ts";

/** The result of a replay. */
export interface Summary {
  /** The number of selected events. */
  readonly selected: number;
  /** The number of commands sent, by name. */
  readonly sent: Readonly<Record<string, number>>;
  /** The number of commands sent only because selected ones may depend on them; they are not compared. */
  readonly prepared: number;
  /** The number of descriptors closed by the end of their session. */
  readonly implied: number;
  readonly left_out: readonly { readonly cmd: string; readonly why: string; readonly count: number }[];
  readonly compared: number;
  readonly differences: number;
  /** The differences that the kernel is allowed to make. */
  readonly free: number;
  /** The seq of the last event that was finished; 0: none. */
  readonly last_seq: number;
}

/** The counts of a running replay. */
export class Tally {
  selected = 0;
  prepared = 0;
  implied = 0;
  compared = 0;
  differences = 0;
  free = 0;
  lastSeq = 0;
  readonly #sent = new Map<string, number>();
  readonly #leftOut = new Map<string, { cmd: string; why: string; count: number }>();

  sent(event: Event): void {
    const name = nameOf(event);
    this.#sent.set(name, (this.#sent.get(name) ?? 0) + 1);
  }

  leftOut(event: Event, why: string, count = 1): void {
    const cmd = nameOf(event);
    const key = `${cmd} ${why}`;
    const row = this.#leftOut.get(key) ?? { cmd, why, count: 0 };
    this.#leftOut.set(key, { ...row, count: row.count + count });
  }

  summary(): Summary {
    return {
      selected: this.selected,
      sent: Object.fromEntries([...this.#sent].sort(([a], [b]) => (a < b ? -1 : 1))),
      prepared: this.prepared,
      implied: this.implied,
      left_out: [...this.#leftOut.values()],
      compared: this.compared,
      differences: this.differences,
      free: this.free,
      last_seq: this.lastSeq,
    };
  }
}

function nameOf({ command }: Event): string {
  return cmdName(command.cmd) ?? "unknown";
}
