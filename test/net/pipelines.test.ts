import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import t from "tap";
import { inLine } from "../../src/net/pipelines.ts";

const nothing = (): void => {};

const REQUEST = "GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n";

t.test("of one connection's requests few are answered at once, and all in their order", async (t) => {
  const COUNT = 300;
  const held: { readonly url: string; readonly response: ServerResponse }[] = [];
  let most = 0;
  const server = createServer(
    inLine(({ url }, response) => {
      held.push({ url: url as string, response });
      most = Math.max(most, held.length);
      return true;
    }, nothing),
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  let text = "";
  client.on("data", (piece: Buffer) => {
    text += piece.toString();
  });
  client.write(Array.from({ length: COUNT }, (_, at) => REQUEST.replace("%d", String(at))).join(""));
  while (held.length < 33) await new Promise((resolve) => setImmediate(resolve));
  const answered = (): string[] => [...text.matchAll(/<\/(\d+)>/g)].map(([, number]) => number as string);
  while (answered().length < COUNT) {
    for (const { url, response } of held.splice(0)) response.end(`<${url}>`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.equal(most, 33, "the one whose answer is taken, and 32 behind it");
  t.same(
    answered(),
    Array.from({ length: COUNT }, (_, at) => String(at)),
  );
  client.destroy();
});

t.test("what a connection sends is read no faster than it is answered", async (t) => {
  const COUNT = 20_000;
  /** What Node reads at once may hold so many, and is read to its end. */
  const READ_MAX = 2 * Math.ceil((64 * 1024) / (REQUEST.length - 2)) + 100;
  const held: ServerResponse[] = [];
  let [came, answered] = [0, 0];
  let isOpen = false;
  const line = inLine((_request, response) => {
    if (isOpen) response.end();
    else held.push(response);
    return true;
  }, nothing);
  const server = createServer((request, response) => {
    came++;
    response.on("finish", () => answered++);
    line(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  client.resume();
  client.write(REQUEST.replace("%d", "x").repeat(COUNT));
  while (held.length < 33) await new Promise((resolve) => setImmediate(resolve));
  for (let turn = 0; turn < 1000; turn++) await new Promise((resolve) => setImmediate(resolve));
  t.ok(came <= READ_MAX, `${came} of ${COUNT} have been read`);
  isOpen = true;
  for (const response of held.splice(0)) response.end();
  while (answered < COUNT) await new Promise((resolve) => setImmediate(resolve));
  t.equal(came, COUNT, "and all are answered");
  client.destroy();
});

t.test("requests that have waited are begun a few a turn of the event loop", async (t) => {
  const CLIENTS = 8;
  const COUNT = 200;
  let [began, most, ended] = [0, 0, 0];
  const urls: string[] = [];
  const server = createServer(
    inLine(({ url }, response) => {
      most = Math.max(most, ++began);
      urls.push(url as string);
      response.on("close", () => ended++).end();
      return true;
    }, nothing),
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const clients = Array.from({ length: CLIENTS }, () => connect((server.address() as AddressInfo).port, "127.0.0.1"));
  await Promise.all(clients.map((client) => once(client, "connect")));
  for (const [at, client] of clients.entries()) {
    client.resume();
    client.write(Array.from({ length: COUNT }, (_, number) => REQUEST.replace("%d", `${at}/${number}`)).join(""));
  }
  while (ended < CLIENTS * COUNT) {
    await new Promise((resolve) => setImmediate(resolve));
    began = 0;
  }
  t.ok(most <= CLIENTS * 33 + 32, `${most} in a turn`);
  for (const at of clients.keys())
    t.same(
      urls.filter((url) => url.startsWith(`/${at}/`)),
      Array.from({ length: COUNT }, (_, number) => `/${at}/${number}`),
      "each connection's are begun in their order",
    );
  for (const client of clients) client.destroy();
});

t.test(
  "a request that cannot be answered at once waits for all before it, and those behind it wait for it",
  async (t) => {
    /** GETs are answered at once, POSTs are not. */
    const urls = [..."gpggppgp"].map((kind, at) => `${kind === "g" ? "GET" : "POST"} /${at}`);
    const begun: string[] = [];
    const open = new Map<string, ServerResponse>();
    const take = ({ method, url }: IncomingMessage, response: ServerResponse): void => {
      begun.push(`${method} ${url}`);
      open.set(`${method} ${url}`, response);
    };
    const server = createServer(
      inLine(
        (request, response) => {
          if (request.method !== "GET") return false;
          take(request, response);
          return true;
        },
        (request, response) => take(request, response),
      ),
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.teardown(() => server.close());
    const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
    client.resume();
    client.write(urls.map((line) => `${line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n`).join(""));
    const end = (url: string): unknown => open.get(url)?.end();
    const settled = async (): Promise<void> => {
      for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    };
    while (begun.length < 1) await new Promise((resolve) => setImmediate(resolve));
    await settled();
    t.same(begun, ["GET /0"], "the POST waits");
    for (const [ended, then] of [
      ["GET /0", ["POST /1"]],
      ["POST /1", ["GET /2", "GET /3"]],
      ["GET /3", []],
      ["GET /2", ["POST /4"]],
      ["POST /4", ["POST /5"]],
      ["POST /5", ["GET /6"]],
      ["GET /6", ["POST /7"]],
    ] as const) {
      const before = begun.length;
      end(ended);
      while (begun.length < before + then.length) await new Promise((resolve) => setImmediate(resolve));
      await settled();
      t.same(begun.slice(before), then, `when ${ended} is answered`);
    }
    client.destroy();
  },
);
