import { setTimeout as sleep } from "node:timers/promises";
import { ask, type Service } from "./ask.ts";

/** An archive job as GET /v1/archive answers it. */
export type Job = {
  readonly state: "running" | "done" | "failed";
  readonly directory: string;
  readonly first: number;
  readonly through: number;
  readonly done_events: number;
  readonly error: string | null;
};

const PATH = "/v1/archive";
const ASK_MS = 200;

/**
 * Makes a service archive events, and waits until it has. `why`: there is nothing to archive. Throws an Error if the
 * service refuses or fails.
 */
export async function archiveByService(
  { before, ...service }: Service & { readonly before: string },
  progress: (job: Job) => void,
): Promise<Job | { readonly why: string }> {
  const { json: begun } = await ask(service, "POST", PATH, { before });
  if (begun.type === "urn:mapledger:problem:nothing-to-archive") return { why: String(begun.detail) };
  if (begun.state === undefined) throw new Error(`${service.url}: ${begun.detail}`);
  for (let job = begun as Job; ; ) {
    progress(job);
    if (job.state === "done") return job;
    if (job.state === "failed") throw new Error(`${service.url}: ${job.error}`);
    await sleep(ASK_MS);
    job = (await ask(service, "GET", PATH)).json.job as Job;
  }
}
