import { test } from "tap";
import { Btf } from "../../../src/btf/btf.ts";
import type { KernelBtf } from "../../../src/http/server/ports.ts";
import { BTF_KIND } from "../../../src/maps/btf_types.ts";
import { BtfBlob } from "../../btf/btf_blob.ts";
import { Service } from "../service.ts";

/** 1 u32, 2 u64, 3 struct stats, 4 struct other, which neither keys nor values need. */
function stats(): Buffer {
  const blob = new BtfBlob();
  const [u32, u64] = [blob.int("u32", 4), blob.int("u64", 8)];
  blob.struct("stats", 16, [
    ["packets", u64, 0],
    ["source", u32, 8],
  ]);
  blob.struct("other", 4, [["a", u32, 0]]);
  return blob.bytes();
}

/** A module's BTF: ids go on after vmlinux's, and so do offsets of names. */
function split(base: Buffer, name: string, of: number): Buffer {
  const blob = new BtfBlob();
  blob.add(BTF_KIND.TYPEDEF, name, of);
  const bytes = blob.bytes();
  bytes.writeUInt32LE((Btf.parse(base) as Btf).strings.length, 24);
  const strings = Buffer.from(`${name}\0`, "latin1");
  bytes.writeUInt32LE(strings.length, 20);
  return Buffer.concat([bytes.subarray(0, 36), strings]);
}

const VMLINUX = stats();
const KERNEL: KernelBtf = {
  list: async () => [
    { name: "nf_nat", bytes: 40 },
    { name: "vmlinux", bytes: VMLINUX.length },
  ],
  read: async (name) => {
    if (name === "nf_nat") return { data: split(VMLINUX, "nat_stats", 3), base: VMLINUX };
    return name === "vmlinux" ? { data: VMLINUX, base: null } : null;
  },
};

const U32_C = "typedef unsigned int u32;\n\n";
const U64_C = "typedef unsigned long long u64;\n\n";
const STRUCT_C = "struct stats {\n\tu64 packets;\n\tu32 source;\n};\n\n";
/** In the order in which the members need them. */
const STATS_C = `${U64_C}${U32_C}${STRUCT_C}`;

async function withMap(t: Parameters<typeof Service.start>[0], options = {}, headers: Record<string, string> = {}) {
  const service = await Service.start(t, { kernelBtf: KERNEL, ...options });
  const session = await service.session(headers);
  const load = async (bytes: Buffer): Promise<number> => {
    const attr = { btf: bytes.toString("hex"), btf_size: bytes.length };
    return (await service.send("POST", `${session}/bpf`, { cmd: "BPF_BTF_LOAD", attr }, headers)).json().ret;
  };
  const fd = await load(stats());
  const types = { btf_fd: fd, btf_key_type_id: 1, btf_value_type_id: 3 };
  await service.map(session, { key_size: 4, value_size: 16, map_name: "flows", ...types }, headers);
  const get = (url: string, more: Record<string, string> = {}) =>
    service.send("GET", url, undefined, { ...headers, ...more });
  return { service, session, load, fd, get };
}

test("listBtf lists what was loaded, by id, then the kernel's own, in pages", async (t) => {
  const { session, service, load, fd, get } = await withMap(t);
  await load(stats());
  const size = stats().length;
  const all = (await get("/v1/btf")).json();
  t.same(all, {
    btf: [
      { id: 1, name: null, size, kernel: false },
      { id: 2, name: null, size, kernel: false },
      { id: null, name: "nf_nat", size: 40, kernel: true },
      { id: null, name: "vmlinux", size, kernel: true },
    ],
    next: null,
  });
  const seen: unknown[] = [];
  for (let after = ""; ; ) {
    const page = (await get(`/v1/btf?limit=1&after=${after}`)).json();
    t.ok(page.btf.length <= 1);
    seen.push(...page.btf);
    if (page.next === null) break;
    after = page.next;
  }
  t.same(seen, all.btf, "page by page");
  for (const each of [fd, fd + 2]) await service.send("DELETE", `${session}/fds/${each}`);
  const left = (await get("/v1/btf")).json().btf;
  t.same(left.map(({ id }: { id: number }) => id).slice(0, 1), [1], "the map holds the first");
  t.equal(left.length, 3, "nothing holds the second");
  const then = (await get("/v1/btf?at=4")).json();
  t.same(
    then.btf.map(({ id, name }: { id: number; name: string }) => id ?? name),
    [1, 2],
    "as it was, without the kernel's, which is not in the log",
  );
});

test("getBtf answers JSON, C or the BTF itself, by Accept or format", async (t) => {
  const { get } = await withMap(t);
  const json = await get("/v1/btf/1");
  t.match(json.headers["content-type"], /^application\/json/);
  t.same(
    json.json().types.map(({ kind, name }: { kind: string; name: string }) => `${kind} ${name}`),
    ["INT u32", "INT u64", "STRUCT stats", "STRUCT other"],
  );
  t.match(json.json(), { id: 1, name: null, kernel: false, size: stats().length });
  for (const answer of [await get("/v1/btf/1?format=c"), await get("/v1/btf/1", { accept: "text/x-c" })]) {
    t.equal(answer.body, `${STATS_C}struct other {\n\tu32 a;\n};\n\n`);
    t.match(answer.headers["content-type"], /^text\/x-c/);
  }
  const raw = [await get("/v1/btf/1?format=raw"), await get("/v1/btf/1", { accept: "application/octet-stream" })];
  for (const answer of raw) t.same(answer.rawPayload, stats());
  t.equal((await get("/v1/btf/1?format=json", { accept: "text/x-c" })).json().id, 1, "format wins");
  const missing = await get("/v1/btf/7");
  t.equal(missing.statusCode, 404);
  t.match(missing.json(), { errno: "ENOENT", detail: "no BTF has id 7" });
  t.equal((await get("/v1/btf/1?at=1")).statusCode, 404, "it was not loaded yet");
  t.equal((await get("/v1/btf/1?format=rust")).statusCode, 400);
});

test("getBtf answers the kernel's own by name, a module's with the types of vmlinux that it needs", async (t) => {
  const { get } = await withMap(t);
  t.match((await get("/v1/btf/vmlinux")).json(), { id: null, name: "vmlinux", kernel: true, types: [{}, {}, {}, {}] });
  const header = (await get("/v1/btf/vmlinux?format=c")).body;
  t.match(header, /^#ifndef __VMLINUX_H__\n/);
  t.ok(header.includes(STATS_C));
  const module = (await get("/v1/btf/nf_nat")).json();
  t.same(module.types, [{ id: 5, kind: "TYPEDEF", name: "nat_stats", type_id: 3 }]);
  const c = (await get("/v1/btf/nf_nat?format=c")).body;
  t.ok(c.includes("struct stats;\n\ntypedef struct stats nat_stats;\n\n"), "declared first");
  t.ok(c.includes("struct stats {\n\tu64 packets;"), "then defined");
  t.notOk(c.includes("other"), "and nothing else");
  for (const name of ["nf_tables", "..%2F..%2Fetc%2Fpasswd", "."])
    t.equal((await get(`/v1/btf/${name}`)).statusCode, 404);
  t.match((await get("/v1/btf/vmlinux?at=1")).json(), { status: 400, detail: /has no past/ });
});

test("getMapTypes answers the types of keys and values, now and then", async (t) => {
  const { service, session, get } = await withMap(t);
  const json = (await get("/v1/maps/name:flows/types")).json();
  t.match(json, { map: 1, btf_id: 1, key_type_id: 1, value_type_id: 3 });
  t.same(
    json.types.map(({ id }: { id: number }) => id),
    [1, 2, 3],
    "what they need, with its ids",
  );
  const c = (await get("/v1/maps/1/types?format=c")).body;
  t.equal(c, `${U32_C}typedef u32 map_key;\n\n${U64_C}${STRUCT_C}typedef struct stats map_value;\n\n`);
  t.same((await get("/v1/maps/1/types?format=raw")).rawPayload, stats());
  await service.map(session, { map_name: "plain" });
  const none = await get("/v1/maps/name:plain/types");
  t.match(none.json(), { status: 404, errno: "ENOENT", detail: /created without BTF/ });
  t.equal((await get("/v1/maps/9/types")).statusCode, 404);
  const { seq } = (await service.send("DELETE", `${session}/fds/4`)).json();
  t.equal((await get("/v1/maps/1/types")).statusCode, 404, "the map is gone");
  t.equal((await get(`/v1/maps/1/types?at=${seq - 1}`)).json().btf_id, 1, "and was there");
  t.equal((await get(`/v1/maps/1/types?at=${seq - 1}`)).headers["mapledger-seq"], String(seq - 1));
});

test("no glob covers BTF, but a map's types are its readers'", async (t) => {
  const tokens = { root: "read,write,admin", web: "read@web*", flow: "read@flow*", admin: "admin,read@web*" };
  const as = (token: string) => ({ authorization: `Bearer ${token}` });
  const { service, session } = await withMap(t, { tokens }, as("root"));
  const status = async (token: string, url: string) =>
    (await service.send("GET", url, undefined, as(token))).statusCode;
  for (const url of ["/v1/btf", "/v1/btf/1", "/v1/btf?at=3", "/v1/btf/1?at=3"]) {
    t.equal(await status("root", url), 200, url);
    t.equal(await status("admin", url), 200, `${url}, admin`);
    t.equal(await status("flow", url), 403, `${url}, with a glob`);
  }
  for (const url of ["/v1/maps/1/types", "/v1/maps/name:flows/types", "/v1/maps/1/types?at=4"]) {
    t.equal(await status("flow", url), 200, url);
    t.equal(await status("web", url), 403, `${url}, for others`);
  }
  const whole = "/v1/maps/1/types?format=raw";
  t.same([await status("root", whole), await status("flow", whole)], [200, 403], "the whole BTF has other maps' types");
  const own = await service.session(as("flow"));
  for (const [cmd, attr] of [
    ["BPF_BTF_GET_NEXT_ID", { start_id: 0 }],
    ["BPF_BTF_GET_FD_BY_ID", { btf_id: 1 }],
  ] as const) {
    const send = (token: string, path: string) => service.send("POST", `${path}/bpf`, { cmd, attr }, as(token));
    t.equal((await send("flow", own)).statusCode, 403, cmd);
    t.equal((await send("root", session)).json().errno, null, cmd);
  }
});
