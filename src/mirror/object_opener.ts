import { closeSync } from "node:fs";
import type { Worker } from "node:worker_threads";
import { errnoName } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";
import type { Found, HeldObject, ObjectSpec } from "../syscall/command.ts";
import { toHold } from "./descriptor_limit.ts";
import { isLedgersOwn, notFound } from "./object_table.ts";
import { closeObject, type OpenPlaces, openRealObject } from "./real_objects.ts";
import { errnoOf, isShortage } from "./refusal.ts";

/** What the opener's thread is asked. */
export type ToOpener = { readonly id: number; readonly spec: ObjectSpec } | { readonly kind: "close" };

/** And answers. */
export interface FromOpener {
  readonly id: number;
  readonly answer?: OpenAnswer;
  readonly error?: string;
}

/** `later`: why the machine could not be asked at present. */
type OpenAnswer = { readonly found: Found; readonly held?: HeldObject } | { readonly later: string };

/** How long an open may take before its caller is told to try again: a file system that does not answer holds up this thread alone. */
const PATIENCE_MS = 10_000;

/** What the thread does. */
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

/** Real objects, opened by a thread of their own and passed to the engine by their descriptors, which all threads share. */
export class ObjectOpener {
  readonly #thread: AskedThread<{ readonly spec: ObjectSpec }, FromOpener>;
  readonly #places: OpenPlaces;

  constructor(start: () => Worker, places: OpenPlaces, report: (message: string) => void) {
    this.#thread = new AskedThread({ doing: "opening an object", start, read: ({ answer }) => answer, report });
    this.#places = places;
  }

  start(): void {
    this.#thread.start();
  }

  /** null: an object of the ledger's own, which the machine has none of. */
  async open(spec: ObjectSpec): Promise<OpenAnswer | null> {
    if (isLedgersOwn(spec)) return null;
    const asked = this.#thread.ask<OpenAnswer>({ spec });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<OpenAnswer>((resolve) => {
      timer = setTimeout(() => {
        resolve({ later: `opening ${spec.path ?? `a ${spec.kind}`}: the machine has not answered yet` });
        // What comes of it afterwards is nobody's.
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

  /** Closes one that the engine has not taken. */
  discard(answer: OpenAnswer): void {
    if (!("held" in answer) || answer.held === undefined) return;
    closeObject((fd) => errnoOf(() => closeSync(fd)), answer.held);
    if (answer.held.made !== null) this.#places.cgroups.remove(answer.held.made);
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}
