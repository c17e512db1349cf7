import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { type Test, test } from "tap";
import { inLine } from "../../src/net/pipelines.ts";
import { type Sender, Senders } from "../../src/net/senders.ts";

const AT_ONCE = 128;

/** A connection that knows whether it is read. */
class Connection {
  isRead = true;
  destroyed = false;

  pause(): void {
    this.isRead = false;
  }

  resume(): void {
    this.isRead = true;
  }
}

/** Many connections of one sender, each of which has been answered once; another sender is active, too. */
async function crowd(count: number): Promise<{ senders: Senders; many: Sender; connections: readonly Connection[] }> {
  const senders = new Senders();
  const many = senders.of("many");
  const connections = Array.from({ length: count }, () => new Connection());
  senders.of("one").began();
  for (const _ of connections) many.began();
  for (const connection of connections) many.answered(connection);
  return { senders, many, connections };
}

function read(connections: readonly Connection[]): number {
  return connections.filter(({ isRead }) => isRead).length;
}

test("while another sender is active, some connections are read at a time, in turns", async (t) => {
  const { many, connections } = await crowd(1000);
  t.equal(read(connections), 0, "none before the turn");
  await turn();
  const reading = connections.slice(0, AT_ONCE);
  t.equal(read(reading), AT_ONCE, "those that were answered first come first");
  t.equal(read(connections), AT_ONCE);
  // They have requests, so that no others are read.
  for (const _ of reading) many.began();
  for (let turns = 0; turns < 5; turns++) await turn();
  t.equal(read(connections), AT_ONCE);
  for (const connection of reading) many.answered(connection);
  const seen = new Set(reading);
  for (let turns = 0; turns < 20; turns++) {
    await turn();
    for (const connection of connections) if (connection.isRead) seen.add(connection);
  }
  t.equal(seen.size, connections.length, "each had its turn");
});

test("connections that have no request leave their place to others", async (t) => {
  const { connections } = await crowd(1000);
  for (let turns = 0; turns < 1000 / AT_ONCE + 1; turns++) await turn();
  t.equal(read(connections), connections.length);
});

test("a sender that is alone is never held back, nor one with few requests", async (t) => {
  const senders = new Senders();
  const alone = senders.of("alone");
  const connections = Array.from({ length: 1000 }, () => new Connection());
  for (const _ of connections) alone.began();
  for (const connection of connections) alone.answered(connection);
  t.equal(read(connections), connections.length);
  const { senders: both } = await crowd(1000);
  const few = both.of("few");
  const one = new Connection();
  few.began();
  few.answered(one);
  t.equal(one.isRead, true);
});

test("when the others have gone, all is read", async (t) => {
  const { senders, many, connections } = await crowd(1000);
  for (let more = 0; more < AT_ONCE; more++) many.began();
  await turn();
  t.equal(read(connections), 0);
  while (senders.areSeveral) await sleep(10);
  many.answered(new Connection());
  await turn();
  t.equal(read(connections), connections.length);
});

test("a request that lasts takes no place from others", async (t) => {
  const { many, connections } = await crowd(1000);
  for (let stream = 0; stream < 2 * AT_ONCE; stream++) many.otherBegan();
  for (let turns = 0; turns < 1000 / (AT_ONCE / 4) + 2; turns++) await turn();
  t.equal(read(connections), connections.length);
});

test("the turn of a connection reads no more of one that has too many pipelined requests", async (t) => {
  const senders = new Senders();
  let [read, answered, most] = [0, 0, 0];
  const line = inLine<IncomingMessage>(
    (request, response) => {
      const sender = senders.of("many");
      sender.began();
      setTimeout(() => {
        answered++;
        response.end("ok");
        sender.answered(request.socket);
      }, 1);
      return true;
    },
    () => {},
  );
  const server = createServer((request, response) => {
    most = Math.max(most, ++read - answered);
    line(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const text = `GET / HTTP/1.1\r\nhost: localhost\r\n\r\n`;
  const clients = Array.from({ length: 12 }, () => connect((server.address() as AddressInfo).port, "127.0.0.1"));
  for (const client of clients)
    client
      .on("error", () => {})
      .resume()
      .write(text.repeat(20_000));
  while (answered < 9000) {
    senders.of("one").began();
    senders.of("one").answered(new Connection());
    await turn();
  }
  for (const client of clients) client.destroy();
  // What one read of each connection has, and what is under way.
  const bound = clients.length * (Math.ceil(65_536 / text.length) + 2 * 33);
  t.ok(most <= bound, `${most} read and not answered, at most ${bound}`);
});

/** node:http with senders by a header; its answers come in a later turn. */
async function serve(t: Test, senders: Senders): Promise<number> {
  const server = createServer((request, response) => {
    const sender = senders.of(String(request.headers["x-sender"]));
    sender.began();
    setTimeout(() => {
      response.end("ok");
      sender.answered(request.socket);
    }, 1);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** Sends a request so many times, each behind the answer to the one before, or all at once. */
async function ask(port: number, sender: string, times: number, isPipelined = false): Promise<number> {
  const client = connect(port, "127.0.0.1");
  const text = `GET / HTTP/1.1\r\nhost: localhost\r\nx-sender: ${sender}\r\n\r\n`;
  let answers = 0;
  let rest = "";
  client.write(isPipelined ? text.repeat(times) : text);
  for await (const piece of client.setEncoding("latin1")) {
    const parts = (rest + piece).split("HTTP/1.1 200");
    const found = parts.length - 1;
    rest = (parts.at(-1) as string).slice(-12);
    answers += found;
    if (answers >= times) break;
    if (!isPipelined && found > 0) client.write(text);
  }
  client.destroy();
  return answers;
}

test("every request of many connections is answered, pipelined ones, too", async (t) => {
  const senders = new Senders();
  const port = await serve(t, senders);
  let isOver = false;
  const other = (async () => {
    while (!isOver) await ask(port, "one", 5);
  })();
  await ask(port, "one", 5);
  const answers = await Promise.all(Array.from({ length: 400 }, () => ask(port, "many", 20)));
  isOver = true;
  await other;
  t.same(new Set(answers), new Set([20]));
  const pipelined = await Promise.all(Array.from({ length: 40 }, () => ask(port, "many", 50, true)));
  t.same(new Set(pipelined), new Set([50]));
});
