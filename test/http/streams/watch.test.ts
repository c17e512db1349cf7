import { setTimeout as pause } from "node:timers/promises";
import * as fc from "fast-check";
import { type Test, test } from "tap";
import { CMD } from "../../../src/abi/service.ts";
import { MessageStream, seqOf } from "../../support/messages.ts";
import { SEED } from "../../support/seed.ts";
import { Service, type ServiceOptions } from "../service.ts";

/** A service that listens, with a session. */
async function furnish(
  t: Test,
  settings: ServiceOptions["settings"] = {},
): Promise<{ service: Service; session: string; url: string }> {
  const service = await Service.start(t, { settings });
  const session = await service.session();
  return { service, session, url: `${await service.app.listen({ host: "127.0.0.1", port: 0 })}/v1/maps` };
}

const key = (number: number): string => number.toString(16).padStart(8, "0");

async function put(service: Service, map: string, number: number, value = key(number)): Promise<void> {
  const answer = await service.send("PUT", `${map}/elements/${key(number)}`, { value });
  if (answer.statusCode !== 200) throw new Error(answer.body);
}

/** What a reader of a watch knows of the map. */
class Reader {
  readonly elements = new Map<string, string>();
  readonly #stream: MessageStream;
  /** Up to which seq all has been told. */
  seq = 0;
  /** Messages that came, in words. */
  readonly told: string[] = [];

  constructor(stream: MessageStream) {
    this.#stream = stream;
  }

  break(): void {
    this.#stream.break();
  }

  /** Takes messages up to one with this id, at least; or to the end. */
  async readTo(seq: number): Promise<void> {
    while (this.seq < seq) {
      const message = await this.#stream.next();
      if (message === null) return;
      const { event, id, data } = message;
      this.told.push(`${event} ${data.key ?? data.seq}${data.value ? ` ${data.value}` : ""}`);
      if (event === "snapshot" || event === "put") this.elements.set(data.key as string, data.value as string);
      if (event === "delete" && !this.elements.delete(data.key as string)) throw new Error(`${data.key} was not there`);
      this.seq = id ?? this.seq;
    }
  }
}

/** The elements' page, and the seq that it is of. */
async function page(service: Service, map: string): Promise<{ elements: Map<string, string>; seq: number }> {
  const { elements, seq } = (await service.send("GET", `${map}/elements?limit=10000`)).json();
  return { elements: new Map(elements.map((one: { key: string; value: string }) => [one.key, one.value])), seq };
}

test("watchMap tells the map as it is, then each change, and its end", async (t) => {
  const { service, session, url } = await furnish(t);
  const map = await service.map(session, { max_entries: 2, map_name: "m", map_flags: [] });
  await put(service, map, 1);
  const stream = await MessageStream.open(t, `${url}/name:m/watch`);
  t.equal(stream.type, "text/event-stream");
  t.match(await stream.next(), {
    event: "begin",
    id: null,
    data: { seq: 4, map: { id: 1, name: "m", frozen: false } },
  });
  t.same(await stream.next(), { event: "snapshot", id: null, data: { seq: 4, key: key(1), value: key(1) } });
  t.same(await stream.next(), { event: "synced", id: 4, data: { seq: 4 } });
  t.match(service.log.rows.at(-1), { cmd: CMD.MAP_ELEMENTS, map: 1 }, "that it was read is an event");
  await put(service, map, 2);
  await service.send("PUT", `${map}/elements/${key(3)}`, { value: key(3) });
  await service.send("GET", `${map}/elements/${key(2)}`);
  await service.send("DELETE", `${map}/elements/${key(1)}`);
  await service.send("POST", `${map}/batch/update`, {
    elements: [
      { key: key(2), value: key(4) },
      { key: key(5), value: key(5) },
    ],
  });
  await service.send("POST", `${map}/freeze`);
  await service.send("DELETE", session);
  const time = /^\d{4}-.*\.\d{6}Z$/;
  t.match(await stream.next(), { event: "put", id: 5, data: { seq: 5, time, key: key(2), value: key(2) } });
  t.match(await stream.next(), { event: "delete", id: 8, data: { seq: 8, time, key: key(1), value: null } });
  t.match(await stream.next(), { event: "put", id: null, data: { seq: 9, key: key(2), value: key(4) } });
  t.match(await stream.next(), { event: "put", id: 9, data: { seq: 9, key: key(5), value: key(5) } });
  t.match(await stream.next(), { event: "frozen", id: 10, data: { seq: 10, time } });
  t.match(await stream.next(), { event: "freed", id: 11, data: { seq: 11, time } });
  t.equal(await stream.next(), null, "the stream ends with the map");
});

test("watchMap as lines says the same", async (t) => {
  const { service, session, url } = await furnish(t);
  const map = await service.map(session);
  await put(service, map, 1);
  const stream = await MessageStream.open(t, `${url}/1/watch`, { accept: "application/x-ndjson" });
  t.equal(stream.type, "application/x-ndjson");
  t.match(await stream.line(), { event: "begin", seq: 4, map: { id: 1 } });
  t.match(await stream.line(), { event: "snapshot", seq: 4, key: key(1), value: key(1), position: String });
  t.match(await stream.line(), { event: "synced", seq: 4, position: String });
  await service.send("DELETE", `${map}/elements/${key(1)}`);
  t.match(await stream.line(), { event: "delete", seq: 5, key: key(1), value: null });
  await service.send("DELETE", session);
  t.match(await stream.line(), { event: "freed", seq: 6 });
  t.equal(await stream.line(), null);
  const whole = await service.send("GET", "/v1/maps/1/watch", undefined, { accept: "application/x-ndjson" });
  t.equal(whole.statusCode, 404, "there is nothing to watch any more");
});

test("lines of a watch are what the document says", async (t) => {
  const { service, session } = await furnish(t);
  const map = await service.map(session);
  await put(service, map, 1);
  const watched = service.send("GET", "/v1/maps/1/watch", undefined, { accept: "application/x-ndjson" });
  while (service.streams === 0) await pause(5);
  await put(service, map, 2);
  await service.send("DELETE", `${map}/elements/${key(1)}`);
  await service.send("POST", `${map}/freeze`);
  await service.send("DELETE", session);
  t.equal((await watched).body.split("\n").length, 8);
});

test("what makes room is told of, before what came", async (t) => {
  const { service, session, url } = await furnish(t);
  const lru = await service.map(session, { map_type: "BPF_MAP_TYPE_LRU_HASH", max_entries: 2, map_flags: [] });
  for (const number of [1, 2]) await put(service, lru, number);
  const reader = new Reader(await MessageStream.open(t, `${url}/1/watch`));
  await reader.readTo(1);
  await put(service, lru, 3);
  const elements = [4, 5].map((number) => ({ key: key(number), value: key(number) }));
  await service.send("POST", `${lru}/batch/update`, { elements });
  await reader.readTo(service.log.rows.length);
  t.same(reader.told.slice(-6), [
    `delete ${key(1)}`,
    `put ${key(3)} ${key(3)}`,
    `delete ${key(2)}`,
    `put ${key(4)} ${key(4)}`,
    `delete ${key(3)}`,
    `put ${key(5)} ${key(5)}`,
  ]);

  for (const [map_type, left] of [
    ["BPF_MAP_TYPE_QUEUE", 3],
    ["BPF_MAP_TYPE_STACK", 2],
  ] as const) {
    const line = await service.map(session, { map_type, key_size: 0, max_entries: 2, map_flags: [] });
    const id = service.log.rows.at(-1)?.map;
    const pushed = new Reader(await MessageStream.open(t, `${url}/${id}/watch`));
    await pushed.readTo(1);
    for (const number of [1, 2, 3]) await service.send("POST", `${line}/push`, { value: key(number), flags: 2 });
    await service.send("POST", `${line}/pop`);
    await pushed.readTo(service.log.rows.length);
    const place = (number: number): string => `00000000${key(number)}`;
    t.same(pushed.told.slice(2), [
      `put ${place(1)} ${key(1)}`,
      `put ${place(2)} ${key(2)}`,
      `delete ${place(1)}`,
      `put ${place(3)} ${key(3)}`,
      `delete ${place(map_type === "BPF_MAP_TYPE_QUEUE" ? 2 : 3)}`,
    ]);
    t.same([...pushed.elements], [[place(left), key(left)]], map_type);
  }
});

test("what goes with an object, an open file or an interface is told of", async (t) => {
  const { service, session, url } = await furnish(t);
  const door = async (cmd: string, attr: object): Promise<void> => {
    const answer = (await service.send("POST", `${session}/bpf`, { cmd, attr })).json();
    t.equal(answer.errno, null, cmd);
  };
  const open = async (kind: string): Promise<number> =>
    (await service.send("POST", `${session}/fds`, { kind })).json().fd;
  const hex = (number: number): string => Buffer.from(Uint32Array.of(number).buffer).toString("hex");
  const sockets = await service.map(session, { map_type: "BPF_MAP_TYPE_SOCKMAP", value_size: 8, map_flags: [] });
  const events = await service.map(session, { map_type: "BPF_MAP_TYPE_PERF_EVENT_ARRAY", map_flags: [] });
  const devices = await service.map(session, { map_type: "BPF_MAP_TYPE_DEVMAP", map_flags: [] });
  const fdOf = (map: string): number => Number(map.split("/").at(-1));
  const [socket, event] = [await open("tcp_listen"), await open("perf_event")];
  const dup = (await service.send("POST", `${session}/fds`, { kind: "map", map: "2" })).json().fd;
  await door("BPF_MAP_UPDATE_ELEM", { map_fd: fdOf(sockets), key: hex(1), value: `${hex(socket)}00000000` });
  await door("BPF_MAP_UPDATE_ELEM", { map_fd: dup, key: hex(2), value: hex(event) });
  await door("BPF_MAP_UPDATE_ELEM", { map_fd: fdOf(devices), key: hex(3), value: hex(1) });
  const readers: Reader[] = [];
  for (const id of [1, 2, 3]) readers.push(new Reader(await MessageStream.open(t, `${url}/${id}/watch`)));
  for (const reader of readers) await reader.readTo(1);
  t.same(
    readers.map(({ elements }) => [...elements.keys()]),
    [[hex(1)], [hex(2)], [hex(3)]],
  );
  await service.send("DELETE", `${session}/fds/${socket}`);
  await service.send("DELETE", `${session}/fds/${dup}`);
  const interfaces = { cmd: CMD.INTERFACES, session: 0, caller: "mapledger", attr: { ifindexes: [2] } } as const;
  service.engine.run([interfaces]);
  service.idle();
  const seqs = service.log.rows.slice(-3).map(({ seq }) => seq);
  for (const [at, reader] of readers.entries()) await reader.readTo(seqs[at] as number);
  t.same(
    readers.map(({ told }) => told.at(-1)),
    [`delete ${hex(1)}`, `delete ${hex(2)}`, `delete ${hex(3)}`],
  );
  t.same(
    service.log.rows.slice(-3).map(({ out }) => JSON.parse(out ?? "null")?.gone),
    [[[1, hex(1)]], [[2, hex(2)]], [[3, hex(3)]]],
  );
  t.ok(events);
});

test("writes to memory are told of by element", async (t) => {
  const { service, session, url } = await furnish(t);
  const attr = { map_type: "BPF_MAP_TYPE_ARRAY", value_size: 6, max_entries: 4, map_flags: ["BPF_F_MMAPABLE"] };
  const map = await service.map(session, attr);
  await service.send("PUT", `${map}/elements/01000000`, { value: "010203040506" });
  const reader = new Reader(await MessageStream.open(t, `${url}/1/watch`));
  await reader.readTo(1);
  const write = (data: Buffer, at: number) =>
    service.send("PUT", `${map}/memory`, data, {
      "content-type": "application/octet-stream",
      "content-range": `bytes ${at}-${at + data.length - 1}/*`,
    });
  t.equal((await write(Buffer.alloc(18, 0xff), 10)).statusCode, 200);
  t.equal((await write(Buffer.alloc(2, 0xee), 6)).statusCode, 200);
  await put(service, map, 0, "0a0a0a0a0a0a");
  await reader.readTo(service.log.rows.length);
  t.same(reader.told.slice(-4), [
    "put 01000000 0102ffffffff",
    "put 02000000 ffffffffffff",
    "put 03000000 ffffffff0000",
    "put 00000000 0a0a0a0a0a0a",
  ]);
  t.same(reader.elements, (await page(service, map)).elements);
});

test("a snapshot and what came after it are the page of elements later", async (t) => {
  const { service, session, url } = await furnish(t);
  const shapes = [
    { map_type: "BPF_MAP_TYPE_HASH", max_entries: 6, map_flags: [] },
    { map_type: "BPF_MAP_TYPE_LRU_HASH", max_entries: 4, map_flags: [] },
    { map_type: "BPF_MAP_TYPE_PERCPU_HASH", value_size: 8, max_entries: 6, map_flags: [] },
    { map_type: "BPF_MAP_TYPE_ARRAY", max_entries: 6, map_flags: [] },
    { map_type: "BPF_MAP_TYPE_LPM_TRIE", key_size: 8, max_entries: 6 },
    { map_type: "BPF_MAP_TYPE_QUEUE", key_size: 0, max_entries: 4, map_flags: [] },
    { map_type: "BPF_MAP_TYPE_BLOOM_FILTER", key_size: 0, max_entries: 8, map_flags: [] },
  ];
  const step = fc.record({ does: fc.nat(5), at: fc.nat(7), bits: fc.nat(3), value: fc.nat(3) });
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...shapes),
      fc.array(step, { maxLength: 30 }),
      fc.nat(20),
      async (shape, steps, cut) => {
        const map = await service.map(session, shape);
        const id = service.log.rows.at(-1)?.map;
        let reader: Reader | null = null;
        const values = "value_size" in shape ? 16 : 4;
        for (const [at, { does, ...one }] of steps.entries()) {
          const trie = `${["08", "10", "18", "20"][one.bits]}0000000a0102${one.at.toString(16).padStart(2, "0")}`;
          const named = shape.key_size === 8 ? trie : `${one.at.toString(16).padStart(2, "0")}000000`;
          const value = one.value.toString(16).padStart(2, "0").repeat(values);
          if (at === cut) reader = new Reader(await MessageStream.open(t, `${url}/${id}/watch`));
          if (shape.key_size === 0)
            await service.send(
              "POST",
              `${map}/${does < 4 ? "push" : "pop"}`,
              does < 4 ? { value, flags: does === 0 ? 2 : 0 } : undefined,
            );
          else if (does < 3) await service.send("PUT", `${map}/elements/${named}`, { value });
          else if (does === 3) await service.send("DELETE", `${map}/elements/${named}`);
          else {
            const elements = [named, `${named.slice(0, -2)}07`].map((one) => ({ key: one, value }));
            const [route, body] =
              does === 4 ? ["update", { elements }] : ["delete", { keys: elements.map(({ key }) => key) }];
            await service.send("POST", `${map}/batch/${route}`, body);
          }
        }
        reader ??= new Reader(await MessageStream.open(t, `${url}/${id}/watch`));
        const { elements, seq } = await page(service, map);
        const after = new Reader(await MessageStream.open(t, `${url}/${id}/watch`));
        await service.send("POST", `${map}/freeze`);
        await reader.readTo(seq + 2);
        await after.readTo(seq + 2);
        t.strictSame(sorted(reader.elements), sorted(elements), shape.map_type);
        t.strictSame(sorted(after.elements), sorted(elements));
        reader.break();
        after.break();
      },
    ),
    { seed: SEED, numRuns: 60 },
  );
});

function sorted(elements: Map<string, string>): [string, string][] {
  return [...elements].sort(([a], [b]) => (a < b ? -1 : 1));
}

test("a map larger than a page is told as it was at one seq, whatever happens meanwhile", async (t) => {
  const { service, session, url } = await furnish(t);
  const many = 150_000;
  const map = await service.map(session, { max_entries: many, map_flags: [] });
  const keys = Buffer.alloc(many * 4);
  for (let at = 0; at < many; at++) keys.writeUInt32BE(at, at * 4);
  const batch = { count: many, elemFlags: 0n, inBatch: null, outBatch: null };
  const target = { by: "fd", fd: 3 } as const;
  service.engine.run([
    {
      cmd: CMD.BPF_MAP_UPDATE_BATCH,
      session: 1,
      caller: "anonymous",
      target,
      key: keys,
      value: keys,
      flags: 0n,
      attr: batch,
    },
  ]);
  const stream = await MessageStream.open(t, `${url}/1/watch`);
  await stream.nextOf("begin");
  const first = (await stream.nextOf("snapshot")).data.key as string;
  for (let at = 0; at < 3; at++) await service.send("DELETE", `${map}/elements/${key(many - 1 - at)}`);
  const seen = new Set([first]);
  for (let message = await stream.next(); message?.event === "snapshot"; message = await stream.next()) {
    if (message.data.seq !== 4 || message.data.value !== message.data.key) t.fail(JSON.stringify(message));
    seen.add(message.data.key as string);
  }
  t.equal(seen.size, many, "all that were there");
  for (let at = 0; at < 3; at++)
    t.match(await stream.next(), { event: "delete", data: { key: key(many - 1 - at), seq: 5 + at } });
});

test("a watch that is cut goes on behind its last id, without a snapshot", async (t) => {
  const { service, session, url } = await furnish(t);
  const map = await service.map(session, { max_entries: 100 });
  await put(service, map, 1);
  const stream = await MessageStream.open(t, `${url}/1/watch`);
  await stream.nextOf("synced");
  await put(service, map, 2);
  await stream.nextOf("put");
  stream.break();
  await put(service, map, 3);
  await service.send("DELETE", `${map}/elements/${key(1)}`);
  const before = service.log.rows.length;
  const last = stream.lastId as string;
  for (const [query, headers] of [
    ["", { "last-event-id": last }],
    [`?after=${last}`, {}],
    [`?after=${seqOf(last)}`, {}],
  ] as const) {
    const next = await MessageStream.open(t, `${url}/1/watch${query}`, headers);
    t.same(await next.next(), { event: "bookmark", id: seqOf(last), data: { seq: seqOf(last) } });
    t.equal(next.lastId, last);
    t.match(await next.next(), { event: "put", data: { key: key(3) } });
    t.match(await next.next(), { event: "delete", data: { key: key(1) } });
  }
  t.equal(service.log.rows.length, before, "it reads no elements");
  const birth = await MessageStream.open(t, `${url}/1/watch?after=0`);
  for (const [event, number] of [
    ["put", 1],
    ["put", 2],
    ["put", 3],
    ["delete", 1],
  ] as const)
    t.match(await birth.nextOf("put", "delete"), { event, data: { key: key(number) } }, "from its birth on, too");
});

test("a watch has bookmarks, a limit and an end with the service, as a stream of events", async (t) => {
  const { service, session, url } = await furnish(t, { bookmarkSeconds: 0.05, streamsMax: 1 });
  const map = await service.map(session);
  const stream = await MessageStream.open(t, `${url}/1/watch`);
  await stream.nextOf("synced");
  await service.send("GET", `${map}/elements/${key(1)}`);
  for (;;) if ((await stream.nextOf("bookmark")).id === 4) break;
  const before = service.log.rows.length;
  t.match((await service.send("GET", "/v1/maps/1/watch")).json(), { status: 503, detail: "1 streams are open" });
  t.equal(service.log.rows.length, before, "and no event tells of what was not read");
  t.match((await service.send("GET", "/v1/maps/7/watch")).json(), { status: 404, errno: "ENOENT" });
  t.match((await service.send("GET", "/v1/maps/1/watch?after=99")).json(), { status: 400 });
  await service.app.close();
  for (let message = await stream.next(); message !== null; message = await stream.next())
    t.equal(message.event, "bookmark");
});
