import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { MessageStream } from "../support/messages.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";

/** A data directory of its own, gone after the test. */
function dataOf(t: Test): string {
  const data = mkdtempSync(join(tmpdir(), "mapledger-service-"));
  t.teardown(() => rmSync(data, { recursive: true, force: true }));
  return data;
}

const hash = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 100 };

async function call(url: string, method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const init =
    body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(`${url}${path}`, { method, ...init });
  return { status: response.status, ...((await response.json()) as object) };
}

/** A session with a hash at fd 3. */
async function prepare({ url }: ServiceProcess): Promise<void> {
  await call(url, "POST", "/v1/sessions", {});
  await call(url, "POST", "/v1/sessions/1/maps", hash);
}

t.test("a start that cannot be says why, by the setting's name, and ends", async (t) => {
  const data = dataOf(t);
  const off = { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" };
  await t.rejects(startService({ ...off, MAPLEDGER_PORT: "x" }), /ended with 2: MAPLEDGER_PORT takes an integer/);
  await t.rejects(startService({ ...off, MAPLEDGER_HOST: "0.0.0.0" }), /ended with 1:.*only loopback is allowed/);
  await t.rejects(
    startService({ ...off, MAPLEDGER_TOKENS: "/no/such/file" }),
    /ended with 2: MAPLEDGER_TOKENS is \/no\/such\/file: this file does not exist/,
  );
  await t.rejects(startService(off, ["--rebild"]), /ended with 2: usage: npm start/);
  await t.rejects(
    startService({ ...off, MAPLEDGER_MIRROR: "required", MAPLEDGER_BPFFS: join(data, "nowhere") }),
    /ended with 1:.*the mirror is required: no bpffs is mounted/s,
  );
});

t.test("a data directory has one service; the second is told", async (t) => {
  const environment = { MAPLEDGER_DATA: dataOf(t), MAPLEDGER_MIRROR: "off" };
  const first = await startService(environment);
  // The socket or the directory is found to be in use, whichever is looked at first.
  await t.rejects(startService(environment), /another mapledger (is using it|uses the directory)/);
  t.equal(await first.end("SIGTERM"), 0);
  const next = await startService(environment);
  t.equal(await next.end("SIGINT"), 0);
});

t.test("a stop answers what was taken on; a start finds everything, also when it makes the state again", async (t) => {
  const environment = { MAPLEDGER_DATA: dataOf(t), MAPLEDGER_MIRROR: "off" };
  let service = await startService(environment);
  await prepare(service);
  const { url } = service;
  const keys = Array.from({ length: 100 }, (_, at) => Buffer.from([at, 0, 0, 0]).toString("hex"));
  const under = keys.map((key) => call(url, "PUT", `/v1/sessions/1/fds/3/elements/${key}`, { value: key }));
  await Promise.race(under);
  t.equal(await service.end("SIGTERM"), 0);
  const answers = await Promise.allSettled(under);
  const answered = keys.filter((_, at) => {
    const answer = answers[at];
    // One that came when the stop had begun was told so: 503.
    return answer?.status === "fulfilled" && answer.value.status === 200;
  });
  t.ok(answered.length > 0, `${answered.length} of ${keys.length} were answered`);
  for (const args of [[], ["--rebuild"]]) {
    service = await startService(environment, args);
    const { elements } = (await call(service.url, "GET", "/v1/maps/1/elements")) as { elements: { key: string }[] };
    const found = new Set(elements.map(({ key }) => key));
    t.ok(
      answered.every((key) => found.has(key)),
      `all of them are there${args.length > 0 ? " after --rebuild" : ""}`,
    );
    t.equal(await service.end("SIGTERM"), 0);
  }
});

t.test("the unix socket answers as the port does, to whom its mode lets, and is gone after the stop", async (t) => {
  const data = dataOf(t);
  const socket = join(data, "socket");
  const service = await startService({
    MAPLEDGER_DATA: join(data, "d"),
    MAPLEDGER_MIRROR: "off",
    MAPLEDGER_SOCKET: socket,
    MAPLEDGER_SOCKET_MODE: "0660",
  });
  t.equal(statSync(socket).mode & 0o777, 0o660);
  const status = await new Promise((resolve) => {
    request({ socketPath: socket, path: "/v1/maps" }, (response) => resolve(response.resume().statusCode)).end();
  });
  t.equal(status, 200);
  const other = { MAPLEDGER_DATA: join(data, "e"), MAPLEDGER_MIRROR: "off", MAPLEDGER_SOCKET: socket };
  await t.rejects(startService(other), /another process serves it/);
  await service.end("SIGTERM");
  t.notOk(existsSync(socket));
});

t.test("with tokens, callers have names, and sessions are their own", async (t) => {
  const data = dataOf(t);
  const tokens = join(data, "tokens");
  const digest = (token: string): string => createHash("sha256").update(token).digest("hex");
  writeFileSync(tokens, `# who may\nalice:${digest("a")}\nbob:${digest("b")}\n`);
  const service = await startService({
    MAPLEDGER_DATA: data,
    MAPLEDGER_MIRROR: "off",
    MAPLEDGER_HOST: "0.0.0.0",
    MAPLEDGER_AUTH: "on",
    MAPLEDGER_TLS: "off",
    MAPLEDGER_TOKENS: tokens,
  });
  const url = service.url.replace("0.0.0.0", "127.0.0.1");
  const as = async (
    token: string | null,
    method: string,
    path: string,
    body?: object,
  ): Promise<Record<string, unknown>> => {
    const headers = {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(body && { "content-type": "application/json" }),
    };
    const response = await fetch(`${url}${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) });
    return { status: response.status, ...((await response.json()) as object) };
  };
  t.match(await as(null, "POST", "/v1/sessions", {}), { status: 401 });
  t.match(await as("c", "POST", "/v1/sessions", {}), { status: 401 });
  t.match(await as("a", "POST", "/v1/sessions", {}), { status: 201, id: 1 });
  await as("a", "POST", "/v1/sessions/1/maps", hash);
  const element = "/v1/sessions/1/fds/3/elements/01000000";
  t.match(await as("b", "PUT", element, { value: "00000000" }), { status: 403, errno: "EPERM" });
  t.match(await as("a", "PUT", element, { value: "00000000" }), { status: 200 });
  t.match(await as(null, "PUT", element, { value: "00000000" }), { status: 401 });
  const { events } = (await as("b", "GET", "/v1/events?caller=alice")) as { events: { cmd: string }[] };
  t.strictSame(
    events.map(({ cmd }) => cmd),
    ["SESSION_OPEN", "BPF_MAP_CREATE", "BPF_MAP_UPDATE_ELEM"],
  );
  t.equal((await fetch(`${url}/livez`)).status, 200, "livez needs no token");
  await service.end("SIGTERM");
});

t.test("a full disk fails commands with 507 and changes nothing; with room again, it goes on", async (t) => {
  const data = dataOf(t);
  const disk = join(data, "disk");
  mkdirSync(disk);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], { stdio: "pipe" });
  } catch (error) {
    t.pass("a small disk", { skip: `a tmpfs cannot be mounted: ${(error as Error).message.trim()}` });
    return;
  }
  t.teardown(() => execFileSync("umount", [disk]));
  const service = await startService({ MAPLEDGER_DATA: disk, MAPLEDGER_MIRROR: "off" });
  await call(service.url, "POST", "/v1/sessions", {});
  await call(service.url, "POST", "/v1/sessions/1/maps", { ...hash, value_size: 65_536 });
  const filler = join(disk, "filler");
  writeFileSync(filler, "");
  const put = (key: string): Promise<Record<string, unknown>> =>
    call(service.url, "PUT", `/v1/sessions/1/fds/3/elements/${key}`, { value: key.repeat(16_384) });
  let failed: Record<string, unknown> = {};
  let written = 0;
  for (; written < 60 && failed.status === undefined; written++) {
    const answer = await put(Buffer.from([written, 0, 0, 0]).toString("hex"));
    if (answer.status !== 200) failed = answer;
  }
  t.match(failed, { status: 507 }, `the disk was full after ${written} of 64 KiB`);
  const before = await call(service.url, "GET", "/v1/maps/1");
  t.equal(before.entries, written - 1, "the refused element is not there");
  t.equal((await fetch(`${service.url}/livez`)).status, 200);
  execFileSync("mount", ["-o", "remount,size=64m", disk]);
  t.match(await put("ffffffff"), { status: 200 });
  const { elements } = (await call(service.url, "GET", "/v1/maps/1/elements")) as { elements: unknown[] };
  t.equal(elements.length, written);
  t.equal(await service.end("SIGTERM"), 0);
});

t.test("a stream follows the log, ends with the service, and goes on after its start", async (t) => {
  const environment = { MAPLEDGER_DATA: dataOf(t), MAPLEDGER_MIRROR: "off", MAPLEDGER_BOOKMARK: "1" };
  let service = await startService(environment);
  await prepare(service);
  const stream = await MessageStream.open(t, `${service.url}/v1/events/stream?after=0`);
  const keys = Array.from({ length: 200 }, (_, at) => Buffer.from([at, 1, 0, 0]).toString("hex"));
  const put = (key: string) => call(service.url, "PUT", `/v1/sessions/1/fds/3/elements/${key}`, { value: key });
  const written = Promise.all(keys.map(put));
  const seqs: unknown[] = [];
  while (seqs.length < 202) seqs.push((await stream.nextOf("event")).data.seq);
  t.same(
    seqs,
    Array.from({ length: 202 }, (_, at) => at + 1),
  );
  await written;
  await call(service.url, "POST", "/v1/sessions", { ttl_seconds: 1 });
  t.match((await stream.nextOf("event")).data, { seq: 203, cmd: "SESSION_OPEN" });
  t.match((await stream.nextOf("event")).data, { seq: 204, cmd: "SESSION_END" }, "which nobody asked for");
  t.match(await stream.nextOf("bookmark"), { id: 204 });
  t.equal(await service.end("SIGTERM"), 0, "the stop did not wait for the stream: then it would have ended with 1");
  while ((await stream.next()) !== null);
  service = await startService(environment);
  await put("ffffffff");
  const headers = { "last-event-id": String(stream.lastId) };
  const next = await MessageStream.open(t, `${service.url}/v1/events/stream`, headers);
  t.match((await next.nextOf("event")).data, { seq: 205, key: "ffffffff" });
  const watch = await MessageStream.open(t, `${service.url}/v1/maps/1/watch`);
  const snapshot = new Set<unknown>();
  t.match((await watch.nextOf("begin")).data, { seq: 206, map: { id: 1, entries: 100 } });
  for (let message = await watch.next(); message?.event === "snapshot"; message = await watch.next())
    snapshot.add(message.data.key);
  t.equal(snapshot.size, 100);
  await call(service.url, "DELETE", "/v1/sessions/1");
  t.match((await watch.nextOf("freed")).data, { seq: 207 });
  t.equal(await watch.next(), null);
  t.equal(await service.end("SIGTERM"), 0);
});
