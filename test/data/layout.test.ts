import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { LAYOUT } from "../../src/data/layout.ts";
import { startService } from "../support/service_process.ts";

/** A database's name is followed by those of the files that SQLite keeps beside it, a file's while it is being written. */
const SUFFIX = /(-wal|-shm|-journal|\.new|\.partial)$/;

t.test("a service makes no file that the layout does not name, and makes derived ones again", async (t) => {
  const data = join(mkdtempSync(join(tmpdir(), "mapledger-layout-")), "data");
  t.teardown(() => rmSync(join(data, ".."), { recursive: true }));
  const environment = { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" };
  const first = await startService(environment);
  const send = async (method: string, path: string, body?: object): Promise<unknown> => {
    const headers = { "content-type": "application/json" };
    const init = body === undefined ? { method } : { method, headers, body: JSON.stringify(body) };
    return (await fetch(`${first.url}/v1${path}`, init)).json();
  };
  await send("POST", "/sessions", { name: "layout", ttl_seconds: 3600 });
  const map = { map_type: "BPF_MAP_TYPE_HASH", key_size: 1, value_size: 1, max_entries: 4 };
  await send("POST", "/sessions/1/maps", map);
  await send("PUT", "/sessions/1/fds/3/elements/01", { value: "02" });
  const path = "/v1/maps/1/elements/01/history";
  const before = await (await fetch(first.url + path)).json();
  t.match(before, { versions: [{}] });
  t.equal(await first.end("SIGTERM"), 0);

  for (const name of readdirSync(data)) {
    const row = Object.entries(LAYOUT).find(([known]) => known === name.replace(SUFFIX, ""));
    t.ok(row, `${name} is in the layout`);
    if (row?.[1].derived) rmSync(join(data, name), { recursive: true });
  }

  const next = await startService(environment);
  t.match(await (await fetch(`${next.url}/v1/maps/1/elements/01`)).json(), { value: "02" });
  t.strictSame(await (await fetch(next.url + path)).json(), before);
  t.equal(await next.end("SIGTERM"), 0);
});
