import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { Callers } from "../../src/access/callers.ts";
import { CallersFile } from "../../src/service/callers_file.ts";
import { startService } from "../support/service_process.ts";
import { ask } from "../support/unix_client.ts";

const digest = (token: string): string => createHash("sha256").update(token).digest("hex");

function folder(t: Test): string {
  const made = mkdtempSync(join(tmpdir(), "mapledger-tokens-"));
  t.teardown(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

t.test("a file that is read again replaces the callers, or leaves them as they were", async (t) => {
  const file = join(folder(t), "tokens");
  const callers = new Callers(1, null);
  const told: string[][] = [];
  const warned: string[] = [];
  const changed = (lines: readonly { readonly name: string }[]) => told.push(lines.map(({ name }) => name));
  const parts = { file, callers, changed, warn: (message: string) => warned.push(message) };
  t.throws(() => new CallersFile(parts), { code: "ENOENT" });
  writeFileSync(file, `alice:${digest("a")}:read\n`);
  const tokens = new CallersFile(parts);
  t.same(told, [["alice"]]);
  tokens.reread();
  t.equal(told.length, 1, "it is what it was");
  writeFileSync(file, `alice:${digest("a")}:read\nbob:\n`);
  tokens.reread();
  t.match(warned, [/cannot be read, and callers stay unchanged: .*tokens:2: /]);
  t.match(callers.byToken("a"), { name: "alice" });
  for (const half of [`alice:${digest("a")}`, `alice:${digest("a")}:read`, "uid:1000:read\nuid:10", ""]) {
    writeFileSync(file, half);
    tokens.reread();
    t.match(warned.at(-1), /does not end with a newline: it is not complete yet/, half);
  }
  unlinkSync(file);
  tokens.reread();
  t.match(warned.at(-1), /ENOENT/);
  execFileSync("mkfifo", [file]);
  tokens.reread();
  t.match(warned.at(-1), /is not a regular file/, "nobody waits for who might write to it");
  unlinkSync(file);
  writeFileSync(file, `${"#".repeat(2 ** 20)}\n`);
  tokens.reread();
  t.match(warned.at(-1), /has 1048577 bytes: more than 1048576/);
  t.match(callers.byToken("a"), { name: "alice" });
  t.equal(told.length, 1);
  writeFileSync(file, `bob:${digest("b")}:write\n`);
  tokens.reread();
  t.same(told.slice(1), [["bob"]]);
  t.equal(callers.byToken("a"), null);
  t.match(callers.byToken("b"), { name: "bob" });
});

t.test(
  "a running service notices that a mount of secrets has swapped its link, and a token that is gone ends streams",
  async (t) => {
    const place = folder(t);
    const data = join(place, "data");
    const socket = join(data, "mapledger.sock");
    const write = (name: string, text: string): void => {
      writeFileSync(join(place, name), text);
      symlinkSync(name, join(place, "link"));
      renameSync(join(place, "link"), join(place, "tokens"));
    };
    write("first", `alice:${digest("a")}:read\nbob:${digest("b")}:read\n`);
    const service = await startService({
      MAPLEDGER_DATA: data,
      MAPLEDGER_MIRROR: "off",
      MAPLEDGER_AUTH: "on",
      MAPLEDGER_TOKENS: join(place, "tokens"),
    });
    t.teardown(() => service.child.kill("SIGKILL"));
    const get = (path: string, token: string) =>
      fetch(`${service.url}${path}`, { headers: { authorization: `Bearer ${token}` } });
    const events = async () =>
      ((await ask(socket, "GET", "/v1/events?cmd=CALLERS")) as unknown as { events: object[] }).events;
    t.match(await events(), [
      { caller: "mapledger", attr: { callers: [{ name: "alice", by: "token", scopes: ["read"] }, { name: "bob" }] } },
    ]);
    const [gone, stays] = await Promise.all([get("/v1/events/stream", "a"), get("/v1/events/stream", "b")]);
    t.same([gone.status, stays.status], [200, 200]);
    write("second", `bob:${digest("b")}:read\n`);
    await t.rejects(gone.text(), "the stream is broken off");
    t.equal((await get("/v1/maps", "a")).status, 401);
    t.equal((await get("/v1/maps", "b")).status, 200);
    t.equal((await events()).length, 2);
    t.equal(JSON.stringify(await events()).includes(digest("b")), false, "no event has a hash");

    write("third", "uid:1:read\n");
    service.child.kill("SIGHUP");
    await t.rejects(stays.text(), "the other one's, too");
    t.equal(await service.end("SIGTERM"), 0, "SIGHUP has not ended it");
  },
);

t.test("SIGHUP ends no service without a tokens' file", async (t) => {
  const data = join(folder(t), "data");
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  t.teardown(() => service.child.kill("SIGKILL"));
  service.child.kill("SIGHUP");
  t.equal((await fetch(`${service.url}/v1/maps`)).status, 200);
  t.equal(await service.end("SIGTERM"), 0);
});

interface Answer {
  readonly id: number;
  readonly scopes: readonly string[];
  readonly events: readonly { readonly map: number; readonly attr: { readonly callers: readonly object[] } }[];
}

t.test("scopes with globs reach the engine with the file, and again when it changes", async (t) => {
  const place = folder(t);
  const data = join(place, "data");
  const tokens = join(place, "tokens");
  const all = "read,write,pin,admin,evidence";
  const write = (scopes: string) => {
    writeFileSync(`${tokens}.new`, `root:${digest("r")}:${all}\nbob:${digest("b")}:${scopes}\n`);
    renameSync(`${tokens}.new`, tokens);
  };
  write("read@a*,write@a*");
  const settings = { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off", MAPLEDGER_AUTH: "on", MAPLEDGER_TOKENS: tokens };
  const service = await startService(settings);
  t.teardown(() => service.child.kill("SIGKILL"));
  const send = async (token: string, method: string, path: string, body?: object) => {
    const headers = { authorization: `Bearer ${token}`, ...(body && { "content-type": "application/json" }) };
    const answer = await fetch(`${service.url}${path}`, {
      method,
      headers,
      ...(body && { body: JSON.stringify(body) }),
    });
    return { status: answer.status, body: (await answer.json()) as Answer };
  };
  const { id: session } = (await send("r", "POST", "/v1/sessions", {})).body;
  for (const map_name of ["ann", "bob"]) {
    const attr = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 4, map_name };
    t.equal((await send("r", "POST", `/v1/sessions/${session}/maps`, attr)).status, 201);
  }
  const put = async (map: number) =>
    (await send("b", "PUT", `/v1/maps/${map}/elements/00000001`, { value: "00000002" })).status;
  t.same([await put(1), await put(2)], [200, 403]);
  const seen = async () => (await send("b", "GET", "/v1/events?limit=1000")).body.events.map(({ map }) => map);
  t.same([...new Set(await seen())].sort(), [1, null].sort());
  t.match((await send("b", "GET", "/v1/log")).body, { caller: "bob", scopes: ["read@a*", "write@a*"] });
  await send("r", "DELETE", `/v1/sessions/${session}`);
  t.equal((await send("b", "GET", "/v1/maps/1/elements/00000001/history")).status, 200, "of a map that is no more");
  t.equal((await send("b", "GET", "/v1/maps/2/elements/00000001/history")).status, 403);
  write("read@b*,evidence");
  service.child.kill("SIGHUP");
  // Of whose line stays as it is: what others have under way breaks off when theirs changes.
  const readings = async () => (await send("r", "GET", "/v1/events?cmd=CALLERS")).body.events.length;
  while ((await readings()) < 2);
  t.match((await send("b", "GET", "/v1/log")).body, { scopes: ["read@b*", "evidence"] });
  t.equal((await send("b", "GET", "/v1/maps/1/elements/00000001/history")).status, 403);
  t.equal((await send("b", "GET", "/v1/maps/2/elements/00000001/history")).status, 200);
  const { events } = (await send("r", "GET", "/v1/events?cmd=CALLERS")).body;
  t.match(events.at(-1)?.attr.callers[1], { name: "bob", scopes: ["read@b*", "evidence"] });
  t.equal(await service.end("SIGTERM"), 0);
});
