import { once } from "node:events";
import { Agent, request as requestPlain } from "node:http";
import { request as requestTls } from "node:https";
import { type AddressInfo, createServer } from "node:net";
import { text } from "node:stream/consumers";
import t from "tap";
import { Certificates } from "../support/certificates.ts";
import { spawnService, startService } from "../support/service_process.ts";

const THREADS = { MAPLEDGER_HTTP_THREADS: "3", MAPLEDGER_MIRROR: "off" };
/** So many connections reach each of three threads but once in 10^10 runs. */
const CONNECTIONS = 60;
const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 10_000 };
const KEYS = 600;

interface Options {
  readonly agent?: Agent | false;
  readonly tls?: object;
  readonly headers?: Record<string, string>;
}

async function ask(url: string, method: string, body?: object, { agent = false, tls, headers = {} }: Options = {}) {
  const sent = url.startsWith("https:")
    ? requestTls(url, { ...tls, method, agent: false, headers: { ...headers, "content-type": "application/json" } })
    : requestPlain(url, { method, agent, headers: { ...headers, "content-type": "application/json" } });
  sent.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = await once(sent, "response");
  const answer = await text(response);
  return { status: response.statusCode as number, body: answer === "" ? null : JSON.parse(answer) };
}

const key = (at: number): string => at.toString(16).padStart(8, "0");

t.test("several threads serve one ledger: what one has answered, all others know, and the next start", async (t) => {
  const data = t.testdir();
  const service = await startService({ ...THREADS, MAPLEDGER_DATA: data });
  t.teardown(() => service.child.kill("SIGKILL"));
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const session = (await ask(`${service.url}/v1/sessions`, "POST", {})).body.id;
  const { fd } = (await ask(`${service.url}/v1/sessions/${session}/maps`, "POST", HASH)).body;
  const elements = `${service.url}/v1/sessions/${session}/fds/${fd}/elements`;
  const put = (at: number) => ask(`${elements}/${key(at)}`, "PUT", { value: key(at) }, { agent });
  const written = await Promise.all(Array.from({ length: KEYS }, (_, at) => put(at)));
  t.equal(new Set(written.map(({ body }) => body.seq)).size, KEYS, "each has an event of its own");
  const read = await Promise.all(
    Array.from({ length: KEYS }, (_, at) => ask(`${elements}/${key(at)}`, "GET", undefined, { agent })),
  );
  t.same(
    read.map(({ body }) => body.value),
    Array.from({ length: KEYS }, (_, at) => key(at)),
  );
  const page = await ask(`${elements}?limit=${2 * KEYS}`, "GET");
  t.equal(page.body.elements.length, KEYS);
  const metrics = await fetch(`${service.url}/metrics`).then((answer) => answer.text());
  const commands = /^mapledger_commands_total\{cmd="BPF_MAP_UPDATE_ELEM",errno="0"\} (\d+)$/m.exec(metrics)?.[1];
  t.equal(Number(commands), KEYS);
  const batches = /^mapledger_batch_commands_sum (\d+)$/m.exec(metrics)?.[1];
  t.ok(Number(batches) >= 2 * KEYS, "the figures have the batches of all threads");
  agent.destroy();
  t.equal(await service.end("SIGTERM"), 0, "a stop ends all threads");

  const again = await startService({ ...THREADS, MAPLEDGER_DATA: data });
  t.teardown(() => again.child.kill("SIGKILL"));
  const map = (await ask(`${again.url}/v1/maps`, "GET")).body.maps[0];
  t.equal(map.entries, KEYS);
  again.child.kill("SIGKILL");
});

t.test("the port of another process is refused, also one that several may listen on", async (t) => {
  const other = createServer().listen({ port: 0, host: "127.0.0.1", reusePort: true });
  await once(other, "listening");
  t.teardown(() => other.close());
  const { port } = other.address() as AddressInfo;
  const child = spawnService({ ...THREADS, MAPLEDGER_DATA: t.testdir(), MAPLEDGER_PORT: String(port) });
  const said = text(child.stdout);
  const [code] = await once(child, "exit");
  t.equal(code, 1);
  t.match(await said, /EADDRINUSE/);
});

t.test("a client's certificate names its caller in every thread, and is asked for again when it changes", async (t) => {
  const folder = t.testdir();
  const made = new Certificates(folder);
  made.authority("ca");
  made.signed("server", "/CN=server", "ca", "IP:127.0.0.1");
  made.signed("reader", "/CN=reader", "ca", "DNS:reader");
  const { writeFileSync, readFileSync } = await import("node:fs");
  writeFileSync(`${folder}/tokens`, "cert:reader:read\n");
  const service = await startService({
    ...THREADS,
    MAPLEDGER_AUTH: "on",
    MAPLEDGER_DATA: `${folder}/data`,
    MAPLEDGER_TOKENS: `${folder}/tokens`,
    MAPLEDGER_TLS_CERT: `${folder}/server.pem`,
    MAPLEDGER_TLS_KEY: `${folder}/server.key`,
    MAPLEDGER_TLS_CLIENT_CA: `${folder}/ca.pem`,
  });
  t.teardown(() => service.child.kill("SIGKILL"));
  const tls = {
    ca: readFileSync(`${folder}/ca.pem`),
    cert: readFileSync(`${folder}/reader.pem`),
    key: readFileSync(`${folder}/reader.key`),
  };
  const element = `${service.url}/v1/maps/1/elements/00000001`;
  const statuses = async (method: string): Promise<unknown> =>
    new Set(
      (await Promise.all(Array.from({ length: CONNECTIONS }, () => ask(element, method, undefined, { tls })))).map(
        ({ status }) => status,
      ),
    );
  t.same(await statuses("GET"), new Set([404]), "it may read, and there is no map");
  t.same(await statuses("DELETE"), new Set([403]), "it may not write");
  t.equal((await ask(`${service.url}/v1/maps`, "GET", undefined, { tls })).status, 200);
  t.equal((await ask(element, "GET", undefined, { tls: { ca: tls.ca } })).status, 401);
  t.equal(await service.end("SIGTERM"), 0);
});
