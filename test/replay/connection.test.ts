import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { type Test, test } from "tap";
import { Connection, type Room } from "../../src/client/connection.ts";
import { Flight } from "../../src/http/server/flight.ts";
import { TargetFailed } from "../../src/replay/target.ts";

const REQUEST = { method: "GET", path: "/", body: null, headers: {} } as const;

function connected(t: Test, server: Server): Promise<Connection> {
  return connectedTo(t, server);
}

async function connectedTo(t: Test, server: Server, room?: Room): Promise<Connection> {
  if (!server.listening) await once(server.listen(0, "127.0.0.1"), "listening");
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const connection = new Connection(url, null, undefined, room);
  t.teardown(() => {
    connection.close();
    server.close();
    server.closeAllConnections();
  });
  return connection;
}

function counting(options: { keepAliveTimeout: number; keepAliveTimeoutBuffer: number }): Server & { sockets: number } {
  const answer: RequestListener = (request, response) => response.end(request.url);
  const server = Object.assign(createServer(options, answer), { sockets: 0 });
  return server.on("connection", () => server.sockets++);
}

test("a server that closes what rests is connected to again", async (t) => {
  const server = counting({ keepAliveTimeout: 600_000, keepAliveTimeoutBuffer: 1 });
  const connection = await connected(t, server);
  for (const sockets of [1, 2, 3]) {
    t.same((await connection.send(REQUEST)).status, 200);
    t.equal(server.sockets, sockets);
    server.closeIdleConnections();
    while ((await connectionsOf(server)) > 0) await sleep(5);
    await heardOf();
  }
});

test("a connection that may be closed any moment is not used any more", async (t) => {
  const server = counting({ keepAliveTimeout: 2000, keepAliveTimeoutBuffer: 600_000 });
  const connection = await connected(t, server);
  await Promise.all([connection.send(REQUEST), connection.send(REQUEST)]);
  t.equal(server.sockets, 1);
  await sleep(1100);
  await connection.send(REQUEST);
  t.equal(server.sockets, 2, "the server said that it waits for two seconds");
});

test("where an answer is missing, nobody can say whether the command has run", async (t) => {
  const server = createServer((request) => request.socket.destroy());
  const connection = await connected(t, server);
  await t.rejects(connection.send(REQUEST), TargetFailed);
  await t.rejects(connection.send(REQUEST), TargetFailed);
});

test("answers are kept where there is room, and give it back however they end", async (t) => {
  const server = createServer((request, response) => {
    response.write(Buffer.alloc(100_000));
    if (request.url === "/whole") response.end();
    else if (request.url === "/cut") request.socket.destroySoon();
    else response.end(Buffer.alloc(100_000));
  });
  const room = new Flight({ flightBytesMax: 150_000, stallSeconds: 1 });
  const connected = await connectedTo(t, server, room);
  t.equal((await connected.send({ ...REQUEST, path: "/whole" })).body.length, 100_000);
  await nothingIn(room);
  room.take(100_000);
  await t.rejects(connected.send(REQUEST), { message: /there is no room for its answer/ });
  room.give(100_000);
  t.equal(room.bytes, 0);
  const cut = await connectedTo(t, server, room);
  await t.rejects(cut.send({ ...REQUEST, path: "/cut" }), TargetFailed);
  t.equal(room.bytes, 0);
});

async function nothingIn(room: Flight): Promise<void> {
  while (room.bytes > 0) await sleep(1);
}

test("a server that has gone is told of", async (t) => {
  const server = counting({ keepAliveTimeout: 600_000, keepAliveTimeoutBuffer: 1 });
  const connection = await connected(t, server);
  await connection.send(REQUEST);
  server.close();
  server.closeAllConnections();
  await once(server, "close");
  await heardOf();
  await t.rejects(connection.send(REQUEST), { name: "TargetFailed", message: /ECONNREFUSED/ });
});

/** Between two timers the event loop looks at its sockets: what this process has closed at one end is known at the other. */
async function heardOf(): Promise<void> {
  await sleep(10);
  await sleep(10);
}

function connectionsOf(server: Server): Promise<number> {
  return new Promise((resolve, reject) =>
    server.getConnections((error, count) => (error === null ? resolve(count) : reject(error))),
  );
}
