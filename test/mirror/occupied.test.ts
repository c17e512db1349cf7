import { existsSync, lstatSync, mkdirSync, rmdirSync, rmSync, symlinkSync, unlinkSync } from "node:fs";
import t, { type Test } from "tap";
import { BPF_PROG_TYPE } from "../../src/abi/bpf.ts";
import { openRealObject } from "../../src/mirror/real_objects.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { type Json, Ledger } from "../support/ledger.ts";
import { hash } from "../support/mirror.ts";

/** What some other program may have put where a pin or a directory is to be, and whether a directory can be had there. */
interface Foreign {
  readonly kind: string;
  readonly make: (path: string) => void;
  readonly remove: (path: string) => void;
  readonly isDirectory: boolean;
}

function run(bpf: Bpf): void {
  /** Another program's map, open for the whole test. */
  function strange(t: Test): { fd: number; id: number } {
    const fd = bpf.create(
      { ...hash, name: "strange" },
      { innerMapFd: 0, btfFd: 0, btfKeyTypeId: 0, btfValueTypeId: 0 },
    );
    if (fd < 0) throw new Error(`creating a map: ${fd}`);
    t.teardown(() => bpf.close(fd));
    const info = bpf.infoByFd(fd);
    if (typeof info === "number") throw new Error(`its info: ${info}`);
    return { fd, id: info.id };
  }

  function program(t: Test): number {
    const opened = openRealObject(bpf, { kind: "prog", progType: BPF_PROG_TYPE.BPF_PROG_TYPE_XDP });
    if (!("facts" in opened)) throw new Error("loading a program");
    t.teardown(() => bpf.close(opened.fd));
    return opened.fd;
  }

  function pin(fd: number, path: string): void {
    const ret = bpf.pin(fd, path);
    if (ret < 0) throw new Error(`pinning at ${path}: ${ret}`);
  }

  function foreign(t: Test): readonly Foreign[] {
    const [map, prog] = [strange(t).fd, program(t)];
    return [
      { kind: "a map", make: (path) => pin(map, path), remove: unlinkSync, isDirectory: false },
      { kind: "a program", make: (path) => pin(prog, path), remove: unlinkSync, isDirectory: false },
      { kind: "a directory", make: (path) => mkdirSync(path), remove: rmdirSync, isDirectory: true },
      { kind: "a link", make: (path) => symlinkSync(BPFFS, path), remove: unlinkSync, isDirectory: false },
    ];
  }

  async function started(t: Test, name: string): Promise<Ledger> {
    const ledger = new Ledger(t, name);
    await ledger.start();
    return ledger;
  }

  const urlOf = (pathname: string): string => `/directories/${encodeURIComponent(pathname)}`;

  /** All that the ledger has on bpffs. */
  async function paths(ledger: Ledger): Promise<object> {
    return { ...(await ledger.must("GET", "/pins")), ...(await ledger.must("GET", "/directories")) };
  }

  async function last(ledger: Ledger, cmd: string): Promise<Json> {
    return (await ledger.events(cmd)).at(-1) as Json;
  }

  /** Of all tests that do not stop it. The first ones leave nothing on bpffs. */
  const ledger = new Ledger(t, "occupied");
  t.before(() => ledger.start());

  t.test(
    "a pin onto a foreign object is refused, and said why in its event; once that is gone it succeeds",
    async (t) => {
      const map = await ledger.map({});
      for (const { kind, make, remove } of foreign(t)) {
        const path = `${ledger.root}/taken`;
        const pathname = `${BPFFS}/taken`;
        make(path);
        const { ino } = lstatSync(path);
        const refused = await ledger.ask("POST", `/maps/${map}/pin`, { pathname });
        t.match(refused, { status: 409, json: { errno: "EEXIST" } }, kind);
        t.match(refused.json.detail, `at ${path} that the ledger does not have`);
        t.match(await last(ledger, "BPF_OBJ_PIN"), {
          errno: "EEXIST",
          detail: refused.json.detail,
          map,
          attr: { pathname, found: { errno: "EEXIST", detail: refused.json.detail } },
        });
        t.same(await paths(ledger), { pins: [], next: null, directories: [] });
        t.equal(lstatSync(path).ino, ino, "it is left alone");
        remove(path);
        await ledger.must("POST", `/maps/${map}/pin`, { pathname });
        t.equal((await last(ledger, "BPF_OBJ_PIN")).errno, null);
        t.ok(existsSync(path));
        await ledger.must("DELETE", `/pins/${encodeURIComponent(pathname)}`);
      }
      t.same(await ledger.events("MIRROR_REFUSED"), []);
      t.match(await ledger.must("GET", `/maps/${map}`), { mirror: { state: "on" } });
    },
  );

  t.test("a directory onto a foreign object is refused; onto a foreign directory it is as good as made", async (t) => {
    for (const { kind, make, remove, isDirectory } of foreign(t)) {
      const path = `${ledger.root}/taken`;
      const pathname = `${BPFFS}/taken`;
      make(path);
      const answer = await ledger.ask("PUT", urlOf(pathname));
      if (isDirectory) t.equal(answer.status, 200, kind);
      else {
        t.match(answer, { status: 409, json: { errno: "EEXIST" } }, kind);
        t.match(await last(ledger, "MKDIR"), { errno: "EEXIST", attr: { pathname, found: { errno: "EEXIST" } } });
        t.same(await paths(ledger), { pins: [], next: null, directories: [] });
        remove(path);
        await ledger.must("PUT", urlOf(pathname));
      }
      t.ok(lstatSync(path).isDirectory());
      await ledger.must("DELETE", urlOf(pathname));
    }
    t.same(await ledger.events("MIRROR_REFUSED"), []);
  });

  t.test("a restore that would pin onto a foreign object is refused as a whole", async (t) => {
    const session = await ledger.must("POST", "/sessions", {});
    const attr = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 8, max_entries: 64 };
    const { map_id: map, fd } = await ledger.must("POST", `/sessions/${session.id}/maps`, attr);
    await ledger.must("POST", `/maps/${map}/pin`, { pathname: "a" });
    const { seq: at } = await ledger.must("POST", `/maps/${map}/pin`, { pathname: "b" });
    for (const name of ["a", "b"]) await ledger.must("DELETE", `/pins/${encodeURIComponent(`${BPFFS}/${name}`)}`);
    await ledger.must("DELETE", `/sessions/${session.id}/fds/${fd}`);
    pin(strange(t).fd, `${ledger.root}/b`);
    const seq = await ledger.lastSeq();
    t.match(await ledger.ask("POST", `/maps/${map}/restore`, { at }), { status: 409, json: { errno: "EEXIST" } });
    t.equal(await ledger.lastSeq(), seq, "none of its commands has happened");
    t.same(await paths(ledger), { pins: [], next: null, directories: [] });
    t.notOk(existsSync(`${ledger.root}/a`));
    unlinkSync(`${ledger.root}/b`);
    const { created } = await ledger.must("POST", `/maps/${map}/restore`, { at });
    t.match(await ledger.must("GET", `/maps/${(created as Json).map_id}`), {
      pinned: [`${BPFFS}/a`, `${BPFFS}/b`],
      mirror: { state: "on" },
    });
  });

  t.test("what lies in a foreign directory is in the way below it", async (t) => {
    const map = await ledger.map({});
    mkdirSync(`${ledger.root}/tc`);
    pin(strange(t).fd, `${ledger.root}/tc/taken`);
    await ledger.must("PUT", urlOf(`${BPFFS}/tc`));
    t.match(await ledger.ask("POST", `/maps/${map}/pin`, { pathname: "tc/taken" }), { json: { errno: "EEXIST" } });
    await ledger.must("POST", `/maps/${map}/pin`, { pathname: "tc/free" });
  });

  t.test("the mirror's own places are nobody's, and a path above which nothing is stays ENOENT", async (t) => {
    const map = await ledger.map({});
    for (const name of ["by_id", "owner", "carried"]) {
      const pathname = `${BPFFS}/${name}`;
      for (const [asked, cmd] of [
        [await ledger.ask("POST", `/maps/${map}/pin`, { pathname }), "BPF_OBJ_PIN"],
        [await ledger.ask("PUT", urlOf(pathname)), "MKDIR"],
      ] as const) {
        t.match(asked, { status: 409, json: { errno: "EEXIST" } }, `${cmd} ${name}`);
        t.match(asked.json.detail, `${pathname} is reserved`);
        t.match(await last(ledger, cmd), { errno: "EEXIST", attr: { found: { errno: "EEXIST" } } });
      }
      const below = await ledger.ask("POST", `/maps/${map}/pin`, { pathname: `${pathname}/${map}` });
      t.match(below, { status: 404, json: { errno: "ENOENT" } });
    }
    t.same(await ledger.events("MIRROR_REFUSED"), []);
  });

  t.test("a pin that has the same kernel map already is as good as the new one; another map's is not", async (t) => {
    const [map, other] = [await ledger.map({}), await ledger.map({})];
    const fd = bpf.get(`${ledger.root}/by_id/${map}`);
    t.teardown(() => bpf.close(fd));
    pin(fd, `${ledger.root}/left`);
    t.match(await ledger.ask("POST", `/maps/${other}/pin`, { pathname: "left" }), { json: { errno: "EEXIST" } });
    await ledger.must("POST", `/maps/${map}/pin`, { pathname: "left" });
    t.same(await ledger.events("MIRROR_REFUSED"), []);
  });

  t.test("a state that is made again from the log has what was refused as little as before", async (t) => {
    const ledger = await started(t, "again");
    const map = await ledger.map({});
    const decided = async (): Promise<Json[]> => [
      ...(await ledger.events("BPF_OBJ_PIN")),
      ...(await ledger.events("MKDIR")),
    ];
    const path = `${ledger.root}/taken`;
    pin(strange(t).fd, path);
    await ledger.ask("POST", `/maps/${map}/pin`, { pathname: "taken" });
    await ledger.ask("PUT", urlOf(`${BPFFS}/taken`));
    await ledger.must("POST", `/maps/${map}/pin`, { pathname: "free" });
    const [before, events] = [await paths(ledger), await decided()];
    t.equal(events.length, 3);
    for (const args of [[], ["--rebuild"]]) {
      rmSync(path, { force: true });
      await ledger.stop();
      await ledger.start(args);
      t.same(await paths(ledger), before, `the same paths with ${args}`);
      t.same(await decided(), events);
      t.ok(existsSync(`${ledger.root}/free`));
      t.notOk(existsSync(path), "a redo has asked nobody, and pinned nothing");
    }
    await ledger.must("POST", `/maps/${map}/pin`, { pathname: "taken" });
  });

  t.test(
    "a map that is pinned where the ledger would pin another can be adopted by its pin, which stays",
    async (t) => {
      const ledger = await started(t, "adopt");
      const { fd, id } = strange(t);
      const other = strange(t);
      pin(fd, `${ledger.root}/strange`);
      const refused = await ledger.ask("POST", "/maps/adopt", { kernel_id: other.id });
      t.match(refused, { status: 409, json: { errno: "EEXIST" } });
      t.same((await ledger.must("GET", "/maps")).maps, []);
      const { map } = await ledger.must("POST", "/maps/adopt", { pinned: `${ledger.root}/strange` });
      t.match(map, { pinned: [`${ledger.root}/strange`], mirror: { state: "on", kernel_id: id } }, "below its bpffs");
      const { ino } = lstatSync(`${ledger.root}/strange`);
      await ledger.must("DELETE", `/pins/${encodeURIComponent(`${ledger.root}/strange`)}`);
      t.equal(lstatSync(`${ledger.root}/strange`).ino, ino);
      t.same(await ledger.events("MIRROR_REFUSED"), []);
    },
  );
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
