import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import * as fc from "fast-check";
import { type Test, test } from "tap";
import { CMD } from "../../../src/abi/service.ts";
import { MessageStream } from "../../support/messages.ts";
import { SEED } from "../../support/seed.ts";
import { Service, type ServiceOptions } from "../service.ts";

const NDJSON = { accept: "application/x-ndjson" };

const hex = (number: number, bytes = 4): string => number.toString(16).padStart(2 * bytes, "0");

/** Until it holds; the test runner ends what never does. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await pause(5);
}

/** A service that listens, with a session and maps `a` and `b` at fds 3 and 4: its first three events. */
async function furnish(t: Test, options: ServiceOptions = {}): Promise<{ service: Service; url: string }> {
  const service = await Service.start(t, options);
  const headers = options.tokens === undefined ? {} : as("root");
  const session = await service.session(headers);
  for (const map_name of ["a", "b"]) await service.map(session, { map_name, max_entries: 1000 }, headers);
  return { service, url: `${await service.app.listen({ host: "127.0.0.1", port: 0 })}/v1` };
}

function as(caller: string): Record<string, string> {
  return { authorization: `Bearer ${caller}` };
}

async function put(service: Service, map: "a" | "b", number: number, headers = {}): Promise<void> {
  const path = `/v1/sessions/1/fds/${map === "a" ? 3 : 4}/elements/${hex(number)}`;
  const answer = await service.send("PUT", path, { value: hex(number) }, headers);
  if (answer.statusCode !== 200) throw new Error(answer.body);
}

/** Keys of so many changes that a watch tells next. */
async function keys(stream: MessageStream, count: number): Promise<unknown[]> {
  const found: unknown[] = [];
  while (found.length < count) found.push((await stream.nextOf("put")).data.key);
  return found;
}

test("streams that are told the same share one read of the log and one text", async (t) => {
  const { service, url } = await furnish(t);
  const watches: MessageStream[] = [];
  for (let at = 0; at < 12; at++) watches.push(await MessageStream.open(t, `${url}/maps/1/watch`));
  for (const watch of watches) await watch.nextOf("synced");
  await until(() => service.tails.count === 1 && service.tails.seats === 12);
  const { figures } = service.tails;
  const before = { queries: service.reader.queries, reads: figures.reads };
  for (let number = 0; number < 20; number++) await put(service, "a", number);
  const expected = Array.from({ length: 20 }, (_, number) => hex(number));
  for (const watch of watches) t.same(await keys(watch, 20), expected);
  t.equal(figures.messages, 20, "each change was written once");
  t.equal(service.reader.queries - before.queries, figures.reads - before.reads, "and nobody read for himself");
  t.ok(figures.reads - before.reads <= 20);
  for (const watch of watches) watch.break();
  // Nothing is kept for nobody.
  await until(() => service.tails.count === 0 && service.inFlight === 0);
});

test("a reader who goes while the log is read for him leaves nothing behind", async (t) => {
  const { service, url } = await furnish(t);
  const { reader } = service;
  const query = reader.query.bind(reader);
  const asked = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  reader.query = async (...args) => {
    asked.resolve();
    await gate.promise;
    return query(...args);
  };
  const stream = await MessageStream.open(t, `${url}/events/stream`);
  await asked.promise;
  stream.break();
  await until(() => service.streams === 0);
  gate.resolve();
  // A seat would be taken in the turn of the query's answer.
  for (let turn = 0; turn < 20; turn++) await pause(1);
  t.equal(service.tails.count, 0);
});

test("streams share only what is the same: the subject, the filter, the form", async (t) => {
  const { service, url } = await furnish(t);
  const opened: [path: string, headers: Record<string, string>][] = [
    ["/maps/1/watch", {}],
    ["/maps/1/watch", NDJSON],
    ["/maps/2/watch", {}],
    ["/events/stream", {}],
    ["/events/stream?map=1", {}],
    ["/events/stream?map=name:a", {}],
    ["/events/stream?map=1&cmd=BPF_MAP_UPDATE_ELEM", {}],
    ["/events/stream?cmd=BPF_MAP_UPDATE_ELEM&map=1", {}],
    ["/events/stream?key=00", {}],
  ];
  const streams: MessageStream[] = [];
  for (const [path, headers] of opened) streams.push(await MessageStream.open(t, url + path, headers));
  await until(() => service.tails.seats === opened.length);
  t.equal(service.tails.count, opened.length - 1, "the order in which filters are named says nothing");
  await put(service, "a", 7);
  const [, lines, other] = streams as [MessageStream, MessageStream, MessageStream];
  for (let line = await lines.line(); line?.event !== "put"; line = await lines.line());
  await put(service, "b", 8);
  t.same(await keys(other, 1), [hex(8)]);
  const [named, first] = [streams[5] as MessageStream, streams[4] as MessageStream];
  const [byName, byId] = [await named.nextOf("event"), await first.nextOf("event")];
  t.equal(byName.data.seq, byId.data.seq);
  t.not(named.lastId, first.lastId, "a position says which map a name meant");
});

test("callers who see different maps never share a text", async (t) => {
  const tokens = { root: "admin,read,write,pin", ann: "read@a", ben: "read@b", bob: "read@b", eve: "read" };
  const { service, url } = await furnish(t, { tokens });
  const open = (caller: string): Promise<MessageStream> => MessageStream.open(t, `${url}/events/stream`, as(caller));
  const names = ["root", "ann", "ann", "ben", "bob", "eve"];
  const streams = await Promise.all(names.map(open));
  await until(() => service.tails.seats === names.length);
  // root and eve see everything; ann's two streams see the same; of ben and bob each would see events of no map that are his own.
  t.equal(service.tails.count, 4);
  for (let number = 0; number < 6; number++) await put(service, number % 2 === 0 ? "a" : "b", number, as("root"));
  await service.send("POST", "/v1/sessions", { name: "last" }, as("root"));
  const last = service.log.rows.length;
  for (const [at, stream] of streams.entries()) {
    const { body } = await service.send("GET", "/v1/events?after=3", undefined, as(names[at] as string));
    const expected = JSON.parse(body).events;
    const found: unknown[] = [];
    while (found.length < expected.length) found.push((await stream.nextOf("event")).data);
    t.same(found, expected, names[at] as string);
    t.equal(expected.at(-1).seq, ["root", "eve"].includes(names[at] as string) ? last : last - (at < 3 ? 2 : 1));
  }
});

test("a watch ends for those alone who may not see the map any more", async (t) => {
  const tokens = { root: "admin,read,write,pin", ann: "read@a", ben: "read@b,read@/sys/fs/bpf/*" };
  const { service, url } = await furnish(t, { tokens });
  await service.send("POST", "/v1/sessions/1/fds/3/pin", { pathname: "/sys/fs/bpf/a" }, as("root"));
  const [root, ann, ben, also] = (await Promise.all(
    ["root", "ann", "ben", "ben"].map((name) => MessageStream.open(t, `${url}/maps/1/watch`, as(name))),
  )) as [MessageStream, MessageStream, MessageStream, MessageStream];
  await until(() => service.tails.seats === 4);
  await put(service, "a", 1, as("root"));
  for (const stream of [root, ann, ben, also]) t.same(await keys(stream, 1), [hex(1)]);
  const unlinked = await service.send("DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Fa", undefined, as("root"));
  t.equal(unlinked.statusCode, 200, unlinked.body);
  await put(service, "a", 2, as("root"));
  for (const stream of [root, ann]) t.same(await keys(stream, 1), [hex(2)]);
  for (const stream of [ben, also]) t.equal(await stream.next(), null, "nothing that was done since is told");
});

test("streams that come and go, are slow or cut, are told what the log has", async (t) => {
  const subjects = [
    { path: "/events/stream", caller: "root" },
    { path: "/events/stream?map=1", caller: "root" },
    { path: "/events/stream?cmd=BPF_MAP_DELETE_ELEM", caller: "root" },
    { path: "/events/stream", caller: "ann" },
    { path: "/events/stream?changes=true", caller: "ben" },
    { path: "/maps/1/watch", caller: "root" },
    { path: "/maps/1/watch", caller: "ann" },
    { path: "/maps/2/watch", caller: "root" },
  ] as const;
  const tokens = { root: "admin,read,write,pin", ann: "read@a", ben: "read@b" };
  const { service, url } = await furnish(t, { tokens });
  const root = as("root");
  /** Somebody who follows a subject, over all his connections. */
  interface Follower {
    readonly subject: (typeof subjects)[number];
    readonly begin: number;
    readonly told: string[];
    stream: MessageStream | null;
    last: string | null;
  }
  const read = async (follower: Follower, stream: MessageStream): Promise<void> => {
    const message = await stream.next();
    if (message === null) throw new Error("the stream has ended");
    const { event, data } = message;
    if (event === "event") follower.told.push(String(data.seq));
    else if (event === "put" || event === "delete")
      follower.told.push(`${data.seq} ${event} ${data.key} ${data.value}`);
    follower.last = stream.lastId ?? follower.last;
  };
  /** As the log has it, by a plain read of it as the same caller. */
  const expected = async ({ subject: { path, caller }, begin }: Follower): Promise<string[]> => {
    const watched = /maps\/(\d)\/watch/.exec(path)?.[1];
    const filter = watched === undefined ? (path.split("?")[1] ?? "") : `map=${watched}`;
    const answer = await service.send("GET", `/v1/events?limit=10000&after=${begin}&${filter}`, undefined, as(caller));
    const events: Record<string, string & { elements?: { key: string }[] }>[] = answer.json().events;
    if (answer.json().next !== null) throw new Error("the page is not the whole log");
    if (watched === undefined) return events.map(({ seq }) => String(seq));
    return events.flatMap(({ seq, cmd, key = "", value = "", errno }) => {
      if (cmd === "BPF_MAP_UPDATE_BATCH")
        return (key.match(/.{8}/g) ?? []).map((one, at) => `${seq} put ${one} ${value.slice(8 * at, 8 * at + 8)}`);
      if (errno !== null) return [];
      if (cmd === "BPF_MAP_UPDATE_ELEM") return [`${seq} put ${key} ${value}`];
      return cmd === "BPF_MAP_DELETE_ELEM" ? [`${seq} delete ${key} null`] : [];
    });
  };
  const act = fc.record({ does: fc.nat(9), who: fc.nat(7), at: fc.nat(3), count: fc.integer({ min: 1, max: 12 }) });
  await fc.assert(
    fc.asyncProperty(fc.array(act, { minLength: 10, maxLength: 50 }), async (acts) => {
      const followers: Follower[] = [];
      const connect = async (follower: Follower): Promise<void> => {
        const { path, caller } = follower.subject;
        const after = `${path.includes("?") ? "&" : "?"}after=${follower.last ?? follower.begin}`;
        const stream = await MessageStream.open(t, url + path + after, as(caller));
        if (stream.status !== 200) throw new Error(`${path}: ${stream.status}`);
        follower.stream = stream;
      };
      for (const { does, who, at, count } of acts) {
        const map = at % 2 === 0 ? "a" : "b";
        const fd = `/v1/sessions/1/fds/${map === "a" ? 3 : 4}`;
        const follower = followers[who % Math.max(followers.length, 1)];
        if (does < 2) for (let more = 0; more < count; more++) await put(service, map, more, root);
        else if (does === 2) await service.send("DELETE", `${fd}/elements/${hex(count)}`, undefined, root);
        else if (does === 3) {
          const elements = Array.from({ length: count }, (_, number) => ({ key: hex(number), value: hex(count) }));
          await service.send("POST", `${fd}/batch/update`, { elements }, root);
        } else if (does < 6 && followers.length < 24) {
          const subject = subjects[who] as (typeof subjects)[number];
          const begin = service.log.rows.length - (at === 0 ? Math.min(count, service.log.rows.length - 3) : 0);
          const next: Follower = { subject, begin, told: [], stream: null, last: null };
          followers.push(next);
          await connect(next);
        } else if (does === 6) await pause(count);
        else if (follower === undefined) continue;
        else if (does === 7) {
          follower.stream?.break();
          follower.stream = null;
        } else if (follower.stream === null) await connect(follower);
        else {
          const due = (await expected(follower)).length;
          for (let one = 0; one < count && follower.told.length < due; one++) await read(follower, follower.stream);
        }
      }
      for (const follower of followers) {
        if (follower.stream === null) await connect(follower);
        const due = await expected(follower);
        while (follower.told.length < due.length) await read(follower, follower.stream as MessageStream);
        if (JSON.stringify(follower.told) !== JSON.stringify(due))
          throw new Error(
            `${JSON.stringify(follower.subject)} from ${follower.begin}: ${follower.told} instead of ${due}`,
          );
        follower.stream?.break();
      }
      // Nothing is kept for nobody.
      await until(() => service.streams === 0 && service.tails.count === 0 && service.inFlight === 0);
    }),
    { seed: SEED, numRuns: 15 },
  );
});

/** What writes an element of a large value to a new map at fd 5: an event of as many bytes. */
async function largeWrites(service: Service, bytes: number): Promise<() => void> {
  await service.map("/v1/sessions/1", { value_size: bytes });
  const target = { by: "fd", fd: 5 } as const;
  const [key, value] = [Buffer.alloc(4), Buffer.alloc(bytes, 7)];
  return () => {
    service.engine.run([
      { cmd: CMD.BPF_MAP_UPDATE_ELEM, session: 1, caller: "anonymous", target, key, value, flags: 0n },
    ]);
  };
}

test("a slow reader holds up none of those who are told the same, and loses nothing", async (t) => {
  const { service, url } = await furnish(t);
  const write = await largeWrites(service, 100_000);
  const first = service.log.rows.length + 1;
  const [slow, ...fast] = (await Promise.all(
    Array.from({ length: 4 }, () => MessageStream.open(t, `${url}/events/stream?map=3`)),
  )) as [MessageStream, ...MessageStream[]];
  await until(() => service.tails.seats === 4);
  const seqs = async (stream: MessageStream, count: number): Promise<unknown[]> => {
    const found: unknown[] = [];
    while (found.length < count) found.push((await stream.nextOf("event")).data.seq);
    return found;
  };
  const expected = Array.from({ length: 300 }, (_, at) => first + at);
  let most = 0;
  const reading = Promise.all(fast.map((stream) => seqs(stream, 300)));
  for (let at = 0; at < 300; at++) {
    write();
    service.idle();
    if (at % 10 === 0) await pause(1);
    most = Math.max(most, service.inFlight);
  }
  for (const found of await reading) t.same(found, expected);
  t.ok(most < 16 * 1024 * 1024, `${most} bytes were kept of 60 MB`);
  const own = (): number => service.reader.queries - service.tails.figures.reads;
  const before = own();
  t.same(await seqs(slow, 300), expected);
  t.ok(own() > before, "he has read for himself");
  await until(() => service.tails.seats === 4);
  write();
  service.idle();
  for (const stream of [slow, ...fast]) t.same(await seqs(stream, 1), [first + 300], "and shares again");
});

test("an event with more than may be kept is read by each stream for itself", async (t) => {
  const { service, url } = await furnish(t);
  const write = await largeWrites(service, 400_000);
  const first = service.log.rows.length + 1;
  const streams: MessageStream[] = [];
  for (let at = 0; at < 3; at++) streams.push(await MessageStream.open(t, `${url}/maps/3/watch`));
  await until(() => service.tails.seats === 3);
  const { messages } = service.tails.figures;
  write();
  write();
  service.idle();
  for (const stream of streams)
    for (const seq of [first + 3, first + 4]) t.match((await stream.nextOf("put")).data, { seq });
  t.equal(service.tails.figures.messages, messages);
});

test("a batch is shared piece by piece, and a stream that is cut within it goes on there", async (t) => {
  const { service, url } = await furnish(t);
  const count = 900;
  const streams: MessageStream[] = [];
  for (let at = 0; at < 3; at++) streams.push(await MessageStream.open(t, `${url}/maps/1/watch`));
  await until(() => service.tails.seats === 3);
  const elements = Array.from({ length: count }, (_, number) => ({ key: hex(number), value: hex(number) }));
  await service.send("POST", "/v1/sessions/1/fds/3/batch/update", { elements });
  const expected = elements.map(({ key }) => key);
  const [first, ...others] = streams as [MessageStream, ...MessageStream[]];
  const begun = await keys(first, 500);
  first.break();
  const rest = await MessageStream.open(t, `${url}/maps/1/watch?after=${first.lastId}`);
  t.same([...begun, ...(await keys(rest, count - 500))], expected);
  for (const stream of others) t.same(await keys(stream, count), expected);
  t.equal(service.tails.figures.messages, count, "the rest was the reader's own");
});

/** All that a connection answers to what is written, until it is closed. */
async function answered(url: string, text: string, isEnough: (text: string) => boolean): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let said = "";
  socket.setEncoding("utf8").on("data", (more: string) => {
    said += more;
    if (isEnough(said)) socket.destroy();
  });
  socket.write(text);
  await once(socket, "close");
  return said;
}

test("clients of HTTP/1.0 get no chunks, and requests that were pipelined wait for their turn", async (t) => {
  const { service, url } = await furnish(t);
  const watch = answered(url, "GET /v1/maps/1/watch HTTP/1.0\r\n\r\n", (said) => said.includes("event: put"));
  const pipelined = answered(
    url,
    "GET /v1/maps/1 HTTP/1.1\r\nhost: localhost\r\n\r\nGET /v1/events/stream HTTP/1.1\r\nhost: localhost\r\n\r\n",
    (said) => said.includes("event: event"),
  );
  await until(() => service.tails.seats === 2);
  await put(service, "a", 1);
  const old = await watch;
  t.notMatch(old, /transfer-encoding/i);
  t.match(old, /\n\nid: [\w-]+\nevent: put\ndata: \{[^}]*"key":"00000001","value":"00000001"\}\n\n/);
  const [, head = "", body = ""] = (await pipelined).split("\r\n\r\n");
  t.match(head, "text/event-stream");
  t.match(body, /^[0-9a-f]+\r\nid: /, "in chunks");
});
