/**
 * Archives events while the service runs. A thread (`threads/archive.ts`) writes the files beside the engine. Before
 * the ARCHIVE event this file brings the tree, the past and the index up to the last event that is to be archived, so
 * that they need neither snapshot nor archive. The event is a command like any other, and the engine then removes the
 * rows.
 */

import type { Worker } from "node:worker_threads";
import { CMD } from "../abi/service.ts";
import { removeSnapshots } from "../archive/archive.ts";
import { readMoment } from "../codec/moments.ts";
import {
  type ArchiveAttr,
  type ArchiveJobStatus,
  type ArchivePlan,
  ArchiveRefused,
  type Archiver,
} from "../engine/archives.ts";
import type { EngineClient } from "../engine/client.ts";
import type { EventReader } from "../engine/events.ts";
import type { PastClient } from "../past/client.ts";
import { NoThread } from "../supervisor/asked_thread.ts";
import { OpenQuestions, receive } from "../supervisor/correspondence.ts";
import type { Answer, Listeners, OwnNews, Said } from "../supervisor/protocol.ts";
import type { Who } from "../syscall/command.ts";
import type { TreeReader } from "../tree/ports.ts";
import { ARCHIVE_JOB, type ArchiveProtocol } from "./archive_protocol.ts";
import { archiveFolder } from "./layout.ts";

export interface ArchiverParts {
  readonly data: string;
  /** The archive's folder; "": archive/ in the data directory. */
  readonly directory: string;
  readonly engine: Pick<EngineClient, "run">;
  readonly past: Pick<PastClient, "query">;
  readonly events: Pick<EventReader, "takeIn">;
  readonly tree: Pick<TreeReader, "checkpoint" | "status">;
}

interface Planning {
  readonly resolve: (status: ArchiveJobStatus) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Archives events while the service runs. A thread writes the files; the engine appends the event and removes the rows.
 */
export class ThreadedArchiver implements Archiver {
  readonly directory: string;
  readonly #parts: ArchiverParts;
  #job: ArchiveJobStatus | null = null;
  #beginning = false;
  #worker: Worker | null = null;

  constructor(parts: ArchiverParts) {
    this.#parts = parts;
    this.directory = archiveFolder(parts);
  }

  get job(): ArchiveJobStatus | null {
    return this.#job;
  }

  async begin(before: string, { caller, peer }: Who): Promise<ArchiveJobStatus> {
    readMoment(before, "before");
    if (this.#beginning || this.#job?.state === "running")
      throw new ArchiveRefused("another job is running", "another job is running");
    this.#beginning = true;
    try {
      const treeSize = await this.#treeSize();
      return await new Promise((resolve, reject) =>
        this.#start(before, { caller, peer }, treeSize, { resolve, reject }),
      );
    } finally {
      this.#beginning = false;
    }
  }

  /** Ends a running job. It leaves the log unchanged, because the ARCHIVE event comes last. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  /** Brings the tree to the log's end first: events may leave the log only if the tree has them. */
  async #treeSize(): Promise<number> {
    const { tree } = this.#parts;
    const answer = await tree.checkpoint();
    if ("refused" in answer)
      throw new ArchiveRefused("beyond the tree", `the log contradicts its tree: ${answer.refused}`);
    return (await tree.status()).size;
  }

  #start(before: string, who: Who, treeSize: number, planning: Planning): void {
    const job = { data: this.#parts.data, directory: this.directory, before };
    const worker = ARCHIVE_JOB.start({ job, treeSize });
    this.#worker = worker;
    const post = (message: object, transfer: ArrayBuffer[]): void => worker.postMessage(message, transfer);
    const open = new OpenQuestions<ArchiveProtocol["questions"]>(ARCHIVE_JOB, post);
    const listeners: Listeners<ArchiveProtocol["news"]> = {
      planned: ({ plan }) => {
        this.#job = this.#begun(before, who.caller, plan);
        planning.resolve(this.#job);
      },
      progress: ({ doneEvents }) => this.#update({ doneEvents }),
    };
    const end = { answers: {}, listeners, open, errors: ARCHIVE_JOB, post };
    let hasLoaded = false;
    worker.on("message", (message: OwnNews | Answer<never> | Said<ArchiveProtocol["news"]>) => {
      if ("own" in message) hasLoaded = true;
      else receive(end, message);
    });
    // A failed job is an answer. An error before the thread serves is one of the machine, such as no free descriptor.
    worker.on("error", (error) => open.reject(() => (hasLoaded ? error : new NoThread("archiving", error.message))));
    worker.on("exit", () => {
      this.#worker = null;
      open.reject(() => new Error("it was interrupted"));
    });
    open
      .ask("archive", {})
      .finally(() => post({ say: "close" }, []))
      .then((attr) => this.#record(attr, who))
      .catch((error: Error) => {
        const isTold = error instanceof ArchiveRefused || error instanceof NoThread;
        planning.reject(isTold ? error : new Error(`archiving: ${error.message}`));
        this.#update({ state: "failed", error: error.message });
      });
  }

  #begun(before: string, caller: string, plan: ArchivePlan): ArchiveJobStatus {
    const { directory } = this;
    return { ...plan, state: "running", before, caller, directory, doneEvents: 0, seq: null, error: null };
  }

  /** Appends the ARCHIVE event. Before it, the past and the index must have passed the events that leave the log. */
  async #record(attr: ArchiveAttr, who: Who): Promise<void> {
    const { engine, past, events, data } = this.#parts;
    await past.query({ seq: attr.through }, "directories", { after: "", limit: 1 });
    // An index that has failed will begin after the archived events, and streams that watch a map begin anew.
    await events.takeIn().catch(() => {});
    const reply = await engine.run({ cmd: CMD.ARCHIVE, session: 0, ...who, attr });
    if ("failure" in reply) throw new Error(reply.detail);
    removeSnapshots(data, attr.through);
    this.#update({ state: "done", seq: reply.seq, doneEvents: attr.through - attr.first + 1 });
  }

  /** Changes a running job only; the status of an ended job stays. */
  #update(change: Partial<ArchiveJobStatus>): void {
    if (this.#job?.state === "running") this.#job = { ...this.#job, ...change };
  }
}
