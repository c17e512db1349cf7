import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { MadeCgroups } from "../../src/mirror/made_cgroups.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { type Json, Ledger } from "../support/ledger.ts";
import { OWN_NAME } from "../support/own_name.ts";

/** What clients may reach of the host by descriptors of what is no map: a service as it is started, on the live kernel. */
const skip = unfitForKernel() ?? false;
const cgroups = cgroupRoot();
const skipCgroups = skip || (cgroups === undefined ? "no cgroup2 is mounted" : false);

function cgroupRoot(): string | undefined {
  const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
  return mounts.map((line) => line.split(" ")).find(([, , type]) => type === "cgroup2")?.[1];
}

async function session(ledger: Ledger): Promise<string> {
  return `/sessions/${(await ledger.must("POST", "/sessions", { ttl_seconds: 3600 })).id}`;
}

t.test("paths are opened below MAPLEDGER_OPEN_ROOTS alone, whatever leads out of them", { skip }, async (t) => {
  const outside = t.testdir({ file: "", directory: {}, root: { file: "", directory: { inner: "" } } });
  const root = join(outside, "root");
  symlinkSync(join(outside, "file"), join(root, "absolute"));
  symlinkSync("../file", join(root, "relative"));
  symlinkSync("directory/inner", join(root, "inside"));
  symlinkSync("/proc/self/fd", join(root, "magic"));
  symlinkSync("loop", join(root, "loop"));
  execFileSync("mkfifo", [join(root, "fifo")]);
  const ledger = new Ledger(t, "host_roots");
  await ledger.start([], { MAPLEDGER_OPEN_ROOTS: `${root}/:/nowhere/at/all` });
  const fds = `${await session(ledger)}/fds`;
  const open = (body: object): Promise<{ status: number; json: Json }> => ledger.ask("POST", fds, body);

  const opened = [
    { kind: "file", path: `${root}/file` },
    { kind: "file", path: `${root}/directory/../file` },
    { kind: "file", path: `${root}/inside` },
    { kind: "file", path: `${root}/directory` },
    { kind: "dir", path: root },
    { kind: "dir", path: `${root}//directory/` },
    { kind: "dir" },
    { kind: "file" },
  ];
  for (const body of opened) t.equal((await open(body)).status, 201, JSON.stringify(body));

  const refused: readonly [body: object, errno: string][] = [
    [{ kind: "file", path: `${outside}/file` }, "EACCES"],
    [{ kind: "file", path: "/etc/hostname" }, "EACCES"],
    [{ kind: "dir", path: `${root}/..` }, "EACCES"],
    [{ kind: "dir", path: outside }, "EACCES"],
    [{ kind: "dir", path: `${root}suffix` }, "EACCES"],
    [{ kind: "file", path: `${root}/../file` }, "EACCES"],
    [{ kind: "file", path: `${root}/directory/../../file` }, "EACCES"],
    [{ kind: "file", path: `${root}/absolute` }, "EACCES"],
    [{ kind: "file", path: `${root}/relative` }, "EACCES"],
    [{ kind: "file", path: `${root}/magic/0` }, "EACCES"],
    [{ kind: "file", path: `${root}/loop` }, "EACCES"],
    [{ kind: "cgroup", path: cgroups ?? "/sys/fs/cgroup" }, "EACCES"],
    [{ kind: "prog", pinned: "/sys/fs/bpf/program" }, "EACCES"],
    [{ kind: "file", path: "/nowhere/at/all/file" }, "ENOENT"],
    [{ kind: "file", path: `${root}/fifo` }, "EOPNOTSUPP"],
    [{ kind: "dir", path: `${root}/fifo` }, "ENOTDIR"],
    [{ kind: "cgroup", path: `${root}/directory` }, "EBADF"],
    [{ kind: "file", path: `${root}/nothing` }, "ENOENT"],
    [{ kind: "file", path: `${root}/${"x".repeat(300)}` }, "ENAMETOOLONG"],
  ];
  for (const [body, errno] of refused) {
    const { json } = await open(body);
    t.match(json, { errno, cmd: "OPEN" }, JSON.stringify(body));
    if (errno !== "EACCES") continue;
    t.match(json.detail, /MAPLEDGER_OPEN_ROOTS/);
    t.match(
      await ledger.must("GET", `/events/${json.seq}`),
      { errno: "EACCES", detail: json.detail },
      "it is an event",
    );
  }
  const noProgram = await open({ kind: "prog", pinned: `${root}/file` });
  t.match(
    noProgram.json,
    { errno: "EACCES", detail: `opening ${root}/file: EACCES` },
    "BPF_OBJ_GET takes nothing but pins",
  );
  await ledger.stop();
});

t.test("no path is looked at for a session that is not there, or another caller's", { skip }, async (t) => {
  const root = t.testdir({ file: "", tokens: "" });
  const hash = (token: string): string => execFileSync("sha256sum", { input: token }).toString().slice(0, 64);
  const tokens = join(root, "tokens");
  writeFileSync(tokens, `alice:${hash("alice")}\nbob:${hash("bob")}\n`, { mode: 0o600 });
  const ledger = new Ledger(t, "host_session");
  await ledger.start([], { MAPLEDGER_OPEN_ROOTS: root, MAPLEDGER_TOKENS: tokens });
  const as = async (caller: string, path: string, body: object): Promise<Json> => {
    const headers = { "content-type": "application/json", authorization: `Bearer ${caller}` };
    const init = { method: "POST", headers, body: JSON.stringify(body) };
    return (await (await fetch(`${ledger.url}/v1${path}`, init)).json()) as Json;
  };
  const { id } = await as("alice", "/sessions", {});
  const there = { kind: "file", path: join(root, "file") };
  const nothing = { kind: "file", path: join(root, "nothing") };
  for (const body of [there, nothing]) {
    t.match(await as("bob", `/sessions/${id}/fds`, body), { type: "urn:mapledger:problem:session-foreign" });
    t.match(await as("bob", "/sessions/4711/fds", body), { type: "urn:mapledger:problem:no-such-session" });
  }
  t.match(await as("alice", `/sessions/${id}/fds`, nothing), { errno: "ENOENT" });
  await ledger.stop();
});

t.test(
  "only cgroups that the ledger has made are removed, whatever they are called",
  { skip: skipCgroups },
  async (t) => {
    const stranger = join(cgroups as string, `mapledger-not-yours-${OWN_NAME}`);
    mkdirSync(stranger);
    t.teardown(() => rmdirSync(stranger));
    const ledger = new Ledger(t, "host_cgroups");
    await ledger.start();
    const own = await session(ledger);
    const open = async (body: object): Promise<string> => {
      const { fd } = await ledger.must("POST", `${own}/fds`, body);
      const { fds } = await ledger.must("GET", `${own}/fds`);
      const { object } = (fds as { fd: number; object: Json }[]).find((one) => one.fd === fd) as { object: Json };
      return object.path as string;
    };
    const close = async (): Promise<void> => {
      const { fds } = await ledger.must("GET", `${own}/fds`);
      for (const { fd } of fds as { fd: number }[]) await ledger.must("DELETE", `${own}/fds/${fd}`);
    };
    const notes = (): readonly string[] => readdirSync(join(ledger.data, "cgroups"));

    t.equal(await open({ kind: "cgroup", path: stranger }), stranger);
    const made = await open({ kind: "cgroup" });
    t.ok(existsSync(made));
    t.equal(notes().length, 1);
    await close();
    t.equal(existsSync(made), false, "its own is removed with the last descriptor");
    t.ok(existsSync(stranger), "a stranger's stays");
    t.same(notes(), []);

    const replaced = await open({ kind: "cgroup" });
    rmdirSync(replaced);
    mkdirSync(replaced);
    await close();
    t.ok(existsSync(replaced), "another that has taken its path stays");
    rmdirSync(replaced);

    const kept = await open({ kind: "cgroup" });
    const left = new MadeCgroups(join(ledger.data, "cgroups"));
    const [noted, moved] = [left.make(cgroups as string).path, left.make(cgroups as string).path];
    rmdirSync(moved);
    mkdirSync(moved);
    await ledger.end("SIGKILL");
    await ledger.start();
    t.ok(existsSync(kept), "what a descriptor still refers to stays through a kill");
    t.equal(existsSync(noted), false, "what no descriptor refers to is removed by the next start");
    t.ok(existsSync(moved), "but nothing that has taken its place");
    rmdirSync(moved);
    t.ok(existsSync(stranger));
    await close();
    t.equal(existsSync(kept), false, "and goes with it afterwards");
    await ledger.stop();
  },
);
