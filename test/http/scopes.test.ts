import { test } from "tap";
import { BPF_CMD } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import { SCOPES, type Scope } from "../../src/access/scopes.ts";
import { Refusals } from "../../src/http/access.ts";
import { COMMAND_SCOPES, OTHER_COMMANDS, ROUTE_SCOPES } from "../../src/http/route_scopes.ts";
import { Service } from "./service.ts";

const MISSING = "urn:mapledger:problem:scope-missing";

/** A token is the scopes of its caller, with commas between them; so is his name. */
const authenticate = (token: string) => ({ name: token, scopes: new Set(token.split(",") as Scope[]) });
const as = (token: string) => ({ authorization: `Bearer ${token}` });

/** Operations of the document: with their method, and a path that names something of everything. */
function operations(service: Service): readonly (readonly [operation: string, method: string, path: string])[] {
  return Object.entries(service.app.swagger().paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods as Record<string, { operationId: string }>).map(
      ([method, { operationId }]) => [operationId, method.toUpperCase(), path.replace(/\{\w+\}/g, "00000001")] as const,
    ),
  );
}

test("every operation says what a caller needs, and the table has no other", async (t) => {
  const service = await Service.start(t);
  const asked = operations(service).map(([operation]) => operation);
  t.same([...asked].sort(), Object.keys(ROUTE_SCOPES).sort());
  const door: readonly number[] = Object.values(BPF_CMD);
  for (const cmd of COMMAND_SCOPES.keys()) t.ok(door.includes(cmd), `${cmd} is a command of bpf(2)`);
});

test("a caller does what his scopes say on every route, and nothing else", async (t) => {
  for (const scope of SCOPES) {
    const service = await Service.start(t, { authenticate });
    for (const [operation, method, path] of operations(service)) {
      const need = ROUTE_SCOPES[operation];
      const isRefused = need !== undefined && need !== "open" && need !== "by command" && !need.includes(scope);
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
      const need = COMMAND_SCOPES.get(cmd) ?? OTHER_COMMANDS;
      const answer = await service.send("POST", "/v1/sessions/1/bpf", { cmd: name, attr: {} }, as(scope));
      const was = answer.statusCode === 403 && answer.json().type === MISSING;
      if (was === need.includes(scope)) t.fail(`${scope}: ${name} was answered ${answer.statusCode} ${answer.body}`);
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
  const refuse = (caller: string) => t.match(refusals.refuse(caller, ["pin"], "GET /"), { name: "scope-missing" });
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
