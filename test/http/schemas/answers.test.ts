import { test } from "tap";
import { ApiTarget } from "../../../src/replay/api_target.ts";
import { BtfBlob } from "../../btf/btf_blob.ts";
import { Injected } from "../../replay/support.ts";
import type { Document } from "../document.ts";
import { DOCUMENT, Service } from "../service.ts";

const NDJSON = "application/x-ndjson";
const OCTETS = "application/octet-stream";
const DATA = {
  map_type: "BPF_MAP_TYPE_ARRAY",
  map_flags: ["BPF_F_MMAPABLE"],
  key_size: 4,
  value_size: 8,
  max_entries: 4,
};

type Row = readonly [method: string, url: string, body?: unknown, headers?: Record<string, string>];

test("every operation answers what both documents say", async (t) => {
  const there = await Service.start(t);
  const service = await Service.start(t, {
    settings: { replayTargets: ["http://127.0.0.1:1"] },
    targets: () => ({ target: new ApiTarget(new Injected(there.app)), close: () => {} }),
  });
  const all = async (rows: readonly Row[]): Promise<void> => {
    for (const [method, url, body, headers] of rows) {
      const { statusCode, body: answer } = await service.send(method, url, body, headers);
      t.ok(statusCode < 300, `${method} ${url}: ${answer.slice(0, 200)}`);
    }
  };
  const session = await service.session();
  const hash = await service.map(session, { map_name: "h" });
  const queue = await service.map(session, {
    map_type: "BPF_MAP_TYPE_QUEUE",
    key_size: 0,
    map_flags: 0,
    map_name: "q",
  });
  const array = await service.map(session, { ...DATA, map_name: "a" });
  const element = { key: "01000000", value: "02000000" };
  for (const [map, values, memory] of [
    [hash, queue, array],
    ["/v1/maps/1", "/v1/maps/2", "/v1/maps/3"],
  ] as const)
    await all([
      ["PUT", `${map}/elements/01000000`, { value: "02000000" }],
      ["GET", `${map}/elements/01000000`],
      ["GET", `${map}/elements/01000000`, undefined, { accept: OCTETS }],
      ["GET", `${map}/elements`],
      ["GET", `${map}/elements`, undefined, { accept: NDJSON }],
      ["GET", `${map}/next-key`],
      ["DELETE", `${map}/elements/01000000`],
      ["POST", `${map}/batch/update`, { elements: [element, { key: "02000000", value: "02000000" }] }],
      ["POST", `${map}/batch/update`, Buffer.alloc(16, 3), { "content-type": OCTETS }],
      ["POST", `${map}/batch/lookup`],
      ["POST", `${map}/batch/lookup`, undefined, { accept: OCTETS }],
      ["POST", `${map}/batch/delete?if_present=true`, Buffer.alloc(8, 3), { "content-type": OCTETS }],
      ["POST", `${map}/batch/delete`, { keys: ["02000000", "09000000"], if_present: true }],
      ["POST", `${map}/batch/lookup_and_delete`],
      ["POST", `${values}/push`, { value: "02000000" }],
      ["POST", `${values}/peek`],
      ["POST", `${values}/pop`],
      ["PUT", `${memory}/memory`, Buffer.alloc(8), { "content-type": OCTETS }],
      ["GET", `${memory}/memory`],
      ["GET", `${memory}/memory`, undefined, { range: "bytes=0-7" }],
    ]);
  await all([
    ["PUT", "/v1/directories/d"],
    ["GET", "/v1/directories"],
    ["DELETE", "/v1/directories/d"],
    ["POST", `${hash}/pin`, { pathname: "h" }],
    ["POST", "/v1/maps/2/pin", { pathname: "q" }],
    ["GET", "/v1/pins"],
    ["DELETE", "/v1/pins/q"],
    ["POST", `${session}/bpf`, { cmd: "BPF_MAP_GET_NEXT_ID", attr: { start_id: 0 } }],
    ["POST", `${session}/fds`, { kind: "pipe" }],
    ["GET", `${session}/fds`],
    ["GET", `${session}/fds/6`],
    ["DELETE", `${session}/fds/6`],
    ["POST", `${session}/renew`],
    ["GET", "/v1/sessions"],
    ["GET", session],
    ["GET", "/v1/maps"],
    ["GET", "/v1/maps/1"],
    ["GET", "/v1/maps/1/elements/01000000/history"],
    ["GET", "/v1/maps/1/diff?from=4"],
    ["POST", "/v1/maps/1/restore", { at: 6 }],
    ["POST", "/v1/maps/1/mirror/resync"],
    ["PUT", "/v1/maps/1/mirror", { policy: "repair", interval_seconds: 5 }],
    ["GET", "/v1/mirror"],
  ]);

  // What a kernel below answers with.
  const facts = { keySize: 4, valueSize: 4, maxEntries: 4, mapFlags: 1, name: "k", frozen: false, btf: null };
  const holders = { programs: [1], outer: [] };
  service.canned
    .set("adopt", { map: 1, seq: 17 })
    .set("order", { seq: 17, aside: "/sys/fs/bpf/mapledger/aside/h" })
    .set("drift", {
      counts: { missing: 1, changed: 0, extra: 1, both: 0, evicted: 0 },
      differences: [{ key: "01000000", ledger: null, kernel: "02000000" }],
    })
    .set("kernelMaps", [
      { id: 42, type: 1, ...facts, map: null, was: 7, cannot: null, pins: ["/p"], holders, holdersUnknown: null },
    ]);
  await all([
    ["POST", "/v1/maps/adopt", { pinned: "/sys/fs/bpf/k", on_replace: "report" }],
    ["POST", "/v1/maps/1/mirror/decide", { take: "ledger" }],
    ["POST", "/v1/maps/1/mirror/recreate"],
    ["POST", "/v1/maps/1/mirror/release"],
    ["POST", "/v1/maps/1/mirror/repin", { pathname: "/sys/fs/bpf/h" }],
    ["POST", "/v1/mirror/take-over"],
    ["GET", "/v1/maps/1/drift"],
    ["GET", "/v1/kernel/maps"],
  ]);
  service.canned.clear();

  // Streams, which end by what comes next.
  const streams = [
    service.send("GET", "/v1/maps/3/watch"),
    service.send("GET", "/v1/maps/3/watch", undefined, { accept: NDJSON }),
    service.send("POST", `${session}/attach`),
  ];
  while (service.streams < 2) await new Promise(setImmediate);
  await all([
    ["PUT", `${array}/elements/00000000`, { value: "0200000000000000" }],
    ["POST", `${array}/freeze`],
    ["POST", "/v1/maps/1/freeze"],
    ["DELETE", session],
  ]);
  for (const { statusCode, body } of await Promise.all(streams)) t.equal(statusCode, 200, body.slice(0, 300));
  const blob = new BtfBlob();
  blob.int("u32", 4);
  const types = blob.bytes();
  const load = { cmd: "BPF_BTF_LOAD", attr: { btf: types.toString("hex"), btf_size: types.length } };
  const own = await service.session();
  const { ret: btf_fd } = (await service.send("POST", `${own}/bpf`, load)).json();
  await service.map(own, { map_name: "typed", btf_fd, btf_key_type_id: 1, btf_value_type_id: 1 });
  await all([
    ["GET", "/v1/btf"],
    ["GET", "/v1/btf/1"],
    ["GET", "/v1/btf/1?format=c"],
    ["GET", "/v1/btf/1", undefined, { accept: OCTETS }],
    ["GET", "/v1/maps/name:typed/types"],
    ["GET", "/v1/maps/name:typed/types", undefined, { accept: "text/x-c" }],
    ["GET", "/v1/maps/name:typed/types?format=raw"],
  ]);
  const { time } = (await service.send("GET", "/v1/events/1")).json();
  const target = { url: "http://127.0.0.1:1" };
  const exported = (await service.send("GET", "/v1/events", undefined, { accept: NDJSON })).body;
  await all([
    ["GET", `/v1/events/stream?after=0&until=${time}`],
    ["GET", "/v1/events"],
    ["GET", "/v1/events/3"],
    ["GET", "/v1/events/3/proof"],
    ["GET", "/v1/log"],
    ["GET", "/checkpoint"],
    ["GET", `/tile/0/000.p/${service.log.rows.length}`],
    ["POST", "/v1/archive", { before: 2 }],
    ["GET", "/v1/archive"],
    ["POST", "/v1/replays", { target }],
    ["GET", "/v1/replays"],
    ["GET", "/v1/replays/1"],
    ["DELETE", "/v1/replays/1"],
    ["POST", "/v1/replays/import", exported, { "content-type": NDJSON }],
    ["GET", "/livez"],
    ["GET", "/readyz"],
    ["GET", "/metrics"],
    ["GET", "/openapi.json"],
  ]);

  const { paths } = DOCUMENT as unknown as Document;
  const answers = Object.values(paths)
    .flatMap((path) => Object.values(path))
    .flatMap(({ operationId, responses }) => Object.keys(responses).map((status) => ({ operationId, status })));
  const missing = answers.filter(
    ({ operationId, status }) => status < "300" && !service.seen.has(`${operationId} ${status}`),
  );
  t.same(missing, [], "every operation was asked");
});
