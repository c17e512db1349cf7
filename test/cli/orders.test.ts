import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { isDeepStrictEqual } from "node:util";
import t from "tap";
import { mapledger } from "../support/cli.ts";

t.test("orders are sent to the service, with what it takes", async (t) => {
  const asked: unknown[] = [];
  let refuse = false;
  const server = createServer(async (request, response) => {
    const { method, url, headers } = request;
    const body = headers["content-type"] === undefined ? null : await json(request);
    asked.push([method, url, headers.authorization ?? null, body]);
    response.writeHead(refuse ? 405 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(refuse ? { title: "no", detail: "the mirror is off" } : { seq: 17 }));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const sends: readonly [words: string[], path: string, body: object | null][] = [
    [["map", "release", "7"], "/v1/maps/7/mirror/release", null],
    [["mirror", "recreate", "7"], "/v1/maps/7/mirror/recreate", null],
    [["mirror", "repin", "7", "/sys/fs/bpf/a"], "/v1/maps/7/mirror/repin", { pathname: "/sys/fs/bpf/a" }],
    [["mirror", "decide", "7", "--take", "ledger"], "/v1/maps/7/mirror/decide", { take: "ledger" }],
    [
      ["mirror", "decide", "7", "--take", "kernel", "--key", "0A", "0b"],
      "/v1/maps/7/mirror/decide",
      { take: "kernel", keys: ["0a", "0b"] },
    ],
    [["take-over"], "/v1/mirror/take-over", null],
  ];
  const sent = sends.map(([words]) => mapledger(...words, "--url", url, "--token", "secret"));
  for (const ran of await Promise.all(sent)) t.match(ran, { code: 0, stdout: /event 17\n/, stderr: "" });
  const expected = sends.map(([, path, body]) => ["POST", path, "Bearer secret", body]);
  t.equal(asked.length, expected.length);
  for (const request of expected)
    t.ok(
      asked.some((one) => isDeepStrictEqual(one, request)),
      String(request),
    );
  refuse = true;
  const refused = await mapledger("mirror", "recreate", "7", "--url", url);
  t.match(refused, { code: 1, stderr: `mapledger: ${url}: the mirror is off\n` });
  const unreleased = await mapledger("map", "release", "7", "--url", url);
  t.match(unreleased, { code: 255, stderr: "Error: release failed: no: the mirror is off\n" });
  const usage: readonly [words: string[], says: RegExp][] = [
    [["mirror", "recreate", "x"], /a map's id is needed/],
    [["mirror", "recreate", "7", "--url", "ftp://x"], /http:\/\/..., https:\/\/... or unix:PATH is needed/],
    [["mirror", "decide", "7"], /required option '--take/],
    [["mirror", "decide", "7", "--take", "both"], /Allowed choices are ledger, kernel/],
    [["mirror", "decide", "7", "--take", "ledger", "--key", "0"], /a key in hex is needed/],
    [["take-over", "--bpffs", "relative"], /an absolute path is needed/],
    [["take-over", "--url", url, "--bpffs", "/x"], /--bpffs cannot be used with --url/],
  ];
  const refusals = await Promise.all(usage.map(([words]) => mapledger(...words)));
  for (const [at, [words, says]] of usage.entries()) t.match(refusals[at], { code: 2, stderr: says }, words.join(" "));
});
