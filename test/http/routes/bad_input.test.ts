import { type Test, test } from "tap";
import { HASH, Service } from "../service.ts";

const BODY_BYTES_MAX = 4096;
const JSON_TYPE = { "content-type": "application/json" };
const OCTETS = { "content-type": "application/octet-stream" };
const MALLORY = { authorization: "Bearer mallory" };
const ALICE = { authorization: "Bearer alice" };

interface Row {
  readonly name: string;
  readonly send: [method: string, path: string, payload?: unknown, headers?: Record<string, string>];
  readonly status: number;
  readonly type: string;
  readonly detail?: string;
  /** Whether an event tells of it: the command ran, and was refused. */
  readonly recorded?: true;
}

/**
 * $S is a session with a HASH at $M (4-byte keys and values, `twin` by name), a second map of the same name, a pipe at $P, and
 * a frozen map at $F; $E has ended.
 */
const ROWS: readonly Row[] = [
  {
    name: "a body that is no JSON",
    send: ["POST", "$S/maps", "{", JSON_TYPE],
    status: 400,
    type: "problem:invalid-input",
    detail:
      "the body is not JSON: Expected property name or '}' in JSON at position 1 (line 1 column 2); required: a body such as " +
      '{"map_type":"BPF_MAP_TYPE_HASH","key_size":4,"value_size":8,"max_entries":1024,"map_flags":["BPF_F_NO_PREALLOC"],"map_name":"counters"}',
  },
  {
    name: "a body of a type that is not taken",
    send: ["POST", "$S/maps", "x", { "content-type": "text/plain" }],
    status: 415,
    type: "problem:unsupported-media-type",
  },
  {
    name: "octets where JSON alone is taken",
    send: ["POST", "$M/push", Buffer.alloc(4), OCTETS],
    status: 415,
    type: "problem:unsupported-media-type",
  },
  {
    name: "a body over the limit",
    send: ["POST", "$M/batch/update", { elements: Array(200).fill({ key: "01000000", value: "01000000" }) }],
    status: 413,
    type: "problem:body-too-large",
  },
  {
    name: "a prototype in a body",
    send: ["POST", "$S/maps", '{"__proto__": {"key_size": 4}}', JSON_TYPE],
    status: 400,
    type: "problem:invalid-input",
  },
  { name: "no body", send: ["PUT", "$M/elements/01000000"], status: 400, type: "problem:invalid-input" },
  {
    name: "a list for a body",
    send: ["POST", "$S/maps", []],
    status: 400,
    type: "problem:invalid-input",
    detail: "body: an object required, found []",
  },
  {
    name: "an unknown field of a session",
    send: ["POST", "/v1/sessions", { ttl: 5 }],
    status: 400,
    type: "problem:invalid-input",
    detail: "ttl: no such field",
  },
  {
    name: "a TTL in a string",
    send: ["POST", "/v1/sessions", { ttl_seconds: "5" }],
    status: 400,
    type: "problem:invalid-input",
    detail: "ttl_seconds: must be integer",
  },
  {
    name: "a TTL of 0",
    send: ["POST", "/v1/sessions", { ttl_seconds: 0 }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a TTL over the limit",
    send: ["POST", "$S/renew", { ttl_seconds: 604_801 }],
    status: 400,
    type: "problem:invalid-input",
    detail: "ttl_seconds: must be <= 604800",
  },
  {
    name: "a process over another connection than the unix socket's",
    send: ["POST", "/v1/sessions", { process: { pid: 1 } }],
    status: 400,
    type: "problem:no-process",
    detail: "a session can be bound to a process only over the unix socket (MAPLEDGER_SOCKET)",
  },
  {
    name: "a process and a TTL",
    send: ["POST", "/v1/sessions", { process: "peer", ttl_seconds: 5 }],
    status: 400,
    type: "problem:invalid-input",
    detail: "ttl_seconds: a session lives by a process or by a TTL, not by both",
  },
  {
    name: "an unknown field of BPF_MAP_CREATE",
    send: ["POST", "$S/maps", { ...HASH, map_size: 4 }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a map type that has no name",
    send: ["POST", "$S/maps", { ...HASH, map_type: "HASH" }],
    status: 400,
    type: "problem:invalid-input",
    detail: 'map_type: an integer or the name of a constant required, found "HASH"',
  },
  {
    name: "a size that is no integer",
    send: ["POST", "$S/maps", { ...HASH, key_size: 4.5 }],
    status: 400,
    type: "problem:invalid-input",
    detail: "key_size: an integer required, found 4.5",
  },
  {
    name: "a map that the kernel would refuse",
    send: ["POST", "$S/maps", { ...HASH, max_entries: 0 }],
    status: 400,
    type: "errno:EINVAL",
    recorded: true,
  },
  {
    name: "a key that is no hex",
    send: ["GET", "$M/elements/0100000x"],
    status: 400,
    type: "problem:invalid-input",
    detail: 'key: hex digits required, found "x" at 7',
  },
  {
    name: "half a byte of key",
    send: ["GET", "$M/elements/0100000"],
    status: 400,
    type: "problem:invalid-input",
    detail: "key: an even number of hex digits required, found 7",
  },
  {
    name: "a key that is too short",
    send: ["GET", "$M/elements/010000"],
    status: 400,
    type: "errno:EINVAL",
    detail: "the request's key has 3 bytes: this map requires 4",
    recorded: true,
  },
  {
    name: "a key that is too long",
    send: ["GET", "$M/elements/0100000000"],
    status: 400,
    type: "errno:EINVAL",
    detail: "the request's key has 5 bytes: this map requires 4",
    recorded: true,
  },
  {
    name: "a key that is too long, to be deleted",
    send: ["DELETE", "/v1/maps/1/elements/0100000000"],
    status: 400,
    type: "errno:EINVAL",
    detail: "the request's key has 5 bytes: this map requires 4",
    recorded: true,
  },
  {
    name: "a key that is too long, to walk from",
    send: ["GET", "$M/next-key?key=0100000000"],
    status: 400,
    type: "errno:EINVAL",
    recorded: true,
  },
  {
    name: "a value that is too long",
    send: ["PUT", "$M/elements/01000000", { value: "0100000000" }],
    status: 400,
    type: "errno:EINVAL",
    detail: "the request's value has 5 bytes: this map requires 4",
    recorded: true,
  },
  {
    name: "octets that are too short",
    send: ["PUT", "$M/elements/01000000", Buffer.alloc(3), OCTETS],
    status: 400,
    type: "errno:EINVAL",
    detail: "the request's value has 3 bytes: this map requires 4",
    recorded: true,
  },
  {
    name: "a value that is a number",
    send: ["PUT", "$M/elements/01000000", { value: 1 }],
    status: 400,
    type: "problem:invalid-input",
    detail: "value: a string of hex digits required, found 1",
  },
  {
    name: "flags that are no flags",
    send: ["PUT", "$M/elements/01000000", { value: "01000000", flags: ["BPF_NONE"] }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "flags that the kernel would refuse",
    send: ["PUT", "$M/elements/01000000", { value: "01000000", flags: 3 }],
    status: 400,
    type: "errno:EINVAL",
    recorded: true,
  },
  {
    name: "both conditions",
    send: ["PUT", "$M/elements/01000000", { value: "01000000" }, { "if-match": "*", "if-none-match": "*" }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a condition on a tag",
    send: ["PUT", "$M/elements/01000000", { value: "01000000" }, { "if-match": '"1"' }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a condition said twice",
    send: ["PUT", "$M/elements/01000000", { value: "01000000", flags: "BPF_EXIST" }, { "if-none-match": "*" }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a condition that does not hold",
    send: ["PUT", "$M/elements/01000000", { value: "01000000" }, { "if-match": "*" }],
    status: 404,
    type: "errno:ENOENT",
    recorded: true,
  },
  {
    name: "a batch that is no list",
    send: ["POST", "$M/batch/update", { elements: {} }],
    status: 400,
    type: "problem:invalid-input",
    detail: "elements: a list required, found {}",
  },
  {
    name: "a batch with a null in it",
    send: ["POST", "$M/batch/update", { elements: [{ key: "01000000", value: "01000000" }, null] }],
    status: 400,
    type: "problem:invalid-input",
    detail: "elements[1]: an object required, found null",
  },
  {
    name: "a batch with a field too many",
    send: ["POST", "$M/batch/update", { elements: [{ key: "01000000", value: "01000000", flags: 1 }] }],
    status: 400,
    type: "problem:invalid-input",
    detail: "elements[0].flags: no such field; the fields are key, value",
  },
  {
    name: "a batch with a value missing",
    send: ["POST", "$M/batch/update", { elements: [{ key: "01000000" }] }],
    status: 400,
    type: "problem:invalid-input",
    detail: "elements[0].value: a string of hex digits required, found undefined",
  },
  {
    name: "a batch with bad hex",
    send: ["POST", "$M/batch/delete", { keys: ["01000000", "0200000g"] }],
    status: 400,
    type: "problem:invalid-input",
    detail: 'keys[1]: hex digits required, found "g" at 7',
  },
  {
    name: "a batch with keys of two lengths",
    send: ["POST", "$M/batch/delete", { keys: ["01000000", "02000000", "030000"] }],
    status: 400,
    type: "problem:invalid-input",
    detail: "keys[2]: 3 bytes: the first of the request has 4, and all must be of one length",
  },
  {
    name: "a batch whose keys are too short",
    send: ["POST", "$M/batch/delete", { keys: ["0100", "0200"] }],
    status: 400,
    type: "errno:EINVAL",
    detail: "the request's key has 2 bytes: this map requires 4",
    recorded: true,
  },
  {
    name: "a batch whose keys are too long",
    send: ["POST", "/v1/maps/pinned:%2Fsys%2Ffs%2Fbpf%2Fpin/batch/delete", { keys: ["0100000000000000"] }],
    status: 400,
    type: "errno:EINVAL",
    detail: "the request's key has 8 bytes: this map requires 4",
    recorded: true,
  },
  {
    name: "a batch whose values are too short",
    send: ["POST", "$M/batch/update", { elements: [{ key: "01000000", value: "01" }] }],
    status: 400,
    type: "errno:EINVAL",
    detail: "the request's value has 1 bytes: this map requires 4",
    recorded: true,
  },
  {
    name: "a batch whose count is no number",
    send: ["POST", "$M/batch/lookup", { count: {} }],
    status: 400,
    type: "problem:invalid-input",
    detail: "count: an integer required, found {}",
  },
  {
    name: "a batch from a position that is too short",
    send: ["POST", "$M/batch/lookup", { in_batch: "00" }],
    status: 400,
    type: "errno:EFAULT",
    recorded: true,
  },
  {
    name: "a page of no elements",
    send: ["GET", "$M/elements?limit=0"],
    status: 400,
    type: "problem:invalid-input",
    detail: "query.limit: must be >= 1",
  },
  {
    name: "a page over the limit",
    send: ["GET", "$M/elements?limit=10001"],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a page after a key that is too short",
    send: ["GET", "$M/elements?after=01"],
    status: 400,
    type: "errno:EINVAL",
    recorded: true,
  },
  {
    name: "a session that never was",
    send: ["POST", "/v1/sessions/999/renew"],
    status: 404,
    type: "problem:no-such-session",
    recorded: true,
  },
  {
    name: "a session that never was, asked for",
    send: ["GET", "/v1/sessions/999"],
    status: 404,
    type: "problem:no-such-session",
  },
  {
    name: "descriptors of a session that never was",
    send: ["GET", "/v1/sessions/999/fds"],
    status: 404,
    type: "problem:no-such-session",
  },
  {
    name: "a session by a word",
    send: ["GET", "/v1/sessions/first"],
    status: 400,
    type: "problem:invalid-input",
    detail: "path.session: must be integer",
  },
  { name: "session 0", send: ["POST", "/v1/sessions/0/bpf", { cmd: 0 }], status: 400, type: "problem:invalid-input" },
  {
    name: "a session beyond 32 bits",
    send: ["DELETE", "/v1/sessions/4294967296"],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a session that has ended",
    send: ["POST", "$E/bpf", { cmd: "BPF_MAP_CREATE" }],
    status: 410,
    type: "problem:session-ended",
    recorded: true,
  },
  { name: "a session that has ended, asked for", send: ["GET", "$E"], status: 410, type: "problem:session-ended" },
  {
    name: "a session that has ended, attached",
    send: ["POST", "$E/attach"],
    status: 410,
    type: "problem:session-ended",
  },
  {
    name: "an element in a session that has ended",
    send: ["GET", "$E/fds/3/elements/01000000"],
    status: 410,
    type: "problem:session-ended",
    recorded: true,
  },
  {
    name: "another caller's session",
    send: ["GET", "$M/elements/01000000", undefined, MALLORY],
    status: 403,
    type: "problem:session-foreign",
    recorded: true,
  },
  {
    name: "another caller's descriptors",
    send: ["GET", "$S/fds", undefined, MALLORY],
    status: 403,
    type: "problem:session-foreign",
  },
  {
    name: "another caller's session, attached",
    send: ["POST", "$S/attach", undefined, MALLORY],
    status: 403,
    type: "problem:session-foreign",
  },
  {
    name: "another caller's session, ended",
    send: ["DELETE", "$S", undefined, MALLORY],
    status: 403,
    type: "problem:session-foreign",
    recorded: true,
  },
  {
    name: "a descriptor that is not open",
    send: ["GET", "$S/fds/99/elements/01000000"],
    status: 404,
    type: "errno:EBADF",
    recorded: true,
  },
  { name: "a descriptor that is not open, asked for", send: ["GET", "$S/fds/99"], status: 404, type: "errno:EBADF" },
  {
    name: "a descriptor that is not open, closed",
    send: ["DELETE", "$S/fds/99"],
    status: 404,
    type: "errno:EBADF",
    recorded: true,
  },
  { name: "a descriptor below 0", send: ["DELETE", "$S/fds/-1"], status: 400, type: "problem:invalid-input" },
  {
    name: "a pipe for a map",
    send: ["GET", "$P/elements/01000000"],
    status: 400,
    type: "errno:EINVAL",
    recorded: true,
  },
  {
    name: "a dup of nothing",
    send: ["POST", "$S/fds", { kind: "dup" }],
    status: 400,
    type: "problem:invalid-input",
    detail: "fd: required",
  },
  {
    name: "a pipe of a map",
    send: ["POST", "$S/fds", { kind: "pipe", map: 1 }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a kind that there is none of",
    send: ["POST", "$S/fds", { kind: "socket" }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a descriptor of a map that is not there",
    send: ["POST", "$S/fds", { kind: "map", map: 99 }],
    status: 404,
    type: "errno:ENOENT",
    recorded: true,
  },
  {
    name: "a descriptor of a pin that is not there",
    send: ["POST", "$S/fds", { kind: "map", map: "pinned:/sys/fs/bpf/no" }],
    status: 404,
    type: "errno:ENOENT",
    recorded: true,
  },
  {
    name: "a descriptor of a name that is not there",
    send: ["POST", "$S/fds", { kind: "map", map: "name:no" }],
    status: 404,
    type: "errno:ENOENT",
  },
  {
    name: "a descriptor of one of two maps",
    send: ["POST", "$S/fds", { kind: "map", map: "name:twin" }],
    status: 400,
    type: "errno:EINVAL",
  },
  {
    name: "a map by a word",
    send: ["GET", "/v1/maps/twin/elements/01000000"],
    status: 400,
    type: "problem:invalid-input",
  },
  { name: "a map beyond the ids", send: ["GET", "/v1/maps/2147483647"], status: 400, type: "problem:invalid-input" },
  { name: "a map without a name", send: ["GET", "/v1/maps/name:"], status: 400, type: "problem:invalid-input" },
  {
    name: "a map whose name is no name",
    send: ["GET", "/v1/maps/name:%E4%BD%A0"],
    status: 400,
    type: "problem:invalid-input",
  },
  { name: "a map that is not there", send: ["GET", "/v1/maps/99"], status: 404, type: "errno:ENOENT" },
  {
    name: "an element of a map that is not there",
    send: ["GET", "/v1/maps/99/elements/01000000"],
    status: 404,
    type: "errno:ENOENT",
    recorded: true,
  },
  {
    name: "a map by a name that two have",
    send: ["GET", "/v1/maps/name:twin/elements/01000000"],
    status: 400,
    type: "errno:EINVAL",
    recorded: true,
  },
  {
    name: "a map by a name that two have, asked for",
    send: ["GET", "/v1/maps/name:twin"],
    status: 400,
    type: "errno:EINVAL",
  },
  {
    name: "a NUL in a pin's path",
    send: ["GET", "/v1/maps/pinned:%2Fsys%00"],
    status: 400,
    type: "problem:invalid-input",
  },
  { name: "a path that is no UTF-8", send: ["GET", "/v1/maps/pinned:%FF"], status: 400, type: "problem:invalid-input" },
  {
    name: "a frozen map",
    send: ["PUT", "$F/elements/01000000", { value: "01000000" }],
    status: 403,
    type: "errno:EPERM",
    detail: "the map is frozen",
    recorded: true,
  },
  { name: "a pop from a hash", send: ["POST", "$M/pop"], status: 400, type: "errno:EFAULT", recorded: true },
  {
    name: "a pin outside of bpffs",
    send: ["POST", "$M/pin", { pathname: "/tmp/x" }],
    status: 404,
    type: "errno:ENOENT",
    recorded: true,
  },
  {
    name: "a pin with a dot",
    send: ["POST", "$M/pin", { pathname: "a.b" }],
    status: 403,
    type: "errno:EPERM",
    recorded: true,
  },
  {
    name: "a pin that is there",
    send: ["POST", "$M/pin", { pathname: "pin" }],
    status: 409,
    type: "errno:EEXIST",
    recorded: true,
  },
  {
    name: "a pin that says what the machine has",
    send: ["POST", "$M/pin", { pathname: "new", found: { errno: "EEXIST", detail: "" } }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "the same at the syscall door",
    send: [
      "POST",
      "$S/bpf",
      { cmd: "BPF_OBJ_PIN", attr: { bpf_fd: 3, pathname: "new", found: { errno: "EEXIST", detail: "" } } },
    ],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a pin without a path",
    send: ["POST", "$M/pin", {}],
    status: 400,
    type: "problem:invalid-input",
    detail: "pathname: required",
  },
  {
    name: "a pin that is not there, removed",
    send: ["DELETE", "/v1/pins/%2Fsys%2Ffs%2Fbpf%2Fno"],
    status: 404,
    type: "errno:ENOENT",
    recorded: true,
  },
  {
    name: "a pin removed as a directory",
    send: ["DELETE", "/v1/directories/%2Fsys%2Ffs%2Fbpf%2Fpin"],
    status: 400,
    type: "errno:ENOTDIR",
    recorded: true,
  },
  {
    name: "the mount removed",
    send: ["DELETE", "/v1/directories/%2Fsys%2Ffs%2Fbpf"],
    status: 503,
    type: "errno:EBUSY",
    recorded: true,
  },
  {
    name: "a command that is a list",
    send: ["POST", "$S/bpf", { cmd: [] }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a command with a field of another",
    send: ["POST", "$S/bpf", { cmd: "BPF_MAP_FREEZE", attr: { keys: "00" } }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a command with a field beside",
    send: ["POST", "$S/bpf", { cmd: "BPF_MAP_FREEZE", flags: 0 }],
    status: 400,
    type: "problem:invalid-input",
    detail: "flags: no such field; the fields are cmd, attr, size, tail",
  },
  {
    name: "a command without attr's braces",
    send: ["POST", "$S/bpf", { cmd: 0, attr: "x" }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "a command beyond 32 bits",
    send: ["POST", "$S/bpf", { cmd: 4294967296 }],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "events of a command that has no name",
    send: ["GET", "/v1/events?cmd=constructor"],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "events of an errno that has no name",
    send: ["GET", "/v1/events?errno=EFOO"],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "events since a word",
    send: ["GET", "/v1/events?since=yesterday"],
    status: 400,
    type: "problem:invalid-input",
  },
  {
    name: "events of a month that there is none of",
    send: ["GET", "/v1/events?until=2026-13-01T00:00:00Z"],
    status: 400,
    type: "problem:invalid-input",
  },
  { name: "an event that is not there", send: ["GET", "/v1/events/99999"], status: 404, type: "problem:no-such-event" },
  { name: "a path that is not there", send: ["GET", "/v1/map"], status: 404, type: "problem:no-such-route" },
  {
    name: "a method that is not taken",
    send: ["PATCH", "/v1/maps/1"],
    status: 405,
    type: "problem:method-not-allowed",
  },
  { name: "a URL that cannot be read", send: ["GET", "/v1/maps/%zz"], status: 400, type: "problem:invalid-input" },
  {
    name: "a page of another origin",
    send: ["POST", "$M/freeze", undefined, { origin: "http://example.org" }],
    status: 403,
    type: "problem:foreign-page",
  },
];

test("bad input is a problem document, and changes nothing", async (t) => {
  const { service, paths } = await furnish(t);
  for (const { name, send, status, type, detail, recorded } of ROWS)
    await t.test(name, async (t) => {
      const before = await contents(service);
      const seq = service.log.lastSeq;
      const [method, path, payload, headers = {}] = send;
      const url = path.replace(/\$[A-Z]/, (name) => paths[name] as string);
      const response = await service.send(method, url, payload, { ...ALICE, ...headers });
      const problem = response.json();
      t.equal(response.statusCode, status, response.body);
      t.equal(problem.type, `urn:mapledger:${type}`);
      t.equal(problem.status, status);
      if (detail !== undefined) t.equal(problem.detail, detail);
      t.equal(problem.seq, recorded === true ? seq + 1 : undefined);
      t.equal(response.headers["mapledger-seq"], recorded === true ? String(seq + 1) : undefined);
      t.equal(service.log.lastSeq, recorded === true ? seq + 1 : seq);
      t.same(await contents(service), before);
    });
});

async function furnish(t: Test): Promise<{ service: Service; paths: Record<string, string> }> {
  const service = await Service.start(t, {
    settings: { bodyBytesMax: BODY_BYTES_MAX },
    authenticate: (token) => token,
  });
  const $E = await service.session(ALICE);
  await service.send("DELETE", $E, undefined, ALICE);
  const $S = await service.session(ALICE);
  const map = async (attr: object): Promise<string> => {
    const response = await service.send("POST", `${$S}/maps`, { ...HASH, ...attr }, ALICE);
    return `${$S}/fds/${response.json().fd}`;
  };
  const $M = await map({ map_name: "twin" });
  await map({ map_name: "twin" });
  const $F = await map({ map_name: "frozen" });
  await service.send("POST", `${$F}/freeze`, undefined, ALICE);
  await service.send("POST", `${$M}/pin`, { pathname: "pin" }, ALICE);
  const pipe = await service.send("POST", `${$S}/fds`, { kind: "pipe" }, ALICE);
  return { service, paths: { $E, $S, $M, $F, $P: `${$S}/fds/${pipe.json().fd}` } };
}

/** All that is there but the log and the leases' clocks. */
async function contents(service: Service): Promise<unknown> {
  const maps = (await service.send("GET", "/v1/maps", undefined, ALICE)).json();
  const pins = (await service.send("GET", "/v1/pins", undefined, ALICE)).json();
  const directories = (await service.send("GET", "/v1/directories", undefined, ALICE)).json();
  const sessions = (await service.send("GET", "/v1/sessions", undefined, ALICE)).json();
  return { maps, pins, directories, sessions: sessions.sessions.map(({ id }: { id: number }) => id) };
}
