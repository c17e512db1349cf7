import { createHash } from "node:crypto";
import { mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { Callers } from "../src/access/callers.ts";
import { CallersFile } from "../src/callers_file.ts";
import { startService } from "./support/service_process.ts";
import { ask } from "./support/unix_client.ts";

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
  writeFileSync(file, `alice:${digest("a")}:read\nbob:`);
  tokens.reread();
  t.match(warned, [/cannot be read, and callers stay as they were: .*tokens:2: /]);
  t.match(callers.byToken("a"), { name: "alice" });
  unlinkSync(file);
  tokens.reread();
  t.match(warned.at(-1), /ENOENT/);
  t.match(callers.byToken("a"), { name: "alice" });
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
