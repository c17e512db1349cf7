import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { Certificates } from "../support/certificates.ts";
import { mapledgerIn } from "../support/cli.ts";
import { type ServiceProcess, spawnService, startService } from "../support/service_process.ts";
import { ask, opener } from "../support/unix_client.ts";

const NOBODY = 65_534;

interface Place {
  readonly folder: string;
  readonly data: string;
  readonly socket: string;
  start(environment?: Readonly<Record<string, string>>): Promise<ServiceProcess>;
}

/** A data directory in a folder of its own. Requests need what they need by default. */
function place(t: Test): Place {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-callers-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const data = join(folder, "data");
  const start = async (environment = {}): Promise<ServiceProcess> => {
    const settings = { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off", MAPLEDGER_AUTH: "on", ...environment };
    const service = await startService(settings);
    t.teardown(() => service.child.kill("SIGKILL"));
    return service;
  };
  return { folder, data, socket: join(data, "mapledger.sock"), start };
}

async function overTcp(url: string, path: string, token?: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`${url}${path}`, { ...init, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } });
}

async function opened(url: string, token?: string): Promise<{ readonly id: number; readonly caller: string }> {
  const response = await overTcp(url, "/v1/sessions", token, { method: "POST" });
  return (await response.json()) as { id: number; caller: string };
}

t.test("with defaults the socket knows its users, and TCP wants the token that the first start has made", async (t) => {
  const { data, socket, start } = place(t);
  const first = await start();
  t.equal(statSync(socket).mode & 0o777, 0o600);
  t.match(await ask(socket, "POST", "/v1/sessions", {}), { status: 201, caller: "owner" });
  const token = readFileSync(join(data, "token"), "utf8").trim();
  t.equal(statSync(join(data, "token")).mode & 0o777, 0o600);
  t.ok(first.lines.some(({ msg }) => String(msg).includes(`$(cat ${data}/token)`)));
  for (const path of ["/v1/maps", "/metrics", "/checkpoint", "/v1/log"]) {
    t.equal((await overTcp(first.url, path)).status, 401, path);
    t.equal((await overTcp(first.url, path, "x".repeat(64))).status, 401, path);
    t.not((await overTcp(first.url, path, token)).status, 401, path);
  }
  for (const path of ["/livez", "/readyz", "/docs/", "/openapi.json"])
    t.equal((await overTcp(first.url, path)).status, 200, path);
  const session = await opened(first.url, token);
  t.match(session, { caller: "owner" });
  t.equal((await ask(socket, "DELETE", `/v1/sessions/${session.id}`)).status, 200, "they are one caller");
  t.match(await ask(socket, "GET", "/v1/log"), { auth: "on" });
  await first.end("SIGTERM");
  t.notOk(existsSync(socket));
  const second = await start();
  t.equal(readFileSync(join(data, "token"), "utf8").trim(), token);
  t.notOk(
    second.lines.some(({ msg }) => String(msg).includes("need a token")),
    "it is said once",
  );
  t.equal((await overTcp(second.url, "/v1/maps", token)).status, 200);
});

const notRoot = process.getuid?.() === 0 ? false : "only root can be another user";

t.test("other users are who the tokens' file says, and nobody without a line", { skip: notRoot }, async (t) => {
  const { folder, start } = place(t);
  const socket = join(folder, "s");
  const tokens = join(folder, "tokens");
  execFileSync("chmod", ["711", folder]);
  writeFileSync(tokens, "uid:1:read\n");
  const settings = { MAPLEDGER_SOCKET: socket, MAPLEDGER_SOCKET_MODE: "0666", MAPLEDGER_TOKENS: tokens };
  const without = await start(settings);
  const stranger = await opener(socket, {}, NOBODY);
  t.match(stranger.answer, { status: 401, detail: /uid 65534 is not in the tokens' file/ });
  stranger.child.kill();
  await without.end("SIGTERM");
  writeFileSync(tokens, `uid:${NOBODY}:read\n`);
  await start(settings);
  const known = await opener(socket, {}, NOBODY);
  t.match(known.answer, { caller: `uid:${NOBODY}` });
  const { events } = (await ask(socket, "GET", "/v1/events?cmd=SESSION_OPEN")) as unknown as { events: object[] };
  t.match(events.at(-1), { caller: `uid:${NOBODY}`, peer: `uid=${NOBODY} pid=${known.child.pid}` });
  known.child.kill();
});

t.test("an empty port is no TCP; without that and without a socket nothing starts", async (t) => {
  const { data, socket } = place(t);
  const settings = { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off", MAPLEDGER_PORT: "" };
  const child = spawnService(settings);
  t.teardown(() => child.kill("SIGKILL"));
  while (!existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 20));
  let ready = 0;
  while (ready !== 200) ready = (await ask(socket, "GET", "/readyz").catch(() => ({ status: 0 }))).status;
  const inodes = execFileSync("sh", ["-c", `ls -l /proc/${child.pid}/fd`], { encoding: "utf8" });
  const listening = readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter((line) => line[3] === "0A" && inodes.includes(`socket:[${line[9]}]`));
  t.same(listening, []);
  t.notOk(existsSync(join(data, "token")), "there is nothing to have a token for");
  await t.rejects(startService({ ...settings, MAPLEDGER_SOCKET: "none" }), /nothing to listen on/);
});

t.test("MAPLEDGER_AUTH=off takes everybody on loopback, says so, and the owner takes over his sessions", async (t) => {
  const { socket, start } = place(t);
  const service = await start({ MAPLEDGER_AUTH: "off" });
  t.ok(service.lines.some(({ level, msg }) => level === 40 && /every user of this machine/.test(String(msg))));
  const session = await opened(service.url);
  t.match(session, { caller: "anonymous" });
  t.equal((await overTcp(service.url, "/v1/maps", "unknown")).status, 401, "a token that is given is looked at");
  t.match(await ask(socket, "GET", "/v1/log"), { auth: "off" });
  await service.end("SIGTERM");
  await start();
  t.equal((await ask(socket, "POST", `/v1/sessions/${session.id}/renew`, {})).status, 200);
  const own = await ask(socket, "POST", "/v1/sessions", {});
  t.equal((await ask(socket, "DELETE", `/v1/sessions/${session.id}`)).status, 200);
  t.match(own, { caller: "owner" });
});

t.test("a path that is too long for a socket is told, and the port serves", async (t) => {
  const { folder, start } = place(t);
  const service = await start({ MAPLEDGER_SOCKET: join(folder, "s".repeat(100)) });
  t.ok(service.lines.some(({ level, msg }) => level === 40 && /no unix socket: its path has/.test(String(msg))));
  t.equal((await fetch(`${service.url}/livez`)).status, 200);
});

t.test("the command line finds the socket, or the port and the token", async (t) => {
  const { data, folder, start } = place(t);
  const release = (environment: Readonly<Record<string, string>>, ...more: string[]) =>
    mapledgerIn(environment, "map", "release", "7", ...more);
  const service = await start();
  const answered = { code: 254, stderr: /: there is no map 7\n$/ };
  t.match(await release({ MAPLEDGER_DATA: data }), answered);
  t.match(await release({}, "--url", `unix:${data}/mapledger.sock`), answered);
  await service.end("SIGTERM");
  const elsewhere = join(folder, "s");
  await start({ MAPLEDGER_SOCKET: elsewhere });
  t.match(await release({ MAPLEDGER_SOCKET: elsewhere }), answered);
  const gone = await release({ MAPLEDGER_SOCKET: "/no/such/socket", MAPLEDGER_DATA: "/no/such" }, "--url", "unix:/no");
  t.match(gone, { code: 255, stderr: /^Error: unix:\/no: connect ENOENT/ });
});

/** An authority, and what it has signed: a server's certificate for 127.0.0.1, clients' by CN and by URI; and a stranger's. */
function certificates(folder: string): void {
  const made = new Certificates(folder);
  made.authority("ca");
  made.authority("other");
  made.signed("server", "/CN=server", "ca", "IP:127.0.0.1");
  made.signed("alice", "/CN=alice", "ca", "email:alice@example.org");
  made.signed("loader", "/CN=alice", "ca", "DNS:x.example.org,URI:spiffe://example.org/loader");
  made.signed("stranger", "/CN=alice", "other", "email:alice@example.org");
}

t.test("a client's certificate names its caller, if an authority of the service's has signed it", async (t) => {
  const { folder, start } = place(t);
  certificates(folder);
  const tokens = join(folder, "tokens");
  writeFileSync(tokens, "cert:alice:read,write\ncert:spiffe://example.org/loader:read\n");
  const { url } = await start({
    MAPLEDGER_TOKENS: tokens,
    MAPLEDGER_TLS_CERT: join(folder, "server.pem"),
    MAPLEDGER_TLS_KEY: join(folder, "server.key"),
    MAPLEDGER_TLS_CLIENT_CA: join(folder, "ca.pem"),
  });
  t.match(url, /^https:/);
  const open = (name: string | null) =>
    new Promise<Record<string, unknown>>((resolve, reject) => {
      const file = (ending: string) => readFileSync(join(folder, `${name}.${ending}`));
      const own = name === null ? {} : { cert: file("pem"), key: file("key") };
      const options = { method: "POST", ca: readFileSync(join(folder, "ca.pem")), agent: false, ...own };
      request(`${url}/v1/sessions`, options, async (response) => {
        let text = "";
        for await (const chunk of response.setEncoding("utf8")) text += chunk;
        resolve({ code: response.statusCode, ...JSON.parse(text) });
      })
        .once("error", reject)
        .end();
    });
  t.match(await open("alice"), { code: 201, caller: "cert:alice" });
  t.match(await open("loader"), { code: 201, caller: "cert:spiffe://example.org/loader" });
  t.match(await open("stranger"), { code: 401 });
  t.match(await open(null), { code: 401 });
});
