import { Callers } from "../src/access/callers.ts";
import { UNLIMITED } from "../src/access/quotas.ts";
import { readSettings } from "../src/config.ts";
import { Turns } from "../src/engine/turn_queue.ts";
import { buildApp } from "../src/http/app.ts";
import { Jobs } from "../src/http/jobs/jobs.ts";
import { Replays } from "../src/http/jobs/replays.ts";
import { Refusals } from "../src/http/server/access.ts";
import { tcpIdentity } from "../src/http/server/auth.ts";
import type { OpenApiVersion } from "../src/http/server/document.ts";
import { Flight } from "../src/http/server/flight.ts";
import { Metrics } from "../src/http/server/metrics.ts";
import { UnderWay } from "../src/http/server/requests_under_way.ts";
import { UnknownCallers } from "../src/http/server/unknown_callers.ts";
import { LogStreams } from "../src/http/streams/log_streams.ts";
import { KnownTypes } from "../src/http/views/forms.ts";
import { Senders } from "../src/net/senders.ts";
import { VERSION } from "../src/version.ts";

/** The document as the service with its default settings serves it, or of another version of OpenAPI. */
export async function openApiDocument(openapi: OpenApiVersion = "3.1.0"): Promise<object> {
  const never = (): never => {
    throw new Error("writing the OpenAPI document: nothing is asked of the engine");
  };
  const engine = { waiting: 0, seq: 0, onGrowth: never, run: never, query: never };
  const callers = new Callers(0, null);
  const archiver = { directory: "", job: null, begin: never };
  const replays = new Replays(never);
  const settings = { ...readSettings({}), logLevel: "silent" };
  const bulk = { flight: new Flight(settings), turns: new Turns() };
  const parts = {
    engine,
    events: {
      oldestSeq: never,
      keptSeq: never,
      query: never,
      event: never,
      mark: never,
      isUntouched: never,
      lastSeq: never,
      archivedRow: never,
      takeIn: never,
      peers: never,
      close: async () => {},
    },
    past: { run: never, query: never, ask: never },
    ledger: never,
    tree: { status: never, checkpoint: never, cosigned: never, proof: never, tile: never, close: async () => {} },
    witnesses: () => [],
    archiver,
    settings,
    metrics: new Metrics(),
    replays,
    jobs: new Jobs(replays, archiver, UNLIMITED),
    streams: new LogStreams({ most: 0, by: "MAPLEDGER_STREAMS_MAX" }, UNLIMITED, bulk),
    processesAt: () => null,
    objects: null,
    kernelBtf: null,
    ready: () => null,
    degraded: () => [],
    mirrorOff: () => null,
    callers,
    refusals: new Refusals(engine),
    unknownCallers: new UnknownCallers(never),
    underWay: new UnderWay(),
    senders: new Senders(),
    knownTypes: new KnownTypes(),
    reached: () => ({ index: 0, history: 0 }),
    ...bulk,
    identity: tcpIdentity(callers, "on"),
    tls: null,
    version: VERSION,
  };
  const app = await buildApp(parts, openapi);
  await app.close();
  return app.swagger();
}
