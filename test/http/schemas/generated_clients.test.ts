import { execFile, spawnSync } from "node:child_process";
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { createClient } from "@hey-api/openapi-ts";
import openapiTypescript, { astToString } from "openapi-typescript";
import { generate } from "orval";
import { type Test, test } from "tap";
import { bare, type ServiceProcess, startService } from "../../support/service_process.ts";

/**
 * End to end: generators make clients of the committed documents, as they come; the clients compile, and the README's quick start,
 * written for each, runs over a socket against the service as `npm start` starts it.
 */
const ROOT = new URL("../../../", import.meta.url).pathname;
const DOCUMENT = join(ROOT, "openapi/openapi.json");
const JAR = join(ROOT, "node_modules/@openapitools/openapi-generator-cli/bin/openapi-generator.jar");
const TSC = join(ROOT, "node_modules/typescript/lib/tsc.js");

/** What every client is told. */
const TOLD = {
  session: 1,
  lease: "ttl",
  process: null,
  fd: 3,
  value: "2a000000",
  elements: ["50000000", "bb010000"],
  errno: "ENOENT",
  maps: [["ports", null, "off"]],
  pinned: [["50000000", "2a000000"]],
  written: 1,
  refused: [["BPF_MAP_LOOKUP_ELEM", "bb010000", null, null]],
  log: [
    [null, "ports", 1],
    [null, null, null],
    [null, null, null],
  ],
  past: 2,
};

const run = promisify(execFile);
const env = bare(process.env);

/** What a quick start has printed. */
async function quickStart(service: ServiceProcess, command: string, file: string): Promise<object> {
  const { stdout } = await run(command, [file, service.url], { env: { ...env, PYTHONDONTWRITEBYTECODE: "1" } });
  const told = JSON.parse(stdout) as { elements: string[] };
  return { ...told, elements: told.elements.toSorted() };
}

async function newService(t: Test, name: string): Promise<ServiceProcess> {
  const data = join(t.testdirName, name);
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_SOCKET: "none", MAPLEDGER_MIRROR: "off" });
  t.teardown(() => service.end("SIGTERM"));
  return service;
}

const COMPILER = {
  target: "es2024",
  lib: ["es2024", "dom", "dom.iterable"],
  module: "nodenext",
  types: ["node"],
  strict: true,
  noUncheckedIndexedAccess: true,
  erasableSyntaxOnly: true,
  allowImportingTsExtensions: true,
  skipLibCheck: true,
  noEmit: true,
};

test("openapi-typescript, @hey-api/openapi-ts and orval make clients that compile and do the quick start", async (t) => {
  const dir = t.testdir({ "package.json": '{"type":"module"}' });
  const service = await newService(t, "orval");
  const at = (name: string) => join(dir, name);
  const names = ["openapi_typescript", "hey_api", "orval"];
  for (const name of names) copyFileSync(join(ROOT, `test/http/quick_start/${name}.ts`), at(`${name}.ts`));

  writeFileSync(at("openapi_typescript_client.ts"), astToString(await openapiTypescript(new URL(`file:${DOCUMENT}`))));
  const output = { path: at("hey_api_client"), module: { extension: ".ts" } } as const;
  await createClient({ input: DOCUMENT, output, logs: { level: "silent", file: false } });
  await generate({
    input: { target: DOCUMENT },
    output: { target: at("orval_client.ts"), client: "fetch", baseUrl: service.url },
  });

  writeFileSync(
    at("tsconfig.json"),
    JSON.stringify({ compilerOptions: COMPILER, files: names.map((one) => `${one}.ts`) }),
  );
  const compiled = await run(process.execPath, [TSC, "-p", dir]).catch(({ stdout }) => ({ stdout }));
  t.equal(compiled.stdout, "", "they compile");

  for (const name of names)
    t.same(
      await quickStart(name === "orval" ? service : await newService(t, name), process.execPath, at(`${name}.ts`)),
      TOLD,
      name,
    );
});

/** Why no client for Python can be made here, or run; false: it can. */
function noPython(): string | false {
  if (spawnSync("java", ["-version"]).status !== 0) return "there is no java";
  const imports = spawnSync("python3", ["-c", "import certifi, dateutil, six, urllib3"]);
  return imports.status !== 0 && `python3 has not what the client imports: ${imports.stderr ?? "it is missing"}`;
}

test("openapi-generator makes a client for Python that compiles and does the quick start", {
  skip: noPython(),
}, async (t) => {
  const dir = t.testdir({});
  const document = join(ROOT, "openapi/openapi-3.0.json");
  const generated = await run("java", ["-jar", JAR, "generate", "-g", "python", "-i", document, "-o", dir], { env });
  t.notMatch(generated.stdout + generated.stderr, /ERROR|Exception/);
  await run("python3", ["-m", "compileall", "-q", "openapi_client"], { cwd: dir, env });
  copyFileSync(join(ROOT, "test/http/quick_start/quick_start.py"), join(dir, "quick_start.py"));
  const service = await newService(t, "data");
  t.same(await quickStart(service, "python3", join(dir, "quick_start.py")), TOLD);
});
