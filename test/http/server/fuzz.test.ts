import { test } from "tap";
import { random, SEED } from "../../support/seed.ts";
import { DOCUMENT, Service } from "../service.ts";

const REQUESTS = 3000;
/** Answers that go on as long as they are read. */
const ENDLESS: ReadonlySet<string> = new Set(["attachSession", "streamEvents", "watchMap"]);

const SCALARS = [
  0,
  1,
  -1,
  3,
  4,
  5,
  16,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53,
  1e300,
  -1e300,
  0.5,
  true,
  null,
  "",
  "0",
  "1",
  "x",
  "0x10",
  "-1",
  "18446744073709551615",
  "18446744073709551616",
  "BPF_ANY",
  "BPF_F_LOCK",
  "BPF_MAP_TYPE_ARRAY",
  "constructor",
  [],
  [1, 2],
  ["BPF_NOEXIST", "BPF_EXIST"],
  [[1]],
  {},
  { value: 1 },
];
const TEXTS = [
  "00000001",
  "0x00000002",
  "00",
  "",
  "zz",
  "000",
  "00".repeat(300),
  "1",
  "2",
  "3",
  "4",
  "0",
  "-1",
  "99",
  "4294967296",
  "name:m",
  "name:",
  "name:\u00ff",
  "name:\u4f60",
  "pinned:/sys/fs/bpf/pin",
  "pinned:",
  "pinned:x",
  "/sys/fs/bpf/pin",
  "/sys/fs/bpf",
  "/",
  "./.",
  "a/../b",
  "a\0b",
  "\ud800",
  "x".repeat(5000),
  "/sys/fs/bpf/dir",
  "BPF_MAP_LOOKUP_ELEM",
  "ENOENT",
  "%",
  "2026-01-01T00:00:00Z",
];
const FIELDS = [
  "key",
  "value",
  "keys",
  "values",
  "flags",
  "count",
  "elements",
  "elem_flags",
  "in_batch",
  "out_batch",
  "name",
  "ttl_seconds",
  "process",
  "pid",
  "kind",
  "fd",
  "map",
  "access",
  "pathname",
  "cmd",
  "attr",
  "map_type",
  "key_size",
  "value_size",
  "max_entries",
  "map_flags",
  "map_name",
  "map_fd",
  "bpf_fd",
  "info_len",
  "info",
  "next_key",
  "start_id",
  "map_id",
  "open_flags",
  "file_flags",
  "map_extra",
  "numa_node",
  "__proto__",
  "constructor",
];

test(`no request makes the service fail (SEED=${SEED})`, async (t) => {
  // A stream that is asked for well is one too many: it would never end.
  const service = await Service.start(t, { settings: { streamsMax: 0 } });
  const pick = random(SEED);
  const one = <T>(list: readonly T[]): T => list[pick(list.length)] as T;
  const value = (depth: number): unknown => {
    if (depth > 0 && pick(4) === 0) return body(depth - 1);
    if (depth > 0 && pick(6) === 0) return Array.from({ length: pick(4) }, () => value(depth - 1));
    return pick(2) === 0 ? one(SCALARS) : one(TEXTS);
  };
  const body = (depth: number): unknown =>
    Object.fromEntries(Array.from({ length: pick(5) }, () => [one(FIELDS), value(depth)]));
  const operations = Object.entries(DOCUMENT.paths as unknown as Record<string, object>).flatMap(([path, methods]) =>
    Object.entries(methods as Record<string, { requestBody?: object; parameters?: { in: string; name: string }[] }>)
      .filter(([, operation]) => !ENDLESS.has((operation as { operationId?: string }).operationId ?? ""))
      .map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
  );
  const cmds = Array.from({ length: 38 }, (_, cmd) => cmd);

  for (let sent = 0; sent < REQUESTS; sent++) {
    if (sent % 100 === 0) await furnish(service);
    const { path, method, requestBody, parameters = [] } = one(operations);
    const session = String(service.engine.state.lastId("session"));
    const places: Record<string, string> = { session, fd: String(3 + pick(4)), map: "1" };
    const filled = path.replace(/\{(\w+)\}/g, (_, name) => {
      const text = (pick(3) > 0 ? places[name as string] : undefined) ?? one(TEXTS);
      return encodeURIComponent(text.toWellFormed());
    });
    const query = parameters
      .filter((parameter) => parameter.in === "query" && pick(3) === 0)
      .map(({ name }) => `${name}=${encodeURIComponent(one(TEXTS).toWellFormed())}`);
    let payload: unknown;
    if (requestBody !== undefined)
      payload = pick(10) === 0 ? value(2) : path.endsWith("/bpf") ? { cmd: one(cmds), attr: body(1) } : body(2);
    const url = query.length > 0 ? `${filled}?${query.join("&")}` : filled;
    const headers: Record<string, string> = {
      accept: one(["*/*", "application/json", "application/x-ndjson", "application/octet-stream"]),
    };
    if (payload !== undefined)
      headers["content-type"] = one(["application/json", "application/json", "application/octet-stream"]);
    try {
      const response = await service.send(
        method,
        url,
        payload === undefined ? undefined : JSON.stringify(payload),
        headers,
      );
      const { errno, type } = response.statusCode >= 500 ? response.json() : { errno: null, type: null };
      if (errno === undefined && type !== "urn:mapledger:problem:too-many-streams") throw new Error(response.body);
    } catch (error) {
      t.fail(`request ${sent}: ${method} ${url} ${JSON.stringify(payload)}: ${(error as Error).message}`);
    }
  }
  t.pass(`${REQUESTS} requests`);
});

/** A session with maps, a pipe and pins, whatever the requests before have done. */
async function furnish(service: Service): Promise<void> {
  const session = await service.session();
  await service.map(session, { map_name: "m", max_entries: 100 });
  await service.map(session, { map_type: "BPF_MAP_TYPE_ARRAY", map_flags: 0 });
  await service.map(session, { map_type: "BPF_MAP_TYPE_LPM_TRIE", key_size: 8 });
  await service.send("POST", `${session}/fds`, { kind: "pipe" });
  await service.send("POST", `${session}/fds/3/pin`, { pathname: "/sys/fs/bpf/pin" });
  await service.send("PUT", `/v1/directories/${encodeURIComponent("/sys/fs/bpf/dir")}`);
  await service.send("POST", `${session}/fds/3/batch/update`, {
    elements: [1, 2, 3].map((key) => ({ key: `0000000${key}`, value: "00000001" })),
  });
}
