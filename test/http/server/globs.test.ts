import { type Test, test } from "tap";
import { CMD } from "../../../src/abi/service.ts";
import { COMMAND_SCOPES, ROUTE_SCOPES } from "../../../src/http/server/route_scopes.ts";
import { seqOf } from "../../support/messages.ts";
import { DOCUMENT, Service } from "../service.ts";

/** Of ann's maps nothing may reach eve, and of eve's nothing ann: by every route and every command. */
const TOKENS = {
  root: "read,write,pin,admin,evidence,metrics",
  ann: "read@a*,write@a*,pin@/sys/fs/bpf/a/*",
  eve: "read@e*,write@e*,pin@/sys/fs/bpf/e/*",
};
const SECRET = "5ec4e75e";
const MISSING = "urn:mapledger:problem:scope-missing";
const as = (token: string) => ({ authorization: `Bearer ${token}` });

type Options = { readonly tokens?: Readonly<Record<string, string>> };

async function start(t: Test, { tokens = TOKENS }: Options = {}) {
  const service = await Service.start(t, { tokens });
  const send = async (
    token: string,
    method: string,
    url: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ) => service.send(method, url, body, { ...as(token), ...headers });
  const json = async (token: string, method: string, url: string, body?: unknown) =>
    (await send(token, method, url, body)).json();
  const must = async (token: string, method: string, url: string, body?: unknown) => {
    const answer = await send(token, method, url, body);
    if (answer.statusCode >= 300) throw new Error(`${token}: ${method} ${url}: ${answer.body}`);
    return answer.json();
  };
  const status = async (token: string, method: string, url: string, body?: unknown) =>
    (await send(token, method, url, body)).statusCode;
  /** Answers the id of a map, which its maker has as descriptor 3 of the session; `pins`: below /sys/fs/bpf. */
  const map = async (token: string, session: string, map_name: string, attr: object = {}) =>
    (await must(token, "POST", `${session}/maps`, { ...HASH, map_name, ...attr })).map_id as number;
  const session = (token: string) => service.session(as(token));
  return { service, send, json, must, status, map, session };
}

const HASH = {
  map_type: "BPF_MAP_TYPE_HASH",
  key_size: 4,
  value_size: 4,
  max_entries: 4,
  map_flags: ["BPF_F_NO_PREALLOC"],
};

/** Ann's maps: a hash, a queue and an array with memory, with a secret in each, pinned; the hash is map 1. */
async function withSecrets(t: Test) {
  const tools = await start(t);
  const { must, map, session } = tools;
  const own = await session("ann");
  await map("ann", own, "ann");
  await map("ann", own, "aqueue", { map_type: "BPF_MAP_TYPE_QUEUE", key_size: 0, map_flags: [] });
  await map("ann", own, "amemory", { map_type: "BPF_MAP_TYPE_ARRAY", map_flags: ["BPF_F_MMAPABLE"] });
  await must("root", "PUT", "/v1/directories/%2Fsys%2Ffs%2Fbpf%2Fa");
  await must("root", "PUT", "/v1/directories/%2Fsys%2Ffs%2Fbpf%2Fe");
  await must("ann", "PUT", `${own}/fds/3/elements/00000001`, { value: SECRET });
  await must("ann", "POST", `${own}/fds/4/push`, { value: SECRET });
  await must("ann", "PUT", `${own}/fds/5/elements/00000000`, { value: SECRET });
  await must("ann", "POST", `${own}/fds/3/pin`, { pathname: "/sys/fs/bpf/a/ann" });
  return { ...tools, own };
}

/** What a body of a route is to have that it is not refused for it. */
const BODIES: Readonly<Record<string, unknown>> = {
  updateElement: { value: "00000002" },
  pushElement: { value: "00000002" },
  updateBatch: { elements: [{ key: "00000001", value: "00000002" }] },
  deleteBatch: { keys: ["00000001"] },
  lookupBatch: {},
  lookupAndDeleteBatch: {},
  pinMap: { pathname: "/sys/fs/bpf/e/x" },
  pinAnyMap: { pathname: "/sys/fs/bpf/e/x" },
  restoreMap: { at: 5, dry_run: true },
  setDriftPolicy: { policy: "report", interval_seconds: 0 },
  openDescriptor: { kind: "map", map: 1 },
};

/** Operations that mean no map, and those of sessions, which are their callers' own. */
const OF_NO_MAP: ReadonlySet<string> = new Set([
  "getLiveness",
  "getReadiness",
  "getDocument",
  "getLog",
  "openSession",
  "listSessions",
  "getSession",
  "renewSession",
  "endSession",
  "attachSession",
  "closeDescriptor",
  // Each has a test of its own.
  "bpf",
  "streamEvents",
]);

/** Lists: they have what the caller sees. */
const LISTS: ReadonlySet<string> = new Set([
  "listMaps",
  "listPins",
  "listDirectories",
  "listEvents",
  "listDescriptors",
]);

test("by no route does anybody get at a map that his globs do not cover", async (t) => {
  const { send, must, session } = await withSecrets(t);
  const own = await session("eve");
  const before = (await must("root", "GET", "/v1/maps/1/elements")).elements;
  const tried = new Set<string>();
  for (const [path, methods] of Object.entries(DOCUMENT.paths))
    for (const [method, { operationId }] of Object.entries(methods as Record<string, { operationId: string }>)) {
      tried.add(operationId);
      if (OF_NO_MAP.has(operationId)) continue;
      for (const map of ["1", "name:ann", "pinned:%2Fsys%2Ffs%2Fbpf%2Fa%2Fann"]) {
        const url = path
          .replace("/sessions/{session}", own.replace("/v1", ""))
          .replace("{map}", map)
          .replace("{fd}", "3")
          .replace("{key}", "00000001")
          .replace("{pathname}", "%2Fsys%2Ffs%2Fbpf%2Fa%2Fann")
          .replace("{seq}", "7")
          .replace("{replay}", "1")
          .replace("{level}", "0")
          .replace("{*}", "000");
        const full = url.startsWith("/v1") ? url : url;
        const query = operationId === "diffMap" ? "?from=1" : "";
        const body = BODIES[operationId.replace(/OfMap$/, "")];
        const isMemory = operationId.startsWith("writeMemory");
        const answer = await send(
          "eve",
          method.toUpperCase(),
          full + query,
          isMemory ? Buffer.from("00", "hex") : body,
          isMemory ? { "content-type": "application/octet-stream" } : {},
        );
        const where = `${operationId} of ${map}`;
        t.notOk(answer.body.includes(SECRET), `${where} tells no value`);
        if (LISTS.has(operationId)) {
          t.equal(answer.statusCode, 200, where);
          t.notMatch(answer.body, /"ann"|aqueue|bpf\/a/, `${where} tells nothing of ann's maps`);
        } else if (/\/fds\/3/.test(full) || operationId === "createMap")
          t.ok([400, 403, 404].includes(answer.statusCode), `${where}: ${answer.statusCode} ${answer.body}`);
        else t.match(answer, { statusCode: 403 }, `${where}: ${answer.statusCode} ${answer.body}`);
      }
    }
  t.same([...tried].sort(), Object.keys(ROUTE_SCOPES).sort(), "all operations have been tried");
  t.same((await must("root", "GET", "/v1/maps/1/elements")).elements, before, "nothing was changed");
});

test("what is not there is not told apart from what may not be seen, where a glob does not cover it", async (t) => {
  const { json } = await withSecrets(t);
  for (const map of ["name:ann", "name:nobody", "pinned:%2Fsys%2Ffs%2Fbpf%2Fa%2Fann", "pinned:%2Fsys%2Ffs%2Fbpf%2Fx"])
    for (const rest of ["", "/elements", "/elements/00000001", "/elements/00000001/history", "/diff?from=1", "?at=9"]) {
      const answer = await json("eve", "GET", `/v1/maps/${map}${rest}`);
      t.match(
        answer,
        { type: MISSING, detail: "no scope read of eve covers this: eve has read@e*", errno: "EACCES" },
        `${map}${rest}`,
      );
    }
  for (const map of ["name:eel", "pinned:%2Fsys%2Ffs%2Fbpf%2Fe", "999"])
    t.match(
      await json("eve", "GET", `/v1/maps/${map}/elements`),
      map.startsWith("pinned") ? { status: 403 } : { errno: "ENOENT" },
    );
});

/** The door's commands that mean ann's map 1: by id, by path, and through a descriptor. */
const DOOR: readonly (readonly [cmd: string, attr: object])[] = [
  ["BPF_MAP_GET_FD_BY_ID", { map_id: 1 }],
  ["BPF_MAP_GET_FD_BY_ID", { map_id: 1, open_flags: 8 }],
  ["BPF_OBJ_GET", { pathname: "/sys/fs/bpf/a/ann" }],
  ["BPF_OBJ_GET", { pathname: "a/../a/ann" }],
  ["BPF_OBJ_GET", { pathname: "/sys/fs/bpf/no/ann" }],
  ["BPF_OBJ_GET", { pathname: "/sys/fs/bpf/a" }],
  ["BPF_MAP_CREATE", { map_type: 1, key_size: 4, value_size: 4, max_entries: 1, map_name: "ann2" }],
  ["BPF_MAP_CREATE", { map_type: 1, key_size: 4, value_size: 4, max_entries: 1 }],
];

/** Every command that takes a descriptor of a map. */
const THROUGH_FD: readonly (readonly [cmd: string, attr: object])[] = [
  ["BPF_MAP_LOOKUP_ELEM", { map_fd: 3, key: "00000001" }],
  ["BPF_MAP_UPDATE_ELEM", { map_fd: 3, key: "00000001", value: "00000009" }],
  ["BPF_MAP_DELETE_ELEM", { map_fd: 3, key: "00000001" }],
  ["BPF_MAP_GET_NEXT_KEY", { map_fd: 3, key: null }],
  ["BPF_MAP_LOOKUP_AND_DELETE_ELEM", { map_fd: 3, key: "00000001" }],
  ["BPF_MAP_FREEZE", { map_fd: 3 }],
  ["BPF_MAP_LOOKUP_BATCH", { map_fd: 3, count: 1 }],
  ["BPF_MAP_LOOKUP_AND_DELETE_BATCH", { map_fd: 3, count: 1 }],
  ["BPF_MAP_UPDATE_BATCH", { map_fd: 3, count: 1, keys: "00000001", values: "00000009" }],
  ["BPF_MAP_DELETE_BATCH", { map_fd: 3, count: 1, keys: "00000001" }],
  ["BPF_OBJ_PIN", { bpf_fd: 3, pathname: "/sys/fs/bpf/e/x" }],
  ["BPF_OBJ_GET_INFO_BY_FD", { bpf_fd: 3, info_len: 80 }],
];

test("every command of the syscall door is tried, but for those that mean no map", async (t) => {
  const names = [...DOOR, ...THROUGH_FD].map(([cmd]) => CMD[cmd as keyof typeof CMD] as number);
  const { BPF_MAP_GET_NEXT_ID, BPF_BTF_LOAD, BPF_BTF_GET_FD_BY_ID, BPF_BTF_GET_NEXT_ID } = CMD;
  const others = [BPF_MAP_GET_NEXT_ID, BPF_BTF_LOAD, BPF_BTF_GET_FD_BY_ID, BPF_BTF_GET_NEXT_ID];
  t.same(
    [...new Set([...names, ...others])].sort((one, other) => one - other),
    Object.keys(COMMAND_SCOPES)
      .map((name) => CMD[name as keyof typeof CMD])
      .sort((one, other) => one - other),
  );
});

test("by no command of the syscall door does anybody get at a map that his globs do not cover", async (t) => {
  const { service, json, must, session } = await withSecrets(t);
  const own = await session("eve");
  for (const [cmd, attr] of DOOR) {
    const answer = await json("eve", "POST", `${own}/bpf`, { cmd, attr });
    t.match(
      answer,
      { type: MISSING, status: 403, errno: "EACCES" },
      `${cmd} ${JSON.stringify(attr)}: ${JSON.stringify(answer)}`,
    );
  }
  const walked = await json("eve", "POST", `${own}/bpf`, { cmd: "BPF_MAP_GET_NEXT_ID", attr: { start_id: 0 } });
  t.match(walked, { ret: -1, errno: "ENOENT" }, "no map is found by walking");
  // A descriptor from before the scopes were taken back.
  service.setTokens({ ...TOKENS, eve: "read,write,pin" });
  await must("eve", "POST", `${own}/bpf`, { cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: 1 } });
  service.setTokens(TOKENS);
  for (const [cmd, attr] of THROUGH_FD) {
    const answer = await json("eve", "POST", `${own}/bpf`, { cmd, attr });
    t.match(answer, { type: MISSING, status: 403, errno: "EACCES" }, `${cmd}: ${JSON.stringify(answer)}`);
  }
  t.same((await must("eve", "GET", `${own}/fds`)).fds, [], "it is not listed");
  for (const [method, url] of [
    ["GET", `${own}/fds/3`],
    ["GET", `${own}/fds/3/elements`],
    ["GET", `${own}/fds/3/elements?at=9`],
    ["GET", `${own}/fds/3/elements/00000001`],
    ["PUT", `${own}/fds/3/elements/00000001`],
    ["DELETE", `${own}/fds/3/elements/00000001`],
  ] as const) {
    const answer = await json("eve", method, url, method === "PUT" ? { value: "00000009" } : undefined);
    t.ok(answer.status === 403 || answer.status === 404, `${method} ${url}: ${JSON.stringify(answer)}`);
  }
  t.equal((await must("root", "GET", "/v1/maps/1/elements/00000001")).value, SECRET, "nothing was changed");
  await must("eve", "DELETE", `${own}/fds/3`);
});

test("refusals are events of their callers', which tell the scope", async (t) => {
  const { status, must } = await withSecrets(t);
  t.equal(await status("eve", "PUT", "/v1/maps/1/elements/00000001", { value: "00000009" }), 403);
  const { events } = await must("root", "GET", "/v1/events?cmd=ACCESS_REFUSED");
  t.match(events, [
    {
      caller: "eve",
      errno: "EACCES",
      map: null,
      detail: "no scope write of the caller covers this: the caller has write@e*",
      attr: { scope: "write", has: ["write@e*"], request: "PUT /v1/maps/1/elements/00000001" },
    },
  ]);
});

test("a descriptor lets through what the caller's scopes do", async (t) => {
  const { must, map, json, session } = await start(t, {
    tokens: { root: TOKENS.root, reader: "read@m*,write@x", writer: "write@m*,read@x", both: "read@m*,write@m*" },
  });
  await map("root", await session("root"), "m");
  const rows = [
    ["reader", {}, "r"],
    ["reader", { open_flags: 8 }, "r"],
    ["reader", { open_flags: 16 }, null],
    ["writer", {}, "w"],
    ["writer", { open_flags: 16 }, "w"],
    ["writer", { open_flags: 8 }, null],
    ["both", {}, "rw"],
    ["both", { open_flags: 8 }, "r"],
    ["both", { open_flags: 24 }, "EINVAL"],
  ] as const;
  for (const [token, flags, access] of rows) {
    const own = await session(token);
    const answer = await json(token, "POST", `${own}/bpf`, {
      cmd: "BPF_MAP_GET_FD_BY_ID",
      attr: { map_id: 1, ...flags },
    });
    if (access === null) t.match(answer, { type: MISSING }, `${token} ${JSON.stringify(flags)}`);
    else if (access === "EINVAL") t.match(answer, { errno: access });
    else {
      t.match(answer, { ret: 3, errno: null });
      t.match(
        await must(token, "GET", `${own}/fds`),
        { fds: [{ fd: 3, access }] },
        `${token} ${JSON.stringify(flags)}`,
      );
      const read = await json(token, "POST", `${own}/bpf`, {
        cmd: "BPF_MAP_LOOKUP_ELEM",
        attr: { map_fd: 3, key: "00000001" },
      });
      const attr = { map_fd: 3, key: "00000001", value: "00000001" };
      const written = await json(token, "POST", `${own}/bpf`, { cmd: "BPF_MAP_UPDATE_ELEM", attr });
      t.match(read, { errno: access.includes("r") ? /ENOENT|null/ : "EPERM" });
      t.equal(written.errno, access.includes("w") ? null : "EPERM", "as bpf(2) refuses it");
      await must("root", "DELETE", "/v1/maps/1/elements/00000001").catch(() => {});
    }
  }
});

test("a map belongs to the globs of its present pins", async (t) => {
  const { must, map, status, json, session } = await start(t, {
    tokens: { root: TOKENS.root, tc: "read@/sys/fs/bpf/tc/*,write@/sys/fs/bpf/tc/*,pin@/sys/fs/bpf/tc/*" },
  });
  const root = await session("root");
  const id = await map("root", root, "m");
  await must("root", "PUT", "/v1/directories/%2Fsys%2Ffs%2Fbpf%2Ftc");
  const tc = await session("tc");
  const read = () => status("tc", "GET", `/v1/maps/${id}`);
  t.equal(await read(), 403);
  t.equal(await status("tc", "POST", `${tc}/maps`, { ...HASH, map_name: "m" }), 403, "a new map has no pin");
  t.equal(
    await status("tc", "POST", `/v1/maps/${id}/pin`, { pathname: "/sys/fs/bpf/tc/m" }),
    403,
    "nobody takes a map by a pin",
  );
  await must("root", "POST", `${root}/fds/3/pin`, { pathname: "/sys/fs/bpf/tc/m" });
  t.equal(await read(), 200);
  t.same(
    (await must("tc", "GET", "/v1/maps")).maps.map((one: { id: number }) => one.id),
    [id],
  );
  t.same(await must("tc", "GET", "/v1/pins"), { pins: [{ pathname: "/sys/fs/bpf/tc/m", map_id: id }], next: null });
  t.same(await must("tc", "GET", "/v1/directories"), { directories: ["/sys/fs/bpf/tc"], next: null });
  const opened = await must("tc", "POST", `${tc}/fds`, { kind: "map", map: "pinned:/sys/fs/bpf/tc/m" });
  t.match(opened, { fd: 3, map_id: id });
  await must("tc", "PUT", `${tc}/fds/3/elements/00000001`, { value: "00000001" });
  t.equal(await status("tc", "POST", `${tc}/fds/3/pin`, { pathname: "/sys/fs/bpf/m" }), 403, "not at any path");
  await must("tc", "POST", `${tc}/fds/3/pin`, { pathname: "/sys/fs/bpf/tc/n" });
  await must("tc", "DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Ftc%2Fm");
  t.equal(await read(), 200, "another pin is left");
  await must("root", "DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Ftc%2Fn");
  t.equal(await read(), 403, "no longer");
  t.match(await json("tc", "PUT", `${tc}/fds/3/elements/00000001`, { value: "00000001" }), { type: MISSING });
  t.equal(await status("tc", "GET", `/v1/maps/${id}?at=6`), 403, "what it was does not count");
});

test("a pin gives nobody a right of his own on the map", async (t) => {
  const { must, map, status, session } = await start(t, {
    tokens: {
      root: TOKENS.root,
      ro: "read@a*,write@/sys/fs/bpf/w/*,pin@/sys/fs/bpf/w/*,pin@/sys/fs/bpf/r/*",
      named: "read@a*,pin@a*",
    },
  });
  const id = await map("root", await session("root"), "ann");
  for (const name of ["w", "r"]) await must("root", "PUT", `/v1/directories/%2Fsys%2Ffs%2Fbpf%2F${name}`);
  t.equal(await status("ro", "POST", `/v1/maps/${id}/pin`, { pathname: "/sys/fs/bpf/w/x" }), 403);
  t.equal(await status("ro", "POST", `/v1/maps/${id}/pin`, { pathname: "/sys/fs/bpf/r/x" }), 200);
  t.equal(await status("named", "POST", `/v1/maps/${id}/pin`, { pathname: "/sys/fs/bpf/anywhere" }), 200);
  t.equal(await status("named", "DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Fanywhere"), 200);
  t.equal(
    await status("named", "PUT", "/v1/directories/%2Fsys%2Ffs%2Fbpf%2Fann"),
    403,
    "a directory has no name of a map's",
  );
});

test("walking ids finds the caller's maps alone, and its events are true", async (t) => {
  const { service, must, json, map, session } = await start(t);
  const root = await session("root");
  for (const name of ["x", "e1", "y", "z", "e2", "x2"]) await map("root", root, name);
  const own = await session("eve");
  const walked: number[] = [];
  for (let at = 0; ; ) {
    const answer = await json("eve", "POST", `${own}/bpf`, { cmd: "BPF_MAP_GET_NEXT_ID", attr: { start_id: at } });
    if (answer.errno !== null) {
      t.equal(answer.errno, "ENOENT");
      break;
    }
    at = answer.attr.next_id;
    walked.push(at);
  }
  t.same(walked, [2, 5]);
  t.same((await must("eve", "GET", "/v1/maps?limit=1")).next, 2);
  t.match(await must("eve", "GET", "/v1/maps?after=2&limit=1"), { maps: [{ id: 5 }] });
  const told = service.log.rows.filter(({ cmd, caller }) => cmd === CMD.BPF_MAP_GET_NEXT_ID && caller === "eve");
  t.same(
    told.map(({ attr, map }) => [JSON.parse(attr as string).start_id, map]),
    [
      [1, 2],
      [4, 5],
      [6, 0],
    ],
    "as a caller who sees all maps would have asked",
  );
});

test("the log has a caller's maps, and his own events of none", async (t) => {
  const { service, send, must, map, json, session } = await start(t);
  const root = await session("root");
  await session("eve");
  const a = await map("root", root, "ann");
  const e = await map("root", root, "eel");
  for (let at = 0; at < 3; at++)
    for (const id of [a, e]) await must("root", "PUT", `/v1/maps/${id}/elements/0000000${at}`, { value: SECRET });
  const seen = (row: { map: number | null; caller: string }) =>
    row.map === e || (row.map === null && row.caller === "eve");
  const all = (await must("root", "GET", "/v1/events?limit=1000")).events;
  const wanted = all.filter(seen).map(({ seq }: { seq: number }) => seq);
  const seqs = (answer: { events: { seq: number }[] }) => answer.events.map(({ seq }) => seq);
  t.same(seqs(await must("eve", "GET", "/v1/events?limit=1000")), wanted);
  t.same(seqs(await must("eve", "GET", `/v1/events?limit=1000&before=${all.length + 1}`)), wanted, "backwards, too");
  const paged: number[] = [];
  for (let after: number | null = 0; after !== null; ) {
    const page = await json("eve", "GET", `/v1/events?limit=1&after=${after}`);
    paged.push(...seqs(page));
    after = page.next;
  }
  t.same(paged, wanted, "page by page");
  const lines = (await send("eve", "GET", "/v1/events", undefined, { accept: "application/x-ndjson" })).body;
  t.same(
    lines
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).seq),
    wanted,
  );
  const until = all.at(-1).time;
  while (
    Date.parse((await must("root", "GET", "/v1/events?before=9007199254740991&limit=1")).events[0].time) <=
    Date.parse(until)
  )
    await must("root", "PUT", `/v1/maps/${a}/elements/00000000`, { value: SECRET });
  const stream = (await send("eve", "GET", `/v1/events/stream?after=0&until=${encodeURIComponent(until)}`)).body;
  t.same(
    [...stream.matchAll(/^id: (.+)\nevent: event$/gm)].map(([, id = ""]) => seqOf(id)),
    wanted,
    "streamed",
  );
  for (const { seq } of all) {
    const expected = wanted.includes(seq) ? 200 : 403;
    if ((await send("eve", "GET", `/v1/events/${seq}`)).statusCode !== expected) t.fail(`event ${seq}`);
    if ((await send("eve", "GET", `/v1/events/${seq}/proof`)).statusCode !== expected) t.fail(`proof of ${seq}`);
  }
  t.same(seqs(await must("eve", "GET", `/v1/events?map=${a}`)), []);
  t.ok(service.log.rows.length > 0);
});

test("an event that tells of several maps is seen by who sees all of them", async (t) => {
  const { must, map, session } = await start(t, {
    tokens: { root: TOKENS.root, eve: "read@e*", all: "read@e*,read@i*" },
  });
  const root = await session("root");
  const inner = await map("root", root, "inner");
  const outer = await map("root", root, "eouter", {
    map_type: "BPF_MAP_TYPE_ARRAY_OF_MAPS",
    inner_map_fd: 3,
    map_flags: [],
  });
  await must("root", "PUT", `${root}/fds/4/elements/00000000`, { value: "03000000" });
  await must("root", "DELETE", `${root}/fds/3`);
  const { seq } = await must("root", "DELETE", `${root}/fds/4`);
  t.match(await must("root", "GET", `/v1/events/${seq}`), { map: outer, out: { freed: [outer, inner] } });
  const sees = async (token: string) =>
    (await must(token, "GET", "/v1/events?limit=1000")).events.map((event: { seq: number }) => event.seq).includes(seq);
  t.equal(await sees("eve"), false);
  t.equal(await sees("all"), true, "of freed maps it counts what they were at their end");
});

test("freed maps belong to who saw them at their end", async (t) => {
  const { must, map, status, session } = await start(t, {
    tokens: { root: TOKENS.root, tc: "read@/sys/fs/bpf/tc/*", named: "read@n*" },
  });
  const root = await session("root");
  await must("root", "PUT", "/v1/directories/%2Fsys%2Ffs%2Fbpf%2Ftc");
  const make = async (fd: number, unlinks: boolean): Promise<number> => {
    const id = await map("root", root, "n");
    await must("root", "POST", `${root}/fds/${fd}/pin`, { pathname: "/sys/fs/bpf/tc/m" });
    await must("root", "PUT", `${root}/fds/${fd}/elements/00000001`, { value: SECRET });
    const close = () => must("root", "DELETE", `${root}/fds/${fd}`);
    const unlink = () => must("root", "DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Ftc%2Fm");
    for (const step of unlinks ? [close, unlink] : [unlink, close]) await step();
    return id;
  };
  const ofPin = await make(3, true);
  const ofDescriptor = await make(3, false);
  for (const [token, id, expected] of [
    ["tc", ofPin, 200],
    ["tc", ofDescriptor, 403],
    ["named", ofPin, 200],
    ["named", ofDescriptor, 200],
  ] as const) {
    t.equal(await status(token, "GET", `/v1/maps/${id}/elements/00000001/history`), expected, `${token} of ${id}`);
    t.equal(await status(token, "GET", `/v1/maps/${id}/diff?from=1`), expected);
    const { events } = await must(token, "GET", `/v1/events?map=${id}&limit=1000`);
    t.equal(events.length > 0, expected === 200);
  }
});

test("a page goes on however few of its events are seen, and takes so long and no longer", async (t) => {
  const { service, must, map, session } = await start(t);
  const id = await map("root", await session("root"), "ann");
  const target = { by: "id", id } as const;
  const origin = { session: 0, caller: "root", flags: 0n };
  const put = {
    cmd: CMD.BPF_MAP_UPDATE_ELEM,
    ...origin,
    target,
    key: Buffer.alloc(4),
    value: Buffer.alloc(4),
  } as const;
  service.engine.run(Array.from({ length: 20_000 }, () => put));
  await session("eve");
  const last = service.log.rows.length;
  let pages = 0;
  const seen: number[] = [];
  for (let after: string | null = "0"; after !== null; pages++) {
    const before = service.reader.answered;
    const page = await must("eve", "GET", `/v1/events?after=${after}`);
    t.ok(service.reader.answered - before <= 16 * 1024, "a request reads so much of the log");
    if (page.next !== null) t.ok(seqOf(page.next) > (after === "0" ? 0 : seqOf(after)), "it goes on");
    seen.push(...page.events.map((event: { seq: number }) => event.seq));
    after = page.next;
  }
  t.ok(pages > 1);
  t.same(seen, [last]);
  for (const lookedAtMax of [50, 20_000]) {
    service.reader.lookedAtMax = lookedAtMax;
    service.reader.answered = 0;
    const page = await must("eve", "GET", "/v1/events?limit=1000");
    t.ok(service.reader.answered <= 1024 * 16, `${service.reader.answered} events are read for a page`);
    t.ok(seqOf(page.next) > 1000);
  }
});

test("a watch ends when the map is no longer the caller's to see", async (t) => {
  const { service, must, map, session } = await start(t, {
    tokens: { root: TOKENS.root, tc: "read@/sys/fs/bpf/tc/*" },
  });
  const root = await session("root");
  const id = await map("root", root, "m");
  await must("root", "PUT", "/v1/directories/%2Fsys%2Ffs%2Fbpf%2Ftc");
  await must("root", "POST", `${root}/fds/3/pin`, { pathname: "/sys/fs/bpf/tc/m" });
  const watched = service.send("GET", `/v1/maps/${id}/watch`, undefined, {
    ...as("tc"),
    accept: "application/x-ndjson",
  });
  while (service.streams === 0) await new Promise((resolve) => setImmediate(resolve));
  await must("root", "PUT", `${root}/fds/3/elements/00000001`, { value: "00000001" });
  await must("root", "DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Ftc%2Fm");
  await must("root", "PUT", `${root}/fds/3/elements/00000001`, { value: SECRET });
  t.notMatch((await watched).body, new RegExp(SECRET));
});

test("limits that were taken back let nothing through, also of what is under way", async (t) => {
  const { service, map, session } = await start(t);
  const own = await session("eve");
  const id = await map("eve", own, "eel");
  const limits = service.callers.byToken("eve")?.limits?.id as number;
  const lookup = {
    cmd: CMD.BPF_MAP_LOOKUP_ELEM,
    session: 0,
    caller: "eve",
    target: { by: "id", id },
    key: Buffer.alloc(4),
    value: null,
    flags: 0n,
    limits,
  } as const;
  t.match(service.engine.run([lookup])[0], { outcome: { errno: 2 } });
  service.setTokens({ ...TOKENS, eve: "read@x" });
  t.match(service.engine.run([lookup])[0], { failure: "scope missing" });
});

test("directories are paged by what is seen, at any moment", async (t) => {
  const { must } = await start(t, { tokens: { root: TOKENS.root, tc: "read@/sys/fs/bpf/tc/*/m" } });
  const made = ["a", "tc", "tc/one", "tc/two", "z"];
  for (const one of made) await must("root", "PUT", `/v1/directories/${encodeURIComponent(`/sys/fs/bpf/${one}`)}`);
  for (const at of ["", "&at=5"]) {
    const seen: string[] = [];
    for (let after: string | null = ""; after !== null; ) {
      const query: string = after === "" ? "" : `&after=${encodeURIComponent(after)}`;
      const page = await must("tc", "GET", `/v1/directories?limit=1${query}${at}`);
      seen.push(...page.directories);
      after = page.next;
    }
    t.same(seen, ["/sys/fs/bpf/tc", "/sys/fs/bpf/tc/one", "/sys/fs/bpf/tc/two"], at);
  }
});

test("who may not go on with a large command is told what was done", async (t) => {
  const { service, map, session, send } = await start(t);
  await map("ann", await session("ann"), "ann");
  const done = { count: 2048, of: 9000, what: "elements" } as const;
  service.failing = async () => ({ failure: "scope missing", detail: "", scope: "write", done });
  const answer = await send("ann", "DELETE", "/v1/maps/1/elements/00000001");
  service.failing = null;
  t.match(answer.json(), {
    type: MISSING,
    detail: "no scope write of ann covers this: ann has write@a*; 2048 of 9000 elements were done before",
  });
});

test("restoring takes write on the map, and on all that it makes", async (t) => {
  const { must, map, status, json, session } = await start(t);
  const root = await session("root");
  const a = await map("root", root, "ann");
  const e = await map("root", root, "eel");
  const { seq } = await must("root", "PUT", `/v1/maps/${e}/elements/00000001`, { value: "00000001" });
  await must("root", "DELETE", `/v1/maps/${e}/elements/00000001`);
  t.equal(await status("eve", "POST", `/v1/maps/${a}/restore`, { at: seq, dry_run: true }), 403);
  t.match(await json("eve", "POST", `/v1/maps/${e}/restore`, { at: seq }), { added: 1 });
  t.equal((await must("eve", "GET", `/v1/maps/${e}/elements/00000001`)).value, "00000001");
  await must("root", "DELETE", `${root}/fds/4`);
  const own = await session("eve");
  const body = { at: seq, session: Number(own.split("/").pop()) };
  const again = await json("eve", "POST", `/v1/maps/${e}/restore`, body);
  t.match(again, { map: e, created: { map_id: e + 1 } }, JSON.stringify(again));
});

test("a log says who asks, and what he may do", async (t) => {
  const { must } = await start(t, { tokens: { bob: "read@a*,write@/sys/fs/bpf/x,evidence" } });
  t.match(await must("bob", "GET", "/v1/log"), {
    caller: "bob",
    scopes: ["read@a*", "write@/sys/fs/bpf/x", "evidence"],
  });
});
