import autocannon from "autocannon";

const JSON_TYPE = { "content-type": "application/json" } as const;

export interface Load {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  readonly requests: readonly autocannon.Request[];
  /** 404 is an answer, too: some of the keys are not there. */
  readonly missing?: boolean;
  /** Threads that send; left out: this one alone. */
  readonly senders?: number;
}

export interface Rate {
  /** Answers a second. */
  readonly rate: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly mostMs: number;
}

/** Sends requests, one after the other on each connection, for a while. Throws where an answer was not 2xx. */
export async function load({ url, connections, seconds, requests, missing = false, senders }: Load): Promise<Rate> {
  const result = await autocannon({
    url,
    connections,
    duration: seconds,
    requests: [...requests],
    workers: senders as never,
  });
  const answers = result["2xx"] + (missing ? result["4xx"] : 0);
  if ((result.non2xx > 0 && !missing) || result["5xx"] > 0 || result.errors > 0)
    throw new Error(`loading ${url}: ${result.non2xx} answers were not 2xx, ${result.errors} errors`);
  return {
    rate: answers / result.duration,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    mostMs: result.latency.max,
  };
}

/** Sends each body once, one after the other on each of so many connections; answers seconds. */
export async function post(url: string, bodies: readonly string[], connections = 1): Promise<number> {
  const started = performance.now();
  const share = (connection: number): string[] => bodies.filter((_, at) => at % connections === connection);
  await Promise.all(Array.from({ length: connections }, (_, connection) => postEach(url, share(connection))));
  return (performance.now() - started) / 1000;
}

async function postEach(url: string, bodies: readonly string[]): Promise<void> {
  for (const body of bodies) {
    const response = await fetch(url, { method: "POST", headers: JSON_TYPE, body });
    if (!response.ok) throw new Error(`posting to ${url}: ${response.status} ${await response.text()}`);
    await response.arrayBuffer();
  }
}

export async function postJson(
  url: string,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): Promise<Record<string, unknown>> {
  const sent = { method: "POST", headers: { ...headers, ...JSON_TYPE }, body: JSON.stringify(body) };
  const response = await fetch(url, sent);
  if (!response.ok) throw new Error(`posting to ${url}: ${response.status} ${await response.text()}`);
  return (await response.json()) as Record<string, unknown>;
}
