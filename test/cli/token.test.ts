import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { Callers } from "../../src/access/callers.ts";
import { parseTokens } from "../../src/access/tokens_file.ts";
import { mapledger, mapledgerIn } from "../support/cli.ts";

t.test("token add makes a line that the service reads, or leaves the file as it was", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-token-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "tokens");
  const add = (...words: string[]) => mapledger("token", "add", ...words, "--tokens", file);
  const first = await add("alice", "--scopes", "read,write");
  t.match(first, { code: 0, stdout: /^[0-9a-f]{64}\n$/, stderr: "" });
  t.equal(statSync(file).mode & 0o777, 0o600);
  writeFileSync(file, `# who may\n${readFileSync(file, "utf8").trimEnd()}`, { mode: 0o640 });
  const second = await mapledgerIn({ MAPLEDGER_TOKENS: file }, "token", "add", "dept:ops", "--scopes", "admin");
  t.equal(second.code, 0, second.stderr);
  const callers = new Callers(1, null, parseTokens(readFileSync(file, "utf8"), file).lines);
  const known = [first, second].map(({ stdout }) => callers.byToken(stdout.trim()));
  t.match(known, [{ name: "alice" }, { name: "dept:ops" }]);
  t.same([...(known[0]?.scopes ?? [])], ["read", "write"]);
  const kept = readFileSync(file, "utf8");
  t.match(kept, /^# who may\nalice:/);
  for (const [words, says] of [
    [["bob", "--scopes", "reed"], /"reed" is not a scope/],
    [["bob", "--scopes", "read@/tmp/*"], /pins lie below/],
    [["bob", "--scopes", "admin@a"], /admin is not a scope on maps/],
    [["bob", "--scopes", ""], /at least one scope is needed/],
    [["owner", "--scopes", "read"], /owner is reserved for the service/],
    [["uid:0", "--scopes", "read"], /uid:0 needs no token/],
    [["#bob", "--scopes", "read"], /is not a valid name/],
    [["bob\ncarol", "--scopes", "read"], /must be on one line/],
  ] as const)
    t.match(await add(...words), { code: 1, stderr: says }, words.join(" "));
  t.match(await mapledger("token", "add", "bob", "--scopes", "read"), { code: 2, stderr: /--tokens/ });
  t.equal(readFileSync(file, "utf8"), kept);
  writeFileSync(file, "not a line\n");
  t.match(await add("bob", "--scopes", "read"), { code: 1, stderr: /tokens:1: a line is/ });
  t.same(readdirSync(folder), ["tokens"]);
});
