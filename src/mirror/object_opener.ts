/**
 * Opens the objects that sessions name: below the directories of MAPLEDGER_OPEN_ROOTS only (`open_below.ts`), and for a
 * session that was checked. The thread opens an object before its command reaches the engine, and the facts that it
 * finds come with the command, so that neither the engine nor a replay asks the machine. `object_table.ts` keeps the
 * descriptor.
 */

import { closeSync } from "node:fs";
import type { Worker } from "node:worker_threads";
import { errnoName } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";
import type { ObjectSpec } from "../syscall/command.ts";
import { toHold } from "./descriptor_limit.ts";
import { isLedgersOwn, notFound } from "./object_table.ts";
import { OBJECT_OPENER, type OpenAnswer, type OpenerProtocol } from "./protocol.ts";
import { closeObject, type OpenPlaces, openRealObject } from "./real_objects.ts";
import { errnoOf, isShortage } from "./refusal.ts";

/**
 * The longest wait for an object; after it the caller is told to try again. A file system that does not answer blocks
 * the opener's thread only.
 */
const PATIENCE_MS = 10_000;

/** Opens an object in the opener's thread. */
export function openForSession(bpf: Bpf, spec: ObjectSpec, places: OpenPlaces): OpenAnswer {
  const object = openRealObject(bpf, spec, places);
  if ("facts" in object) {
    const { facts, ...held } = object;
    if (toHold(bpf, held.fd) >= 0) return { found: { facts }, held };
    for (const other of held.others) bpf.close(other);
    if (held.made !== null) places.cgroups.remove(held.made);
    return { later: `opening a ${spec.kind}: the service has few descriptors left` };
  }
  if (isShortage(object.ret)) return { later: `${object.detail}: the service has ${errnoName(-object.ret)}` };
  return { found: notFound(object) };
}

/** Opens real objects in a thread of its own, and passes their descriptors, which all threads share, to the engine. */
export class ObjectOpener {
  readonly #thread: AskedThread<OpenerProtocol>;
  readonly #places: OpenPlaces;

  constructor(start: () => Worker, places: OpenPlaces, report: (message: string) => void) {
    this.#thread = new AskedThread(OBJECT_OPENER, { start, report, listeners: {}, answers: {}, onDemand: true });
    this.#places = places;
  }

  /** null: the object exists in the ledger only. */
  async open(spec: ObjectSpec): Promise<OpenAnswer | null> {
    if (isLedgersOwn(spec)) return null;
    const asked = this.#thread.ask("open", { spec });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<OpenAnswer>((resolve) => {
      timer = setTimeout(() => {
        resolve({ later: `opening ${spec.path ?? `a ${spec.kind}`}: the machine has not answered yet` });
        // Nobody waits for the answer any more, so the object is closed when it comes.
        asked.then(
          (answer) => this.discard(answer),
          () => {},
        );
      }, PATIENCE_MS);
    });
    try {
      return await Promise.race([asked, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Closes an object that the engine has not taken. */
  discard(answer: OpenAnswer): void {
    if (!("held" in answer) || answer.held === undefined) return;
    closeObject((fd) => errnoOf(() => closeSync(fd)), answer.held);
    if (answer.held.made !== null) this.#places.cgroups.remove(answer.held.made);
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}
