import { setTimeout as sleep } from "node:timers/promises";

/** As GET /v1/archive tells of it. */
export interface Job {
  readonly state: "running" | "done" | "failed";
  readonly directory: string;
  readonly first: number;
  readonly through: number;
  readonly done_events: number;
  readonly error: string | null;
}

const ASK_MS = 200;

/**
 * Has a service archive events, and waits until it has. null: there is nothing to archive; `why` says so. Throws an Error
 * that says why it cannot.
 */
export async function archiveByService(
  { url, token, before }: { readonly url: string; readonly token: string | undefined; readonly before: string },
  progress: (job: Job) => void,
): Promise<Job | { readonly why: string }> {
  const ask = async (method: string, body?: object): Promise<Record<string, unknown>> => {
    const headers = {
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { "content-type": "application/json" }),
    };
    const init = { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) };
    const response = await fetch(new URL("/v1/archive", url), init).catch((error: Error) => {
      throw new Error(`${url}: ${(error.cause as Error | undefined)?.message ?? error.message}`);
    });
    return (await response.json()) as Record<string, unknown>;
  };
  const begun = await ask("POST", { before });
  if (begun.type === "urn:mapledger:problem:nothing-to-archive") return { why: String(begun.detail) };
  if (begun.state === undefined) throw new Error(`${url}: ${begun.detail}`);
  for (let job = begun as unknown as Job; ; ) {
    progress(job);
    if (job.state === "done") return job;
    if (job.state === "failed") throw new Error(`${url}: ${job.error}`);
    await sleep(ASK_MS);
    job = (await ask("GET")).job as Job;
  }
}
