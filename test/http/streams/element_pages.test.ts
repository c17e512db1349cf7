import { type Test, test } from "tap";
import { CMD } from "../../../src/abi/service.ts";
import { parseKeyPlace } from "../../../src/log/position.ts";
import { HASH, Service } from "../service.ts";

const NDJSON = { accept: "application/x-ndjson" };
/** More than the engine reads at once. */
const COUNT = 10_000;

interface Element {
  readonly key: string;
  readonly value: string;
}

async function furnish(t: Test): Promise<{ service: Service; fd: string }> {
  const service = await Service.start(t);
  const fd = await service.map(await service.session(), { max_entries: COUNT });
  const elements = Array.from({ length: COUNT }, (_, at) => ({ key: hex(at), value: hex(at * 3) }));
  await service.send("POST", `${fd}/batch/update`, { elements });
  return { service, fd };
}

const hex = (number: number): string => number.toString(16).padStart(8, "0");

function lines(body: string): Element[] {
  return body
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

function sorted(elements: readonly Element[]): string[] {
  return elements.map(({ key, value }) => `${key} ${value}`).sort();
}

const ALL = sorted(Array.from({ length: COUNT }, (_, at) => ({ key: hex(at), value: hex(at * 3) })));

test("a page is as long as asked for, though it is read in pieces, and so is a whole map", async (t) => {
  const { service } = await furnish(t);
  const before = service.log.rows.length;
  const page = (await service.send("GET", "/v1/maps/1/elements?limit=9000")).json();
  t.equal(page.elements.length, 9000);
  t.equal(parseKeyPlace(page.next)?.key.toString("hex"), page.elements[8999].key);
  t.equal(page.seq, before + 1);
  const rest = (await service.send("GET", `/v1/maps/1/elements?limit=9000&after=${page.next}`)).json();
  t.equal(rest.next, null);
  t.same(sorted([...page.elements, ...rest.elements]), ALL);
  t.same(sorted(lines((await service.send("GET", "/v1/maps/1/elements", undefined, NDJSON)).body)), ALL);
  t.same(
    service.log.rows.slice(before).map(({ cmd }) => cmd),
    [CMD.MAP_ELEMENTS, CMD.MAP_ELEMENTS, CMD.MAP_ELEMENTS],
    "one event for each that was asked for",
  );
  t.equal(service.engine.moments.count, 0, "nothing is kept for those who have read all");
});

test("what is done meanwhile is not in it, whether the engine has the moment or the past", async (t) => {
  for (const keeps of [true, false]) {
    const { service, fd } = await furnish(t);
    const read = service.engine.moments.read.bind(service.engine.moments);
    let pages = 0;
    service.engine.moments.read = (...ask) => {
      pages++;
      // What others do between two pages.
      const target = { by: "id", id: 1 } as const;
      const who = { session: 0, caller: "anonymous", target, flags: 0n };
      for (let at = 0; at < COUNT; at += 7)
        service.engine.run([{ cmd: CMD.BPF_MAP_DELETE_ELEM, ...who, key: Buffer.from(hex(at), "hex"), value: null }]);
      return keeps ? read(...ask) : null;
    };
    t.same(sorted(lines((await service.send("GET", `${fd}/elements`, undefined, NDJSON)).body)), ALL);
    t.ok(pages >= 2);
    t.equal(service.engine.moments.count, 0);
  }
});

test("who breaks off leaves nothing behind", async (t) => {
  const { service } = await furnish(t);
  const address = await service.app.listen({ port: 0, host: "127.0.0.1" });
  const ended = new Promise<void>((resolve) => {
    const close = service.engine.moments.close.bind(service.engine.moments);
    service.engine.moments.close = (seq) => {
      close(seq);
      resolve();
    };
  });
  const gone = new AbortController();
  const response = await fetch(`${address}/v1/maps/1/elements`, { headers: NDJSON, signal: gone.signal });
  const reader = response.body?.getReader();
  await reader?.read();
  gone.abort();
  await ended;
  t.equal(service.engine.moments.count, 0);
});

test("a moment in the past is read in pieces, too", async (t) => {
  const { service, fd } = await furnish(t);
  const { seq } = (await service.send("DELETE", `${fd}/elements/${hex(1)}`)).json();
  const before = service.log.rows.length;
  t.same(sorted(lines((await service.send("GET", `${fd}/elements?at=${seq - 1}`, undefined, NDJSON)).body)), ALL);
  const page = (await service.send("GET", `${fd}/elements?at=${seq}&limit=9999`)).json();
  t.equal(page.elements.length, COUNT - 1);
  t.equal(page.next, null);
  t.equal(service.log.rows.length, before, "and leaves no event");
});

test("a map of large values is read in pieces of bytes; a page ends behind 16 MiB", async (t) => {
  const service = await Service.start(t);
  const fd = await service.map(await service.session(), { ...HASH, max_entries: 40, value_size: 1024 * 1024 });
  for (let at = 0; at < 20; at++)
    await service.send("PUT", `${fd}/elements/${hex(at)}`, Buffer.alloc(1024 * 1024, at), {
      "content-type": "application/octet-stream",
    });
  const page = (await service.send("GET", `${fd}/elements?limit=30`)).json();
  t.equal(page.elements.length, 15, "as many as fit");
  const rest = (await service.send("GET", `${fd}/elements?limit=30&after=${page.next}`)).json();
  t.equal(page.elements.length + rest.elements.length, 20);
  t.equal(rest.next, null);
});
