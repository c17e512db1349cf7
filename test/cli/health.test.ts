import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { Certificates } from "../support/certificates.ts";
import { until } from "../support/ledger.ts";
import { bare, spawnService, startService } from "../support/service_process.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** What the Dockerfile has the container's runtime run, from the directory of the project; "node" is the one that runs the tests. */
function command(): readonly string[] {
  const [, words = ""] =
    /^HEALTHCHECK[\s\S]*?\n\s*CMD (\[.*\])$/m.exec(readFileSync(join(ROOT, "Dockerfile"), "utf8")) ?? [];
  const [node, ...rest] = JSON.parse(words) as string[];
  if (node !== "node") throw new Error(`the Dockerfile's health check runs ${node}`);
  return [process.execPath, ...rest];
}

function exitCode(environment: Readonly<Record<string, string>>): number | null {
  const [node, ...words] = command() as [string, ...string[]];
  return spawnSync(node, words, { cwd: ROOT, env: { ...bare(process.env), ...environment }, stdio: "pipe" }).status;
}

t.test("the Dockerfile's health check says whether the service answers, however it listens", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-health-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const made = new Certificates(folder);
  made.authority("ca");
  made.signed("server", "/CN=server", "ca", "DNS:mapledger.example.org");
  const tls = {
    MAPLEDGER_TLS_CERT: join(folder, "server.pem"),
    MAPLEDGER_TLS_KEY: join(folder, "server.key"),
    MAPLEDGER_TLS_CLIENT_CA: join(folder, "ca.pem"),
  };
  const long = { MAPLEDGER_SOCKET: join(folder, "s".repeat(100)) };
  const modes: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    "by default": {},
    "with TLS": tls,
    "with TLS off loopback": { ...tls, MAPLEDGER_HOST: "0.0.0.0" },
    "with a socket elsewhere": { MAPLEDGER_SOCKET: join(folder, "s") },
    "without a socket": { MAPLEDGER_SOCKET: "none" },
    "without a socket, with TLS": { ...tls, MAPLEDGER_SOCKET: "none" },
    "with a path that is too long for a socket": long,
  };
  for (const [mode, given] of Object.entries(modes)) {
    const settings = { MAPLEDGER_DATA: join(folder, "data"), MAPLEDGER_MIRROR: "off", MAPLEDGER_AUTH: "on", ...given };
    const service = await startService(settings);
    t.teardown(() => service.child.kill("SIGKILL"));
    const asked = { ...settings, MAPLEDGER_PORT: new URL(service.url).port };
    t.equal(exitCode(asked), 0, mode);
    await service.end("SIGTERM");
    t.equal(exitCode(asked), 1, `${mode}: the service has ended`);
  }
  const settings = { MAPLEDGER_DATA: join(folder, "data"), MAPLEDGER_MIRROR: "off", MAPLEDGER_PORT: "" };
  const child = spawnService(settings);
  t.teardown(() => child.kill("SIGKILL"));
  await until("it is healthy without TCP", async () => exitCode(settings) === 0);
});
