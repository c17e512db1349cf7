import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { ask } from "../support/api.ts";
import { startService } from "../support/service_process.ts";

/** Appends each module that a thread loads, with the thread's id, to the file of LOADED. */
const TRACE = `data:text/javascript,${encodeURIComponent(`
import { appendFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { threadId } from "node:worker_threads";
registerHooks({ load(url, context, next) {
  appendFileSync(process.env.LOADED, threadId + " " + url + "\\n");
  return next(url, context);
} });`)}`;
/** What the first request that needs it loads. */
const LATE = ["@fastify/swagger", "@fastify/swagger-ui", "ajv", "typebox", "undici", "yaml"];
const MAIN_THREAD = "0";

t.test("a start loads no module that only some requests need", async (t) => {
  const folder = t.testdir();
  const loaded = join(folder, "loaded");
  const service = await startService(
    { MAPLEDGER_DATA: join(folder, "data"), MAPLEDGER_MIRROR: "off", LOADED: loaded },
    [],
    ["env", `NODE_OPTIONS=--import=${TRACE}`],
  );
  const modules = readFileSync(loaded, "utf8").trimEnd().split("\n");
  const packages = (lines: readonly string[]): string[] =>
    lines.flatMap((line) => line.match(/.*\/node_modules\/((@[^/]+\/)?[^/]+)\//)?.[1] ?? []);
  const ofMain = modules.filter((line) => line.startsWith(`${MAIN_THREAD} `));
  t.ok(packages(ofMain).includes("fastify"), "the trace works");
  t.ok(packages(modules).includes("lmdb"), "in threads, too");
  const early = new Set(packages(modules));
  t.same(
    LATE.filter((name) => early.has(name)),
    [],
  );
  t.notOk(packages(ofMain).includes("lmdb"), "only the engine's threads load LMDB");
  t.equal((await ask(service.url, "GET", "/docs/")).status, 200, "they are loaded when they are needed");
  await service.end("SIGTERM");
  t.ok(packages(readFileSync(loaded, "utf8").split("\n")).includes("@fastify/swagger-ui"));
});
