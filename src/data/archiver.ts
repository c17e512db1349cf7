import { Worker } from "node:worker_threads";
import { CMD } from "../abi/service.ts";
import { removeSnapshots } from "../archive/make.ts";
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
import type { Who } from "../syscall/command.ts";
import type { TreeReader } from "../tree/ports.ts";
import { type ArchiveJob, archiveFolder } from "./archive_job.ts";

/** The workerData of a job's thread. */
export interface ArchiveData {
  readonly job: ArchiveJob;
  readonly treeSize: number;
}

/** Messages of a job's thread, in this order. It sends exactly one of the last three, as its last. */
export type FromArchive =
  | { readonly kind: "planned"; readonly plan: ArchivePlan }
  | { readonly kind: "progress"; readonly doneEvents: number }
  | { readonly kind: "prepared"; readonly attr: ArchiveAttr }
  | { readonly kind: "refused"; readonly why: ArchiveRefused["why"]; readonly detail: string }
  | { readonly kind: "failed"; readonly error: string };

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
    const worker = new Worker(new URL("../threads/archive.ts", import.meta.url), {
      workerData: { job, treeSize } satisfies ArchiveData,
    });
    this.#worker = worker;
    const failed = (error: string): void => {
      planning.reject(new Error(`archiving: ${error}`));
      this.#update({ state: "failed", error });
    };
    worker.on("error", (error) => failed(error.message));
    let ended = false;
    worker.on("exit", () => {
      this.#worker = null;
      if (!ended) failed("it was interrupted");
    });
    worker.on("message", (message: FromArchive) => {
      ended = message.kind !== "planned" && message.kind !== "progress";
      switch (message.kind) {
        case "planned":
          this.#job = this.#begun(before, who.caller, message.plan);
          planning.resolve(this.#job);
          break;
        case "progress":
          this.#update({ doneEvents: message.doneEvents });
          break;
        case "prepared":
          this.#record(message.attr, who).catch((error: Error) => failed(error.message));
          break;
        case "refused":
          planning.reject(new ArchiveRefused(message.why, message.detail));
          failed(message.detail);
          break;
        case "failed":
          failed(message.error);
          break;
      }
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
