import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import t, { type Test } from "tap";
import { AnswerReader } from "../../src/client/answer_reader.ts";
import { Api, Refused } from "../../src/client/api.ts";
import { PlainConnection } from "../../src/client/plain_connection.ts";

const HEAD = "HTTP/1.1 200 OK\r\n";

interface Read {
  readonly status: number | null;
  readonly body: string;
  readonly isWhole: boolean;
  readonly keepsAlive: boolean;
}

/** Reads an answer that comes in pieces of `bytes`. */
function read(answer: string, bytes: number, ends = false): Read {
  const reader = new AnswerReader();
  const all = Buffer.from(answer, "latin1");
  for (let at = 0; at < all.length; at += bytes) reader.take(all.subarray(at, at + bytes));
  if (ends) reader.end();
  const body = Buffer.concat([...reader.taken()]).toString();
  return { status: reader.status, body, isWhole: reader.isWhole, keepsAlive: reader.keepsAlive };
}

t.test("an answer is read, wherever its pieces are cut", (t) => {
  const answers: readonly [answer: string, expected: Partial<Read>][] = [
    [`${HEAD}Content-Length: 5\r\n\r\nhello`, { body: "hello", keepsAlive: true }],
    [`${HEAD}Content-Length: 0\r\n\r\n`, { body: "", keepsAlive: true }],
    [
      `${HEAD}transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n`,
      { body: "hello", keepsAlive: true },
    ],
    [`${HEAD}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n`, { body: "hello", keepsAlive: true }],
    [`${HEAD}Content-Length: 5\r\nConnection: close\r\n\r\nhello`, { body: "hello", keepsAlive: false }],
    ["HTTP/1.1 204 No Content\r\n\r\n", { status: 204, body: "", keepsAlive: true }],
    [`HTTP/1.1 100 Continue\r\n\r\n${HEAD}Content-Length: 1\r\n\r\nx`, { body: "x", keepsAlive: true }],
    [`${HEAD}Content-Length: 1\r\n\r\nxy`, { body: "x", keepsAlive: false }],
  ];
  for (const [answer, expected] of answers)
    for (let bytes = 1; bytes <= answer.length; bytes++)
      t.match(
        read(answer, bytes),
        { status: 200, isWhole: true, ...expected },
        `${JSON.stringify(answer)} by ${bytes}`,
      );
  t.match(read(`${HEAD}\r\nto the end`, 3), { body: "to the end", isWhole: false });
  t.match(read(`${HEAD}\r\nto the end`, 3, true), { body: "to the end", isWhole: true, keepsAlive: false });
  t.end();
});

t.test("what is no answer, or too large a head, is refused", (t) => {
  for (const answer of [
    "HTTP/2 200 OK\r\n\r\n",
    "SSH-2.0-OpenSSH\r\n\r\n",
    `${HEAD}Content-Length: -1\r\n\r\n`,
    `${HEAD}Content-Length: 1e9\r\n\r\n`,
    `${HEAD}transfer-encoding: chunked\r\n\r\nx\r\n`,
    `${HEAD}transfer-encoding: chunked\r\n\r\n-1\r\n`,
    `${HEAD}transfer-encoding: chunked\r\n\r\n1\r\nxy\r\n`,
    `${HEAD}X: ${"y".repeat(70_000)}`,
    `${HEAD}X: ${"y".repeat(70_000)}\r\n\r\n`,
    `${HEAD}transfer-encoding: chunked\r\n\r\n1;${"y".repeat(70_000)}`,
  ])
    t.throws(() => read(answer, 1000), /its answer/, answer.slice(0, 60));
  for (const answer of [
    "",
    "HTTP/1.1 2",
    `${HEAD}Content-Length: 2\r\n\r\nx`,
    `${HEAD}transfer-encoding: chunked\r\n\r\n`,
  ])
    t.throws(() => read(answer, 1000, true), /closed before the answer was complete/);
  t.end();
});

/** A server whose connections `serve` answers, and a service's place. */
async function server(t: Test, serve: (socket: Socket, request: string) => void) {
  let connections = 0;
  let closed: Promise<unknown> = Promise.resolve();
  const server = createServer((socket) => {
    connections++;
    closed = once(socket, "close");
    socket.on("data", (piece) => serve(socket, piece.toString()));
    socket.on("error", () => {});
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { service: { url, token: "secret" }, connections: () => connections, closed: () => closed };
}

const json = (body: string, status = "200 OK") =>
  `HTTP/1.1 ${status}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

t.test("requests share a connection, which is opened again if the service has closed it", async (t) => {
  const asked: string[] = [];
  const { service, connections, closed } = await server(t, (socket, request) => {
    asked.push(request);
    socket.write(json('{"n":1}'));
    if (request.includes("/last")) socket.end();
  });
  const api = new Api(service);
  t.teardown(() => api.close());
  t.same(await api.get("/a", { x: "a b", y: null, z: 0 }), { n: 1 });
  t.same(await api.send("POST", "/last", { é: 1 }), { n: 1 });
  t.equal(connections(), 1);
  // Our end of it is closed when the server has seen that.
  await closed();
  t.same(await api.get("/b"), { n: 1 });
  t.equal(connections(), 2);
  t.match(asked[0], /^GET \/a\?x=a%20b&z=0 HTTP\/1\.1\r\nhost: 127/);
  t.match(asked[0], "authorization: Bearer secret\r\n");
  t.match(asked[1], /content-length: 8\r\n\r\n\{"é":1\}$/);
});

t.test("a refusal has its problem; an answer that breaks off, or is no JSON, is a failure", async (t) => {
  const { service } = await server(t, (socket, request) => {
    if (request.includes("/refused"))
      socket.write(json('{"title":"no","detail":"x","errno":"ENOENT"}', "404 Not Found"));
    else if (request.includes("/broken")) socket.end(`${HEAD}Content-Length: 50\r\n\r\n{`);
    else socket.end(json("<html>"));
  });
  const api = new Api(service);
  const refused = await api.get("/refused").catch((error: unknown) => error);
  t.type(refused, Refused);
  t.match(refused, { status: 404, problem: { title: "no", detail: "x", errno: "ENOENT" } });
  await t.rejects(api.get("/broken"), { message: /^http:\/\/127.*closed before the answer was complete$/ });
  await t.rejects(api.get("/html"), { message: /its answer is not JSON/ });
});

t.test("lines and messages are read one by one; a stream that is left closes its connection", async (t) => {
  const { service, connections } = await server(t, (socket, request) => {
    if (request.includes("/lines")) socket.write(json('{"a":1}\n\n{"a":"é"}\n{"a":3}'));
    else if (request.includes("/messages"))
      socket.write(`${HEAD}\r\nid: x\nevent: bookmark\ndata: {"seq":1}\n\nevent: event\ndata: {}\n\n`);
    else socket.write(json("{}"));
  });
  const api = new Api(service);
  t.teardown(() => api.close());
  const lines: unknown[] = [];
  for await (const line of api.lines("/lines")) lines.push(line);
  t.same(lines, [{ a: 1 }, { a: "é" }, { a: 3 }]);
  const events: unknown[] = [];
  for await (const message of api.messages("/messages")) {
    events.push(message);
    if (events.length === 2) break;
  }
  t.same(events, [
    { event: "bookmark", data: '{"seq":1}' },
    { event: "event", data: "{}" },
  ]);
  t.equal(connections(), 1);
  t.same(await api.get("/x"), {});
  t.equal(connections(), 2);
});

t.test("a reader that does not read slows the sender down", async (t) => {
  let sent: Socket | null = null;
  const { service } = await server(t, (socket) => {
    sent = socket;
    socket.write(`${HEAD}\r\n`);
    for (let piece = 0; piece < 64; piece++) socket.write(Buffer.alloc(1024 * 1024));
  });
  const connection = new PlainConnection(service);
  t.teardown(() => connection.close());
  const { pieces } = await connection.send({ method: "GET", path: "/" });
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.ok(((sent as Socket | null)?.writableLength ?? 0) > 16 * 1024 * 1024, "most of it waits at the sender");
  let bytes = 0;
  for await (const piece of pieces) {
    bytes += piece.length;
    if (bytes >= 64 * 1024 * 1024) break;
  }
  t.equal(bytes, 64 * 1024 * 1024);
});
