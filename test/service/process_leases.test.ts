import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { CMD } from "../../src/abi/service.ts";
import { WatchedProcesses } from "../../src/mirror/watched_processes.ts";
import type { ClientProcess } from "../../src/syscall/command.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { createAttr } from "../support/commands.ts";
import { Load, prepare } from "../support/load.ts";
import { OWN_NAME } from "../support/own_name.ts";
import { openEngine } from "../support/recover.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";
import { eventsToItsEnd, timesToEnd } from "../support/session_ends.ts";
import { ask, kill, opener } from "../support/unix_client.ts";

const REASON = "client process exited";
const NOBODY = 65_534;
const hash = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 100 };

interface Place {
  readonly data: string;
  readonly socket: string;
  start(environment?: Readonly<Record<string, string>>, args?: readonly string[]): Promise<ServiceProcess>;
}

/** A folder of its own for data and socket, gone after the test, as are the services and processes in it. */
function place(t: Test): Place {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-processes-"));
  chmodSync(folder, 0o711);
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const data = join(folder, "data");
  const socket = join(folder, "socket");
  const settings = { MAPLEDGER_DATA: data, MAPLEDGER_SOCKET: socket, MAPLEDGER_MIRROR: "off" };
  const start = async (environment = {}, args: readonly string[] = []): Promise<ServiceProcess> => {
    const service = await startService({ ...settings, ...environment }, args);
    t.teardown(() => service.child.kill("SIGKILL"));
    return service;
  };
  return { data, socket, start };
}

/** A place whose service all tests use that neither stop it nor set anything, and that leave no session. */
let shared: Promise<Place & { readonly service: ServiceProcess }> | null = null;

function served(): Promise<Place & { readonly service: ServiceProcess }> {
  shared ??= (async () => {
    const made = place(t);
    return { ...made, service: await made.start() };
  })();
  return shared;
}

/** A process that does nothing until the test is over. */
function sleeper(t: Test): ChildProcess & { readonly pid: number } {
  const child = spawn("sleep", ["600"], { stdio: "ignore" });
  t.teardown(() => child.kill("SIGKILL"));
  return child as ChildProcess & { readonly pid: number };
}

const lives = async (socket: string, session: unknown): Promise<boolean> =>
  (await ask(socket, "GET", `/v1/sessions/${session}`)).status === 200;

const mirrors = unfitForKernel() === null ? ["off", "required"] : ["off"];

for (const mirror of mirrors)
  t.test(`a session ends when the process that opened it does, whatever ends it (mirror ${mirror})`, async (t) => {
    const { socket, start } = place(t);
    const bpffs = `${BPFFS}/mapledger_processes_${OWN_NAME}`;
    t.teardown(() => rmSync(bpffs, { recursive: true, force: true }));
    const service = await start({ MAPLEDGER_MIRROR: mirror, MAPLEDGER_BPFFS: bpffs });
    const ends: readonly [how: string, end: (child: ChildProcess) => Promise<unknown>][] = [
      ["SIGKILL", (child) => kill(child)],
      ["SIGTERM", (child) => kill(child, "SIGTERM")],
      ["exit", (child) => Promise.all([child.stdin?.end(), once(child, "exit")])],
    ];
    for (const [at, [how, end]] of ends.entries()) {
      const { child, answer } = await opener(socket, { name: how, process: "peer" });
      const { pid } = child;
      const uid = process.getuid?.();
      t.match(answer, { id: at + 1, lease: "process", ttl_seconds: null, process: { pid, uid, start_time: /^\d+$/ } });
      const session = `/v1/sessions/${answer.id}`;
      t.match(await ask(socket, "GET", session), {
        lease: "process",
        ttl_seconds: null,
        left_seconds: null,
        process: answer.process,
      });
      const { map_id } = await ask(socket, "POST", `${session}/maps`, hash);
      await ask(socket, "POST", `${session}/fds`, { kind: "pipe" });
      await end(child);
      const events = await eventsToItsEnd(socket, answer.id as number);
      t.match(
        events.slice(-3),
        [
          { cmd: "CLOSE", fd: 3, attr: { reason: REASON }, out: { freed: [map_id] } },
          { cmd: "CLOSE", fd: 4, attr: { reason: REASON } },
          { cmd: "SESSION_END", attr: { reason: REASON } },
        ],
        how,
      );
      t.equal((await ask(socket, "GET", `/v1/maps/${map_id}`)).status, 404);
    }
    t.match((await ask(socket, "GET", "/v1/sessions")).sessions, []);
    t.equal(await service.end("SIGTERM"), 0);
  });

t.test("a process that cannot be had is refused, with a detail that says why, and no event", async (t) => {
  const { socket, service } = await served();
  const gone = sleeper(t);
  await kill(gone);
  const rows: readonly [body: object, status: number, type: string, detail: RegExp][] = [
    [{ process: { pid: gone.pid } }, 400, "no-process", new RegExp(`^there is no process ${gone.pid}$`)],
    [{ process: { pid: 2 ** 31 - 1 } }, 400, "no-process", /^there is no process 2147483647$/],
    [{ process: { pid: 0 } }, 400, "invalid-input", /^process\.pid: must be >= 1$/],
    [{ process: { pid: process.pid, uid: 0 } }, 400, "invalid-input", /^process\.uid: no such field$/],
    [{ process: {} }, 400, "invalid-input", /^process\.pid: required$/],
    [{ process: "self" }, 400, "invalid-input", /^process: must be one of peer$/],
    [{ process: "peer", ttl_seconds: 5 }, 400, "invalid-input", /by a process or by a TTL, not by both/],
  ];
  for (const [body, status, type, detail] of rows) {
    const answer = await ask(socket, "POST", "/v1/sessions", body);
    t.match(answer, { status, type: `urn:mapledger:problem:${type}`, detail }, JSON.stringify(body));
  }
  for (const asked of ["peer", { pid: process.pid }]) {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ process: asked });
    const response = await fetch(`${service.url}/v1/sessions`, { method: "POST", headers, body });
    const answer = (await response.json()) as object;
    t.match(answer, { status: 400, type: "urn:mapledger:problem:no-process", detail: /only over the unix socket/ });
  }
  t.match(await ask(socket, "GET", "/v1/events"), { events: [] });
});

t.test(
  "a shell names itself, as docs/api.md has it; a client of a short life may name any process of its uid",
  async (t) => {
    const { socket } = await served();
    const script = `curl -s --unix-socket ${socket} -X POST http://localhost/v1/sessions -d '{"process": {"pid": '$$'}}' -H 'content-type: application/json'; echo; read line`;
    const shell = spawn("sh", ["-c", script], { stdio: ["pipe", "pipe", "inherit"] });
    const answer = JSON.parse(String((await once(shell.stdout, "data"))[0]));
    t.match(answer, { lease: "process", process: { pid: shell.pid } });
    const child = sleeper(t);
    const { child: client, answer: named } = await opener(socket, { process: { pid: child.pid } });
    await kill(client);
    shell.stdin.end();
    t.match((await eventsToItsEnd(socket, answer.id)).at(-1), { cmd: "SESSION_END", attr: { reason: REASON } });
    t.ok(await lives(socket, named.id), "it lives by the process that was named, not by the client's");
    await kill(child);
    t.match((await eventsToItsEnd(socket, named.id as number)).at(-1), { attr: { reason: REASON } });
  },
);

const notRoot = process.getuid?.() === 0 ? false : "only root can start processes of other uids";

t.test("a client names processes of its own uid alone, root any", { skip: notRoot }, async (t) => {
  const { data, socket, start } = place(t);
  const tokens = `${data}.tokens`;
  writeFileSync(tokens, `uid:${NOBODY}:read,write\n`);
  await start({ MAPLEDGER_TOKENS: tokens, MAPLEDGER_SOCKET_MODE: "0666" });
  const roots = sleeper(t);
  const refused = await opener(socket, { process: { pid: roots.pid } }, NOBODY);
  t.match(refused.answer, {
    status: 403,
    type: "urn:mapledger:problem:process-foreign",
    detail: `process ${roots.pid} is of uid 0, the client of ${NOBODY}`,
  });
  const own = await opener(socket, { process: "peer" }, NOBODY);
  t.match(own.answer, { lease: "process", process: { pid: own.child.pid, uid: NOBODY } });
  const { pid } = own.child;
  const other = await opener(socket, { process: { pid } }, NOBODY);
  t.match(other.answer, { lease: "process", process: { pid, uid: NOBODY } });
  const byRoot = await ask(socket, "POST", "/v1/sessions", { process: { pid } });
  t.match(byRoot, { lease: "process", process: { pid, uid: NOBODY } });
  await kill(own.child);
  for (const { id } of [own.answer, other.answer, byRoot])
    t.match((await eventsToItsEnd(socket, id as number)).at(-1), { attr: { reason: REASON } });
  await Promise.all([kill(refused.child), kill(other.child)]);
});

t.test("nothing but its process, or its owner, ends it: no TTL, no stream that breaks", async (t) => {
  const { socket, start } = place(t);
  const { url } = await start({
    MAPLEDGER_SESSION_TTL: "1",
    MAPLEDGER_SESSION_TTL_MAX: "1",
    MAPLEDGER_ATTACH_GRACE: "0",
  });
  const child = sleeper(t);
  const { id } = await ask(socket, "POST", "/v1/sessions", { process: { pid: child.pid } });
  const session = `/v1/sessions/${id}`;
  t.equal((await ask(socket, "POST", `${session}/renew`, { ttl_seconds: 1 })).status, 200);
  t.equal((await ask(socket, "POST", `${session}/renew`)).status, 200);
  const breaking = new AbortController();
  await fetch(`${url}${session}/attach`, { method: "POST", signal: breaking.signal });
  breaking.abort();
  const ordinary = await ask(socket, "POST", "/v1/sessions", {});
  await eventsToItsEnd(socket, ordinary.id as number);
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.match(await ask(socket, "GET", session), { status: 200, lease: "process", ttl_seconds: null, left_seconds: null });
  t.equal((await ask(socket, "DELETE", session)).status, 200);
  await kill(child);
  const events = await eventsToItsEnd(socket, id as number);
  t.match(events.at(-1), { cmd: "SESSION_END", attr: { reason: "ended by request" } });
});

t.test(
  "after kill -9 of the service, sessions of processes that live go on; the others have ended when it serves",
  async (t) => {
    const { socket, start } = place(t);
    let service = await start();
    const [living, dead] = [sleeper(t), sleeper(t)];
    const kept = await ask(socket, "POST", "/v1/sessions", { process: { pid: living.pid } });
    const lost = await ask(socket, "POST", "/v1/sessions", { process: { pid: dead.pid } });
    const { map_id } = await ask(socket, "POST", `/v1/sessions/${lost.id}/maps`, hash);
    await service.end("SIGKILL");
    await kill(dead);
    service = await start();
    t.equal((await ask(socket, "GET", `/v1/sessions/${lost.id}`)).status, 410);
    t.equal((await ask(socket, "GET", `/v1/maps/${map_id}`)).status, 404, "its map is freed");
    t.match((await eventsToItsEnd(socket, lost.id as number)).at(-1), { attr: { reason: REASON } });
    t.match(await ask(socket, "GET", `/v1/sessions/${kept.id}`), { lease: "process", process: kept.process });
    t.match(await ask(socket, "GET", `/v1/sessions/${kept.id}?at=1`), { lease: null, process: kept.process });
    await service.end("SIGTERM");
    await start({}, ["--rebuild"]);
    t.match(await ask(socket, "GET", `/v1/sessions/${kept.id}`), { lease: "process", process: kept.process });
    await kill(living);
    const events = await eventsToItsEnd(socket, kept.id as number);
    const opening = (await ask(socket, "GET", "/v1/events?limit=1")).events;
    t.match(opening, [{ cmd: "SESSION_OPEN", attr: { process: kept.process } }], "the log tells which process");
    t.match(events.at(-1), { cmd: "SESSION_END", attr: { reason: REASON } });
  },
);

/** Of a process that lives, as an event has it. */
function factsOf(pid: number): ClientProcess {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const startTime = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] as string;
  return { pid, uid: 0, startTime, boot: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim() };
}

t.test("who has the pid of a process that is gone is not taken for it", async (t) => {
  const child = sleeper(t);
  const facts = factsOf(child.pid);
  const processes = new WatchedProcesses();
  processes.watch(1, facts);
  processes.watch(2, { ...facts, startTime: String(Number(facts.startTime) - 1) });
  processes.watch(3, { ...facts, boot: "00000000-0000-4000-8000-000000000000" });
  t.strictSame(processes.exited(), [2, 3]);
  processes.forget(2);
  t.strictSame(processes.exited(), [3], "it is told of until it is forgotten");
  processes.forget(3);
  await kill(child);
  t.strictSame(processes.exited(), [1]);
  processes.forget(1);
  t.strictSame(processes.exited(), []);
});

t.test(
  "a log whose process has another start time than who has its pid now ends that session at the start",
  async (t) => {
    const { data, socket, start } = place(t);
    const child = sleeper(t);
    const facts = factsOf(child.pid);
    const reused = { ...facts, startTime: String(Number(facts.startTime) - 1) };
    mkdirSync(data);
    const { engine } = await openEngine(data);
    const open = (process: ClientProcess) =>
      ({ cmd: CMD.SESSION_OPEN, session: 0, caller: "anonymous", attr: { name: "", ttlMs: 60_000, process } }) as const;
    const create = { cmd: CMD.BPF_MAP_CREATE, session: 1, caller: "anonymous", attr: createAttr({}) } as const;
    engine.run([open(reused), create, open(facts)]);
    await engine.close();
    await start({ MAPLEDGER_CPUS: "0" });
    t.match((await eventsToItsEnd(socket, 1)).slice(-2), [
      { cmd: "CLOSE", attr: { reason: REASON }, out: { freed: [1] } },
      { cmd: "SESSION_END", attr: { reason: REASON } },
    ]);
    t.ok(await lives(socket, 2));
  },
);

const pidOf = (process: unknown): number => (process as { pid: number }).pid;

function pidfds({ child }: ServiceProcess): number {
  const folder = `/proc/${child.pid}/fd`;
  return readdirSync(folder).filter((fd) => linkOf(`${folder}/${fd}`).includes("pidfd")).length;
}

/** "": it has been closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}

t.test("hundreds of processes: each session ends with its own, and no pidfd is left", async (t) => {
  const { socket, service } = await served();
  const first = sleeper(t);
  await ask(socket, "POST", "/v1/sessions", { process: { pid: first.pid } });
  t.equal(pidfds(service), 1);
  const children = Array.from({ length: 300 }, () => sleeper(t));
  const opened = await Promise.all(
    children.map(({ pid }) => ask(socket, "POST", "/v1/sessions", { process: { pid } })),
  );
  t.equal(new Set(opened.map(({ id }) => id)).size, 300);
  t.equal(pidfds(service), 301);
  const [dying, living] = [children.slice(0, 200), children.slice(200)];
  await Promise.all(dying.map((child) => kill(child)));
  const pids = new Set(living.map(({ pid }) => pid));
  const [ended, left] = [
    opened.filter(({ process }) => !pids.has(pidOf(process))),
    opened.filter(({ process }) => pids.has(pidOf(process))),
  ];
  const reasons = await Promise.all(
    ended.map(async ({ id }) => (await eventsToItsEnd(socket, id as number)).at(-1)?.attr),
  );
  t.strictSame(new Set(reasons.map((attr) => attr?.reason)), new Set([REASON]));
  const listed: { readonly process: unknown }[] = [];
  for (let after: unknown = 0; after !== null; ) {
    const page = await ask(socket, "GET", `/v1/sessions?limit=1000&after=${after}`);
    listed.push(...(page.sessions as { process: unknown }[]));
    after = page.next;
  }
  t.strictSame(new Set(listed.map(({ process }) => pidOf(process))), new Set([...pids, first.pid]));
  await Promise.all(living.map((child) => kill(child)));
  for (const { id } of left) await eventsToItsEnd(socket, id as number);
  t.equal(pidfds(service), 1, "pidfds are closed");
});

t.test("a session ends soon after its process, also while the service is busy", async (t) => {
  const { socket, start } = place(t);
  const { url } = await start();
  await prepare(url);
  const tell = (when: string, times: readonly number[]): void => {
    const median = times[times.length >> 1] as number;
    // The promise is 100 ms, and `npm run bench -- processes` measures it; a machine that runs other tests, too, takes its time.
    t.ok(median < 1000, `${when}: median ${median} ms, most ${times.at(-1)} ms`);
  };
  tell("idle", await timesToEnd(socket, 20));
  const load = new Load(url, 16);
  await load.more(100);
  tell("busy", await timesToEnd(socket, 10));
  await load.stop();
});

t.test("a client in a pid namespace of its own is itself, but names none", { skip: unshared() }, async (t) => {
  const { socket } = await served();
  const post = (body: object): string =>
    `curl -s --unix-socket ${socket} -H 'content-type: application/json' -d '${JSON.stringify(body)}' http://localhost/v1/sessions`;
  const script = `${post({ process: { pid: 1 } })}; echo; ${post({ process: "peer" })}`;
  const said = execFileSync("unshare", ["--pid", "--fork", "sh", "-c", script], { encoding: "utf8" });
  const [named, itself] = said.split("\n").map((line) => JSON.parse(line)) as [object, { id: number }];
  t.match(named, { status: 400, detail: /in a pid namespace of its own/ });
  t.match(itself, { lease: "process" });
  t.match((await eventsToItsEnd(socket, itself.id)).at(-1), { attr: { reason: REASON } });
});

/** Why there are no pid namespaces here, found out by making one. */
function unshared(): string | false {
  try {
    execFileSync("unshare", ["--pid", "--fork", "true"], { stdio: "pipe" });
    return false;
  } catch (error) {
    return `unshare --pid: ${(error as Error).message}`;
  }
}
