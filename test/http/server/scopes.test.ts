import { test } from "tap";
import { BPF_CMD } from "../../../src/abi/bpf.ts";
import { CMD, OPEN_KINDS } from "../../../src/abi/service.ts";
import { SCOPES, type Scope } from "../../../src/access/scopes.ts";
import { Refusals } from "../../../src/http/server/access.ts";
import { ALSO_READ, COMMAND_SCOPES, ROUTE_SCOPES, scopesOfCommand } from "../../../src/http/server/route_scopes.ts";
import { commandFacts } from "../../../src/syscall/command_facts.ts";
import { DOCUMENT, Service } from "../service.ts";

const MISSING = "urn:mapledger:problem:scope-missing";

/** A token is the scopes of its caller, with commas between them; so is his name. */
const authenticate = (token: string) => ({ name: token, scopes: new Set(token.split(",") as Scope[]) });
const as = (token: string) => ({ authorization: `Bearer ${token}` });

/** Operations of the document: with their method, and a path that names something of everything. */
function operations(): readonly (readonly [operation: string, method: string, path: string])[] {
  return Object.entries(DOCUMENT.paths).flatMap(([path, methods]) =>
    Object.entries(methods as Record<string, { operationId: string }>).map(
      ([method, { operationId }]) => [operationId, method.toUpperCase(), path.replace(/\{\w+\}/g, "00000001")] as const,
    ),
  );
}

test("every operation says what a caller needs, and the table has no other", async (t) => {
  const asked = operations().map(([operation]) => operation);
  t.same([...asked].sort(), Object.keys(ROUTE_SCOPES).sort());
  for (const cmd in COMMAND_SCOPES) t.ok(cmd in BPF_CMD, `${cmd} is a command of bpf(2)`);
});

test("a caller does what his scopes say on every route, and nothing else", async (t) => {
  for (const scope of SCOPES) {
    const service = await Service.start(t, { authenticate });
    for (const [operation, method, path] of operations()) {
      const need = ROUTE_SCOPES[operation];
      const isShown = !ALSO_READ.has(operation) || scope === "read";
      const isRefused =
        need !== undefined && need !== "open" && need !== "by command" && !(need.includes(scope) && isShown);
      // Streams go on; who may have one is told by the answer's head alone.
      if (!isRefused && /^(attachSession|streamEvents|watchMap)$/.test(operation)) continue;
      const answer = await service.send(method, path, undefined, as(scope));
      const was = answer.statusCode === 403 && answer.json().type === MISSING;
      if (was !== isRefused) t.fail(`${scope}: ${operation} was answered ${answer.statusCode} ${answer.body}`);
    }
    t.equal(service.underWay.count, 0, "all have been answered");
    const told = service.log.rows.filter(({ cmd }) => cmd === CMD.ACCESS_REFUSED);
    t.ok(told.length > 0 && told.every(({ caller }) => caller === scope), `refusals of ${scope} are events`);
  }
});

test("a caller of the syscall door needs what each command needs", async (t) => {
  const service = await Service.start(t, { authenticate });
  for (const scope of SCOPES)
    for (const [name, cmd] of Object.entries(BPF_CMD)) {
      const need = scopesOfCommand(cmd);
      const answer = await service.send("POST", "/v1/sessions/1/bpf", { cmd: name, attr: {} }, as(scope));
      const was = answer.statusCode === 403 && answer.json().type === MISSING;
      const isShown = commandFacts(cmd)?.takes !== true || scope === "read";
      if (was === (need.includes(scope) && isShown))
        t.fail(`${scope}: ${name} was answered ${answer.statusCode} ${answer.body}`);
    }
  t.pass("all commands were tried");
});

test("single elements are refused on the fast way, too", async (t) => {
  const service = await Service.start(t, { authenticate });
  const session = await service.session(as("write"));
  const hash = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 2 };
  await service.send("POST", `${session}/maps`, hash, as("write"));
  for (const element of ["/v1/maps/1/elements/00000001", `${session}/fds/3/elements/00000001`]) {
    const status = async (method: string, token: string) =>
      (await service.send(method, element, method === "PUT" ? { value: "00000002" } : undefined, as(token))).statusCode;
    const isOwn = element.startsWith(session);
    t.equal(await status("PUT", "write"), 200);
    t.equal(await status("PUT", "read,pin,admin,metrics,evidence"), 403);
    t.equal(await status("DELETE", "read"), 403);
    t.equal(await status("GET", "write"), 403);
    t.equal(await status("GET", "read"), isOwn ? 403 : 200);
  }
});

test("a refusal is an event that tells the scope and the request", async (t) => {
  const service = await Service.start(t, { authenticate });
  await service.send("PUT", "/v1/maps/7/mirror?a=secret", { policy: "report" }, as("read"));
  const { events } = (await service.send("GET", "/v1/events?cmd=ACCESS_REFUSED", undefined, as("read"))).json();
  t.match(events, [
    {
      caller: "read",
      errno: "EACCES",
      detail: "the caller has none of these scopes: admin",
      attr: { scope: "admin", request: "PUT /v1/maps/7/mirror", more: 0 },
    },
  ]);
});

test("so many refusals a caller and second are events; the next one tells how many were none", async (t) => {
  const told: [caller: string, more: number][] = [];
  let nowMs = 5000;
  const run = async ({ caller, attr }: { caller: string; attr?: unknown }) => {
    told.push([caller, (attr as { more: number }).more]);
    return { failure: "bug", detail: "" } as const;
  };
  const refusals = new Refusals({ run }, () => nowMs);
  const refuse = (caller: string) => t.match(refusals.refuse({ caller }, ["pin"], "GET /"), { name: "scope-missing" });
  for (let at = 0; at < 25; at++) refuse("bob");
  refuse("carol");
  t.same(told, [...Array.from({ length: 10 }, () => ["bob", 0]), ["carol", 0]]);
  nowMs += 999;
  refuse("bob");
  t.equal(told.length, 11);
  nowMs += 1;
  refuse("bob");
  refuse("bob");
  t.same(told.slice(11), [
    ["bob", 16],
    ["bob", 0],
  ]);
});

test("what is taken out, or restored, is shown: it needs a read, too", async (t) => {
  const service = await Service.start(t, { authenticate });
  const session = await service.session(as("read,write"));
  const hash = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 2 };
  await service.send("POST", `${session}/maps`, hash, as("read,write"));
  const at = service.log.lastSeq;
  for (const [path, body] of [
    ["/v1/maps/1/batch/lookup_and_delete", {}],
    ["/v1/maps/1/restore", { at, dry_run: true }],
  ] as const) {
    t.equal((await service.send("POST", path, body, as("write"))).statusCode, 403);
    t.equal((await service.send("POST", path, body, as("read"))).statusCode, 403);
    t.equal((await service.send("POST", path, body, as("read,write"))).statusCode, 200);
  }
});

/** Of each kind of descriptor: what refers to something that is there, in the ledger alone; null: there is no such thing. */
const REFERS: Readonly<Record<(typeof OPEN_KINDS)[number], object | null>> = {
  pipe: null,
  file: { path: "/tmp/x" },
  dir: { path: "/sys/fs/bpf" },
  tcp_idle: null,
  tcp_listen: null,
  tcp_connected: null,
  udp_idle: null,
  udp_bound: null,
  unix_stream: null,
  unix_dgram: null,
  xsk: null,
  pidfd: { pid: 1 },
  pidfd_self: {},
  pidfd_dead: null,
  cgroup: { path: "/sys/fs/cgroup" },
  perf_event: null,
  prog: { id: 7 },
};
/** Likewise what is made; null: nothing is. */
const MAKES: Readonly<Partial<Record<(typeof OPEN_KINDS)[number], readonly object[] | null>>> = {
  pidfd: null,
  pidfd_self: null,
  prog: [{ prog_type: 6 }, { id: 7, prog_type: 6 }],
};

test("what makes an object needs write; for read alone a descriptor of what is there is read-only", async (t) => {
  const service = await Service.start(t, { authenticate });
  const open = async (token: string, session: string, body: object) =>
    service.send("POST", `${session}/fds`, body, as(token));
  const access = async (token: string, session: string, fd: number) =>
    (await service.send("GET", `${session}/fds/${fd}`, undefined, as(token))).json().descriptor.access;
  const [reader, writer] = [await service.session(as("read")), await service.session(as("write"))];
  for (const kind of OPEN_KINDS) {
    for (const named of MAKES[kind] === null ? [] : (MAKES[kind] ?? [{}])) {
      const refused = await open("read", reader, { kind, ...named });
      t.match(refused.json(), { type: MISSING, detail: "read has none of these scopes: write" }, kind);
      const made = await open("write", writer, { kind, ...named });
      t.equal(made.statusCode, 201, `${kind} is made`);
      t.equal(await access("write", writer, made.json().fd), "rw");
    }
    const named = REFERS[kind];
    if (named === null) continue;
    const found = await open("read", reader, { kind, ...named });
    t.equal(found.statusCode, 201, `${kind}: ${found.body}`);
    t.equal(await access("read", reader, found.json().fd), "r", `${kind} is read-only`);
    const event = service.log.rows[found.json().seq - 1];
    t.match(JSON.parse(event?.attr ?? ""), { open_flags: 8 }, "the event says so");
    const then = await service.send("GET", `${reader}/fds?at=${service.log.lastSeq}`, undefined, as("read"));
    t.match(then.json().fds.at(-1), { access: "r" }, "so is it when its event is done again");
    const written = await open("write", writer, { kind, ...named });
    t.equal(await access("write", writer, written.json().fd), "rw");
    const narrow = await open("write", writer, { kind, ...named, access: "r" });
    t.equal(await access("write", writer, narrow.json().fd), "r", "as it was asked for");
    t.match((await open("write", writer, { kind, ...named, access: "w" })).json(), {
      detail: /^access: r or rw required for kind /,
    });
  }
  t.match(await open("read", reader, { kind: "dup", fd: 3, access: "r" }), { statusCode: 400 });
  t.equal((await open("read", reader, { kind: "dup", fd: 3 })).statusCode, 201, "a dup makes nothing");
});

test("before the machine is asked for an object, the caller's scopes are looked at", async (t) => {
  const asked: object[] = [];
  const objects = {
    async open(spec: object) {
      asked.push(spec);
      return null;
    },
    discard() {},
  };
  const service = await Service.start(t, { authenticate, objects });
  service.engine.sources.commands.opensFor = () => true;
  const session = await service.session(as("read"));
  const open = async (body: object) => (await service.send("POST", `${session}/fds`, body, as("read"))).statusCode;
  t.equal(await open({ kind: "cgroup" }), 403);
  t.same(asked, [], "nothing is made on the host");
  t.equal(await open({ kind: "cgroup", path: "/sys/fs/cgroup" }), 201);
  t.match(asked, [{ kind: "cgroup", path: "/sys/fs/cgroup" }]);
});

test("a map is opened with the mode that the caller's scopes leave, at both doors", async (t) => {
  const service = await Service.start(t, { authenticate });
  const [root, pinned] = ["read,write,pin", "/sys/fs/bpf/m"];
  const own = await service.session(as(root));
  const hash = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 2 };
  await service.send("POST", `${own}/maps`, hash, as(root));
  await service.send("POST", `${own}/fds/3/pin`, { pathname: pinned }, as(root));
  const modes = { "": 0, r: 8, w: 16 } as const;
  const rows = [
    ["read", "", "r"],
    ["read", "r", "r"],
    ["read", "w", "write"],
    ["write", "", "w"],
    ["write", "w", "w"],
    ["write", "r", "read"],
    ["read,write", "", "rw"],
    ["read,write", "r", "r"],
  ] as const;
  for (const [token, mode, given] of rows) {
    const session = await service.session(as(token));
    const flags = modes[mode];
    const access = mode === "" ? {} : { access: mode };
    const ways = [
      ["fds", { kind: "map", map: 1, ...access }],
      ["fds", { kind: "map", map: `pinned:${pinned}`, ...access }],
      ["bpf", { cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: 1, open_flags: flags } }],
      ["bpf", { cmd: "BPF_OBJ_GET", attr: { pathname: pinned, file_flags: flags } }],
    ] as const;
    for (const [door, body] of ways) {
      const answer = await service.send("POST", `${session}/${door}`, body, as(token));
      const where = `${token} ${JSON.stringify(body)}: ${answer.body}`;
      if (given === "read" || given === "write") {
        t.match(answer.json(), { type: MISSING, detail: `${token} has none of these scopes: ${given}` }, where);
        continue;
      }
      const { fd, ret = fd } = answer.json();
      const listed = await service.send("GET", `${session}/fds/${ret}`, undefined, as(token));
      t.equal(listed.json().descriptor?.access, given, where);
    }
  }
});
