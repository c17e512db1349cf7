import { Agent, request } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import fc from "fast-check";
import t from "tap";
import { readEventLine } from "../../../src/replay/event_line.ts";
import { SEED } from "../../support/seed.ts";
import { DOCUMENT, Service } from "../service.ts";

/**
 * Requests that no client of good will sends, to every route of the OpenAPI document and to the documents at /docs, over a real
 * connection, so that the hot path and Node's parser have their part: nested bodies, odd numbers, odd paths.
 */
const RUNS = 1500;
/** Answers that go on as long as they are read. */
const ENDLESS: ReadonlySet<string> = new Set(["attachSession"]);

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly queries: readonly string[];
  /** Names of the body's fields; null: it takes none. */
  readonly fields: readonly string[] | null;
}

interface Hostile {
  readonly method: string;
  readonly url: string;
  readonly body: string | null;
}

/** As they stand in JSON, where some are none; and in paths and queries. */
const NUMBERS = [
  ...["1e400", "-1e400", "-0", "1e21", "1e-400", "0x10", "00", "NaN", "Infinity", "1.5", "9007199254740993"],
  ...["18446744073709551616", "-18446744073709551616", "9".repeat(400), `1${"0".repeat(20_000)}`, "-", "+1", "1_000"],
];
const TEXTS = [
  ...["%00", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..", ".", "%ff", "%c0%af", "%", "%zz", "%u0041", "%ed%a0%80"],
  ...[
    "a".repeat(8000),
    "%41".repeat(2500),
    "name:%00",
    "name:%ff",
    "pinned:%00",
    "pinned:/sys/fs/bpf/%2e%2e",
    "\\..\\",
  ],
  ...[
    "__proto__",
    "constructor",
    "[object%20Object]",
    "1%0d%0aset-cookie:a",
    "2026-13-45T99:99:99Z",
    "-271821-04-20",
    "~",
  ],
];

const nested = fc
  .tuple(fc.constantFrom(2, 33, 1000, 20_000, 200_000), fc.constantFrom(["[", "]"], ['{"a":', "}"], ['[{"key":', "}]"]))
  .map(([levels, ends]) => `${ends[0]?.repeat(levels)}1${ends[1]?.repeat(levels)}`);
/** A place in JSON. */
const inJson = fc.oneof(
  nested,
  fc.constantFrom(...NUMBERS),
  fc.constantFrom(...NUMBERS, ...TEXTS).map((text) => JSON.stringify(text)),
  fc.json({ maxDepth: 3 }),
  fc.string({ unit: "binary" }).map((text) => JSON.stringify(text)),
);
const inUrl = fc.oneof(
  fc.constantFrom(...NUMBERS.filter((text) => text.length < 1000)),
  fc.constantFrom(...TEXTS),
  fc.string({ unit: "binary", maxLength: 20 }).map((text) => encodeURIComponent(text.toWellFormed())),
);

function bodyOf(fields: readonly string[]): fc.Arbitrary<string> {
  const field = fc.constantFrom(...fields, "attr", "elements", "keys", "cmd");
  const whole = fc
    .array(fc.tuple(field, inJson), { minLength: 1, maxLength: 4 })
    .map((members) => `{${members.map(([name, text]) => `"${name}":${text}`).join(",")}}`);
  const element = inJson.map((text) => `{"elements":[{"key":"00000000","value":${text}}],"keys":[${text}]}`);
  const door = fc
    .tuple(fc.nat(40), field, inJson)
    .map(([cmd, name, text]) => `{"cmd":${cmd},"attr":{"map_fd":3,"${name}":${text},"flags":${text}}}`);
  const put = inJson.map((text) => `{"value":"00000000","flags":${text}}`);
  return fc.oneof(whole, element, door, put, inJson);
}

function requestTo({ method, path, queries, fields }: Operation): fc.Arbitrary<Hostile> {
  const usual: Readonly<Record<string, string>> = { session: "1", fd: "3", map: "1", key: "00000000" };
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string);
  const places = names.map((name) => fc.oneof({ weight: 2, arbitrary: fc.constant(usual[name] ?? "1") }, inUrl));
  const query = fc.array(fc.tuple(fc.constantFrom("at", ...queries), fc.constantFrom("", "[a]", "[]"), inUrl), {
    maxLength: 3,
  });
  return fc
    .tuple(fc.tuple(...places), query, fields === null ? fc.constant(null) : bodyOf(fields))
    .map(([given, asked, body]) => {
      let at = 0;
      const filled = path.replace(/\{\w+\}/g, () => given[at++] as string);
      const search = asked.map(([name, more, text]) => `${name}${more}=${text}`).join("&");
      return { method, url: search === "" ? filled : `${filled}?${search}`, body };
    });
}

function operationsOf(): Operation[] {
  interface Documented {
    readonly operationId?: string;
    readonly parameters?: readonly { readonly in: string; readonly name: string }[];
    readonly requestBody?: { readonly content?: Readonly<Record<string, { schema?: { properties?: object } }>> };
  }
  const paths = DOCUMENT.paths as unknown as Readonly<Record<string, Readonly<Record<string, Documented>>>>;
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, { operationId = "" }]) => !ENDLESS.has(operationId))
      .map(([method, { parameters = [], requestBody }]) => ({
        method: method.toUpperCase(),
        path,
        queries: parameters.filter((one) => one.in === "query").map(({ name }) => name),
        fields:
          requestBody === undefined
            ? null
            : Object.keys(requestBody.content?.["application/json"]?.schema?.properties ?? {}),
      })),
  );
}

t.test(`no nested body, odd number or odd path is answered with 5xx (SEED=${SEED})`, async (t) => {
  // A stream that is asked for well is one too many: it would never end.
  const service = await Service.start(t, { settings: { streamsMax: 0 } });
  const session = await service.session();
  await service.map(session, { map_name: "m", max_entries: 100 });
  await service.app.listen({ port: 0, host: "127.0.0.1" });
  const { port } = service.app.server.address() as AddressInfo;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());

  const fault = ({ method, url, body }: Hostile): Promise<string | null> =>
    new Promise((resolve, reject) => {
      const headers =
        body === null ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
      const sent = request({ agent, port, host: "127.0.0.1", method, path: url, headers }, (response) => {
        const { statusCode = 0, headers } = response;
        if (statusCode < 500 || (statusCode === 503 && headers["retry-after"] !== undefined)) {
          response.resume().on("end", () => resolve(null));
          return;
        }
        // What the kernel would refuse for want of memory is no failure.
        json(response).then((problem) => {
          const { errno } = problem as { errno?: string };
          resolve(errno === undefined ? `${statusCode} ${JSON.stringify(problem)}` : null);
        }, reject);
      });
      sent.on("error", reject);
      sent.end(body ?? undefined);
    });

  const documents = inUrl.map((text) => ({ method: "GET", url: `/docs/static/${text}`, body: null }));
  const statics = inUrl.map((text) => ({ method: "GET", url: `/${text}`, body: null }));
  const requests = fc.oneof(documents, statics, ...operationsOf().map(requestTo));
  const holds = fc.asyncProperty(requests, async (hostile) => {
    const found = await fault(hostile);
    if (found !== null) throw new Error(found);
  });
  await fc.assert(holds, { seed: SEED, numRuns: RUNS, interruptAfterTimeLimit: 300_000 });
  t.pass("every one was answered");
});

t.test("an event of an export that nests without end is refused", (t) => {
  const event = { seq: 1, time: "2026-01-01T00:00:00Z", session: 1, caller: "a", cmd: "DUP", map: 1, fd: 3 };
  const more = { key: null, value: null, flags: 0, ret: 0, errno: null, detail: null, out: null };
  const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;
  const line = JSON.stringify({ ...event, ...more, attr: { a: "HERE" } });
  for (const name of ["attr", "flags", "key", "time", "cmd"]) {
    const given =
      name === "attr" ? line.replace('"HERE"', deep) : line.replace(new RegExp(`"${name}":[^,]+`), `"${name}":${deep}`);
    t.throws(() => readEventLine(given), { name: "InvalidInput", where: name }, name);
  }
  t.throws(() => readEventLine(deep), { name: "InvalidInput", where: "event" });
  t.end();
});
