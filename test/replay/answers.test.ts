import { test } from "tap";
import type { Event } from "../../src/log/event.ts";
import type { Answer } from "../../src/replay/answer.ts";
import { ApiTarget } from "../../src/replay/api_target.ts";
import type { Call } from "../../src/replay/call.ts";
import type { HttpResponse } from "../../src/replay/http_call.ts";

const SECRET = "s3cret";
const CALLS: readonly Call[] = [
  { kind: "open session", body: { name: "x", ttl_seconds: 1 } },
  { kind: "create", session: 1, body: {} },
  { kind: "bpf", session: 1, body: { cmd: "BPF_MAP_LOOKUP_ELEM", attr: {} } },
  { kind: "close", session: 1, fd: 3 },
  { kind: "lookup", view: { map: 1 }, key: "00", value: null, flags: 0 },
  { kind: "next key", view: { map: 1 }, key: null, value: null, flags: 0 },
  { kind: "batch", name: "lookup", view: { map: 1 }, body: {} },
  { kind: "batch", name: "update", view: { map: 1 }, body: {} },
  { kind: "elements", view: { map: 1 }, after: null, limit: 1 },
  { kind: "unlink", body: { pathname: "/x" } },
];
const TYPES = { json: "application/json", problem: "application/problem+json" } as const;

async function answerTo(call: Call, response: Partial<HttpResponse>): Promise<Answer> {
  const whole = { status: 200, headers: { "content-type": TYPES.json }, body: Buffer.alloc(0), ...response };
  const target = new ApiTarget({ send: async () => whole });
  return (await target.send(call, {} as Event, {} as Answer)) as Answer;
}

test("of an answer that is no mapledger's nothing is told", async (t) => {
  const bodies = [
    SECRET,
    "",
    "null",
    "[]",
    `"${SECRET}"`,
    "{}",
    JSON.stringify({ ret: SECRET, errno: null, seq: 1, attr: {} }),
    JSON.stringify({ ret: 0, errno: 5, seq: 1, attr: {} }),
    JSON.stringify({ ret: 0, errno: null, seq: 1, attr: { value: { secret: SECRET } } }),
    JSON.stringify({ id: `1/${SECRET}`, fd: SECRET, freed: [SECRET], value: null, next_key: 1, pathname: [] }),
    JSON.stringify({ elements: [null], count: SECRET, end: SECRET, out_batch: null, next: 1 }),
  ];
  for (const call of CALLS)
    for (const body of bodies)
      await t.rejects(
        answerTo(call, { body: Buffer.from(body) }),
        { name: "TargetFailed", message: "the target's answer is not a mapledger's" },
        `${call.kind}: ${body}`,
      );
});

test("of a refusal that is no problem document the status alone is told", async (t) => {
  const [call] = CALLS as [Call];
  const page = { headers: { "content-type": "text/html" }, body: Buffer.from(SECRET) };
  const json = { body: Buffer.from(JSON.stringify({ detail: SECRET, errno: SECRET })) };
  for (const answer of [page, json]) {
    t.match(await answerTo(call, { status: 404, ...answer }), { ret: -1, errno: null, refused: "404" });
    await t.rejects(answerTo(call, { status: 500, ...answer }), { message: "the target answers 500" });
  }
  const headers = { "content-type": TYPES.problem };
  for (const body of ["null", "[]", '{"errno":1}', '{"detail":{}}'])
    await t.rejects(answerTo(call, { status: 404, headers, body: Buffer.from(body) }), {
      message: "the target's answer is not a mapledger's",
    });
  const told = { status: 404, headers, body: Buffer.from(JSON.stringify({ detail: "x".repeat(9000) })) };
  t.equal((await answerTo(call, told)).refused, `404 ${"x".repeat(500)}`);
});
