import { Callers } from "../src/access/callers.ts";
import { readSettings } from "../src/config.ts";
import { Refusals } from "../src/http/access.ts";
import { buildApp } from "../src/http/app.ts";
import { tcpIdentity } from "../src/http/auth.ts";
import { LogStreams } from "../src/http/log_streams.ts";
import { Metrics } from "../src/http/metrics.ts";
import { Replays } from "../src/http/replays.ts";
import { UnderWay } from "../src/http/under_way.ts";
import { VERSION } from "../src/version.ts";

/** The document as the service with its default settings serves it. */
export async function openApiDocument(): Promise<object> {
  const never = (): never => {
    throw new Error("writing the OpenAPI document: nothing is asked of the engine");
  };
  const engine = { waiting: 0, seq: 0, onGrowth: never, run: never, query: never };
  const callers = new Callers(0, null);
  const app = await buildApp({
    engine,
    events: { oldestSeq: never, query: never, event: never, lastSeq: never, close: async () => {} },
    past: { run: never, query: never, ask: never },
    tree: { status: never, checkpoint: never, proof: never, tile: never, close: async () => {} },
    archiver: { directory: "", job: null, begin: never },
    settings: { ...readSettings({}), logLevel: "silent" },
    metrics: new Metrics(),
    replays: new Replays(never),
    streams: new LogStreams(0, 0),
    processesAt: () => null,
    objects: null,
    ready: () => null,
    mirrorOff: () => null,
    callers,
    refusals: new Refusals(engine),
    underWay: new UnderWay(),
    identity: tcpIdentity(callers, "on"),
    tls: null,
    version: VERSION,
  });
  await app.close();
  return app.swagger();
}
