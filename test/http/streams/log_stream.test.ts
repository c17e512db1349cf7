import { setTimeout as pause } from "node:timers/promises";
import * as fc from "fast-check";
import { type Test, test } from "tap";
import { CMD } from "../../../src/abi/service.ts";
import type { Request } from "../../../src/engine/request.ts";
import { MessageStream } from "../../support/messages.ts";
import { SEED } from "../../support/seed.ts";
import { Service, type ServiceOptions } from "../service.ts";

/** A service that listens, with a session and a hash at fd 3: its first two events. */
async function furnish(t: Test, settings: ServiceOptions["settings"] = {}): Promise<{ service: Service; url: string }> {
  const service = await Service.start(t, { settings });
  const fd = await service.map(await service.session(), { max_entries: 1000 });
  t.equal(fd, "/v1/sessions/1/fds/3");
  return { service, url: `${await service.app.listen({ host: "127.0.0.1", port: 0 })}/v1/events/stream` };
}

const key = (number: number): string => number.toString(16).padStart(8, "0");

/** Writes an element: an event. */
async function put(service: Service, number: number): Promise<void> {
  await service.send("PUT", `/v1/sessions/1/fds/3/elements/${key(number)}`, { value: key(number) });
}

/** The next so many events' seqs. */
async function seqs(stream: MessageStream, count: number): Promise<number[]> {
  const found: number[] = [];
  while (found.length < count) found.push((await stream.nextOf("event")).data.seq as number);
  return found;
}

/** What writes an element of a large value: an event of as many bytes. Its map is fd 4, and the third event. */
async function largeWrite(service: Service, bytes: number): Promise<Request> {
  const fd = await service.map("/v1/sessions/1", { value_size: bytes });
  const target = { by: "fd", fd: Number(fd.split("/").at(-1)) } as const;
  const [key, value] = [Buffer.alloc(4), Buffer.alloc(bytes, 7)];
  return { cmd: CMD.BPF_MAP_UPDATE_ELEM, session: 1, caller: "anonymous", target, key, value, flags: 0n };
}

/** Until it holds; the test runner ends what never does. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await pause(5);
}

test("streamEvents begins with what comes next, and tells of it as GET /v1/events does", async (t) => {
  const { service, url } = await furnish(t);
  const stream = await MessageStream.open(t, url);
  t.equal(stream.status, 200);
  t.equal(stream.type, "text/event-stream");
  t.same(await stream.next(), { event: "bookmark", id: 2, data: { seq: 2 } });
  await put(service, 1);
  await service.send("GET", "/v1/maps/1/elements/00000009");
  const events = [await stream.next(), await stream.next()];
  const page = (await service.send("GET", "/v1/events?after=2")).json();
  t.same(
    events,
    page.events.map((event: { seq: number }) => ({ event: "event", id: event.seq, data: event })),
  );
});

test("streamEvents takes the filters of GET /v1/events", async (t) => {
  const { service, url } = await furnish(t);
  const wanted: [query: string, seqs: number[]][] = [
    ["map=1", [2, 3, 4]],
    ["session=0", [1, 4, 5]],
    ["cmd=BPF_MAP_UPDATE_ELEM", [3]],
    ["errno=ENOENT", [4, 5]],
    ["key=0000", [3, 4]],
    ["caller=nobody", []],
    ["until=2001-01-01T00:00:00Z", []],
  ];
  const streams = await Promise.all(wanted.map(([query]) => MessageStream.open(t, `${url}?after=0&${query}`)));
  await put(service, 1);
  await service.send("GET", "/v1/maps/1/elements/00000009");
  await service.send("GET", "/v1/maps/77/elements/07000000");
  for (const [at, [query, expected]] of wanted.entries())
    t.same(await seqs(streams[at] as MessageStream, expected.length), expected, query);
  const last = streams.at(-1) as MessageStream;
  await last.next();
  t.equal(await last.next(), null, "nothing can match any more: the stream ends");
});

test("streamEvents tells of what the service does of its own accord", async (t) => {
  const { service, url } = await furnish(t);
  const opened = (await service.send("POST", "/v1/sessions", { ttl_seconds: 1 })).json();
  const stream = await MessageStream.open(t, `${url}?cmd=SESSION_END`);
  await stream.nextOf("bookmark");
  const beat = setInterval(() => service.idle(), 10);
  t.match((await stream.nextOf("event")).data, { session: opened.id, attr: { reason: "lease expired" } });
  clearInterval(beat);
});

test("a stream that is cut anywhere goes on without a gap or a repeat", async (t) => {
  const { service, url } = await furnish(t);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(5), fc.nat(7), fc.boolean()), { minLength: 1, maxLength: 6 }),
      async (rounds) => {
        const before = service.log.rows.length;
        const found: number[] = [];
        let last: string | null = null;
        for (const [written, read, byHeader] of rounds) {
          const at: string = last ?? String(before);
          const stream: MessageStream = byHeader
            ? await MessageStream.open(t, `${url}?after=1`, { "last-event-id": at })
            : await MessageStream.open(t, `${url}?after=${at}`);
          for (let i = 0; i < written; i++) await put(service, i);
          for (let i = 0; i < read && found.length < service.log.rows.length - before; i++) {
            const { data, id } = await stream.nextOf("event");
            if (data.seq !== id) throw new Error(`the id of ${data.seq} is ${id}`);
            found.push(data.seq as number);
            last = stream.lastId;
          }
          stream.break();
        }
        found.forEach((seq, at) => {
          if (seq !== before + 1 + at) throw new Error(`${seq} came where ${before + 1 + at} was due`);
        });
      },
    ),
    { seed: SEED, numRuns: 25 },
  );
  await until(() => service.streams === 0);
  t.equal(service.streams, 0, "what was broken off is gone");
});

test("while there is nothing to tell, bookmarks say up to where", async (t) => {
  const { service, url } = await furnish(t, { bookmarkSeconds: 0.05 });
  const stream = await MessageStream.open(t, `${url}?errno=EBUSY`);
  t.same(await stream.next(), { event: "bookmark", id: 2, data: { seq: 2 } });
  for (let i = 0; i < 120; i++) await put(service, i);
  for (;;) {
    const bookmark = await stream.nextOf("bookmark");
    t.equal(bookmark.id, bookmark.data.seq);
    if (bookmark.id === 122) break;
  }
  t.match(await stream.next(), { event: "bookmark", id: 122 }, "and again, though nothing happens");
});

test("a slow reader holds nobody up, is told, and loses nothing", async (t) => {
  const { service, url } = await furnish(t, { lagEventsMax: 100 });
  const write = await largeWrite(service, 100_000);
  const stream = await MessageStream.open(t, url);
  await stream.nextOf("bookmark");
  for (let i = 0; i < 300; i++) {
    service.engine.run([write]);
    if (i === 0) service.idle();
  }
  await put(service, 1);
  await pause(200);
  const { queries } = service.reader;
  t.ok(queries < 6, `the log was read ${queries} times: no further than the reader takes it`);
  let expected = 4;
  let lagging: unknown = null;
  while (expected <= 304) {
    const { event, data } = await stream.nextOf("event", "lagging");
    if (event === "lagging") lagging ??= data;
    else if (data.seq !== expected++) t.fail(`${data.seq} came where ${expected - 1} was due`);
  }
  t.match(lagging, { at: Number, last: 304 });
});

test("there are so many streams at most, and each that ends makes room", async (t) => {
  const { service, url } = await furnish(t, { streamsMax: 2 });
  const [first] = [await MessageStream.open(t, url), await MessageStream.open(t, url)];
  t.equal(service.streams, 2);
  const refused = await service.send("GET", "/v1/events/stream");
  t.equal(refused.statusCode, 503);
  t.match(refused.json(), { type: "urn:mapledger:problem:too-many-streams", detail: /^2 streams are open/ });
  t.ok(refused.headers["retry-after"]);
  t.match((await service.send("GET", "/metrics")).body, "mapledger_streams 2");
  first?.break();
  await until(() => service.streams === 1);
  t.equal((await MessageStream.open(t, url)).status, 200);
});

test("one caller cannot have all streams", async (t) => {
  const service = await Service.start(t, { settings: { callerStreamsMax: 2 }, authenticate: (token) => token });
  const url = `${await service.app.listen({ host: "127.0.0.1", port: 0 })}/v1/events/stream`;
  const open = async (caller: string): Promise<number> => {
    const ending = new AbortController();
    t.teardown(() => ending.abort());
    const { signal } = ending;
    return (await fetch(url, { headers: { authorization: `Bearer ${caller}` }, signal })).status;
  };
  t.same([await open("alice"), await open("alice"), await open("alice"), await open("bob")], [200, 200, 503, 200]);
  const headers = { authorization: "Bearer alice" };
  const refused = await service.send("GET", "/v1/events/stream", undefined, headers);
  t.match(refused.json(), { detail: "alice has 2 streams open (limit 2, MAPLEDGER_CALLER_STREAMS_MAX)" });
  await service.map(await service.session(headers), {}, headers);
  const watched = await service.send("GET", "/v1/maps/1/watch", undefined, headers);
  t.match(watched.json(), { detail: /^alice has 2 streams open/ });
});

test("a stop ends the streams, also of readers who take nothing", async (t) => {
  const { service, url } = await furnish(t);
  const idle = await MessageStream.open(t, `${url}?caller=nobody`);
  const stuck = await MessageStream.open(t, `${url}?after=0`);
  const write = await largeWrite(service, 1_000_000);
  for (let i = 0; i < 30; i++) service.engine.run([write]);
  service.idle();
  await idle.nextOf("bookmark");
  t.same(await seqs(stuck, 4), [1, 2, 3, 4]);
  await service.app.close();
  for (let message = await idle.next(); message !== null; message = await idle.next())
    t.equal(message.event, "bookmark", "nothing but what had time to come, and a clean end");
  await t.rejects(async () => {
    while ((await stuck.next()) !== null);
  }, "aborted");
  await until(() => service.streams === 0);
});

test("a stream cannot begin where the log has not come to, nor at what is no seq", async (t) => {
  const { service } = await furnish(t);
  const rows: [query: string, id: string, detail: RegExp][] = [
    ["?after=3", "", /^after: there is no event 3: the log ends at 2$/],
    ["?after=1", "3", /^last-event-id: there is no event 3/],
    ["?after=1", "1x", /^last-event-id: a seq or a whole position required, found "1x"$/],
    ["?after=-1", "", /after/],
    ["?key=0", "", /^key/],
    ["?map=name:nobody", "", /no map/],
  ];
  for (const [query, id, detail] of rows) {
    const answer = await service.send("GET", `/v1/events/stream${query}`, undefined, { "last-event-id": id });
    t.match(answer.json().detail, detail);
  }
  t.equal(service.streams, 0);
});

test("listEvents pages both ways", async (t) => {
  const { service } = await furnish(t);
  for (let i = 0; i < 130; i++) await put(service, i);
  for (const query of ["", "map=1&", "cmd=BPF_MAP_UPDATE_ELEM&", "key=000000&"]) {
    const page = async (rest: string): Promise<{ seqs: number[]; next: string | null; prev: string | null }> => {
      const { events, next, prev } = (await service.send("GET", `/v1/events?${query}${rest}`)).json();
      return { seqs: events.map(({ seq }: { seq: number }) => seq), next, prev };
    };
    const all = (await page("limit=1000")).seqs;
    const forth: number[] = [];
    for (let at: string | null = "0"; at !== null; ) {
      const { seqs, next } = await page(`limit=9&after=${at}`);
      forth.push(...seqs);
      at = next;
    }
    t.same(forth, all, `${query} on`);
    let back: number[] = [];
    for (let at: string | null = String(Number.MAX_SAFE_INTEGER); at !== null; ) {
      const { seqs, prev } = await page(`limit=9&before=${at}`);
      back = [...seqs, ...back];
      at = prev;
    }
    t.same(back, all, `${query} back`);
    const middle = await page("limit=3&after=20");
    const before = await page(`limit=3&before=${middle.prev}`);
    t.same((await page(`limit=3&after=${before.next}`)).seqs, middle.seqs, `${query} there and back`);
  }
  t.match((await service.send("GET", "/v1/events?before=1")).json(), { events: [], next: null, prev: null });
  t.match((await service.send("GET", "/v1/events?before=0")).json(), { status: 400 });
  const lines = await service.send("GET", "/v1/events?before=5&after=2", undefined, { accept: "application/x-ndjson" });
  t.same(
    lines.body
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line).seq),
    [3, 4],
  );
});

test("listEvents as lines reads the log as fast as they are taken", async (t) => {
  const { service, url } = await furnish(t);
  const write = await largeWrite(service, 100_000);
  for (let i = 0; i < 320; i++) service.engine.run([write]);
  const stream = await MessageStream.open(t, url.replace("/stream", ""), { accept: "application/x-ndjson" });
  await stream.line();
  await pause(200);
  t.ok(service.reader.queries < 6, `it was read ${service.reader.queries} times`);
  let seq = 1;
  for (let line = await stream.line(); line !== null; line = await stream.line()) seq = line.seq as number;
  t.equal(seq, 323);
});

test("a page of a filter that few events match ends behind so many reads, and says from where it goes on", async (t) => {
  const { service } = await furnish(t);
  for (let i = 0; i < 2500; i++) await put(service, i % 1000);
  const pages = async (first: string, link: "next" | "prev", name: string): Promise<number> => {
    let count = 0;
    for (let at: string | null = first; at !== null; count++) {
      const before = service.reader.queries;
      const page: { events?: unknown[]; next: string | null; prev: string | null } = (
        await service.send("GET", `/v1/events?cmd=SESSION_END&${name}=${at}`)
      ).json();
      if (page.events?.length !== 0) throw new Error(JSON.stringify(page));
      t.ok(service.reader.queries - before <= 16, "a request reads so much of the log");
      at = page[link];
    }
    return count;
  };
  t.equal(await pages("0", "next", "after"), Math.ceil(2502 / (16 * 50)));
  t.equal(await pages("2503", "prev", "before"), Math.ceil(2502 / (16 * 50)));
  service.reader.lookedAtMax = 20_000;
  const full = (await service.send("GET", "/v1/events?limit=2500")).json();
  t.equal(full.events.length, 2500, "what finds as many as it asks for goes on");
});

test("an export that finds nothing ends when its reader has gone", async (t) => {
  const { service, url } = await furnish(t);
  for (let i = 0; i < 500; i++) await put(service, i);
  const { reader } = service;
  const query = reader.query.bind(reader);
  const asked = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  reader.query = async (...range) => {
    asked.resolve();
    await gate.promise;
    return query(...range);
  };
  const closed = new Promise<void>((resolve) => {
    service.app.server.once("request", (_, response) => response.once("close", resolve));
  });
  const leaving = new AbortController();
  const path = url.replace("/stream", "?cmd=SESSION_END");
  const left = fetch(path, { headers: { accept: "application/x-ndjson" }, signal: leaving.signal }).catch(() => {});
  await asked.promise;
  leaving.abort();
  await left;
  await closed;
  gate.resolve();
  const more = await fetch(url.replace("/stream", "/1"));
  t.equal(more.status, 200);
  t.equal(reader.queries, 1, "the log is not gone through for nobody");
});
