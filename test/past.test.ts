import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "tap";
import { startService } from "./support/service_process.ts";

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
