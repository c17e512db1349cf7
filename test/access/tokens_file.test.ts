import { createHash } from "node:crypto";
import { test } from "tap";
import { type Caller, scopeTexts } from "../../src/access/caller.ts";
import { Callers } from "../../src/access/callers.ts";
import { ALL_SCOPES, SCOPES } from "../../src/access/scopes.ts";
import { parseTokens } from "../../src/access/tokens_file.ts";

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

const FILE = `# who may

alice:${sha256("a")}:read,write
\r
 bob : ${sha256("b").toUpperCase()} : metrics\r
alice:${sha256("a2")}:read
dept:ops:${sha256("d")}
uid:1000:read, pin
uid:0:read
cert:spiffe://example.org/loader:write
cert:CN with spaces:
`;

test("a line says how a caller is known, and what he may do", async (t) => {
  const { lines, warnings } = parseTokens(FILE, "tokens");
  t.same(warnings, [
    "tokens:7: without scopes dept:ops may do everything",
    "tokens:11: without scopes cert:CN with spaces may do everything",
  ]);
  const callers = new Callers(500, "own token", lines);
  const shown = (caller: ReturnType<Callers["byToken"]>) => caller && [caller.name, [...caller.scopes].join()];
  const all = SCOPES.join();
  t.same(shown(callers.byToken("a")), ["alice", "read,write"]);
  t.same(shown(callers.byToken("a2")), ["alice", "read"]);
  t.same(shown(callers.byToken("b")), ["bob", "metrics"]);
  t.same(shown(callers.byToken("d")), ["dept:ops", all]);
  t.same(shown(callers.byToken("own token")), ["owner", all]);
  for (const token of ["x", "", "A", "own token "]) t.equal(callers.byToken(token), null);
  t.same(shown(callers.byUid(1000)), ["uid:1000", "read,pin"]);
  t.same(shown(callers.byUid(0)), ["owner", all], "root is the owner, whatever a line says");
  t.same(shown(callers.byUid(500)), ["owner", all], "so is the service's own user");
  t.equal(callers.byUid(1001), null);
  t.same(shown(callers.byCertificate("spiffe://example.org/loader")), ["cert:spiffe://example.org/loader", "write"]);
  t.same(shown(callers.byCertificate("CN with spaces")), ["cert:CN with spaces", all]);
  t.equal(callers.byCertificate("spiffe"), null);
});

test("a lent token is its caller's until it is taken back", async (t) => {
  const callers = new Callers(500, null, []);
  const caller = { name: "alice", scopes: ALL_SCOPES };
  const token = callers.lend(caller);
  t.match(token, /^[0-9a-f]{64}$/);
  t.not(callers.lend(caller), token);
  t.equal(callers.byToken(token), caller);
  callers.takeBack(token);
  t.equal(callers.byToken(token), null);
});

test("scopes of maps may have globs, several of them", async (t) => {
  const { lines } = parseTokens(
    `alice:${sha256("a")}:read@/sys/fs/bpf/tc/*, write@block* ,read@x,evidence\nuid:7:read@x,read\nbob:${sha256("b")}:read`,
    "tokens",
  );
  const [alice, user, bob] = lines;
  t.match(alice, {
    limits: { read: ["/sys/fs/bpf/tc/*", "x"], write: ["block*"], pin: [], admin: false },
  });
  t.same([...(alice?.scopes ?? [])], ["read", "write", "evidence"]);
  t.same(scopeTexts(alice as Caller), ["read@/sys/fs/bpf/tc/*", "write@block*", "read@x", "evidence"]);
  t.match(user?.limits, { read: "all", write: [] }, "one without a glob is of every map");
  t.equal(bob?.limits, undefined);
  t.same(scopeTexts(bob as Caller), ["read"]);
});

test("limits keep their number as long as their text stays, and no other has it", async (t) => {
  const line = (name: string, scopes: string) => `${name}:${sha256(name)}:${scopes}`;
  const read = (...given: string[]) => parseTokens(given.join("\n"), "tokens").lines;
  const callers = new Callers(500, null, read(line("a", "read@x"), line("b", "read@y")));
  const id = (name: string) => callers.byToken(name)?.limits?.id;
  const [a, b] = [id("a"), id("b")];
  t.ok(a !== undefined && b !== undefined && a !== b && a > 0 && b > 0);
  t.same(
    callers.limits.map(({ id }) => id),
    [a, b],
  );
  callers.replace(read(line("b", "read@y"), line("c", "read@z")));
  t.equal(id("b"), b);
  const c = id("c");
  t.notOk([a, b, undefined].includes(c));
  callers.replace(read(line("a", "read@x")));
  t.notOk([a, b, c, undefined].includes(id("a")), "what was taken back is not given again");
});

test("what cannot be read is told with its file and line", async (t) => {
  const digest = sha256("a");
  const FORMS = "a line is name:sha256:scopes, uid:N:scopes or cert:NAME:scopes; the SHA-256 has 64 hex digits";
  const rows = [
    [`alice:${digest}\nbob`, `tokens:2: ${FORMS}`],
    ["alice:secret", `tokens:1: ${FORMS}`],
    [`alice:${digest}0:read`, `tokens:1: ${FORMS}`],
    [`:${digest}`, "tokens:1: a name has 1 to 255 bytes, found 0"],
    [`${"x".repeat(256)}:${digest}`, "tokens:1: a name has 1 to 255 bytes, found 256"],
    [`mapledger:${digest}`, "tokens:1: mapledger is reserved for the service"],
    [`owner:${digest}:read`, "tokens:1: owner is reserved for the service"],
    [`alice:${digest}:reed`, `tokens:1: "reed" is not a scope; the scopes are ${SCOPES.join(", ")}`],
    [`alice:${digest}:read,`, `tokens:1: "" is not a scope; the scopes are ${SCOPES.join(", ")}`],
    [`alice:${digest}:admin@a*`, "tokens:1: admin is not a scope on maps: no glob allowed"],
    [`alice:${digest}:metrics@a*`, "tokens:1: metrics is not a scope on maps: no glob allowed"],
    [`alice:${digest}:evidence@/sys/fs/bpf/a`, "tokens:1: evidence is not a scope on maps: no glob allowed"],
    [`alice:${digest}:read@`, "tokens:1: a glob is required after @"],
    [`alice:${digest}:read@a:b`, 'tokens:1: "a:b" has a colon, which is not allowed in a glob'],
    [`uid:7:read@/sys/fs/bpf/a:b`, 'tokens:1: "/sys/fs/bpf/a:b" has a colon, which is not allowed in a glob'],
    [`alice:${digest}:read@a,b`, `tokens:1: "b" is not a scope; the scopes are ${SCOPES.join(", ")}`],
    [
      `alice:${digest}:read@a/b`,
      'tokens:1: "a/b" is not a glob: names have letters, digits, "_" and ".", paths begin with /sys/fs/bpf/',
    ],
    ...["/tmp/*", "/sys/fs/bpf", "/sys/fs/bpf/", "/sys/fs/bpf/../x", "/sys/fs/bpf//x", "/sys/fs/bpf/x/"].map(
      (glob) =>
        [
          `alice:${digest}:read@${glob}`,
          `tokens:1: "${glob}" is not a glob: pins lie below /sys/fs/bpf/, and a path has no "." or ".." and no slash at its end`,
        ] as const,
    ),
    [`alice:${digest}:Read`, `tokens:1: "Read" is not a scope; the scopes are ${SCOPES.join(", ")}`],
    [`uid:x:read`, "tokens:1: uid:N:scopes required, with N from 0 to 4294967294"],
    [`uid:4294967295:read`, "tokens:1: uid:N:scopes required, with N from 0 to 4294967294"],
    [`uid:alice:${digest}:read`, "tokens:1: uid:N:scopes required, with N from 0 to 4294967294"],
    [`cert::read`, "tokens:1: cert:NAME:scopes required, with the name in a client's certificate"],
    [`cert:x`, "tokens:1: cert:NAME:scopes required, with the name in a client's certificate"],
  ] as const;
  for (const [text, message] of rows) t.throws(() => parseTokens(text, "tokens"), { message }, text);
  t.same(parseTokens("# nobody\n", "tokens").lines, [], "the owner comes without a line");
});
