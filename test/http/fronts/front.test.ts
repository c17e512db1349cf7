import { once } from "node:events";
import { readdirSync } from "node:fs";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { CMD } from "../../../src/abi/service.ts";
import { Service } from "../service.ts";
import { fronted } from "./fronted.ts";

const JSON_LINES = "Content-Type: application/json\r\n";

/** A request as it goes over the connection, with the length of its body. */
function raw(line: string, more = "", body = ""): string {
  const length = body === "" ? "" : `Content-Length: ${Buffer.byteLength(body)}\r\n`;
  return `${line} HTTP/1.1\r\nHost: localhost\r\n${more}${length}\r\n${body}`;
}

const MAP = JSON.stringify({ map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 100 });
const PAIRS = JSON.stringify({
  elements: Array.from({ length: 50 }, (_, at) => ({ key: at.toString(16).padStart(8, "0"), value: "0000002a" })),
});
const VALUE = '{"value":"0000002a"}';

/** What clients send, and what others do; each on a connection of its own, in this order. */
const REQUESTS = [
  raw("GET /livez"),
  raw("POST /v1/sessions"),
  raw("POST /v1/sessions", JSON_LINES),
  raw("POST /v1/sessions", JSON_LINES, '{"name":"a"}'),
  raw("POST /v1/sessions", `${JSON_LINES}Content-Length: 0\r\n`),
  raw("POST /v1/sessions", JSON_LINES, '{"name":'),
  raw("POST /v1/sessions", "Content-Type: text/plain\r\n", "name=a"),
  raw("POST /v1/sessions", `${JSON_LINES}Transfer-Encoding: chunked\r\nTrailer: x-end\r\n`).concat(
    '5\r\n{"nam\r\n6\r\ne":"b"\r\n1\r\n}\r\n0\r\nx-end: 1\r\n\r\n',
  ),
  raw("POST /v1/sessions/1/maps", JSON_LINES, MAP),
  raw("POST /v1/sessions/1/maps", `${JSON_LINES}Expect: 100-continue\r\n`, MAP),
  raw("PUT /v1/sessions/1/fds/3/elements/00000001", JSON_LINES, VALUE),
  raw("GET /v1/sessions/1/fds/3/elements/00000001"),
  raw("HEAD /v1/sessions/1/fds/3/elements/00000001"),
  raw("GET /v1/sessions/1/fds/3/elements/00000001", "Accept: application/octet-stream\r\n"),
  raw("POST /v1/sessions/1/fds/3/elements/batch/update", JSON_LINES, PAIRS),
  raw("POST /v1/sessions/1/fds/3/batch/update", JSON_LINES, PAIRS),
  raw("GET /v1/sessions/1/fds/3/elements?limit=7"),
  raw("HEAD /v1/sessions/1/fds/3/elements?limit=7"),
  raw("GET /v1/sessions/1/fds/3/elements", "Accept: application/x-ndjson\r\n"),
  raw("GET /v1/maps", "Accept-Encoding: gzip\r\n"),
  raw("GET /v1/events?limit=3"),
  raw("GET /openapi.json", "If-None-Match: *\r\n"),
  raw("GET /v1/nowhere"),
  raw("DELETE /v1/maps"),
  raw("OPTIONS /v1/maps"),
  raw("BREW /v1/maps"),
  raw("GET /v1/maps", "Origin: http://elsewhere.example\r\n"),
  raw("GET /v1/maps", "Connection: close\r\n"),
  raw("GET /v1/maps", "Trailer: x-end\r\n"),
  raw("POST /v1/sessions", `${JSON_LINES}Trailer: x-end\r\n`, '{"name":"t"}'),
  raw("POST /v1/sessions", `${JSON_LINES}Content-Length: 99999999\r\n`),
  raw("POST /v1/sessions/1/maps", "Content-Type: text/plain\r\nContent-Length: 70000\r\n"),
  raw("GET /v1/maps", "Connection: upgrade\r\nUpgrade: websocket\r\n"),
  raw("POST /v1/sessions", `${JSON_LINES}Connection: keep-alive, content-length\r\n`, '{"name":"c"}'),
  raw("POST /v1/sessions", JSON_LINES, JSON.stringify({ name: "x".repeat(2000) })),
  raw("POST /v1/sessions/1/fds/3/batch/update", JSON_LINES, `{"elements":[${" ".repeat(70_000)}]}`),
  raw(`GET /v1/maps?${"x".repeat(40_000)}`),
  raw("GET /v1/maps?name=\u00e9"),
  "GET /v1/maps HTTP/1.1\r\n\r\n",
  "GET /v1/maps HTTP/1.0\r\n\r\n",
  "GET /v1/maps HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
  "not HTTP at all\r\n\r\n",
  raw("DELETE /v1/sessions/1"),
];

/** All that a connection answers to a request; but for what names the moment. */
async function answerTo(port: number, sent: string): Promise<object> {
  const socket = connect(port, "127.0.0.1");
  socket.write(sent, "latin1");
  let answer = "";
  socket.on("data", (piece: Buffer) => {
    answer += piece.toString("latin1");
  });
  let isClosed = false;
  socket.on("close", () => {
    isClosed = true;
  });
  while (!isClosed && !isWhole(sent, answer)) await sleep(2);
  socket.destroy();
  const [, interim, head = "", body = ""] =
    /^((?:HTTP\/1\.1 100.*\r\n\r\n)?)([\s\S]*?)\r\n\r\n([\s\S]*)$/.exec(answer) ?? [];
  const [status, ...lines] = head.split("\r\n");
  const headers = lines.map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase())).sort();
  const kept = headers.filter((line) => !/^(date|etag):/.test(line));
  return { interim, status, headers: kept, body: body.replace(/"(time|next|position)":"[^"]+"/g, ""), isClosed };
}

/** Whether an answer that does not close the connection is there as a whole. */
function isWhole(sent: string, answer: string): boolean {
  const found = answer.replace(/^HTTP\/1\.1 100.*\r\n\r\n/, "");
  const end = found.indexOf("\r\n\r\n");
  const [head, body] = [found.slice(0, Math.max(end, 0)), found.slice(end + 4)];
  if (head === "" || /^connection: close/im.test(head)) return false;
  const length = /^content-length: (\d+)/im.exec(head)?.[1];
  if (sent.startsWith("HEAD") || (length !== undefined && body.length >= Number(length))) return true;
  return /^transfer-encoding: chunked/im.test(head) && /(^|\r\n)0\r\n\r\n$/.test(body);
}

t.test("what an HTTP thread answers or passes on is answered as the service's thread answers it", async (t) => {
  const settings = { bodyBytesMax: 64 * 1024 };
  const direct = await Service.start(t, { settings });
  const { port } = new URL(await direct.app.listen({ port: 0, host: "127.0.0.1" }));
  const behind = await Service.start(t, { settings });
  const front = await fronted(t, behind);
  for (const sent of REQUESTS) {
    const name = sent.slice(0, 90).split("\r\n").join(" | ");
    const wanted = await answerTo(Number(port), sent);
    t.same(await answerTo(Number(new URL(front.url).port), sent), wanted, name);
  }
  t.equal(behind.log.lastSeq, direct.log.lastSeq, "the same events are in the log");
  t.ok(front.passed > 20, `${front.passed} were passed on`);
});

/** A request by an agent. */
function ask(
  url: string,
  method: string,
  path: string,
  { body, agent, headers = {} }: { body?: object; agent?: Agent; headers?: Record<string, string> } = {},
): Promise<{ status: number; headers: IncomingHttpHeaders; body: string }> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const lines = payload === undefined ? headers : { "content-type": "application/json", ...headers };
    const sent = request(`${url}${path}`, { method, agent: agent ?? false, headers: lines }, (response) =>
      text(response).then(
        (all) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: all }),
        reject,
      ),
    );
    sent.on("error", reject);
    sent.end(payload);
  });
}

const until = async (is: () => boolean): Promise<void> => {
  while (!is()) await sleep(2);
};

t.test("a stream reaches its reader as it is written, and ends with it", async (t) => {
  const service = await Service.start(t);
  const { url } = await fronted(t, service);
  const session = await service.session();
  const map = await service.map(session);
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  let answer = "";
  socket.on("data", (piece: Buffer) => {
    answer += piece.toString();
  });
  socket.write(raw("GET /v1/events/stream", "Accept: text/event-stream\r\n"));
  await until(() => service.streams === 1 && answer.includes("\r\n\r\n"));
  t.match(answer, /^HTTP\/1.1 200 OK/, "the head comes before there is anything to tell");
  await service.send("PUT", `${map}/elements/00000001`, { value: "0000002a" });
  await until(() => answer.includes('"BPF_MAP_UPDATE_ELEM"'));
  socket.destroy();
  await until(() => service.streams === 0);
  t.pass("the stream has ended");
});

t.test("a request whose client goes is given up", async (t) => {
  const service = await Service.start(t, { settings: { bodyBytesMax: 1_000_000, stallSeconds: 1 } });
  const { url } = await fronted(t, service);
  const map = await service.map(await service.session());
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  const head = `POST ${map}/batch/update HTTP/1.1\r\nHost: localhost\r\n${JSON_LINES}Content-Length: 500000\r\n\r\n`;
  socket.write(`${head}{"elements":[${" ".repeat(100_000)}`);
  await until(() => service.inFlight > 0);
  socket.destroy();
  await until(() => service.inFlight === 0);
  t.pass("its bytes are no longer counted");
});

t.test("callers: refusals are recorded, and changes count at once, also before the thread has been told", async (t) => {
  const service = await Service.start(t, { tokens: { alice: "read,write", some: "read@b*,write@b*" } });
  const front = await fronted(t, service);
  const alice = { authorization: "Bearer alice" };
  const map = await service.map(await service.session(alice), { map_name: "a" }, alice);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const put = async (token: string): Promise<number> => {
    const path = token === "alice" ? `${map}/elements/00000001` : "/v1/maps/1/elements/00000001";
    const headers = { authorization: `Bearer ${token}` };
    return (await ask(front.url, "PUT", path, { body: { value: "0000002a" }, agent, headers })).status;
  };
  t.equal(await put("alice"), 200);
  t.equal(front.passed, 0, "the thread answers itself");
  t.equal(await put("some"), 403, "no glob of this caller covers the map");
  t.equal(front.passed, 0);
  await until(() => service.log.rows.some(({ cmd }) => cmd === CMD.ACCESS_REFUSED));
  t.equal(await put("nobody"), 401);
  t.equal(front.passed, 1, "whom it does not know, the service's thread refuses");
  service.setTokens({ other: "read,write" });
  t.equal(await put("alice"), 401);
  t.equal(front.passed, 2, "it has not been told yet");
  service.setTokens({ alice: "read,write" });
  front.threads.tellCallers(service.callers.copy());
  for (let passed = -1; passed !== front.passed; ) {
    passed = front.passed;
    t.equal(await put("alice"), 200, "by this thread or that");
  }
});

t.test("while the service is not ready, its thread says why", async (t) => {
  const service = await Service.start(t, { ready: () => "the service is stopping" });
  const front = await fronted(t, service);
  front.signs.isReady = false;
  const answer = await ask(front.url, "GET", "/v1/maps/1/elements/00000001");
  t.match(answer, { status: 503, body: /the service is stopping/ });
});

t.test("the queue's limits hold over all threads", async (t) => {
  const COMMANDS = 12;
  const service = await Service.start(t, { settings: { queueCommandsMax: COMMANDS } });
  const front = await fronted(t, service, 3);
  const map = await service.map(await service.session());
  await until(() => front.workers.length === 3);
  front.hold = true;
  const put = (): Promise<{ status: number }> =>
    ask(front.url, "PUT", `${map}/elements/00000001`, { body: { value: "0000002a" } });
  const sent = Array.from({ length: 4 * COMMANDS }, put);
  const refused: number[] = [];
  for (const one of sent) one.then(({ status }) => refused.push(status));
  await until(() => refused.length >= 3 * COMMANDS - 2 && front.counts.queue.commands >= COMMANDS);
  // Two threads may accept a command at the same moment.
  t.ok(front.counts.queue.commands <= COMMANDS + 2, `${front.counts.queue.commands} wait`);
  t.same(new Set(refused), new Set([503]));
  front.hold = false;
  const statuses = (await Promise.all(sent)).map(({ status }) => status);
  t.ok(statuses.filter((status) => status === 200).length >= COMMANDS);
  t.equal(front.counts.queue.commands, 0);
  t.equal(front.counts.queue.bytes, 0);
});

t.test("a thread that dies takes its own connections with it, and nothing else; it is started again", async (t) => {
  const service = await Service.start(t);
  const front = await fronted(t, service, 2);
  const map = await service.map(await service.session(), { max_entries: 1000 });
  const path = (at: number): string => `${map}/elements/${at.toString(16).padStart(8, "0")}`;
  /** Connections, each with a page that was passed on. */
  const opened = await Promise.all(
    Array.from({ length: 40 }, async (): Promise<Socket> => {
      const socket = connect(Number(new URL(front.url).port), "127.0.0.1");
      socket.on("error", () => {});
      socket.write(raw(`GET ${map}/elements`));
      await once(socket, "data");
      return socket;
    }),
  );
  front.hold = true;
  for (const [at, socket] of opened.entries()) socket.write(raw(`PUT ${path(at)}`, JSON_LINES, VALUE));
  await until(() => front.counts.queue.commands === opened.length);
  const [dying] = front.workers;
  const closing = opened.map((socket) => once(socket, "close"));
  await dying?.terminate();
  await until(() => front.workers.length === 3);
  const alive = opened.filter((socket) => !socket.destroyed);
  front.hold = false;
  await Promise.all(alive.map(async (socket) => t.match(String((await once(socket, "data"))[0]), /^HTTP\/1.1 200/)));
  t.equal(front.counts.queue.commands, 0, "what waited in the dead thread is not counted any more");
  t.match(front.reports, [/an HTTP thread: its thread has died and is started again in 1 s/]);
  await Promise.all(opened.flatMap((socket, at) => (alive.includes(socket) ? [] : [closing[at]])));
  t.ok(alive.length < opened.length, `${opened.length - alive.length} of ${opened.length} connections broke off`);
  for (let at = 0; at < 20; at++) t.equal((await ask(front.url, "GET", `${map}/elements`)).status, 200);
  for (const socket of alive) socket.destroy();
});

t.test("a stop answers what is under way, and closes connections that rest", async (t) => {
  const service = await Service.start(t);
  const front = await fronted(t, service, 2);
  const map = await service.map(await service.session());
  const resting = connect(Number(new URL(front.url).port), "127.0.0.1");
  resting.write(raw("GET /livez"));
  await once(resting, "data");
  front.hold = true;
  const put = ask(front.url, "PUT", `${map}/elements/00000001`, { body: { value: "0000002a" } });
  await until(() => front.counts.queue.commands === 1);
  front.signs.isReady = false;
  const closed = front.threads.close();
  await once(resting, "close");
  front.hold = false;
  t.match(await put, { status: 200, headers: { connection: "close" } });
  await closed;
});

t.test("clients that go at once leave no descriptor open", async (t) => {
  const service = await Service.start(t);
  const { url } = await fronted(t, service);
  const open = (): number => readdirSync("/proc/self/fd").length;
  const turns = async (): Promise<void> => {
    const before = open();
    for (let round = 0; round < 10; round++) {
      const sockets = Array.from({ length: 20 }, () => connect(Number(new URL(url).port), "127.0.0.1"));
      await Promise.all(sockets.map((socket) => once(socket, "connect")));
      for (const socket of sockets) socket.write(raw("GET /v1/maps"));
      await sleep(round);
      for (const socket of sockets) socket.destroy();
    }
    await until(() => open() <= before + 2);
  };
  await turns();
  await turns();
  t.pass("all are closed again");
});

t.test("a request that is answered before its end leaves its connection usable", async (t) => {
  const service = await Service.start(t, { settings: { bodyBytesMax: 64 * 1024 } });
  const { url } = await fronted(t, service);
  const direct = new URL(await service.app.listen({ port: 0, host: "127.0.0.1" })).port;
  for (const port of [direct, new URL(url).port]) {
    const socket = connect(Number(port), "127.0.0.1");
    const LENGTH = 4_000_000;
    socket.write(`POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\n${JSON_LINES}Content-Length: ${LENGTH}\r\n\r\n`);
    socket.write(Buffer.alloc(LENGTH, " "));
    socket.write(raw("GET /livez"));
    let answers = "";
    socket.on("data", (piece: Buffer) => {
      answers += piece.toString();
    });
    await until(() => answers.includes('{"status":"live"}'));
    t.match(answers, /^HTTP\/1.1 413 [\s\S]*HTTP\/1.1 200 /);
    socket.destroy();
  }
});

t.test("bytes that are no request, behind one, do not take the place of its answer", async (t) => {
  const service = await Service.start(t);
  const { url } = await fronted(t, service);
  const direct = await service.app.listen({ port: 0, host: "127.0.0.1" });
  const map = await service.map(await service.session());
  for (const port of [new URL(direct).port, new URL(url).port]) {
    const socket = connect(Number(port), "127.0.0.1");
    socket.write(`${raw(`PUT ${map}/elements/00000001`, JSON_LINES, VALUE)}no request\r\n\r\n`);
    t.match(await text(socket), /^HTTP\/1.1 200 [\s\S]*\{"seq":\d+\}$/);
  }
});
