import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { ask } from "../support/api.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";

/** Appends each module that a thread loads, with the time and the thread's id, to the file of LOADED. */
const TRACE = `data:text/javascript,${encodeURIComponent(`
import { appendFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { threadId } from "node:worker_threads";
registerHooks({ load(url, context, next) {
  appendFileSync(process.env.LOADED, [Date.now(), threadId, url].join(" ") + "\\n");
  return next(url, context);
} });`)}`;
/** What the first request that needs it loads. */
const LATE = ["@fastify/fast-json-stringify-compiler", "@fastify/swagger-ui", "ajv", "undici"];
/** What no request of a service needs. */
const NEVER = ["@fastify/swagger", "typebox"];
const MAIN_THREAD = 0;

interface Loaded {
  readonly ms: number;
  readonly thread: number;
  /** The name of a package; "": the module is mapledger's own or node's. */
  readonly name: string;
}

function loadedIn(file: string): readonly Loaded[] {
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  return lines.map((line) => {
    const [ms, thread, url = ""] = line.split(" ");
    const name = url.match(/.*\/node_modules\/((@[^/]+\/)?[^/]+)\//)?.[1] ?? "";
    return { ms: Number(ms), thread: Number(thread), name };
  });
}

/** The time at which the service has said that it is ready. */
function readyMs({ lines, url }: ServiceProcess): number {
  return lines.find((line) => line.url === url)?.time as number;
}

t.test("a start loads no module that only some requests need", async (t) => {
  const folder = t.testdir();
  const file = join(folder, "loaded");
  const service = await startService(
    { MAPLEDGER_DATA: join(folder, "data"), MAPLEDGER_MIRROR: "off", LOADED: file },
    [],
    ["env", `NODE_OPTIONS=--import=${TRACE}`],
  );
  t.equal((await ask(service.url, "GET", "/docs/")).status, 200);
  t.equal((await ask(service.url, "GET", "/v1/events?limit=1")).status, 200);
  t.equal((await ask(service.url, "GET", "/checkpoint")).status, 200);
  await service.end("SIGTERM");
  const all = loadedIn(file);
  const names = (which: (loaded: Loaded) => boolean): readonly string[] => [
    ...new Set(all.filter(which).map(({ name }) => name)),
  ];
  const early = names(({ ms, thread }) => thread === MAIN_THREAD && ms <= readyMs(service));
  t.ok(early.includes("fastify"), "the service's thread loads Fastify");
  t.same(
    [...LATE, ...NEVER, "lmdb"].filter((name) => early.includes(name)),
    [],
    "and none of these",
  );
  const others = names(({ thread }) => thread !== MAIN_THREAD);
  t.ok(others.includes("lmdb"), "other threads load LMDB");
  t.same(
    [...LATE, ...NEVER, "fastify"].filter((name) => others.includes(name)),
    [],
    "and none of these",
  );
  const ever = names(() => true);
  t.ok(ever.includes("@fastify/swagger-ui") && ever.includes("ajv"), "requests load what they need");
  t.same(
    NEVER.filter((name) => ever.includes(name)),
    [],
  );
});
