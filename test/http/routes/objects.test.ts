import { test } from "tap";
import { OPEN_KINDS } from "../../../src/abi/service.ts";
import { Service } from "../service.ts";

const u32 = (number: number): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes.toString("hex");
};

test("openDescriptor opens every kind of object, and the list of descriptors tells what each is", async (t) => {
  const service = await Service.start(t);
  const session = (await service.send("POST", "/v1/sessions", {})).headers.location as string;
  const more: Record<string, object> = { pidfd: { pid: 4711 }, prog: { prog_type: "BPF_PROG_TYPE_XDP" } };
  for (const [at, kind] of OPEN_KINDS.entries()) {
    const opened = await service.send("POST", `${session}/fds`, { kind, ...more[kind] });
    t.equal(opened.statusCode, 201, kind);
    t.equal(opened.json().fd, 3 + at, "the lowest free number");
  }
  const { fds } = (await service.send("GET", `${session}/fds`)).json();
  const seen = Object.fromEntries(fds.map(({ object }: { object: unknown }, at: number) => [OPEN_KINDS[at], object]));
  t.match(seen.tcp_listen, { protocol: "tcp", state: "listening", reuseport: false });
  t.match(seen.unix_stream, { protocol: "unix_stream", state: "connected" });
  t.match(seen.pidfd, { pid: 4711, exited: false });
  t.match(seen.pidfd_dead, { exited: true });
  t.match(seen.prog, { prog_type: 6, expected_attach_type: 0, tag: null, load_time: null });
  t.match(seen.cgroup, { path: null, removed: false });
});

test("openDescriptor refuses fields that a kind has not, and paths that are not absolute", async (t) => {
  const service = await Service.start(t);
  const session = (await service.send("POST", "/v1/sessions", {})).headers.location as string;
  const rows: readonly [body: object, where: RegExp][] = [
    [{ kind: "pipe", path: "/tmp/x" }, /^path: not allowed for kind pipe/],
    [{ kind: "file", path: "tmp/x" }, /^path: an absolute path required/],
    [{ kind: "cgroup", pid: 1 }, /^pid: not allowed for kind cgroup/],
    [{ kind: "pidfd" }, /^pid: required/],
    [{ kind: "pidfd", pid: 0 }, /^body\.pid|^pid/],
    [{ kind: "prog", id: 1, pinned: "/sys/fs/bpf/p" }, /^pinned: not allowed together with id/],
    [{ kind: "prog", prog_type: "BPF_PROG_TYPE_NONE" }, /^prog_type: an integer or the name of a constant/],
    [{ kind: "xsk", fd: 3 }, /^fd: not allowed for kind xsk/],
    [{ kind: "socket" }, /kind: must be one of/],
  ];
  for (const [body, detail] of rows) {
    const refused = await service.send("POST", `${session}/fds`, body);
    t.equal(refused.statusCode, 400, JSON.stringify(body));
    t.match(refused.json().detail, detail);
  }
  t.same((await service.send("GET", `${session}/fds`)).json().fds, [], "nothing is open");
});

test("a program that no kernel knows needs a type, and is the same by its id", async (t) => {
  const service = await Service.start(t);
  const session = (await service.send("POST", "/v1/sessions", {})).headers.location as string;
  const open = async (body: object) => service.send("POST", `${session}/fds`, { kind: "prog", ...body });
  t.equal((await open({ id: 7 })).json().errno, "ENOENT");
  t.equal((await open({ id: 7, prog_type: 1 })).statusCode, 201);
  t.equal((await open({ id: 7 })).statusCode, 201, "known from now on");
  t.equal((await open({ pinned: "/sys/fs/bpf/p" })).json().errno, "ENOENT");
  const { fds } = (await service.send("GET", `${session}/fds`)).json();
  t.equal(fds[0].object.id, fds[1].object.id);
});

test("sockets go into a sockmap by descriptor, come out by cookie, and go when they are closed", async (t) => {
  const service = await Service.start(t);
  const session = (await service.send("POST", "/v1/sessions", {})).headers.location as string;
  const shape = { map_type: "BPF_MAP_TYPE_SOCKMAP", key_size: 4, value_size: 8, max_entries: 4 };
  t.equal((await service.send("POST", `${session}/maps`, shape)).json().fd, 3);
  await service.send("POST", `${session}/fds`, { kind: "tcp_listen" });
  await service.send("POST", `${session}/fds`, { kind: "tcp_idle" });
  const put = async (fd: number) =>
    service.send("PUT", `${session}/fds/3/elements/00000000`, { value: u32(fd) + u32(0) });
  t.equal((await put(5)).json().errno, "EOPNOTSUPP");
  t.equal((await put(3)).json().errno, "ENOTSOCK");
  t.equal((await put(9)).json().errno, "EBADF");
  t.equal((await put(4)).statusCode, 200);
  const { fds } = (await service.send("GET", `${session}/fds`)).json();
  const { value } = (await service.send("GET", `${session}/fds/3/elements/00000000`)).json();
  t.equal(String(Buffer.from(value, "hex").readBigUInt64LE()), fds[1].object.cookie);
  await service.send("DELETE", `${session}/fds/4`);
  t.equal((await service.send("GET", `${session}/fds/3/elements/00000000`)).json().errno, "ENOENT");
});

test("a session without capabilities finds out what bpf(2) refuses", async (t) => {
  const service = await Service.start(t);
  const opened = await service.send("POST", "/v1/sessions", { capabilities: ["CAP_BPF"] });
  const session = opened.headers.location as string;
  t.same((await service.send("GET", session)).json().capabilities, ["CAP_BPF"]);
  const create = async (map_type: string) =>
    service.send("POST", `${session}/maps`, { map_type, key_size: 4, value_size: 4, max_entries: 1 });
  t.equal((await create("BPF_MAP_TYPE_HASH")).statusCode, 201);
  t.match((await create("BPF_MAP_TYPE_DEVMAP")).json(), { errno: "EPERM", detail: /CAP_NET_ADMIN/ });
  const door = await service.send("POST", `${session}/bpf`, { cmd: "BPF_MAP_GET_NEXT_ID", attr: {} });
  t.match(door.json(), { errno: "EPERM", detail: /CAP_SYS_ADMIN/ });
  t.equal((await service.send("POST", "/v1/sessions", { capabilities: ["CAP_NONE"] })).statusCode, 400);
});

test("a bloom filter is pushed to, and asked by a peek with a value", async (t) => {
  const service = await Service.start(t);
  const session = (await service.send("POST", "/v1/sessions", {})).headers.location as string;
  await service.send("POST", `${session}/maps`, {
    map_type: "BPF_MAP_TYPE_BLOOM_FILTER",
    value_size: 4,
    max_entries: 8,
  });
  t.equal((await service.send("POST", `${session}/fds/3/push`, { value: u32(1) })).statusCode, 200);
  t.equal((await service.send("POST", `${session}/fds/3/peek`, { value: u32(1) })).json().value, u32(1));
  t.equal((await service.send("POST", `${session}/fds/3/peek`, { value: u32(2) })).json().errno, "ENOENT");
  t.equal((await service.send("POST", `${session}/fds/3/peek`)).json().errno, "EFAULT");
  t.equal((await service.send("POST", `${session}/fds/3/peek`, { value: "01" })).json().errno, "EINVAL");
});

test("pages of a queue go by the place of its values", async (t) => {
  const service = await Service.start(t);
  const session = (await service.send("POST", "/v1/sessions", {})).headers.location as string;
  await service.send("POST", `${session}/maps`, { map_type: "BPF_MAP_TYPE_QUEUE", value_size: 4, max_entries: 8 });
  for (const number of [1, 2, 3, 4, 5]) await service.send("POST", `${session}/fds/3/push`, { value: u32(number) });
  await service.send("POST", `${session}/fds/3/pop`);
  const values: string[] = [];
  for (let after: string | null = ""; after !== null; ) {
    const query: string = after === "" ? "" : `&after=${after}`;
    const page = (await service.send("GET", `${session}/fds/3/elements?limit=2${query}`)).json();
    values.push(...page.elements.map(({ value }: { value: string }) => value));
    after = page.next;
  }
  t.same(values, [u32(2), u32(3), u32(4), u32(5)]);
});

test("the memory of an mmapable array is read and stored by ranges", async (t) => {
  const service = await Service.start(t);
  const session = (await service.send("POST", "/v1/sessions", {})).headers.location as string;
  const shape = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: 4, max_entries: 4 };
  await service.send("POST", `${session}/maps`, { ...shape, map_flags: "BPF_F_MMAPABLE" });
  await service.send("POST", `${session}/maps`, shape);
  await service.send("PUT", `${session}/fds/3/elements/01000000`, { value: "aabbccdd" });
  const memory = `${session}/fds/3/memory`;
  const read = async (range?: string) =>
    service.app.inject({ method: "GET", url: memory, headers: range === undefined ? {} : { range } });
  const store = async (payload: string, range?: string) =>
    service.app.inject({
      method: "PUT",
      url: memory,
      headers: {
        "content-type": "application/octet-stream",
        ...(range === undefined ? {} : { "content-range": range }),
      },
      payload: Buffer.from(payload, "hex"),
    });

  const all = await read();
  t.equal(all.statusCode, 200);
  t.equal(all.rawPayload.length, 4096, "rounded up to a page");
  t.equal(all.rawPayload.toString("hex", 0, 16), "0000000000000000aabbccdd00000000");

  const part = await read("bytes=8-11");
  t.equal(part.statusCode, 206);
  t.equal(part.headers["content-range"], "bytes 8-11/4096");
  t.equal(part.rawPayload.toString("hex"), "aabbccdd");
  t.equal((await read("bytes=-2")).headers["content-range"], "bytes 4094-4095/4096");
  t.equal((await read("bytes=4000-9999")).headers["content-range"], "bytes 4000-4095/4096");
  for (const range of ["bytes=4096-", "bytes=5000-6000", "bytes=9-8"]) {
    const outside = await read(range);
    t.equal(outside.statusCode, 416, range);
    t.equal(outside.headers["content-range"], "bytes */4096");
  }

  const stored = await store("0102030405060708", "bytes 12-19/*");
  t.equal(stored.statusCode, 200);
  t.type(stored.json().seq, "number");
  t.equal((await service.send("GET", `${session}/fds/3/elements/02000000`)).json().value, "05060708");
  t.equal((await read("bytes=12-15")).rawPayload.toString("hex"), "01020304", "padding is memory, too");
  t.equal((await store("00", "bytes 1-2/*")).statusCode, 400, "a range of another length than the body");
  t.equal((await store("00", "bytes 4096-4096/*")).json().errno, "EINVAL");
  const other = await service.app.inject({ method: "GET", url: `${session}/fds/4/memory` });
  t.match(other.json(), { errno: "EINVAL", detail: /BPF_F_MMAPABLE/ });
  await service.send("POST", `${session}/fds/3/freeze`);
  t.equal((await store("ff")).json().errno, "EPERM", "frozen");
  t.equal((await read()).statusCode, 200, "but it can be read");
});

test("of a large memory a request reads, or stores, 16 MiB", async (t) => {
  const MIB = 1024 * 1024;
  const service = await Service.start(t);
  const session = (await service.send("POST", "/v1/sessions", {})).headers.location as string;
  const shape = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: MIB, max_entries: 20 };
  await service.send("POST", `${session}/maps`, { ...shape, map_flags: "BPF_F_MMAPABLE" });
  const url = `${session}/fds/3/memory`;
  const read = async (range?: string) =>
    service.app.inject({ method: "GET", url, headers: range === undefined ? {} : { range } });
  const store = async (bytes: number, at: number) =>
    service.app.inject({
      method: "PUT",
      url,
      headers: {
        "content-type": "application/octet-stream",
        "content-range": `bytes ${at}-${at + bytes - 1}/*`,
      },
      payload: Buffer.alloc(bytes, 7),
    });
  t.match((await store(16 * MIB + 1, 0)).json(), { status: 413, detail: /16777216/ });
  t.equal((await store(16 * MIB, 4 * MIB)).statusCode, 200);
  const first = await read();
  t.equal(first.statusCode, 206);
  t.equal(first.headers["content-range"], `bytes 0-${16 * MIB - 1}/${20 * MIB}`);
  t.equal(first.rawPayload.length, 16 * MIB);
  const rest = await read(`bytes=${16 * MIB}-`);
  t.equal(rest.headers["content-range"], `bytes ${16 * MIB}-${20 * MIB - 1}/${20 * MIB}`);
  t.ok(rest.rawPayload.equals(Buffer.alloc(4 * MIB, 7)));
});
