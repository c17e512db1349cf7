import { test } from "tap";
import { checkGlob, matchesGlob, startsLike } from "../../src/access/globs.ts";
import { covers, coversDirectory, coversPath, mapLimitsOf } from "../../src/access/map_limits.ts";
import { parseGrants } from "../../src/access/scopes.ts";

test("a star stands for any characters but a slash", async (t) => {
  const rows = [
    ["block*", ["block", "blocklist", "block_"], ["xblock", "bloc", ""]],
    ["*", ["", "a", "a.b"], ["a/b"]],
    ["a*c*e", ["ace", "abcde", "acce"], ["ac", "abcdef", "bace"]],
    ["a**", ["a", "ab"], ["b"]],
    ["*list", ["list", "listlist", "blocklist"], ["lists"]],
    ["/sys/fs/bpf/tc/*", ["/sys/fs/bpf/tc/x", "/sys/fs/bpf/tc/"], ["/sys/fs/bpf/tc", "/sys/fs/bpf/tc/x/y", "/tc/x"]],
    ["/sys/fs/bpf/*/x", ["/sys/fs/bpf/a/x"], ["/sys/fs/bpf/a/b/x", "/sys/fs/bpf/x", "/sys/fs/bpf/a/xy"]],
    ["/sys/fs/bpf/a*", ["/sys/fs/bpf/a", "/sys/fs/bpf/ab"], ["/sys/fs/bpf/a/b", "a"]],
    ["a.c", ["a.c"], ["abc"]],
  ] as const;
  for (const [glob, matched, others] of rows) {
    checkGlob(glob);
    for (const text of matched) t.ok(matchesGlob(glob, text), `${glob} matches ${text}`);
    for (const text of others) t.notOk(matchesGlob(glob, text), `${glob} does not match ${text}`);
  }
});

test("a glob with many stars does not try all ways, of which there are more than anybody could wait for", async (t) => {
  t.notOk(matchesGlob(`${"*a".repeat(50)}b`, "a".repeat(4000)));
});

test("a directory that leads to a glob's pins is of use", async (t) => {
  const limits = mapLimitsOf(parseGrants("read@/sys/fs/bpf/tc/*/x,pin@/sys/fs/bpf/p*"));
  if (limits === null) throw new Error("no limits");
  for (const path of ["/sys/fs/bpf/tc", "/sys/fs/bpf/tc/a", "/sys/fs/bpf/pp"])
    t.ok(coversDirectory(limits, path), path);
  for (const path of ["/sys/fs/bpf/xdp", "/sys/fs/bpf/tc/a/y", "/sys/fs/bpf/tc2"])
    t.notOk(coversDirectory(limits, path), path);
  t.ok(startsLike("/sys/fs/bpf/tc/*", "/sys/fs/bpf"));
});

test("a map is covered by its name or by any of its pins", async (t) => {
  t.ok(covers("all", { name: "", pins: [] }));
  t.notOk(covers([], { name: "a", pins: ["/sys/fs/bpf/a"] }));
  t.ok(covers(["b", "/sys/fs/bpf/a"], { name: "x", pins: ["/sys/fs/bpf/c", "/sys/fs/bpf/a"] }));
  t.ok(covers(["b", "/sys/fs/bpf/a"], { name: "b", pins: [] }));
  t.notOk(covers(["b", "/sys/fs/bpf/a"], { name: "a", pins: ["/sys/fs/bpf/b"] }));
  t.notOk(coversPath(["*"], "/sys/fs/bpf/a"), "a name's glob matches no path");
});
