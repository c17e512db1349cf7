import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import t, { type Test } from "tap";
import { unfitForKernel } from "../support/bpffs.ts";
import { mapledger, type Ran } from "../support/cli.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";

const run = promisify(execFile);

/** A directory of its own, gone after the test. */
function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-replay-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function serviceOf(t: Test, data: string): Promise<ServiceProcess> {
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  t.teardown(() => service.end("SIGKILL"));
  return service;
}

async function call(url: string, method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const json = { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  return (await (await fetch(`${url}${path}`, { method, ...(body && json) })).json()) as Record<string, unknown>;
}

/** What the README's quick start does, and a map in a map: pinned below a directory, and ended. */
async function record({ url }: ServiceProcess): Promise<void> {
  const send = (method: string, path: string, body?: object) => call(url, method, path, body);
  const hash = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 2, map_name: "ports" };
  await send("POST", "/v1/sessions", { name: 'it\'s "quick" $HOME `id`' });
  await send("POST", "/v1/sessions/1/maps", hash);
  for (const key of ["50000000", "bb010000", "07000000"])
    await send("PUT", `/v1/sessions/1/fds/3/elements/${key}`, { value: "2a000000" });
  await send("GET", "/v1/sessions/1/fds/3/elements/50000000");
  await send("DELETE", "/v1/sessions/1/fds/3/elements/bb010000");
  await send("PUT", "/v1/directories/%2Fsys%2Ffs%2Fbpf%2Freplay_test");
  await send("POST", "/v1/sessions/1/fds/3/pin", { pathname: "/sys/fs/bpf/replay_test/ports" });
  await send("POST", "/v1/sessions/1/maps", { ...hash, map_type: "BPF_MAP_TYPE_ARRAY_OF_MAPS", inner_map_fd: 3 });
  await send("PUT", "/v1/sessions/1/fds/4/elements/01000000", { value: "03000000" });
  await send("GET", "/v1/maps/2/elements/01000000");
  await send("POST", "/v1/sessions/1/fds", { kind: "dup", fd: 3 });
  await send("POST", "/v1/sessions/1/maps", { ...hash, map_type: "BPF_MAP_TYPE_ARRAY", map_flags: "BPF_F_MMAPABLE" });
  const headers = { "content-type": "application/octet-stream", "content-range": "bytes 8-11/*" };
  await fetch(`${url}/v1/maps/3/memory`, { method: "PUT", headers, body: "a'\u0000%" });
  await send("DELETE", "/v1/sessions/1");
}

/** An export without what is of its own moment: what replays must have in common. */
async function essence(url: string): Promise<object[]> {
  const text = await (await fetch(`${url}/v1/events`, { headers: { accept: "application/x-ndjson" } })).text();
  return text
    .trim()
    .split("\n")
    .map((line) => ({ ...JSON.parse(line), time: null, position: null }));
}

function summaryOf({ stdout }: Ran): Record<string, unknown> {
  return JSON.parse(stdout.trim().split("\n").at(-1) as string).summary;
}

t.test("an export is imported, by the real processes, and the two logs and maps are the same", async (t) => {
  const folder = folderOf(t);
  const here = await serviceOf(t, join(folder, "here"));
  await record(here);
  const file = join(folder, "events.ndjson");
  const { stdout, code } = await mapledger("replay", join(folder, "here"));
  t.equal(code, 0);
  writeFileSync(file, stdout);
  const there = await serviceOf(t, join(folder, "there"));
  const imported = await mapledger("import", file, "--to", there.url);
  t.equal(imported.code, 0, imported.stderr);
  t.match(summaryOf(imported), { differences: 0, left_out: [], selected: stdout.trim().split("\n").length });
  const [one, other] = [await essence(here.url), await essence(there.url)];
  t.strictSame(
    other.map((event) => ({ ...event, attr: null, detail: null })),
    one.map((event) => ({ ...event, attr: null, detail: null })),
  );
  const page = "/v1/maps/pinned:%2Fsys%2Ffs%2Fbpf%2Freplay_test%2Fports/elements";
  t.strictSame((await call(there.url, "GET", page)).elements, (await call(here.url, "GET", page)).elements);
  const byUrl = await mapledger("replay", here.url, "--cmd", "BPF_MAP_UPDATE_ELEM", "--errno", "E2BIG");
  t.match(
    byUrl.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
    [{ key: "07000000", errno: "E2BIG" }],
  );
});

t.test("a script of curl commands runs by sh, to a mapledger that has given other numbers", async (t) => {
  const folder = folderOf(t);
  const here = await serviceOf(t, join(folder, "here"));
  await record(here);
  const script = join(folder, "replay.sh");
  const written = await mapledger("replay", join(folder, "here"), "--to", "curl");
  t.equal(written.code, 0, written.stderr);
  writeFileSync(script, written.stdout);
  const there = await serviceOf(t, join(folder, "there"));
  await call(there.url, "POST", "/v1/sessions", {});
  await call(there.url, "POST", "/v1/sessions/1/maps", { map_type: 1, key_size: 1, value_size: 1, max_entries: 1 });
  const { stdout } = await run("sh", [script], { env: { ...process.env, MAPLEDGER_URL: there.url } });
  t.match(stdout, /"errno":"E2BIG"/);
  const [one, other] = [await essence(here.url), (await essence(there.url)).slice(2)];
  const outcomes = (events: object[]) => events.map((event) => pick(event, ["cmd", "key", "errno", "ret"]));
  t.strictSame(outcomes(other), outcomes(one));
  t.match(
    other.find((event) => (event as { cmd: string }).cmd === "MEMORY_WRITE"),
    { value: "61270025" },
  );
  t.match(other.at(-1), { cmd: "SESSION_END", session: 2 });
  await t.rejects(run("sh", [script], { env: { ...process.env, MAPLEDGER_URL: "http://127.0.0.1:1" } }), { code: 7 });
});

function pick(event: object, names: readonly string[]): object {
  return Object.fromEntries(names.map((name) => [name, event[name as keyof typeof event]]));
}

t.test("a batch file does by bpftool in the kernel what was recorded", { skip: unfitForBpftool() }, async (t) => {
  const folder = folderOf(t);
  const here = await serviceOf(t, join(folder, "here"));
  await record(here);
  mkdirSync("/sys/fs/bpf/replay_test", { recursive: true });
  const pins = ["replay_test", "replay_map_1", "replay_map_2", "replay_map_3"].map((name) => `/sys/fs/bpf/${name}`);
  t.teardown(() => {
    for (const pin of pins) rmSync(pin, { recursive: true, force: true });
  });
  const written = await mapledger("replay", join(folder, "here"), "--to", "bpftool");
  t.equal(written.code, 0, written.stderr);
  const file = join(folder, "batch");
  writeFileSync(file, written.stdout);
  execFileSync("bpftool", ["batch", "file", file]);
  const dump = (pin: string): unknown =>
    JSON.parse(String(execFileSync("bpftool", ["-j", "map", "dump", "pinned", pin])));
  const key = (digits: string): string[] => (digits.match(/../g) ?? []).map((byte) => `0x${byte}`);
  t.match(dump("/sys/fs/bpf/replay_test/ports"), [{ key: key("50000000"), value: key("2a000000") }]);
  const inner = JSON.parse(
    String(execFileSync("bpftool", ["-j", "map", "show", "pinned", "/sys/fs/bpf/replay_map_1"])),
  );
  t.match(dump("/sys/fs/bpf/replay_map_2"), [{ key: key("01000000"), value: key(le32(inner.id)) }]);
  t.match(written.stdout, /^# \d+ BPF_MAP_UPDATE_ELEM: E2BIG$/m);
  t.match(written.stdout, /^# \d+ SESSION_OPEN: returned 0; bpftool has no sessions$/m);
});

function le32(number: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes.toString("hex");
}

/** Why bpftool cannot be tried here, found out by trying. */
function unfitForBpftool(): string | false {
  try {
    execFileSync("bpftool", ["version"], { stdio: "pipe" });
  } catch (error) {
    return `there is no bpftool: ${(error as Error).message}`;
  }
  return unfitForKernel() ?? false;
}

t.test("a dry run counts by command and sends nothing", async (t) => {
  const folder = folderOf(t);
  const here = await serviceOf(t, join(folder, "here"));
  await record(here);
  const dry = await mapledger(
    "replay",
    join(folder, "here"),
    "--to",
    "http://127.0.0.1:1",
    "--dry-run",
    "--after",
    "1",
  );
  t.equal(dry.code, 0);
  t.match(summaryOf(dry), {
    sent: { BPF_MAP_UPDATE_ELEM: undefined, MKDIR: 1 },
    left_out: [{ cmd: "BPF_MAP_CREATE", why: "its session was opened outside of the range" }],
  });
  const whole = await mapledger("replay", join(folder, "here"), "--to", here.url, "--dry-run");
  t.match(summaryOf(whole), { sent: { BPF_MAP_UPDATE_ELEM: 4, SESSION_OPEN: 1, SESSION_END: 1 }, left_out: [] });
});

t.test("a difference is told on stdout, and exits with 1", async (t) => {
  const folder = folderOf(t);
  const here = await serviceOf(t, join(folder, "here"));
  await record(here);
  const { stdout } = await mapledger("replay", join(folder, "here"));
  const file = join(folder, "lies.ndjson");
  writeFileSync(file, stdout.replace('"errno":"E2BIG"', '"errno":"ENOMEM"'));
  const told = await mapledger(
    "replay",
    file,
    "--to",
    `unix:${join(folder, "here", "mapledger.sock")}`,
    "--before",
    "8",
  );
  t.equal(told.code, 1);
  const [difference] = told.stdout.split("\n").map((line) => (line === "" ? null : JSON.parse(line)));
  t.match(difference, { seq: 5, cmd: "BPF_MAP_UPDATE_ELEM", recorded: { errno: "ENOMEM" }, got: { errno: "E2BIG" } });
  t.match(summaryOf(told), { differences: 1, compared: 7 });
});

t.test(
  "what cannot be is said: a bad line, a target that is gone or breaks off, words that mean nothing",
  async (t) => {
    const folder = folderOf(t);
    const here = await serviceOf(t, join(folder, "here"));
    await record(here);
    const { stdout } = await mapledger("replay", join(folder, "here"));
    const lines = stdout.split("\n");
    const file = join(folder, "bad.ndjson");
    writeFileSync(file, [...lines.slice(0, 4), lines[4]?.slice(0, 40), ...lines.slice(5)].join("\n"));
    const bad = await mapledger("import", file, "--to", here.url);
    t.equal(bad.code, 1);
    t.match(
      bad.stderr,
      /line 5: event: JSON required.*: the replay reached event 4; to continue, use --after 4 and --prepare/,
    );
    t.match(summaryOf(bad), { compared: 4, differences: 0, last_seq: 4 });

    const gone = await mapledger("replay", join(folder, "here"), "--to", "http://127.0.0.1:1");
    t.equal(gone.code, 1);
    t.match(gone.stderr, /ECONNREFUSED.*: the replay reached event 0/);

    const ids = join(folder, "ids.json");
    const { server, url } = await breakingProxy(here.url, 5);
    t.teardown(() => server.close());
    const broken = await mapledger("replay", join(folder, "here"), "--to", url, "--ids", ids);
    t.equal(broken.code, 1);
    const [, after] =
      /closed the connection: the replay reached event (\d+).*to continue, use --after \d+ and --ids/.exec(
        broken.stderr,
      ) ?? [];
    t.ok(Number(after) >= 2, broken.stderr);
    const rest = await mapledger(
      "replay",
      join(folder, "here"),
      "--to",
      here.url,
      "--ids",
      ids,
      "--after",
      String(after),
    );
    t.match(summaryOf(rest), { left_out: [] });
    t.ok(JSON.parse(readFileSync(ids, "utf8")).sessions.length > 0);

    for (const [words, message] of [
      [["--to", "ftp://x"], /ndjson, curl, bpftool, http:\/\/\.\.\. or unix:PATH/],
      [["--speed", "0"], /above 0/],
      [["--key", "0"], /an even number of hex digits required/],
      [["--since", "noon"], /a time such as/],
      [["--cmd", "BPF_NOTHING"], /a name or a number/],
    ] as const) {
      const refused = await mapledger("replay", file, ...words);
      t.equal(refused.code, 2, words.join(" "));
      t.match(refused.stderr, message);
    }
    const nothing = await mapledger("replay", join(folder, "nowhere"));
    t.equal(nothing.code, 1);
    t.match(nothing.stderr, /nowhere does not exist/);
  },
);

/** Passes so many answers of a service on, then closes the connection. */
async function breakingProxy(to: string, answers: number): Promise<{ server: Server; url: string }> {
  const server = createServer((socket) => {
    let left = answers;
    let rest = "";
    socket.on("error", () => {});
    socket.on("data", async (piece) => {
      rest += piece.toString("latin1");
      for (;;) {
        const [head, method, path] = /^(\w+) (\S+) HTTP[\s\S]*?\r\n\r\n/.exec(rest) ?? [];
        if (head === undefined) return;
        const length = Number(/content-length: (\d+)/.exec(head)?.[1] ?? 0);
        if (rest.length < head.length + length) return;
        const body = rest.slice(head.length, head.length + length);
        rest = rest.slice(head.length + length);
        if (left-- <= 0) {
          socket.destroy();
          return;
        }
        const headers = { "content-type": "application/json" };
        const answer = await fetch(`${to}${path}`, { method: method as string, ...(body !== "" && { headers, body }) });
        const text = await answer.text();
        const type = answer.headers.get("content-type");
        socket.write(
          `HTTP/1.1 ${answer.status} X\r\ncontent-type: ${type}\r\ncontent-length: ${text.length}\r\n\r\n${text}`,
        );
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, url: `http://127.0.0.1:${(server.address() as { port: number }).port}` };
}
