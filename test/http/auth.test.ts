import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { test } from "tap";
import { checkListen, readTokens } from "../../src/http/auth.ts";
import { Service } from "./service.ts";

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

test("readTokens knows callers by their tokens", async (t) => {
  const file = `${t.testdir()}/tokens`;
  writeFileSync(
    file,
    `# who may\n\nalice:${sha256("a")}\r\n bob : ${sha256("b").toUpperCase()}\nalice:${sha256("a2")}\ndept:ops:${sha256("d")}`,
  );
  const authenticate = readTokens(file);
  t.same(["a", "b", "a2", "d", "x", ""].map(authenticate), ["alice", "bob", "alice", "dept:ops", null, null]);
});

test("readTokens names the file and the line of what it cannot read", async (t) => {
  const file = `${t.testdir()}/tokens`;
  const rows = [
    [`alice:${sha256("a")}\nbob`, `${file}:2: "name:" and the 64 hex digits of a SHA-256 are needed`],
    ["alice:secret", `${file}:1: "name:" and the 64 hex digits of a SHA-256 are needed`],
    [`:${sha256("a")}`, `${file}:1: a name has 1 to 255 bytes, found 0`],
    [`${"x".repeat(256)}:${sha256("a")}`, `${file}:1: a name has 1 to 255 bytes, found 256`],
    [`mapledger:${sha256("a")}`, `${file}:1: mapledger is a name of the service's own`],
    ["# nobody\n", `${file}: there is no token, so nobody could use the service`],
  ] as const;
  for (const [content, message] of rows) {
    writeFileSync(file, content);
    t.throws(() => readTokens(file), { message });
  }
  t.throws(() => readTokens(`${file}.no`), { code: "ENOENT" });
});

test("checkListen refuses to be open to others without tokens", async (t) => {
  for (const host of ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
    t.doesNotThrow(() => checkListen({ host, tokens: "" }));
  for (const host of ["0.0.0.0", "::", "192.168.0.1", "example.org", "127.0.0.1.example.org", ""]) {
    t.throws(() => checkListen({ host, tokens: "" }), { message: /MAPLEDGER_HOST is .*MAPLEDGER_TOKENS/ });
    t.doesNotThrow(() => checkListen({ host, tokens: "/etc/tokens" }));
  }
});

test("every request needs a token where tokens are configured, probes and the document apart", async (t) => {
  const authenticate = (token: string): string | null => (token === "a" ? "alice" : null);
  const service = await Service.start(t, { authenticate });
  const status = async (url: string, authorization?: string): Promise<[number, unknown]> => {
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
    const response = await service.send("GET", url, undefined, headers);
    return [response.statusCode, response.headers["www-authenticate"]];
  };
  t.same(await status("/v1/maps"), [401, "Bearer"]);
  t.same(await status("/v1/maps", "Basic YTph"), [401, "Bearer"]);
  t.same(await status("/v1/maps", "Bearer b"), [401, 'Bearer error="invalid_token"']);
  t.same(await status("/metrics"), [401, "Bearer"]);
  t.same(await status("/nowhere"), [401, "Bearer"]);
  t.same(await status("/v1/maps", "bearer a"), [200, undefined]);
  for (const url of ["/livez", "/readyz", "/openapi.json"]) t.same(await status(url), [200, undefined]);
  t.equal((await service.app.inject("/docs/")).statusCode, 200);
  await service.session({ authorization: "Bearer a" });
  t.equal(service.log.rows[0]?.caller, "alice");
});

test("pages of other origins are refused, the service's own are not", async (t) => {
  const service = await Service.start(t);
  const open = async (origin: string) =>
    (await service.send("POST", "/v1/sessions", undefined, { origin, host: "localhost:8620" })).statusCode;
  t.equal(await open("http://localhost:8620"), 201);
  t.equal(await open("http://localhost:3000"), 403);
  t.equal(await open("null"), 403);
});
