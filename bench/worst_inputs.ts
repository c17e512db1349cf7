import { BPF_MAP_TYPE } from "../src/abi/bpf.ts";
import { EXPORTED_CREATE, EXPORTED_EVENT } from "../test/support/exported.ts";
import { post, postJson } from "./load.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
/** As MAPLEDGER_BODY_MAX is by default. */
const BODY_BYTES = 64 * MIB;
/** As MAPLEDGER_VALUE_MAX is by default. */
const LARGEST = 4 * MIB;
const JSON_TYPE = { "content-type": "application/json" };
const OCTETS = { "content-type": "application/octet-stream" };
const LINES = { accept: "application/x-ndjson" };
const EVENTS = { "content-type": "application/x-ndjson" };
/** Of a line of an import, and of a body that a schema describes. */
const LINE_BYTES = 8 * MIB;
const PLAIN_BYTES = 512 * KIB;

/** A request that keeps the service as busy as one can. */
export interface WorstInput {
  readonly name: string;
  readonly method: "GET" | "POST" | "PUT" | "DELETE" | "DELETE";
  /** Behind the service's URL. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: () => string | Buffer;
}

/** What the inputs are about: paths of descriptors. */
export interface Furnished {
  readonly session: string;
  /** A hash of 8 and 64 bytes with a million elements. */
  readonly hash: string;
  /** An array of 64 KiB values, 64 MiB in all. */
  readonly array: string;
  /** An array of one value, as large as the service lets it be. */
  readonly value: string;
  /** Shared memory of 64 MiB, of which a request has 16. */
  readonly memory: string;
  readonly queue: string;
}

const ELEMENTS = Number(process.env.BENCH_ELEMENTS ?? 1_000_000);
const LISTED = 20_000;

/** Maps, and lists with many entries. */
export async function furnish(url: string): Promise<Furnished> {
  const { id } = await postJson(`${url}/v1/sessions`, { name: "worst", ttl_seconds: 86_400 });
  const session = `/v1/sessions/${id}`;
  const map = async (attr: object): Promise<string> =>
    `${session}/fds/${(await postJson(`${url}${session}/maps`, attr)).fd}`;
  const array = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4 };
  const furnished: Furnished = {
    session,
    hash: await map({
      map_name: "million",
      map_type: "BPF_MAP_TYPE_HASH",
      key_size: 8,
      value_size: 64,
      max_entries: 2 * ELEMENTS,
    }),
    array: await map({ ...array, value_size: 64 * KIB, max_entries: KIB }),
    value: await map({ ...array, value_size: LARGEST, max_entries: 1 }),
    memory: await map({ ...array, value_size: 4 * KIB, max_entries: 16 * KIB, map_flags: ["BPF_F_MMAPABLE"] }),
    queue: await map({ map_type: "BPF_MAP_TYPE_QUEUE", key_size: 0, value_size: 4 * MIB, max_entries: 4 }),
  };
  const bodies = Array.from({ length: ELEMENTS / 10_000 }, (_, at) => pairs(10_000, 8, 64, at * 10_000));
  await post(`${url}${furnished.hash}/batch/update`, bodies);
  const opened = Array.from({ length: LISTED }, () => JSON.stringify({ name: "listed", ttl_seconds: 86_400 }));
  await post(`${url}/v1/sessions`, opened, 64);
  return furnished;
}

function pairs(count: number, keyBytes: number, valueBytes: number, first = 0): string {
  const value = "a5".repeat(valueBytes);
  const elements = Array.from({ length: count }, (_, at) => {
    const key = (first + at).toString(16).padStart(2 * keyBytes, "0");
    return { key, value };
  });
  return JSON.stringify({ elements });
}

function repeated(head: string, item: string, tail: string, bytes = BODY_BYTES): string {
  return head + item.repeat(Math.floor((bytes - head.length - tail.length) / item.length)) + tail;
}

/** Events of a session with a map, as an export has them; `events` are of what it does then. */
function exported(type: string, keyBytes: number, valueBytes: number, events: readonly object[]): string {
  const attr = {
    map_type: BPF_MAP_TYPE[type as keyof typeof BPF_MAP_TYPE],
    key_size: keyBytes,
    value_size: valueBytes,
  };
  const all = [
    { session: null, cmd: "SESSION_OPEN", attr: { name: "import", ttl_ms: 600_000 }, out: { session_id: 1 } },
    { cmd: "BPF_MAP_CREATE", ret: 3, attr: { ...CREATED, ...attr }, out: { map_id: 1 } },
    ...events,
  ];
  return all.map((event, at) => `${JSON.stringify({ ...EXPORTED_EVENT, seq: at + 1, ...event })}\n`).join("");
}

const CREATED = { ...EXPORTED_CREATE, max_entries: 1_000_000, map_name: "import" };

/** An event of a batch that takes a line up. */
function batchEvent(keyBytes: number, valueBytes: number, more: object = {}): object {
  const count = Math.floor((LINE_BYTES / 2 - KIB) / (keyBytes + valueBytes));
  const keys = Array.from({ length: count }, (_, at) =>
    (at % 2 ** (8 * keyBytes)).toString(16).padStart(2 * keyBytes, "0"),
  );
  const attr = { count, elem_flags: "0", in_batch: null, out_batch: null, ...more };
  return {
    cmd: "BPF_MAP_UPDATE_BATCH",
    key: keys.join(""),
    value: "03".padEnd(2 * valueBytes, "0").repeat(count),
    attr,
    out: { count },
  };
}

function importInputs(): readonly WorstInput[] {
  const of = (name: string, body: () => string): WorstInput => {
    return { name: `import: ${name}`, method: "POST", path: "/v1/replays/import", headers: EVENTS, body };
  };
  const line = (head: string, item: string, tail: string) => `${repeated(head, item, tail, LINE_BYTES)}\n`;
  const head = JSON.stringify({ ...EXPORTED_EVENT, seq: 1, cmd: "SESSION_END" }).slice(0, -1);
  const lookup = {
    cmd: "BPF_MAP_LOOKUP_BATCH",
    attr: { count: 400_000, elem_flags: "0", in_batch: null, out_batch: null },
  };
  return [
    of("64 MiB of blank lines", () => "\n".repeat(BODY_BYTES)),
    of("64 MiB of events that are left out", () =>
      Array.from(
        { length: 230_000 },
        (_, at) => `${JSON.stringify({ ...EXPORTED_EVENT, seq: at + 1, cmd: "DUP" })}\n`,
      ).join(""),
    ),
    of("a line of fields", () => line('{"a":1', ',"a":1', "}")),
    of("a line with fields in its attr", () => line(`${head},"attr":{"a":1`, ',"a":1', "}}")),
    of("a line of escapes", () => line(`${head},"value":"`, "\\u0030\\u0030", '"}')),
    of("a value of 4 MiB", () =>
      exported("BPF_MAP_TYPE_HASH", 8, 4 * MIB - KIB, [
        { cmd: "BPF_MAP_UPDATE_ELEM", key: "0000000000000001", value: "5a".repeat(4 * MIB - KIB) },
      ]),
    ),
    of("a batch of 58,000 pairs", () => exported("BPF_MAP_TYPE_HASH", 8, 64, [batchEvent(8, 64)])),
    of("a batch of two million pairs", () => exported("BPF_MAP_TYPE_HASH", 1, 1, [batchEvent(1, 1)])),
    of("a batch of two million pairs by a route", () =>
      exported("BPF_MAP_TYPE_HASH", 1, 1, [batchEvent(1, 1, { exact: true })]),
    ),
    of("a batch of descriptors", () => exported("BPF_MAP_TYPE_PROG_ARRAY", 4, 4, [batchEvent(4, 4)])),
    of("room of 64 MiB for answers", () =>
      exported("BPF_MAP_TYPE_HASH", 8, 64, [
        { cmd: "BPF_MAP_LOOKUP_ELEM", key: "0000000000000001", attr: { value_room: BODY_BYTES } },
      ]),
    ),
    of("an answer of 400,000 elements", () =>
      exported("BPF_MAP_TYPE_HASH", 8, 64, [
        { ...lookup, session: null, fd: null, attr: { ...lookup.attr, map: { by: "id", id: 1 } } },
        {
          ...lookup,
          session: null,
          fd: null,
          map: null,
          attr: { ...lookup.attr, map: { by: "name", name: "million" } },
        },
      ]),
    ),
  ];
}

/** Bodies that are read at once. */
function plainInputs(session: string): readonly WorstInput[] {
  const of = (name: string, path: string, body: string): WorstInput => {
    return { name: `a plain body: ${name}`, method: "POST", path, headers: JSON_TYPE, body: () => body };
  };
  const text = (head: string, item: string, tail: string) => repeated(head, item, tail, PLAIN_BYTES);
  const fields = Array.from({ length: 40_000 }, (_, at) => `"a${at.toString(36)}":1`).join(",");
  return [
    of("fields", "/v1/sessions", `{${fields}}`),
    of("one field", "/v1/sessions", text('{"a":1', ',"a":1', "}")),
    of("lists in each other", "/v1/sessions", "[".repeat(PLAIN_BYTES / 2) + "]".repeat(PLAIN_BYTES / 2)),
    of("objects in each other", "/v1/sessions", `${'{"a":'.repeat(85_000)}1${"}".repeat(85_000)}`),
    of("names", "/v1/sessions", text('{"capabilities":["CAP_BPF"', ',"CAP_BPF"', "]}")),
    of("lists in a map's flags", `${session}/maps`, text('{"map_flags":[[]', ",[]", "]}")),
    of(
      "flags",
      `${session}/maps`,
      text('{"map_type":1,"key_size":4,"value_size":4,"max_entries":1,"map_flags":[0', ",0", "]}"),
    ),
    of("escapes in a name", "/v1/sessions", text('{"name":"', "\\u0030", '"}')),
    of("a replay's source", "/v1/replays", text('{"target":"kernel","source":{"a":[0', ",0", "]}}")),
  ];
}

/** The worst that each kind of route takes. */
export function worstInputs({ session, hash, array, value, memory, queue }: Furnished): readonly WorstInput[] {
  const update = { method: "POST", path: `${hash}/batch/update`, headers: JSON_TYPE } as const;
  const door = { method: "POST", path: `${session}/bpf`, headers: JSON_TYPE } as const;
  const fd = (path: string): number => Number(path.split("/").at(-1));
  return [
    { ...update, name: "batch of 380,000 pairs", body: () => pairs(380_000, 8, 64) },
    { ...update, name: "batch of a million pairs of another length", body: () => pairs(1_000_000, 8, 8) },
    { ...update, name: "batch of 22 million empty objects", body: () => repeated('{"elements":[', "{},", "{}]}") },
    {
      ...update,
      name: "batch in escapes",
      body: () => repeated('{"elements":[{"key":"', "\\u0030", '","value":"00"}]}'),
    },
    { ...update, name: "22 million lists in a body", body: () => repeated('{"elem_flags":[', "[],", "[]]}") },
    { ...update, name: "20 million texts in a body", body: () => repeated('{"elem_flags":[', '"",', '""]}') },
    { ...update, name: "a million fields", body: () => repeated('{"a":1', ',"b":1', "}") },
    { ...update, name: "64 MiB that are no JSON", body: () => repeated('{"elements":"', "0", '"') },
    { ...update, name: "64 MiB of blanks", body: () => repeated("{", " ", "}") },
    {
      method: "POST",
      path: `${hash}/batch/delete`,
      headers: JSON_TYPE,
      name: "deletion of 3 million keys",
      body: () => repeated('{"keys":["', '0000000000000000","', '0000000000000000"]}'),
    },
    {
      method: "PUT",
      path: `${value}/elements/00000000`,
      headers: JSON_TYPE,
      name: "a value of 4 MiB",
      body: () => JSON.stringify({ value: "5a".repeat(LARGEST) }),
    },
    {
      method: "PUT",
      path: `${value}/elements/00000000`,
      headers: OCTETS,
      name: "a value of 4 MiB as it is",
      body: () => Buffer.alloc(LARGEST, 0xa5),
    },
    { method: "GET", path: `${value}/elements/00000000`, name: "a value of 4 MiB, read" },
    { method: "GET", path: `${value}/elements`, name: "a page with a value of 4 MiB" },
    {
      method: "POST",
      path: `${queue}/push`,
      headers: JSON_TYPE,
      name: "a push of 4 MiB",
      body: () => JSON.stringify({ value: "5a".repeat(4 * MIB) }),
    },
    { method: "POST", path: `${queue}/pop`, name: "a pop of 4 MiB" },
    {
      method: "PUT",
      path: `${memory}/memory`,
      headers: OCTETS,
      name: "16 MiB of memory, written",
      body: () => Buffer.alloc(BODY_BYTES, 0x5a),
    },
    { method: "GET", path: `${memory}/memory`, name: "16 MiB of memory, read" },
    { method: "GET", path: `${hash}/elements`, headers: LINES, name: "a million elements in lines" },
    { method: "GET", path: `${hash}/elements?limit=10000`, name: "a page of 10,000 elements" },
    { method: "GET", path: `${array}/elements?limit=10000`, name: "a page of 64 KiB values" },
    {
      method: "POST",
      path: `${hash}/batch/lookup`,
      headers: JSON_TYPE,
      name: "a lookup of 400,000 elements",
      body: () => JSON.stringify({ count: 400_000 }),
    },
    {
      ...door,
      name: "the same at the door",
      body: () => JSON.stringify({ cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd: fd(hash), count: 400_000 } }),
    },
    {
      ...door,
      name: "32 MiB of keys at the door",
      body: () =>
        JSON.stringify({
          cmd: "BPF_MAP_DELETE_BATCH",
          attr: { map_fd: fd(hash), count: 2_000_000, keys: "00".repeat(16 * MIB) },
        }),
    },
    { method: "GET", path: "/v1/events?limit=10000", name: "a page of 10,000 events" },
    { method: "GET", path: "/v1/events?before=100000000&limit=10000", name: "the last 10,000 events" },
    { method: "GET", path: "/v1/events", headers: LINES, name: "all events in lines" },
    { method: "GET", path: "/v1/sessions?limit=10000", name: "a page of sessions" },
    { method: "GET", path: "/v1/maps?limit=10000", name: "a page of maps" },
    { method: "GET", path: `/v1/maps/1/diff?from=3&limit=10000`, name: "a diff of a million elements" },
    { method: "GET", path: "/v1/maps/1/elements/0000000000000001/history?limit=10000", name: "a history" },
    { method: "GET", path: "/metrics", name: "metrics" },
    ...importInputs(),
    ...plainInputs(session),
  ];
}
