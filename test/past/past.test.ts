import { mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "tap";
import { mapledger } from "../support/cli.ts";
import { startService } from "../support/service_process.ts";

/** A service over these data, with a function that sends requests to it. */
async function started(data: string) {
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  const send = async (method: string, path: string, body?: object) => {
    const json = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const response = await fetch(`${service.url}/v1${path}`, { method, ...json });
    return (await response.json()) as Record<string, unknown>;
  };
  return { service, send };
}

test("what has been archived is past telling without its archive; what came after it is told as before", async (t) => {
  const data = mkdtempSync(join(tmpdir(), "mapledger-past-"));
  t.teardown(() => rmSync(data, { recursive: true }));
  const first = await started(data);
  await first.send("POST", "/sessions", {});
  const hash = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 9 };
  await first.send("POST", "/sessions/1/maps", hash);
  const put = async (value: string) => (await first.send("PUT", "/maps/1/elements/01000000", { value })).seq as number;
  const one = await put("01000000");
  const two = await put("02000000");
  const three = await put("03000000");
  const { time } = (await first.send("GET", `/events/${one}`)) as { time: string };
  const history = await first.send("GET", "/maps/1/elements/01000000/history");
  t.equal(await first.service.end("SIGTERM"), 0);
  const archived = await mapledger("archive", "--before", String(three), "--data", data);
  t.equal(archived.code, 0, archived.stderr);

  const replayed = await mapledger("replay", data);
  t.equal(replayed.code, 0, replayed.stderr);
  const seqs = replayed.stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line).seq);
  t.strictSame(
    seqs,
    Array.from({ length: seqs.length }, (_, at) => at + 1),
    "archived events are replayed, too",
  );
  t.ok(seqs.length > three);
  renameSync(join(data, "archive"), join(data, "moved"));
  const missing = await mapledger("replay", data);
  t.match(missing, { code: 1, stderr: /events up to 4 are archived/ });
  const moved = await mapledger("replay", data, "--archive", join(data, "moved"));
  t.equal(moved.stdout, replayed.stdout, "from where the archive is now");
  const verified = await mapledger("verify", data, "--archive", join(data, "moved"));
  t.match(verified, { code: 0, stdout: /archive +events up to 4 were read from the archive/ });

  const told = async () => {
    const { service, send } = await started(data);
    const gone = { type: "urn:mapledger:problem:archived", status: 410, oldest_seq: three };
    t.match(await send("GET", `/maps/1/elements/01000000?at=${one}`), gone);
    t.match(await send("GET", `/maps/1/elements/01000000?at=${encodeURIComponent(time)}`), gone);
    t.match(await send("GET", `/maps/1/diff?from=${one}`), gone);
    t.match(await send("POST", "/maps/1/restore", { at: one }), gone);
    t.match(await send("GET", `/maps/1/elements/01000000/history?before=${three}`), gone);
    t.match(
      await send("GET", `/maps/1/elements/01000000?at=${two}`),
      { value: "02000000" },
      "right after the last of them",
    );
    t.match(await send("GET", `/maps/1/elements/01000000?at=${three}`), { value: "03000000" });
    t.match(await send("GET", `/maps/1/diff?from=${two}&to=${three}`), { changed: 1 });
    const page = await send("GET", "/maps/1/elements/01000000/history");
    t.strictSame(page, {
      ...history,
      versions: (history.versions as object[]).slice(-1),
      prev: null,
      oldest_seq: three,
    });
    t.equal(await service.end("SIGTERM"), 0);
  };
  await told();
  rmSync(join(data, "history"), { recursive: true });
  await told();
  renameSync(join(data, "moved"), join(data, "archive"));
  const { service, send } = await started(data);
  t.strictSame(await send("GET", "/maps/1/elements/01000000/history"), history, "its archive is at hand again");
  t.match(await send("POST", "/maps/1/restore", { at: one }), { at: one, changed: 1 });
  t.match(await send("GET", "/maps/1/elements/01000000"), { value: "01000000" });
  t.equal(await service.end("SIGTERM"), 0);
});

test("the past is there after kills, and after its files have been thrown away", async (t) => {
  const data = mkdtempSync(join(tmpdir(), "mapledger-past-"));
  t.teardown(() => rmSync(data, { recursive: true }));
  const environment = { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" };
  const first = await startService(environment);
  const send = async (url: string, method: string, path: string, body?: object) => {
    const json = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const response = await fetch(`${url}/v1${path}`, { method, ...json });
    if (!response.ok) throw new Error(await response.text());
    return response.json() as Promise<Record<string, unknown>>;
  };
  await send(first.url, "POST", "/sessions", {});
  const map = { map_type: "BPF_MAP_TYPE_QUEUE", value_size: 4, max_entries: 100 };
  await send(first.url, "POST", "/sessions/1/maps", map);
  const seqs: number[] = [];
  for (let number = 1; number <= 50; number++) {
    const value = `${number.toString(16).padStart(2, "0")}000000`;
    seqs.push((await send(first.url, "POST", "/maps/1/push", { value })).seq as number);
    if (number % 2 === 0) await send(first.url, "POST", "/maps/1/pop");
  }
  /** The value that stood first after the push number `at`. */
  const head = async (url: string, at: number) =>
    (await send(url, "POST", `/maps/1/peek?at=${seqs[at - 1]}`, {})).value;
  const wanted = ["01000000", "02000000", "05000000", "0a000000", "19000000"];
  const heads = async (url: string) => Promise.all([1, 3, 9, 19, 49].map((at) => head(url, at)));
  t.same(await heads(first.url), wanted);
  await first.end("SIGKILL");

  const second = await startService(environment);
  t.same(await heads(second.url), wanted, "after a kill");
  t.equal(await second.end("SIGTERM"), 0);

  rmSync(join(data, "history"), { recursive: true });
  const third = await startService(environment);
  t.same(await heads(third.url), wanted, "made again from the log");
  t.equal(await third.end("SIGTERM"), 0);
});
