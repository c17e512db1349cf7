import t, { type Test } from "tap";
import { HOST, Service } from "../../conformance/service.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import { errnoName } from "../../src/abi/errno.ts";
import { CMD } from "../../src/abi/service.ts";
import type { Engine } from "../../src/engine/engine.ts";
import type { Request } from "../../src/engine/request.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import type { Action, Occupied, PathCommand, PinCommand } from "../../src/syscall/command.ts";
import type { NewEntry } from "../../src/syscall/pins.ts";
import { create } from "../maps/ladder.ts";

const FOUND: Occupied = { errno: "EEXIST", detail: "the machine has a pin there" };
const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 4 };
/** conformance/service.ts names its caller so. */
const CALLER = "conformance";

interface Furnished {
  readonly service: Service;
  readonly engine: Engine;
  /** Of a map that is pinned at /sys/fs/bpf/pin. */
  readonly fd: number;
  /** What the machine was asked for, since it was last looked at. */
  asked(): readonly NewEntry[];
}

/** An engine whose machine has something at every path that it is asked for from now on. */
function furnish(): Furnished {
  let engine: Engine | null = null;
  let occupied = false;
  let asked: NewEntry[] = [];
  const mirror = {
    ...disabledMirror(""),
    follows: true,
    off: null,
    occupied(entry: NewEntry) {
      asked.push(entry);
      return occupied ? FOUND : null;
    },
  };
  const service = new Service({}, HOST, { mirror, ran: (one) => (engine = one) });
  const fd = create(service, HASH);
  service.bpf({ cmd: "BPF_OBJ_PIN", attr: { bpf_fd: fd, pathname: "pin" } });
  occupied = true;
  asked = [];
  return {
    service,
    engine: engine as unknown as Engine,
    fd,
    asked() {
      const answer = asked;
      asked = [];
      return answer;
    },
  };
}

const { BPF_F_PATH_FD } = BPF_F;

/** `found` given: as it comes with the command if the machine was asked. What a rung breaks, those below it have put right. */
interface Rung {
  readonly refuses: string;
  readonly attr: PinCommand["attr"];
  /** Of the map, unless it is said. */
  readonly fd?: number;
  readonly errno: string | null;
  readonly detail?: string;
}

const far = { pathname: "nowhere/x/", fileFlags: 0, pathFd: 0, found: FOUND };

const PINS: readonly Rung[] = [
  { refuses: "flags", attr: { ...far, pathname: null, fileFlags: 1, pathFd: 7 }, fd: 99, errno: "EINVAL" },
  { refuses: "path_fd alone", attr: { ...far, pathname: null, pathFd: 7 }, fd: 99, errno: "EINVAL" },
  { refuses: "a descriptor that is not open", attr: { ...far, pathname: null }, fd: 99, errno: "EINVAL" },
  { refuses: "no pathname", attr: { ...far, pathname: null }, errno: "EFAULT" },
  { refuses: "path_fd not open", attr: { ...far, fileFlags: BPF_F_PATH_FD, pathFd: 99 }, errno: "EBADF" },
  { refuses: "no directory", attr: far, errno: "ENOENT" },
  { refuses: "a pin for a directory", attr: { ...far, pathname: "pin/x/" }, errno: "ENOTDIR" },
  { refuses: "a dot", attr: { ...far, pathname: "a.b/" }, errno: "EPERM" },
  { refuses: "its own", attr: { ...far, pathname: "pin/" }, errno: "EEXIST", detail: "/sys/fs/bpf/pin exists" },
  {
    refuses: "the machine's",
    attr: { ...far, pathname: "/sys/fs/other/" },
    errno: "EEXIST",
    detail: FOUND.detail,
  },
  {
    refuses: "another file system",
    attr: { pathname: "/sys/fs/other/", fileFlags: 0, pathFd: 0 },
    errno: "EPERM",
  },
];

t.test(
  "BPF_OBJ_PIN: the machine's entry counts where the ledger's own does, after all that comes before",
  async (t) => {
    const { service, fd } = furnish();
    for (const { refuses, attr, fd: given = fd, errno, detail } of PINS) {
      const { outcome } = service.run({ cmd: CMD.BPF_OBJ_PIN, target: { by: "fd", fd: given }, attr });
      t.equal(outcome.errno === 0 ? null : errnoName(outcome.errno), errno, `it refuses ${refuses}`);
      if (detail !== undefined) t.equal(outcome.detail, detail);
    }
  },
);

const DIRECTORIES: readonly Pick<Rung & { attr: PathCommand["attr"] }, "refuses" | "attr" | "errno" | "detail">[] = [
  { refuses: "no directory", attr: { ...far, pathname: "nowhere/x" }, errno: "ENOENT" },
  { refuses: "a pin for a directory", attr: { ...far, pathname: "pin/x" }, errno: "ENOTDIR" },
  { refuses: "its own", attr: { ...far, pathname: "/sys/fs" }, errno: "EEXIST", detail: "/sys/fs exists" },
  { refuses: "the machine's", attr: { ...far, pathname: "/sys/fs/x" }, errno: "EEXIST", detail: FOUND.detail },
];

t.test("MKDIR: likewise", async (t) => {
  const { service } = furnish();
  for (const { refuses, attr, errno, detail } of DIRECTORIES) {
    const { pathname, found } = attr as PathCommand["attr"];
    const { outcome } = service.run({ cmd: CMD.MKDIR, attr: { pathname, ...(found && { found }) } }, 0);
    t.equal(errnoName(outcome.errno), errno, `it refuses ${refuses}`);
    if (detail !== undefined) t.equal(outcome.detail, detail);
  }
});

t.test("the machine is asked by the path that the ledger would have, and its answer is the event's", async (t) => {
  const { service, fd, asked } = furnish();
  const { ret: directory } = service.open({ kind: "dir", path: "/sys/fs/bpf/conformance" });
  const byFd = { file_flags: BPF_F_PATH_FD, path_fd: directory };
  const paths: readonly [attr: object, pathname: string][] = [
    [{ pathname: "new" }, "/sys/fs/bpf/new"],
    [{ pathname: "./conformance/..//new" }, "/sys/fs/bpf/new"],
    [{ pathname: "/sys/fs/bpf/new/" }, "/sys/fs/bpf/new"],
    [{ pathname: "new", ...byFd }, "/sys/fs/bpf/conformance/new"],
    [{ pathname: "/sys/fs/bpf/new", ...byFd }, "/sys/fs/bpf/new"],
  ];
  for (const [attr, pathname] of paths) {
    const answer = service.bpf({ cmd: "BPF_OBJ_PIN", attr: { bpf_fd: fd, ...attr } });
    t.match(answer, { ret: -1, errno: "EEXIST", detail: FOUND.detail }, JSON.stringify(attr));
    t.match(asked(), [{ pathname, map: { id: 1 } }]);
    t.same(JSON.parse(service.log.rows.at(-1)?.attr as string).found, FOUND);
  }
  t.match(service.changePath("mkdir", "new/"), { errno: "EEXIST", detail: FOUND.detail });
  t.same(asked(), [{ pathname: "/sys/fs/bpf/new", map: null }]);
  t.same(JSON.parse(service.log.rows.at(-1)?.attr as string), { pathname: "new/", found: FOUND });
  const { state, fold } = service.cells();
  t.same(state, fold, "the log says all of it");
});

t.test("what the ledger refuses by itself the machine is not asked about", async (t) => {
  const { service, engine, fd, asked } = furnish();
  for (const { attr, fd: given = fd } of PINS) {
    const { found: _, ...said } = attr;
    service.run({ cmd: CMD.BPF_OBJ_PIN, target: { by: "fd", fd: given }, attr: said });
    t.same(JSON.parse(service.log.rows.at(-1)?.attr as string).found, undefined);
  }
  for (const pathname of ["nowhere/x", "pin/x", "pin", "/sys/fs", "/sys/fs/x", ""])
    service.changePath("mkdir", pathname);
  service.changePath("unlink", "new");
  service.changePath("rmdir", "new");
  service.bpf({ cmd: "BPF_OBJ_GET", attr: { pathname: "new" } });
  service.bpf({ cmd: "BPF_OBJ_PIN", attr: { bpf_fd: fd, pathname: "new" } }, { poke: { 24: "01" } });
  const attr = { pathname: "/sys/fs/bpf/new", fileFlags: 0, pathFd: 0 };
  const pin = { cmd: CMD.BPF_OBJ_PIN, target: { by: "fd", fd }, attr } as const;
  engine.run([
    { ...pin, session: 1, caller: "somebody else" },
    { ...pin, session: 99, caller: CALLER },
  ]);
  t.same(asked(), []);
});

/** A pin of the only map, and what makes room for it. */
function replacing(engine: Engine, fd: number, first: Action): readonly (string | null)[] {
  const attr = { pathname: "/sys/fs/bpf/pin", fileFlags: 0, pathFd: 0 };
  const pin: Action = { cmd: CMD.BPF_OBJ_PIN, target: { by: "fd", fd }, attr };
  const requests = [first, pin].map((action) => ({ ...action, session: 1, caller: CALLER }) as Request);
  return engine
    .run(requests)
    .map((reply) => ("failure" in reply || reply.outcome.errno !== 0 ? JSON.stringify(reply) : null));
}

t.test("an entry that the same batch takes away is not in its own way", async (t: Test) => {
  const { engine, fd, asked } = furnish();
  const path = { pathname: "/sys/fs/bpf/pin" };
  t.same(replacing(engine, fd, { cmd: CMD.UNLINK, attr: path }), [null, null]);
  t.same(asked(), []);
});
