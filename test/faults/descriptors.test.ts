import { once } from "node:events";
import { Agent, request } from "node:http";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import t from "tap";
import { ask } from "../support/api.ts";
import { Disk } from "../support/disk.ts";
import { until } from "../support/ledger.ts";
import { takeDescriptors } from "../support/no_descriptors.ts";
import { startService } from "../support/service_process.ts";
import { isWhole, prepared, put, start } from "./parts.ts";

const limitedTo = (descriptors: number): string[] => ["sh", "-c", `ulimit -n ${descriptors}; exec "$@"`, "sh"];
const LEAST = 128;

t.test("a start with too few descriptors says how many it needs, before it touches anything", async (t) => {
  for (const few of [32, LEAST - 1]) {
    const disk = new Disk(t);
    const starting = startService(disk.environment, [], limitedTo(few));
    await t.rejects(starting, {
      message: new RegExp(`ended with 1: .*may have ${few} files open.*needs ${LEAST}`, "s"),
    });
  }
});

t.test("with as few as it needs, all parts serve while others hold as many connections as they get", async (t) => {
  const disk = new Disk(t);
  const first = await prepared(disk);
  await first.end("SIGTERM");
  const service = await start(disk, limitedTo(LEAST));
  const { port, hostname } = new URL(service.url);
  const held = Array.from({ length: LEAST }, () => connect(Number(port), hostname).on("error", () => {}));
  t.teardown(() => {
    for (const socket of held) socket.destroy();
  });
  const isTaken = await Promise.all(held.map(isAnswered));
  const taken = held.filter((_, at) => isTaken[at]);
  t.ok(taken.length >= 4 && taken.length <= LEAST / 4, `${taken.length} of ${LEAST} connections are taken on`);
  for (const socket of taken.slice(-2)) socket.destroy();
  await until("a connection is taken on again", async () => (await ask(service.url, "GET", "/livez")).status === 200);
  await isWhole(t, service, (key) => key, "beside them");
  t.equal(await service.end("SIGTERM"), 0);
});

/** Whether a connection is answered, or closed instead; one that is closed with the request unread is an error of the socket first. */
async function isAnswered(socket: Socket): Promise<boolean> {
  socket.write("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
  return new Promise((resolve) => {
    socket.once("data", () => resolve(true)).once("close", () => resolve(false));
  });
}

/** What needs what, and what an answer must have in it: what is not there for want of descriptors is not taken for nothing. */
const ASKED: readonly (readonly [method: string, path: string, body: object | undefined, wanted: RegExp])[] = [
  ["PUT", "/v1/maps/1/elements/01000000", { value: "01".padEnd(128, "0") }, /"seq"/],
  ["GET", "/v1/maps/1/elements/02000000", undefined, /"value":"02/],
  ["GET", "/v1/maps/1/elements?limit=100", undefined, /"27000000"/],
  ["GET", "/v1/maps", undefined, /"id":1/],
  ["GET", "/v1/pins", undefined, /fs\/bpf\/m"/],
  ["GET", "/v1/log", undefined, /"last_seq"/],
  ["GET", "/metrics", undefined, /mapledger_part_failed/],
  ["GET", "/v1/events?limit=3", undefined, /"seq":3/],
  ["GET", "/v1/events/10", undefined, /"seq":10/],
  ["GET", "/v1/events?map=1&before=20&limit=2", undefined, /"seq":19/],
  ["GET", "/v1/maps/1/elements/01000000?at=20", undefined, /"value":"01/],
  ["GET", "/v1/maps/1/elements/01000000/history", undefined, /"seq":5/],
  ["GET", "/v1/maps/1/diff?from=5&to=20", undefined, /"key"/],
  ["GET", "/v1/sessions?at=2", undefined, /"id":1/],
  ["GET", "/checkpoint", undefined, /mapledger\//],
  ["GET", "/v1/events/5/proof", undefined, /5/],
  ["POST", "/v1/sessions", {}, /"id"/],
  ["POST", "/v1/maps/1/restore", { at: 30, dry_run: true }, /"dry_run":true/],
  ["POST", "/v1/archive", { before: 10 }, /./],
  ["GET", "/docs", undefined, /html/],
];

t.test(
  "without a descriptor left it answers, or says what has failed, and is whole when there are some again",
  async (t) => {
    for (const isAsked of [false, true]) {
      const name = isAsked ? "all parts are open" : "parts that are not open yet";
      const disk = new Disk(t);
      const first = await prepared(disk);
      await first.end("SIGTERM");
      const service = await start(disk);
      if (isAsked) await isWhole(t, service, (key) => key, "before");
      // There is no descriptor for another connection.
      const one = new Agent({ keepAlive: true, maxSockets: 1 });
      t.equal((await askBy(one, service.url, "GET", "/livez")).status, 200);
      const giveBack = takeDescriptors(service.child.pid as number);
      let failed = 0;
      for (const [method, path, body, wanted] of ASKED) {
        const { status, said } = await askBy(one, service.url, method, path, body);
        if (status === 503) failed++;
        t.ok(
          status === 503 || (status < 300 && wanted.test(said)),
          `${name}: ${method} ${path}: ${status} ${said.slice(0, 200)}`,
        );
      }
      t.ok(failed > 0, `${name}: ${failed} are refused`);
      t.equal((await askBy(one, service.url, "GET", "/readyz")).status, 200);
      giveBack();
      t.equal((await put(service, 1, 1)).status, 200, name);
      await isWhole(t, service, (key) => key, `${name}: with descriptors again`);
      t.equal(await service.end("SIGTERM"), 0);
    }
  },
);

t.test("an archive job whose files cannot be opened is refused, and the next one is made", async (t) => {
  const disk = new Disk(t);
  const service = await prepared(disk);
  const archive = () => ask(service.url, "POST", "/v1/archive", { before: 10 });
  for (const action of ["EMFILE", "EIO"] as const) {
    disk.fail({ op: "open", file: "events.sqlite", action, count: -1 });
    t.match((await archive()).body, { status: 503, detail: /^archiving: / }, action);
    t.equal((await put(service, 1, 1)).status, 200, "the log is open already");
  }
  disk.fail();
  t.equal((await archive()).status, 202);
  await service.end("SIGTERM");
});

/** Asks by an agent's connection. */
async function askBy(agent: Agent, url: string, method: string, path: string, body?: object) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const asked = request(`${url}${path}`, { agent, method, headers });
  asked.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = await once(asked, "response");
  return { status: response.statusCode as number, said: await text(response) };
}
