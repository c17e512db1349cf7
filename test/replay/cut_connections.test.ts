import type { Socket } from "node:net";
import { type Test, test } from "tap";
import { Service as Recording } from "../../conformance/service.ts";
import { Connection } from "../../src/client/connection.ts";
import { ApiTarget } from "../../src/replay/api_target.ts";
import type { HttpRequest } from "../../src/replay/http_call.ts";
import { Ids } from "../../src/replay/ids.ts";
import { Replay } from "../../src/replay/replay.ts";
import { answer, CuttingServer, type OnRequest } from "../support/cutting_server.ts";
import { sourceOf } from "./support.ts";

const COUNT = 10;

function request(n: number): HttpRequest {
  const headers = { "content-type": "application/json" };
  return { method: "POST", path: `/${n}`, body: JSON.stringify({ n }), headers };
}

/** Once all requests are there, so that all of them are under way: what `cut` does. */
function onceAllAreThere(cut: (socket: Socket) => void): OnRequest {
  return (socket, n) => {
    if (n === COUNT) cut(socket);
  };
}

function good(count: number): string {
  return Array.from({ length: count }, (_, at) => answer({ at })).join("");
}

const CUTS: readonly (readonly [name: string, answered: number, cut: (socket: Socket) => void])[] = [
  ["before the first answer, by a reset", 0, (socket) => socket.resetAndDestroy()],
  ["before the first answer, by an end", 0, (socket) => socket.end()],
  ["between two answers", 3, (socket) => socket.end(good(3))],
  ["before the last answer", COUNT - 1, (socket) => socket.end(good(COUNT - 1))],
  ["in the head of an answer", 3, (socket) => socket.end(`${good(3)}HTTP/1.1 200 OK\r\ncontent-`)],
  ["in the status line of an answer", 3, (socket) => socket.end(`${good(3)}HTTP/1`)],
  ["in the body of an answer", 3, (socket) => socket.end(good(4).slice(0, -1))],
  [
    "in a chunk of an answer",
    3,
    (socket) => socket.end(`${good(3)}HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab`),
  ],
  ["by an answer that says so", 4, (socket) => socket.end(good(3) + answer({}, "connection: close\r\n"))],
  ["by an answer of HTTP/1.0", 4, (socket) => socket.end(good(3) + answer({}).replace("1.1", "1.0"))],
  [
    "by an upgrade that nobody asked for",
    3,
    (socket) => socket.end(`${good(3)}HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n`),
  ],
  ["by what is no HTTP", 3, (socket) => socket.end(`${good(3)}SSH-2.0-secret\r\n`)],
];

for (const [name, answered, cut] of CUTS)
  test(`a connection that is cut ${name}: nothing is sent again, nor afterwards`, async (t) => {
    const server = await CuttingServer.start(t, onceAllAreThere(cut));
    const connection = new Connection(server.url, null);
    t.teardown(() => connection.close());
    const sent = Array.from({ length: COUNT }, (_, at) => connection.send(request(at)));
    const ends = await Promise.allSettled(sent);
    t.strictSame(
      ends.map(({ status }) => status),
      Array.from({ length: COUNT }, (_, at) => (at < answered ? "fulfilled" : "rejected")),
    );
    const [first] = ends.flatMap((end) => (end.status === "rejected" ? [end.reason as Error] : []));
    t.match(first, { name: "TargetFailed" });
    t.notMatch(first?.message, /secret/);
    await t.rejects(connection.send(request(COUNT)), { message: first?.message ?? "" });
    t.equal(await server.connectionsBefore(), 1);
    t.strictSame(
      server.requests,
      Array.from({ length: COUNT }, (_, at) => `/${at}`),
    );
  });

test("requests that were not sent when a connection was cut are not sent on the next one", async (t) => {
  const server = await CuttingServer.start(t, (socket, n) => {
    if (n === 64) socket.end(good(1));
  });
  const connection = new Connection(server.url, null);
  t.teardown(() => connection.close());
  const ends = await Promise.allSettled(Array.from({ length: 100 }, (_, at) => connection.send(request(at))));
  t.equal(ends.filter(({ status }) => status === "fulfilled").length, 1);
  t.equal(await server.connectionsBefore(), 1);
  // The first answer has made room for one more, if it was read before the end.
  t.ok(server.requests.length <= 65);
  t.equal(new Set(server.requests).size, server.requests.length);
});

test("a server that closes after each answer is connected to again, if nothing else was under way", async (t) => {
  const server = await CuttingServer.start(t, (socket) => socket.end(answer({}, "connection: close\r\n")));
  const connection = new Connection(server.url, null);
  t.teardown(() => connection.close());
  for (let at = 0; at < 3; at++) t.equal((await connection.send(request(at))).status, 200);
  t.strictSame(server.requests, ["/0", "/1", "/2"]);
  t.equal(await server.connectionsBefore(), 3);
});

const ENDLESS: readonly (readonly [name: string, head: string, piece: string, why: RegExp])[] = [
  [
    "body with a length",
    "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n",
    " ".repeat(1000),
    /answers more than/,
  ],
  [
    "body in chunks",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    `3e8\r\n${" ".repeat(1000)}\r\n`,
    /more than/,
  ],
  ["body until the end", "HTTP/1.1 200 OK\r\n\r\n", " ".repeat(1000), /answers more than/],
  ["refusal", "HTTP/1.1 500 No\r\ncontent-length: 99999999999999\r\n\r\n", " ".repeat(1000), /answers more than/],
  ["head", "HTTP/1.1 200 OK\r\n", `x: ${"y".repeat(1000)}\r\n`, /not HTTP/],
  ["status line", "HTTP/1.1 200 ", "x".repeat(1000), /is silent/],
];

/** Sends until the other side has had enough. */
function pour(socket: Socket, head: string, piece: string): void {
  socket.write(head);
  const more = (): void => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on("drain", more);
  more();
}

for (const counted of [false, true])
  for (const [name, head, piece, why] of ENDLESS)
    test(`a ${name} without end is bounded${counted ? ", if it is counted only, too" : ""}`, async (t) => {
      const server = await CuttingServer.start(t, (socket) => pour(socket, head, piece));
      const limits = { countedBytesMax: 1_000_000, keptBytesMax: 100_000, silenceMs: 1000 };
      const connection = new Connection(server.url, null, limits);
      t.teardown(() => connection.close());
      await t.rejects(connection.send({ ...request(1), ...(counted && { counted }) }), {
        name: "TargetFailed",
        message: why,
      });
      t.strictSame(server.requests, ["/1"]);
      t.equal(await server.connectionsBefore(), 1);
    });

test("an answer that is counted may be longer than one that is kept", async (t) => {
  const lines = "0123456789\n".repeat(10_000);
  const text = `HTTP/1.1 200 OK\r\ncontent-length: ${lines.length}\r\n\r\n${lines}`;
  const server = await CuttingServer.start(t, (socket) => socket.write(text));
  const limits = { countedBytesMax: 1_000_000, keptBytesMax: 100_000, silenceMs: 1000 };
  const connection = new Connection(server.url, null, limits);
  t.teardown(() => connection.close());
  const { counted, body } = await connection.send({ ...request(1), counted: true });
  t.strictSame([counted, body.length], [{ bytes: 110_000, lines: 10_000 }, 0]);
  await t.rejects(connection.send(request(2)), { message: /it answers more than 100000 bytes$/ });
});

test("of a server that is no HTTP's nothing is told", async (t) => {
  const greets = (socket: Socket): void => void socket.write("SSH-2.0-secret\r\n");
  const server = await CuttingServer.start(t, () => {}, greets);
  const connection = new Connection(server.url, null);
  t.teardown(() => connection.close());
  const failed = await connection.send(request(1)).catch((error: Error) => error.message);
  t.match(failed, /^http:\/\/127\.0\.0\.1:\d+: its answer is not HTTP\/1\.1$/);
});

/** A mapledger that opens one session and answers so many commands of it; then it is gone. */
async function dying(t: Test, commands: number): Promise<CuttingServer> {
  let seq = 0;
  return CuttingServer.start(t, (socket, n, path) => {
    if (n > commands) return;
    const head = `mapledger-seq: ${++seq}\r\n`;
    if (path === "/v1/sessions") socket.write(answer({ id: 1 }, head));
    else if (path.endsWith("/maps")) socket.write(answer({ fd: 3, map_id: 1 }, head));
    else if (path.endsWith("/bpf")) socket.write(answer({ ret: 0, errno: null, seq, attr: {} }));
    else socket.write(answer({ pathname: "/x" }, head));
    if (n === commands) socket.end();
  });
}

test("a replay ends at the first command that is not answered, and tells how many may have run", async (t) => {
  const recording = new Recording();
  const attr = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: 4, max_entries: 64 };
  const map_fd = recording.bpf({ cmd: "BPF_MAP_CREATE", attr }).ret;
  for (let at = 0; at < 60; at++)
    recording.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, key: "00000000", value: "00000000" } });
  const server = await dying(t, 13);
  const connection = new Connection(server.url, null);
  t.teardown(() => connection.close());
  const replay = new Replay({
    source: sourceOf(recording.log.rows),
    target: new ApiTarget(connection),
    ids: new Ids(),
    selection: {},
    prepare: false,
    pace: null,
    onDifference() {},
  });
  await t.rejects(replay.run(), { name: "TargetFailed", message: /it has closed the connection$/ });
  t.equal(replay.summary.last_seq, 13);
  t.equal(await server.connectionsBefore(), 1);
  t.equal(new Set(server.requests).size, 4, "sessions, the directory, the map, and its door");
  t.ok(server.requests.length <= recording.log.rows.length, "none twice");
  t.equal(server.requests.length >= 13, true);
});
