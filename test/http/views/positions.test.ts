import * as fc from "fast-check";
import { type Test, test } from "tap";
import { keyPlaceText, type Ledger, PositionWriter, parsePosition } from "../../../src/log/position.ts";
import { seqOf } from "../../support/messages.ts";
import { SEED } from "../../support/seed.ts";
import { NDJSON, take, Watch } from "../../support/watch_lines.ts";
import { DOCUMENT, Service } from "../service.ts";

const key = (number: number): string => number.toString(16).padStart(8, "0");

/** A service with a session, and a map of a name. */
async function furnish(t: Test, attr: object = {}): Promise<{ service: Service; session: string; map: string }> {
  const service = await Service.start(t);
  const session = await service.session();
  const map = await service.map(session, { max_entries: 10_000, map_name: "m", ...attr });
  return { service, session, map };
}

async function put(service: Service, map: string, ...numbers: number[]): Promise<void> {
  for (const number of numbers) {
    const answer = await service.send("PUT", `${map}/elements/${key(number)}`, { value: key(number) });
    if (answer.statusCode !== 200) throw new Error(answer.body);
  }
}

async function putBatch(service: Service, map: string, from: number, count: number): Promise<void> {
  const elements = Array.from({ length: count }, (_, at) => ({ key: key(from + at), value: key(at) }));
  const answer = await service.send("POST", `${map}/batch/update`, { elements });
  if (answer.statusCode !== 200) throw new Error(answer.body);
}

async function listen(service: Service): Promise<string> {
  return `${await service.app.listen({ host: "127.0.0.1", port: 0 })}/v1`;
}

test("a watch that is cut anywhere, within a batch too, goes on with the last line's position", async (t) => {
  const { service, map } = await furnish(t);
  const url = await listen(service);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(30), fc.nat(40), fc.boolean()), { minLength: 1, maxLength: 8 }),
      async (rounds) => {
        const have = new Map<string, unknown>();
        const begun = await Watch.open(t, `${url}/maps/1/watch`);
        let at = "";
        for (let line = await begun.line(); ; line = await begun.line()) {
          take(have, line);
          at = line.position;
          if (line.event === "synced") break;
        }
        begun.cut();
        let told = 0;
        let made = 0;
        const seen: string[] = [];
        for (const [count, read, byHeader] of rounds) {
          if (count > 0) await putBatch(service, map, made, count);
          made += count;
          const headers = byHeader ? { ...NDJSON, "last-event-id": at } : NDJSON;
          const watch = await Watch.open(t, `${url}/maps/1/watch${byHeader ? "" : `?after=${at}`}`, headers);
          const first = await watch.line();
          if (first.event !== "bookmark" || first.position !== at) throw new Error(`it begins with ${first.event}`);
          for (let i = 0; i < read && told < made; i++) {
            const line = await watch.line();
            seen.push(line.key as string);
            take(have, line);
            at = line.position;
            told++;
          }
          watch.cut();
        }
        for (const [place, one] of seen.entries())
          if (one !== key(place)) throw new Error(`${one} came where ${key(place)} was due`);
      },
    ),
    { seed: SEED, numRuns: 20 },
  );
});

test("each message of a watch has a position, a snapshot's elements that of begin", async (t) => {
  const { service, map } = await furnish(t);
  await put(service, map, 1, 2);
  const url = await listen(service);
  const watch = await Watch.open(t, `${url}/maps/1/watch`);
  const [begin, one, two, synced] = await watch.lines(4);
  t.match([begin?.event, one?.event, two?.event, synced?.event], ["begin", "snapshot", "snapshot", "synced"]);
  t.same(begin?.anew, null);
  t.equal(one?.position, begin?.position);
  t.equal(two?.position, begin?.position);
  await putBatch(service, map, 10, 3);
  const changes = await watch.lines(3);
  t.match(
    changes.map(({ position }) => parsePosition(position)),
    [
      { seq: 6, map: 1, place: { changes: 1 } },
      { seq: 6, map: 1, place: { changes: 2 } },
      { seq: 6, map: 1, place: "at" },
    ],
  );
  const again = await Watch.open(t, `${url}/maps/1/watch?after=${begin?.position}`);
  t.match(await again.line(), { event: "begin", anew: { reason: "in-snapshot" } }, "half a snapshot is none");
});

test("a name that another map has got, and a pin that has moved, are told of anew", async (t) => {
  const { service, session, map } = await furnish(t);
  const url = await listen(service);
  const pin = async (fd: string): Promise<void> => {
    await service.send("DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Fp");
    await service.send("POST", `${fd}/pin`, { pathname: "/sys/fs/bpf/p" });
  };
  await pin(map);
  await put(service, map, 1);
  const places = ["name:m", "pinned:%2Fsys%2Ffs%2Fbpf%2Fp"];
  const old: string[] = [];
  for (const place of places)
    old.push((await (await Watch.open(t, `${url}/maps/${place}/watch`)).to("synced")).position);
  const seq = seqOf(old[0] as string);
  const other = await service.map(session, { max_entries: 10, map_name: "n" });
  await pin(other);
  await service.send("DELETE", map);
  const next = await service.map(session, { max_entries: 10, map_name: "m" });
  await put(service, next, 3);
  for (const [at, place] of places.entries())
    for (const after of [old[at], String(seq)]) {
      const begin = await (await Watch.open(t, `${url}/maps/${place}/watch?after=${after}`)).line();
      t.match(begin, { event: "begin", anew: { reason: "other-map" }, map: { id: place === "name:m" ? 3 : 2 } });
    }
  const wrong = await (await Watch.open(t, `${url}/maps/2/watch?after=${old[0]}`)).line();
  t.match(wrong, {
    event: "begin",
    anew: { reason: "other-map", detail: /the position is of map 1, and the request now means map 2$/ },
  });
  const now = String(service.log.rows.length);
  const bare = await (await Watch.open(t, `${url}/maps/name:m/watch?after=${now}`)).line();
  t.match(bare, { event: "bookmark", seq: Number(now) }, "a seq alone goes on where it says enough");
});

/** Ledgers whose positions are none of this one's, and what is told of each. */
function foreign({ log: { id, life } }: Service): [reason: string, ledger: Ledger, seq: number][] {
  return [
    ["other-log", { id: "10000000-0000-4000-8000-000000000001", life }, 3],
    ["other-life", { id, life: "10000000-0000-4000-8000-000000000001" }, 3],
    ["other-event", { id, life }, 3],
    ["no-such-event", { id, life }, 1000],
  ];
}

test("a position of another log, life or event is no place in this one", async (t) => {
  const { service, map } = await furnish(t);
  await put(service, map, 1, 2);
  const url = await listen(service);
  for (const [reason, other, seq] of foreign(service)) {
    const position = new PositionWriter(other).at(seq, 1);
    const writer = new PositionWriter(other, 1);
    for (const [path, headers] of [
      [`/v1/events?after=${position}`, {}],
      [`/v1/events?before=${position}`, {}],
      [`/v1/events?after=${position}`, NDJSON],
      [`/v1/events/stream?after=${position}`, {}],
      ["/v1/events/stream", { "last-event-id": position }],
    ] as const) {
      const answer = await service.send("GET", path, undefined, headers);
      t.match(answer.json(), { status: 410, type: "urn:mapledger:problem:foreign-position", reason }, path);
      t.match(answer.json().detail, /begin again without a position, or with after=0/);
    }
    for (const text of [writer.at(seq, 1), writer.changes(seq, 1, 1), position]) {
      const watch = await Watch.open(t, `${url}/maps/1/watch?after=${text}`);
      t.match(await watch.line(), { event: "begin", anew: { reason }, map: { id: 1 } });
      t.match(await watch.lines(3), [{ event: "snapshot" }, { event: "snapshot" }, { event: "synced" }]);
    }
  }
});

test("a position that is not whole, or within an event of a watch, is refused where it cannot be used", async (t) => {
  const { service, map } = await furnish(t);
  await put(service, map, 1);
  const { id, life } = service.log;
  const writer = new PositionWriter({ id, life }, 1);
  const { position } = (await service.send("GET", "/v1/events")).json();
  const refused = (answer: { json(): object }, detail: RegExp): void => {
    t.match(answer.json(), { status: 400, type: "urn:mapledger:problem:invalid-input", detail });
  };
  const whole = /a seq or a whole position required/;
  for (const wrong of [
    position.slice(0, -1),
    position.slice(1),
    `${position}A`,
    "x",
    "-1",
    "1.5",
    "",
    "99999999999999999999",
  ])
    for (const path of [
      "/v1/events?after=",
      "/v1/events?before=",
      "/v1/events/stream?after=",
      "/v1/maps/1/watch?after=",
    ])
      refused(await service.send("GET", path + wrong), whole);
  for (const within of [writer.changes(3, 1, 1), writer.snapshot(3, 1)])
    for (const path of ["/v1/events?after=", "/v1/events?before=", "/v1/events/stream?after="])
      refused(await service.send("GET", path + within), /position is within .*event 3, in a watch of map 1/);
  refused(await service.send("GET", "/v1/events?after=1000"), /^after: there is no event 1000: the log ends at 3$/);
  refused(await service.send("GET", "/v1/events?before=0"), /^before: 1 or more required/);
});

test("polling with a filter that matches nothing comes to positions from which it goes on", async (t) => {
  const { service, map } = await furnish(t);
  let at = "0";
  for (let round = 0; round < 5; round++) {
    await put(service, map, ...Array.from({ length: 70 }, (_, number) => number));
    const before = service.reader.answered;
    for (const path of ["/v1/events?caller=nobody&", "/v1/events?errno=ENOENT&limit=1&"]) {
      const page = (await service.send("GET", `${path}after=${at}`)).json();
      t.match(page, { events: [], next: null });
      t.equal(seqOf(page.position), service.log.rows.length);
      at = page.position;
    }
    t.equal(service.reader.answered, before);
  }
  await service.send("GET", `${map}/elements/ffffffff`);
  const found = (await service.send("GET", `/v1/events?errno=ENOENT&after=${at}`)).json();
  t.equal(found.events.length, 1);
  t.equal(found.events[0].position, found.position);
  const back = (await service.send("GET", `/v1/events?caller=nobody&before=${found.position}&limit=1`)).json();
  t.match(back, { events: [], next: null, prev: null });
  t.equal(seqOf(back.position), service.log.rows.length - 1, "what comes next is not passed over");
  const lines = await service.send("GET", "/v1/events?caller=nobody", undefined, NDJSON);
  t.equal(lines.body, "");
  t.equal(lines.headers["mapledger-position"], found.position, "of lines the header says how far they go");
});

test("an event's position is one wherever it is told, and names it as its seq does", async (t) => {
  const { service, map } = await furnish(t);
  await put(service, map, 1, 2, 3, 4);
  const { events } = (await service.send("GET", "/v1/events")).json();
  const lines = (await service.send("GET", "/v1/events", undefined, NDJSON)).body.trim().split("\n");
  t.same(
    lines.map((line) => JSON.parse(line)),
    events,
  );
  for (const { seq, position } of events) {
    t.equal((await service.send("GET", `/v1/events/${seq}`)).json().position, position);
    for (const name of ["after", "before"]) {
      const [bySeq, byPosition] = [
        (await service.send("GET", `/v1/events?${name}=${seq}`)).json(),
        (await service.send("GET", `/v1/events?${name}=${position}`)).json(),
      ];
      t.same(byPosition, bySeq, `${name} ${seq}`);
    }
  }
  const end = (await service.send("GET", `/v1/events?after=${events.at(-1).seq}`)).json();
  t.same([end.events, end.next], [[], null]);
  await put(service, map, 5);
  const upTo = (await service.send("GET", `/v1/events?before=${end.prev}`)).json();
  t.same(upTo.events, events, "the page in front of an end stays the same when the log goes on");
});

test("an archive that has taken nothing of a map leaves its watches where they are", async (t) => {
  const { service, session, map } = await furnish(t);
  const url = await listen(service);
  const busy = await service.map(session, { max_entries: 100 });
  await put(service, map, 1);
  const synced = (await (await Watch.open(t, `${url}/maps/name:m/watch`)).to("synced")).position;
  await put(service, busy, ...Array.from({ length: 20 }, (_, at) => at));
  await service.send("GET", `${map}/elements/${key(1)}`);
  await service.send("GET", "/checkpoint");
  service.reader.oldest = service.log.rows.length + 1;
  await put(service, map, 2);
  const watch = await Watch.open(t, `${url}/maps/name:m/watch?after=${synced}`);
  t.match(await watch.lines(2), [
    { event: "bookmark", position: synced },
    { event: "put", key: key(2) },
  ]);
  const bare = await Watch.open(t, `${url}/maps/1/watch?after=${seqOf(synced)}`);
  t.match(await bare.lines(2), [
    { event: "bookmark", position: synced },
    { event: "put", key: key(2) },
  ]);
  const begun = (await (await Watch.open(t, `${url}/maps/2/watch`)).to("synced")).position;
  const writer = (map: number): PositionWriter => new PositionWriter(service.log, map);
  const mark = parsePosition(synced)?.mark as number;
  const taken = await Watch.open(t, `${url}/maps/2/watch?after=${writer(2).at(seqOf(synced), mark)}`);
  t.match(await taken.line(), { event: "begin", anew: { reason: "archived" } }, "of a map that it has taken of");
  t.equal((await service.send("GET", `/v1/maps/2/watch?after=${seqOf(synced)}`)).statusCode, 410);
  t.match(await (await Watch.open(t, `${url}/maps/2/watch?after=${begun}`)).line(), { event: "bookmark" });
  const other = await Watch.open(t, `${url}/maps/1/watch?after=${writer(1).at(seqOf(synced), mark + 1)}`);
  t.match(await other.line(), { event: "begin", anew: { reason: "other-event" } }, "its hash is the tree's to tell");
});

test("who filters events by a name, and comes back when another map has it, is told", async (t) => {
  const { service, session, map } = await furnish(t);
  await put(service, map, 1);
  const filters = ["map=name:m", "map=pinned:p"];
  await service.send("POST", `${map}/pin`, { pathname: "p" });
  const pages: { position: string; events: { position: string }[] }[] = [];
  for (const filter of filters) pages.push((await service.send("GET", `/v1/events?${filter}`)).json());
  for (const [at, filter] of filters.entries())
    for (const text of [pages[at]?.position, pages[at]?.events[0]?.position])
      t.equal((await service.send("GET", `/v1/events?${filter}&after=${text}`)).statusCode, 200, "it is the same map");
  await service.send("DELETE", "/v1/pins/p");
  await service.send("DELETE", map);
  const next = await service.map(session, { map_name: "m" });
  await service.send("POST", `${next}/pin`, { pathname: "p" });
  for (const [at, filter] of filters.entries())
    for (const path of ["/v1/events?", "/v1/events/stream?"]) {
      const refused = (await service.send("GET", `${path}${filter}&after=${pages[at]?.position}`)).json();
      t.match(refused, { status: 410, type: "urn:mapledger:problem:foreign-position", reason: "other-map" });
    }
  const of = (filter: string) => service.send("GET", `/v1/events?${filter}after=${pages[0]?.position}`);
  t.match(
    (await of("map=1&")).json().events.at(-1),
    { cmd: "CLOSE", out: { freed: [1] } },
    "by its id the rest is told",
  );
  t.equal((await of("")).statusCode, 200);
});

test("the end of a map that was freed meanwhile is told to who comes back to its watch", async (t) => {
  const { service, session, map } = await furnish(t);
  const url = await listen(service);
  const watch = await Watch.open(t, `${url}/maps/name:m/watch`);
  await watch.to("synced");
  await putBatch(service, map, 0, 3);
  const [first] = await watch.lines(1);
  watch.cut();
  await service.send("DELETE", map);
  for (const place of ["name:m", "1"]) {
    const rest = await Watch.open(t, `${url}/maps/${place}/watch?after=${first?.position}`);
    const lines = await rest.lines(4);
    t.match(lines, [
      { event: "bookmark" },
      { event: "put", key: key(1) },
      { event: "put", key: key(2) },
      { event: "freed" },
    ]);
    const over = await service.send("GET", `/v1/maps/${place}/watch?after=${lines.at(-1)?.position}`);
    t.match(over.json(), { status: 404, errno: "ENOENT" }, "and told once");
  }
  t.equal((await service.send("GET", `/v1/maps/2/watch?after=${first?.position}`)).statusCode, 404);
  await service.map(session, { map_name: "m" });
  const begun = await Watch.open(t, `${url}/maps/name:m/watch?after=${first?.position}`);
  t.match(await begun.line(), { event: "begin", anew: { reason: "other-map" } });
});

test("pages of elements, histories and diffs go on in the map and the log that they began in", async (t) => {
  const { service, session, map } = await furnish(t);
  await putBatch(service, map, 0, 5);
  for (const value of [1, 2, 3]) await service.send("PUT", `${map}/elements/${key(0)}`, { value: key(value) });
  const of = async (path: string) => (await service.send("GET", path)).json();
  const places = ["name:m", "1"].map((place) => `/v1/maps/${place}`);
  const routes = ["/elements?limit=2", `/elements/${key(0)}/history?limit=1`, "/diff?from=2&limit=2"];
  for (const place of [...places, map].flatMap((prefix) =>
    prefix === map ? [`${map}/elements?limit=2`] : routes.map((route) => prefix + route),
  )) {
    const found: object[] = [];
    let next: string | null = "";
    for (; next !== null; ) {
      const page: { next: string | null } = await of(`${place}${next === "" ? "" : `&after=${next}`}`);
      found.push(...(Object.values(page).find((value) => Array.isArray(value)) as object[]));
      next = page.next;
    }
    t.equal(found.length, place.includes("history") ? 4 : 5, place);
  }
  const first = (await of("/v1/maps/1/elements?limit=1")).elements[0].key;
  t.equal((await of(`/v1/maps/1/elements?after=${first}`)).elements.length, 4, "a key alone is taken as before");

  const nexts: string[] = [];
  for (const route of routes) nexts.push((await of(`/v1/maps/name:m${route}`)).next);
  const { next } = await of(`${map}/elements?limit=2`);
  await service.send("DELETE", map);
  const other = await service.map(session, { map_name: "m", key_size: 8 });
  t.equal(other, map, "the descriptor is another map's, too");
  const gone = { status: 410, type: "urn:mapledger:problem:foreign-position", reason: "other-map" };
  t.match(await of(`${map}/elements?after=${next}`), gone);
  t.match(await of(`/v1/maps/name:m/elements?after=${nexts[0]}`), gone);
  t.match(await of(`/v1/maps/name:m/elements/${key(0)}${key(0)}/history?after=${nexts[1]}`), gone);
  t.match(
    (await of(`/v1/maps/1/elements/${key(0)}/history?after=${nexts[1]}`)).versions.length,
    4,
    "by its id it goes on",
  );
  const third = await service.map(session, { map_name: "n" });
  t.match(await of(`/v1/maps/name:n/diff?from=2&after=${nexts[2]}`), {
    ...gone,
    detail: /begin again with the first page$/,
  });
  t.ok(third);
  const stranger = { id: service.log.id, life: "10000000-0000-4000-8000-000000000001" };
  for (const route of ["/elements?", "/diff?from=2&"]) {
    const text = keyPlaceText(stranger, 3, Buffer.alloc(4));
    t.match(await of(`/v1/maps/3${route}after=${text}`), { ...gone, reason: "other-life" });
    t.match(await of(`/v1/maps/3${route}after=${text.slice(0, -1)}`), { status: 400 });
  }
  const history = `/v1/maps/3/elements/${key(0)}/history?`;
  t.match(await of(`${history}before=${new PositionWriter(stranger, 3).at(2, 1)}`), { ...gone, reason: "other-life" });
  t.match(await of(`${history}before=${new PositionWriter(service.log, 3).at(2, 1)}`), {
    ...gone,
    reason: "other-event",
  });
});

test("a position may be another caller's: it shows nothing, and hides nothing from who may see more", async (t) => {
  const service = await Service.start(t, { tokens: { root: "read,write", eve: "read@e*" } });
  const as = (token: string) => ({ authorization: `Bearer ${token}` });
  const get = async (token: string, path: string) => (await service.send("GET", path, undefined, as(token))).json();
  const session = await service.session(as("root"));
  const [secret, shown] = [
    await service.map(session, { map_name: "secret" }, as("root")),
    await service.map(session, { map_name: "e" }, as("root")),
  ];
  const write = (map: string, number: number) =>
    service.send("PUT", `${map}/elements/${key(number)}`, { value: "5ec4e75e" }, as("root"));
  await write(secret, 1);
  const url = await listen(service);
  const begun = await Watch.open(t, `${url}/maps/name:secret/watch`, { ...NDJSON, ...as("root") });
  const { position: watched } = await begun.to("synced");
  const [ofRoot, ofEve] = [(await get("root", "/v1/events")).position, (await get("eve", "/v1/events")).position];
  t.equal(ofEve, ofRoot, "it stands at the log's end, whoever sees what is there");
  await write(secret, 2);
  await write(shown, 3);
  for (const position of [ofRoot, ofEve]) {
    t.match((await get("eve", `/v1/events?after=${position}`)).events, [{ map: 2, key: key(3) }]);
    t.match((await get("root", `/v1/events?after=${position}`)).events, [{ key: key(2) }, { key: key(3) }]);
  }
  const anew = await Watch.open(t, `${url}/maps/name:e/watch?after=${watched}`, { ...NDJSON, ...as("eve") });
  const line = await anew.line();
  t.match(line, { event: "begin", anew: { reason: "other-map" }, map: { id: 2 } });
  t.notMatch(JSON.stringify(line), /secret/);
  for (const place of ["name:secret", "1"])
    t.match(await get("eve", `/v1/maps/${place}/watch?after=${watched}`), { status: 403 });
  await service.send("DELETE", session, undefined, as("root"));
  for (const place of ["name:secret", "1"])
    t.ok([403, 404].includes((await get("eve", `/v1/maps/${place}/watch?after=${watched}`)).status), "nor its end");
});

/** The least and the greatest seqs, and what is none. */
const EDGES = ["0", "00", "1", "-1", "2", "281474976710655", "281474976710656", "9007199254740991", "9007199254740993"];
const PLACES = ["after", "before", "at", "from", "to", "since", "until", "limit"];

test("no route fails at a number at the edge of what seqs can be", async (t) => {
  // A stream that is asked for well is one too many: it would never end.
  const service = await Service.start(t, { settings: { streamsMax: 0 } });
  await put(service, await service.map(await service.session()), 1, 1, 1);
  const { paths } = DOCUMENT as unknown as { paths: Record<string, Record<string, { parameters?: Parameter[] }>> };
  let asked = 0;
  for (const [path, { get }] of Object.entries(paths)) {
    const places = (get?.parameters ?? []).filter(({ in: part, name }) => part === "query" && PLACES.includes(name));
    const filled = path.replace("{map}", "1").replace("{key}", key(1)).replace("{session}", "1").replace("{fd}", "3");
    for (const { name } of places)
      for (const edge of EDGES)
        for (const other of ["", ...places.map((place) => `&${place.name}=1`)]) {
          const { statusCode, body } = await service.send("GET", `${filled}?${name}=${edge}${other}`);
          const isStream = body.includes("too-many-streams");
          if (statusCode >= 500 && !isStream) t.fail(`${filled}?${name}=${edge}${other}: ${statusCode} ${body}`);
          asked++;
        }
  }
  t.ok(asked > 500, `${asked} were asked`);
});

interface Parameter {
  readonly in: string;
  readonly name: string;
}
