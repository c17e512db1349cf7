import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import t, { type Test } from "tap";
import { Certificates } from "../support/certificates.ts";
import { type ServiceProcess, startService, startWords } from "../support/service_process.ts";

/** What a client sends before it falls silent. */
const SENT = {
  nothing: "",
  "half a request line": "GET /live",
  "half of the headers": "GET /livez HTTP/1.1\r\nhost: local",
  "half of a body":
    "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
  "a request, and nothing more": "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n",
  "a request, and half of another": "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\nGET /livez HTT",
  "a request for a stream": "GET /v1/events/stream HTTP/1.1\r\nhost: localhost\r\n\r\n",
} as const;

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-open-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Connections that stay open until the service closes them. */
class Held {
  readonly #sockets: Socket[] = [];

  constructor(t: Test) {
    t.teardown(() => {
      for (const socket of this.#sockets) socket.destroy();
    });
  }

  async hold(socket: Socket, text: string, connected = "connect"): Promise<void> {
    this.#sockets.push(socket.on("error", () => {}).resume());
    await once(socket, connected);
    socket.write(text);
  }
}

/** The service has accepted everything that came before a request that it answers, and has read it. */
async function settled({ url }: ServiceProcess): Promise<void> {
  for (let turn = 0; turn < 3; turn++) {
    await (await fetch(`${url}/livez`)).text();
    await sleep(10);
  }
}

/** A stop that gives up ends with 1, or without this line. */
async function stopsInOrder(t: Test, service: ServiceProcess): Promise<void> {
  t.equal(await service.end("SIGTERM"), 0);
  t.match(service.lines.at(-1), { msg: "stopped" });
}

t.test("no open connection keeps the service from stopping in order", async (t) => {
  const data = folderOf(t);
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  const { hostname, port } = new URL(service.url);
  const held = new Held(t);
  for (const text of Object.values(SENT)) {
    await held.hold(connect(Number(port), hostname), text);
    await held.hold(connect(join(data, "mapledger.sock")), text);
  }
  await settled(service);
  await stopsInOrder(t, service);
});

t.test("nor does one that has begun TLS, or not even that", async (t) => {
  const folder = folderOf(t);
  const made = new Certificates(folder);
  made.authority("ca");
  made.signed("server", "/CN=server", "ca", "IP:127.0.0.1");
  const service = await startService({
    MAPLEDGER_DATA: join(folder, "data"),
    MAPLEDGER_MIRROR: "off",
    MAPLEDGER_TLS_CERT: join(folder, "server.pem"),
    MAPLEDGER_TLS_KEY: join(folder, "server.key"),
  });
  const { hostname, port } = new URL(service.url);
  const held = new Held(t);
  for (const hello of ["", "\x16\x03\x01"]) await held.hold(connect(Number(port), hostname), hello);
  for (const text of Object.values(SENT))
    await held.hold(
      connectTls({ port: Number(port), host: hostname, rejectUnauthorized: false }),
      text,
      "secureConnect",
    );
  await stopsInOrder(t, service);
});

t.test("nor from stopping in order while it only reads", async (t) => {
  const folder = folderOf(t);
  const data = join(folder, "data");
  const first = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  await first.end("SIGTERM");
  const service = await startWords(["serve", "--read-only", data], {});
  const { hostname, port } = new URL(service.url);
  const held = new Held(t);
  for (const text of Object.values(SENT)) await held.hold(connect(Number(port), hostname), text);
  await settled(service);
  t.equal(await service.end("SIGTERM"), 0);
});
