import { once } from "node:events";
import { Agent, type ClientRequest, type IncomingMessage, request } from "node:http";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { Flight } from "../../../src/http/server/flight.ts";
import { WAYS, type Way } from "../fronts/fronted.ts";
import { Service, type ServiceOptions } from "../service.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const JSON_TYPE = { "content-type": "application/json" };
const LINES = "accept: application/x-ndjson\r\n";
/** What the engine reads at once. */
const PIECE = 4 * MIB;

/** A service that listens: for connections that break, rest, or take nothing. */
async function listening(
  t: Test,
  settings: ServiceOptions["settings"] = {},
  more: ServiceOptions = {},
  listen = (WAYS[0] as Way)[1],
) {
  const service = await Service.start(t, { settings, ...more });
  const port = Number(new URL(await listen(t, service)).port);
  const agent = new Agent();
  const sockets: Socket[] = [];
  t.teardown(() => {
    agent.destroy();
    for (const socket of sockets) socket.destroy();
  });
  /** Sends the head of a request. */
  const ask = (method: string, path: string, headers: Record<string, string | number> = {}): ClientRequest => {
    const asked = request({ port, method, path, agent, headers });
    asked.on("error", () => {});
    asked.flushHeaders();
    return asked;
  };
  /** A connection that takes nothing unless it is read from. */
  const raw = (...heads: string[]): Socket => {
    const socket = connect(port, "127.0.0.1");
    sockets.push(socket);
    socket.on("error", () => {}).pause();
    socket.write(heads.map((head) => `${head}host: localhost\r\n\r\n`).join(""));
    return socket;
  };
  /** Nothing is in flight any more: nothing depends on how long that takes. */
  const landed = () => until(() => service.inFlight === 0);
  return { service, ask, raw, landed };
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(1);
}

async function answerOf(asked: ClientRequest): Promise<IncomingMessage> {
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  return response;
}

/** An array, of which nothing need be written to be read. */
async function arrayOf(service: Service, entries: number, valueBytes: number): Promise<string> {
  const attr = { map_type: "BPF_MAP_TYPE_ARRAY", value_size: valueBytes, max_entries: entries, map_flags: [] };
  return service.map(await service.session(), attr);
}

t.test("bytes are taken up to the budget; whoever is alone may have any number", async (t) => {
  const flight = new Flight({ flightBytesMax: 100, stallSeconds: 1 });
  t.ok(flight.take(1000), "nothing else is in flight");
  t.notOk(flight.take(1));
  t.ok(flight.take(10, 1000), "more of the same request");
  flight.give(1010);
  t.ok(flight.take(60));
  t.notOk(flight.take(41));
  t.ok(flight.take(40));
  t.equal(flight.bytes, 100);
});

t.test("a body is counted before it is read; beyond the budget its request is refused", async (t) => {
  const { service, ask, landed } = await listening(t, { flightBytesMax: 40 * MIB });
  const headers = { ...JSON_TYPE, "content-length": 10 * MIB };
  const refused: IncomingMessage[] = [];
  const unfinished = Array.from({ length: 16 }, () =>
    ask("POST", "/v1/maps/1/batch/update", headers).on("response", (response) => refused.push(response)),
  );
  await until(() => refused.length === 12);
  for (const { statusCode, headers } of refused) t.match([statusCode, headers["retry-after"]], [503, "1"]);
  t.match(JSON.parse(await text(refused[0] as IncomingMessage)), { type: "urn:mapledger:problem:too-many-bytes" });
  t.equal(service.inFlight, 40 * MIB);
  for (const asked of unfinished) asked.destroy();
  await landed();
});

t.test(
  "a caller may have half of the budget, so that others find room; one request of his fits whatever its size is",
  async (t) => {
    const tokens = { ann: "read,write", bob: "read,write" };
    const { service, ask, landed } = await listening(t, { flightBytesMax: 40 * MIB }, { tokens });
    const refused: IncomingMessage[] = [];
    const begin = (token: string, bytes: number): ClientRequest =>
      ask("POST", "/v1/maps/1/batch/update", {
        ...JSON_TYPE,
        "content-length": bytes,
        authorization: `Bearer ${token}`,
      }).on("response", (response) => refused.push(response));
    const of = Array.from({ length: 4 }, () => begin("ann", 9 * MIB));
    await until(() => refused.length === 2);
    t.equal(service.inFlight, 18 * MIB);
    const [first] = refused as [IncomingMessage];
    t.match([first.statusCode, first.headers["retry-after"]], [503, "1"]);
    t.match(JSON.parse(await text(first)), {
      detail: /^18874368 bytes of ann's bodies .* may have half of all \(MAPLEDGER_FLIGHT_BYTES_MAX is 41943040\)$/,
    });
    of.push(begin("bob", 22 * MIB));
    await until(() => service.inFlight === 40 * MIB);
    t.equal(refused.length, 2, "more than half, but one request");
    for (const asked of of) asked.destroy();
    await landed();
  },
);

t.test("a body that does not say how long it is is counted as it comes", async (t) => {
  const { service, ask, landed } = await listening(t, { flightBytesMax: MIB });
  const path = await arrayOf(service, 1, 4);
  const alone = ask("POST", `${path}/batch/update`, JSON_TYPE);
  alone.write(Buffer.alloc(3 * MIB, " "));
  await until(() => service.inFlight === 3 * MIB);
  const other = ask("POST", `${path}/batch/update`, JSON_TYPE);
  other.write(Buffer.alloc(100 * KIB, " "));
  const { statusCode, headers } = await answerOf(other);
  t.match([statusCode, headers["retry-after"], headers.connection], [503, "1", "close"]);
  t.equal(service.inFlight, 3 * MIB);
  const small = ask("POST", `${path}/batch/update`, JSON_TYPE);
  small.end(JSON.stringify({ elements: [{ key: "00000000", value: "00000000" }] }));
  t.equal((await answerOf(small)).statusCode, 200, "small ones need no room");
  alone.destroy();
  await landed();
});

t.test("a body of any size is taken if nothing else is in flight, and is read in pieces", async (t) => {
  const { service, ask, landed } = await listening(t, { flightBytesMax: KIB });
  const path = await arrayOf(service, 1, MIB);
  const turns = service.turns.taken;
  const body = Buffer.from(JSON.stringify({ value: "2a".repeat(MIB) }));
  for (const headers of [{ ...JSON_TYPE, "content-length": body.length }, JSON_TYPE]) {
    const asked = ask("PUT", `${path}/elements/00000000`, headers);
    asked.end(body);
    t.equal((await answerOf(asked)).statusCode, 200);
    await landed();
  }
  t.ok(service.turns.taken >= turns + 8, `${service.turns.taken - turns} turns`);
});

t.test("what a request holds goes back with its answer, whatever that is", async (t) => {
  const { service, ask, landed } = await listening(t, { bodyBytesMax: 2 * MIB });
  const path = await arrayOf(service, 1, 4);
  const long = "0".repeat(MIB);
  for (const [what, body, status] of [
    ["no JSON", `{"elements":[${long}`, 400],
    ["no elements", `{"elements":"${long}"}`, 400],
    ["no such field", `{"other":"${long}"}`, 400],
    ["a list of what is no element", `{"elements":[${"0,".repeat(MIB / 2)}0]}`, 400],
    ["too large", `{"elements":"${long}${long}"}`, 413],
  ] as const)
    for (const headers of [{ ...JSON_TYPE, "content-length": body.length }, JSON_TYPE]) {
      const asked = ask("POST", `${path}/batch/update`, headers);
      asked.end(body);
      const answer = await answerOf(asked);
      t.equal(answer.statusCode, status, what);
      answer.resume();
      await landed();
    }
});

t.test("exports hold a piece each, whatever the map has, and nothing when they are abandoned", async (t) => {
  const { service, raw, landed } = await listening(t);
  const path = await arrayOf(service, 64 * KIB, KIB);
  const sockets = Array.from({ length: 20 }, () => raw(`GET ${path}/elements HTTP/1.1\r\n${LINES}`));
  for (const socket of sockets) await once(socket.resume(), "data").then(() => socket.pause());
  t.ok(service.inFlight > 0);
  t.ok(service.inFlight <= 20 * PIECE, `${service.inFlight} bytes for 20 times 64 MiB`);
  for (const socket of sockets) socket.destroy();
  await landed();
});

t.test("readers of ten bytes at a time hold a piece each", async (t) => {
  const { service, raw, landed } = await listening(t);
  const path = await arrayOf(service, 64 * KIB, KIB);
  const sockets = Array.from({ length: 10 }, () => raw(`GET ${path}/elements HTTP/1.1\r\n${LINES}`));
  for (const socket of sockets) {
    await once(socket, "readable");
    for (let times = 0; times < 10; times++) t.equal((socket.read(10) as Buffer).length, 10);
  }
  t.ok(service.inFlight <= 10 * PIECE, `${service.inFlight} bytes`);
  for (const socket of sockets) socket.destroy();
  await landed();
});

for (const [by, listen] of WAYS)
  t.test(`a reader that takes nothing is cut; one that has nothing to take is not, ${by}`, async (t) => {
    const { service, raw, landed } = await listening(t, { stallSeconds: 1 }, {}, listen);
    const path = await arrayOf(service, 64 * KIB, KIB);
    const waiting = raw("GET /v1/events/stream HTTP/1.1\r\n");
    await once(waiting.resume(), "data");
    const reader = raw(`GET ${path}/elements HTTP/1.1\r\n${LINES}`);
    await until(() => service.inFlight > 0);
    await landed();
    await once(reader.resume(), "close");
    t.equal(service.streams, 1);
    t.notOk(waiting.destroyed);
  });

for (const [by, listen] of WAYS)
  t.test(`a sender that sends nothing more of its body is cut, ${by}`, async (t) => {
    const { service, ask, landed } = await listening(t, { stallSeconds: 1 }, {}, listen);
    const asked = ask("POST", "/v1/maps/1/batch/update", { ...JSON_TYPE, "content-length": MIB });
    asked.write("{");
    await until(() => service.inFlight === MIB);
    await once(asked, "error");
    await landed();
  });

t.test("answers beyond the budget are refused, but for what was taken out", async (t) => {
  const { service, ask, landed } = await listening(t, { flightBytesMax: MIB });
  const array = await arrayOf(service, 1, 200 * KIB);
  const queue = await service.map(await service.session(), {
    map_type: "BPF_MAP_TYPE_QUEUE",
    key_size: 0,
    value_size: 200 * KIB,
    map_flags: [],
  });
  const value = "2a".repeat(200 * KIB);
  await service.send("POST", `${queue}/push`, { value });
  const holding = ask("POST", "/v1/maps/1/batch/update", { ...JSON_TYPE, "content-length": MIB });
  await until(() => service.inFlight === MIB);
  const [, , , session, , fd] = array.split("/");
  const lookup = { cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd: Number(fd), count: 1 } };
  for (const [method, url, body] of [
    ["GET", `${array}/elements/00000000`],
    ["GET", `/v1/maps/1/elements/00000000?at=3`],
    ["GET", `${array}/elements`],
    ["POST", `${array}/batch/lookup`, {}],
    ["POST", `/v1/sessions/${session}/bpf`, lookup],
  ] as const) {
    const { statusCode, headers } = await service.send(method, url, body);
    t.match([statusCode, headers["retry-after"]], [503, "1"], `${method} ${url}`);
  }
  t.equal((await service.send("POST", `${queue}/pop`)).json().value, value);
  holding.destroy();
  await landed();
  for (const [method, url, body] of [
    ["GET", `${array}/elements/00000000`],
    ["POST", `${array}/batch/lookup`, {}],
    ["POST", `/v1/sessions/${session}/bpf`, lookup],
  ] as const)
    t.equal((await service.send(method, url, body)).statusCode, 200, `${method} ${url}`);
  await landed();
});

t.test("answers that wait behind others on a connection go with it", async (t) => {
  const { service, raw, landed } = await listening(t);
  const path = await arrayOf(service, 4, 4 * MIB);
  const socket = raw(...Array.from({ length: 4 }, (_, at) => `GET ${path}/elements/0${at}000000 HTTP/1.1\r\n`));
  await until(() => service.inFlight === 16 * MIB);
  socket.destroy();
  await landed();
});

t.test("a large value is answered alike by the hot path and by the routes, and in pieces", async (t) => {
  const service = await Service.start(t);
  const bytes = Buffer.from(Array.from({ length: 300 * KIB }, (_, at) => at % 251));
  const path = await arrayOf(service, 1, bytes.length);
  await service.send("PUT", `${path}/elements/00000000`, { value: bytes.toString("hex") });
  const turns = service.turns.taken;
  const hot = await service.send("GET", `${path}/elements/00000000`);
  const routed = await service.send("GET", `${path}/elements/0x00000000`);
  t.equal(hot.json().value, bytes.toString("hex"));
  t.equal(routed.json().value, hot.json().value);
  t.match(hot.headers, { "content-type": routed.headers["content-type"] as string, "mapledger-seq": /\d+/ });
  t.ok(service.turns.taken >= turns + 8);
  t.equal(service.inFlight, 0);
});

t.test("an event with a large value is told in pieces as it is otherwise", async (t) => {
  const service = await Service.start(t);
  const value = "5a".repeat(100 * KIB);
  const path = await arrayOf(service, 1, 100 * KIB);
  const { seq } = (await service.send("PUT", `${path}/elements/00000000`, { value })).json();
  const one = (await service.send("GET", `/v1/events/${seq}`)).json();
  t.match(one, { seq, key: "00000000", value, errno: null });
  t.same((await service.send("GET", `/v1/events?after=${seq - 1}`)).json().events, [one]);
  const lines = await service.send("GET", `/v1/events?after=${seq - 1}`, undefined, { accept: "application/x-ndjson" });
  t.same(JSON.parse(lines.body), one);
  t.equal(service.inFlight, 0);
});
