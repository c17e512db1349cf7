import t from "tap";
import { CMD, UNKNOWN_CMD } from "../../src/abi/service.ts";
import { elementHead, FrameWriter, ReplyFrames, readReplies, readRequests } from "../../src/engine/frames.ts";
import type { Reply, Request } from "../../src/engine/request.ts";
import { eventRow, rowEvent } from "../../src/log/event.ts";
import type { Action } from "../../src/syscall/command.ts";
import { done } from "../../src/syscall/outcome.ts";
import { createAttr } from "../support/commands.ts";

const bytes = Buffer.from("00ff10", "hex");
const path = { pathname: "/sys/fs/bpf/ä", fileFlags: 8, pathFd: -1 };
const element = { target: { by: "fd", fd: -1 }, key: bytes, value: null, flags: 2n ** 64n - 1n, exact: true } as const;
const batch = { count: 2 ** 32 - 1, elemFlags: 2n ** 63n, inBatch: bytes, outBatch: null };

/** One of each kind, with odd values. */
const ACTIONS: readonly Action[] = [
  { cmd: CMD.BPF_MAP_LOOKUP_ELEM, ...element },
  { cmd: CMD.BPF_MAP_UPDATE_ELEM, ...element, target: { by: "id", id: 2 ** 32 - 1 }, value: Buffer.alloc(100_000, 7) },
  { cmd: CMD.BPF_MAP_DELETE_ELEM, ...element, target: { by: "name", name: 'a"b' }, key: Buffer.alloc(0) },
  { cmd: CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM, ...element, target: { by: "pinned", pathname: "/p" }, exact: false },
  { cmd: CMD.BPF_MAP_GET_NEXT_KEY, ...element, key: null },
  { cmd: CMD.BPF_MAP_FREEZE, ...element, key: null, flags: 0n },
  { cmd: CMD.BPF_MAP_FREEZE, ...element, key: null, flags: 2n ** 63n },
  { cmd: CMD.BPF_MAP_FREEZE, ...element, key: null, flags: 2n ** 32n },
  { cmd: CMD.BPF_MAP_LOOKUP_BATCH, ...element, attr: batch },
  { cmd: CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH, ...element, attr: batch },
  { cmd: CMD.BPF_MAP_UPDATE_BATCH, ...element, target: { by: "name", name: "n" }, attr: { ...batch, inBatch: null } },
  { cmd: CMD.BPF_MAP_DELETE_BATCH, ...element, attr: batch },
  {
    cmd: CMD.BPF_MAP_CREATE,
    attr: createAttr({ mapExtra: 2n ** 64n - 1n, exclProgHash: bytes, numaNode: -1, btfFd: -1 }),
  },
  { cmd: CMD.BPF_OBJ_PIN, target: { by: "fd", fd: 3 }, attr: path },
  { cmd: CMD.BPF_OBJ_PIN, target: { by: "fd", fd: 3 }, attr: { ...path, found: { errno: "EEXIST", detail: "ö" } } },
  { cmd: CMD.BPF_OBJ_GET, attr: { ...path, pathname: null, bpfFd: 2 ** 32 - 1 } },
  { cmd: CMD.BPF_MAP_GET_NEXT_ID, attr: { startId: 7, openFlags: 1 } },
  { cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: 7, openFlags: 1 } },
  { cmd: CMD.BPF_OBJ_GET_INFO_BY_FD, target: { by: "fd", fd: 3 }, value: bytes, attr: { infoLen: 3 } },
  { cmd: UNKNOWN_CMD, number: -1, name: "BPF_NO_SUCH" },
  { cmd: UNKNOWN_CMD, number: 5, name: "BPF_PROG_LOAD" },
  { cmd: CMD.SESSION_OPEN, attr: { name: "ß", ttlMs: 1000 } },
  {
    cmd: CMD.SESSION_OPEN,
    attr: { name: "", ttlMs: 1, process: { pid: 7, uid: 2 ** 32 - 1, startTime: "123456", boot: "763736ba" } },
  },
  { cmd: CMD.SESSION_RENEW, attr: { ttlMs: null } },
  { cmd: CMD.SESSION_END, attr: { reason: "lease expired" } },
  { cmd: CMD.CLOSE, fd: 3, attr: { reason: "close" } },
  { cmd: CMD.DUP, fd: 3 },
  { cmd: CMD.OPEN, attr: { kind: "pipe" } },
  { cmd: CMD.UNLINK, attr: { pathname: "/p" } },
  { cmd: CMD.MKDIR, attr: { pathname: "/p" } },
  { cmd: CMD.MKDIR, attr: { pathname: "/p", found: { errno: "EEXIST", detail: "" } } },
  { cmd: CMD.RMDIR, attr: { pathname: "/p" } },
  { cmd: CMD.MAP_ELEMENTS, target: { by: "fd", fd: 3 }, attr: { after: bytes, limit: 2 ** 32 - 1 } },
  { cmd: CMD.MIRROR_REFUSED, target: { by: "id", id: 1 }, attr: { operation: "o", errno: "ENOMEM", detail: "d" } },
  { cmd: CMD.MIRROR_RESYNC, target: { by: "id", id: 1 }, attr: { operation: "", errno: "", detail: "" } },
];

/** What an event keeps of a command: not whether it was exact, nor the room for an answer. */
function asKept(command: object): object {
  const room = (command as { cmd?: number }).cmd === CMD.BPF_OBJ_GET_INFO_BY_FD ? { value: null } : {};
  return { ...command, ...room, exact: false };
}

t.test("a batch of requests crosses between threads as it is", (t) => {
  const requests = ACTIONS.map(
    (action, at) =>
      ({
        ...action,
        session: at,
        caller: at % 2 === 0 ? "anonymous" : "zoë",
        ...(at % 3 === 0 && { peer: "uid=1000 pid=4711" }),
        ...(at % 5 === 0 && { limits: 2 ** 32 - 1 - at }),
      }) as Request,
  );
  const writer = new FrameWriter();
  for (const request of requests) writer.request(request);
  t.equal(writer.count, requests.length);
  const { frames, length } = writer.take();
  const read = readRequests(frames, length);
  t.equal(read.length, requests.length);
  read.forEach((request, at) => {
    const { timeUs, ...rest } = request as Request & { timeUs: number };
    t.strictSame(rest, { ...requests[at] }, `cmd ${request.cmd}`);
  });
  t.equal(writer.byteLength, 0, "what was taken is gone from the writer");
  t.end();
});

t.test("octets stand beside the frames, also beside one that is dropped", (t) => {
  const batch = {
    cmd: CMD.BPF_MAP_UPDATE_BATCH,
    ...element,
    key: null,
    session: 1,
    caller: "c",
    octets: true,
  } as const;
  const attr = { count: 0, elemFlags: 0n, inBatch: null, outBatch: null };
  const own = Buffer.allocUnsafeSlow(70_000).fill(5);
  const part = Buffer.alloc(16, 6).subarray(1, 4);
  const writer = new FrameWriter();
  const places = [own, Buffer.alloc(3, 1), Buffer.alloc(0), part].map((value) => {
    const at = writer.end;
    writer.request({ ...batch, value, attr });
    return at;
  });
  t.ok(writer.byteLength > 70_000, "bodies are counted");
  writer.drop(places[1] as number);
  const { frames, length, bodies } = writer.take();
  t.equal(bodies?.[0], own.buffer, "a body of its own is not copied");
  t.not(bodies?.[3], part.buffer, "part of a larger buffer is");
  t.ok(length < 1000);
  const read = readRequests(frames, length, bodies) as { value: Buffer; octets: boolean }[];
  t.strictSame(
    read.map(({ value, octets }) => [value, octets]),
    [own, Buffer.alloc(0), part].map((value) => [value, true]),
  );
  t.same(writer.take().bodies, undefined);
  t.end();
});

t.test("a batch of replies crosses between threads as it is", (t) => {
  const replies: Reply[] = [
    { seq: 2 ** 53 - 1, outcome: done(2 ** 32 - 1, Buffer.alloc(70_000, 1), { count: 3, out_batch: "00" }, bytes) },
    { seq: 1, outcome: { ret: -1, errno: 524, detail: "ü", map: 0, key: null, value: null, out: null } },
    { seq: 2, outcome: done(1, Buffer.alloc(0)) },
    { failure: "disk full", detail: "the log's disk is full" },
    { failure: "scope missing", detail: "a", scope: "pin", done: { count: 1, of: 2, what: "bytes" } },
    { failure: "bug", detail: "" },
    { seq: 3, outcome: done(1), given: 7 },
  ];
  const writer = new FrameWriter();
  for (const reply of replies) writer.reply(reply);
  const { frames, length } = writer.take();
  t.strictSame(readReplies(frames, length), replies);
  t.end();
});

t.test("an event is read back from its row as it was", (t) => {
  for (const action of ACTIONS) {
    const command = { ...action, session: 1, caller: "c", timeUs: 5 } as Parameters<typeof eventRow>[0]["command"];
    const outcome = { ret: -1, errno: 22, detail: "d", map: 9, key: null, value: null, out: { count: 1 } };
    const event = rowEvent(eventRow({ seq: 4, command, outcome }));
    if (action.cmd === CMD.BPF_MAP_LOOKUP_BATCH || action.cmd === CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH) continue;
    const target = "target" in command && command.target.by === "id" ? { by: "id", id: 9 } : undefined;
    t.match(
      asKept(event.command),
      asKept(target === undefined ? command : { ...command, target }),
      `cmd ${action.cmd}`,
    );
    t.strictSame(event.outcome, { ...outcome, key: null }, `outcome of ${action.cmd}`);
  }
  t.end();
});

t.test("a command on an element by its digits is the same as the request", (t) => {
  const update = {
    cmd: CMD.BPF_MAP_UPDATE_ELEM,
    session: 7,
    caller: "zoë",
    peer: "127.0.0.1",
    limits: 3,
    target: { by: "fd", fd: 5 },
    key: bytes,
    value: Buffer.from("a5".repeat(64), "hex"),
    flags: 0n,
    exact: true,
  } as const;
  const lookup = {
    ...update,
    cmd: CMD.BPF_MAP_LOOKUP_ELEM,
    target: { by: "id", id: 2 ** 32 - 1 },
    value: null,
  } as const;
  const writer = new FrameWriter();
  for (const request of [update, lookup]) {
    const url = `/elements/${request.key.toString("hex")}`;
    const body = Buffer.from(`{"value":"${request.value?.toString("hex")}"}`);
    const value = request.value === null ? null : { in: body, start: 10, end: body.length - 2 };
    t.ok(writer.element(elementHead(request), request.cmd, { in: url, start: 10, end: url.length }, value));
    writer.request(request);
  }
  t.equal(writer.count, 4);
  const { frames, length } = writer.take();
  const [one, two, three, four] = readRequests(frames, length);
  t.strictSame(one, two);
  t.strictSame(three, four);
  t.strictSame({ ...one, timeUs: 0 }, { ...update, timeUs: 0 });
  t.end();
});

t.test("what are not the digits of whole bytes in lower case is not written", (t) => {
  const writer = new FrameWriter();
  const head = elementHead({ session: 1, caller: "c", peer: undefined, target: { by: "fd", fd: 3 } });
  const of = <Of extends string | Uint8Array>(text: Of) => ({ in: text, start: 0, end: text.length });
  for (const wrong of ["0", "0g", "g0", "0A", "A0", "00:0", "/0", "00 0", "`0", "0\u0130", "\u01300", "000"]) {
    t.notOk(writer.element(head, CMD.BPF_MAP_DELETE_ELEM, of(wrong), null), `key ${wrong}`);
    t.notOk(writer.element(head, CMD.BPF_MAP_UPDATE_ELEM, of("00"), of(Buffer.from(wrong))), `value ${wrong}`);
  }
  t.equal(writer.byteLength, 0);
  t.equal(writer.count, 0);
  t.end();
});

t.test("a reply's figures are read from its frame", (t) => {
  const writer = new FrameWriter();
  writer.reply({ seq: 2 ** 53 - 1, outcome: done(1, bytes, null, Buffer.alloc(9)) });
  writer.reply({ seq: 7, outcome: done(1) });
  writer.later(8);
  writer.reply({ seq: 9, outcome: { ret: -1, errno: 2, detail: null, map: 0, key: null, value: null, out: null } });
  writer.reply({ failure: "bug", detail: "" });
  const { frames, length } = writer.take();
  const read = new ReplyFrames(frames, length);
  t.ok(read.next());
  t.strictSame([read.later, read.isDone, read.seq, read.valueBytes], [null, true, 2 ** 53 - 1, 3]);
  t.equal(read.valueDigits(), "00ff10");
  t.ok(read.next());
  t.strictSame([read.later, read.isDone, read.seq, read.valueBytes], [null, true, 7, null]);
  t.ok(read.next());
  t.equal(read.later, 8);
  t.ok(read.next());
  t.strictSame([read.later, read.isDone], [null, false]);
  t.ok(read.next());
  t.strictSame([read.later, read.isDone], [null, false]);
  t.notOk(read.next());
  t.end();
});
