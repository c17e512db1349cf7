import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readlinkSync } from "node:fs";
import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { mapledger } from "../support/cli.ts";
import type { Json } from "../support/ledger.ts";
import { hash, u32 } from "../support/mirror.ts";
import { bpffs, Data, opened, unfitForMounts, valueAt } from "../support/pinning.ts";

const { MIRROR_LEAVE } = CMD;

function run(bpf: Bpf): void {
  /** Another program's map, pinned by it. */
  function strange(path: string): number {
    const fd = bpf.create({ ...hash, name: "strange" });
    const info = bpf.infoByFd(fd);
    const ret = bpf.pin(fd, path);
    bpf.close(fd);
    if (ret < 0 || typeof info === "number") throw new Error(`pinning ${path}: ${ret}`);
    return info.id;
  }

  t.test("mirror leave lists what is ours and removes just that", async (t) => {
    const { fs, root } = bpffs(t);
    const data = new Data(t, root);
    const none = await data.run("mirror", "leave");
    t.match(none, { code: 1, stderr: /is not a data directory/ });
    await data.start("required");
    const map = await data.map(1);
    await data.must("PUT", `/directories/${encodeURIComponent("/sys/fs/bpf/tc")}`);
    await data.must("POST", `/maps/${map}/pin`, { pathname: "/sys/fs/bpf/tc/routes" });
    const outside = strange(`${fs}/theirs`);
    const inside = strange(`${root}/own`);
    const { map: first } = await data.must("POST", "/maps/adopt", {
      pinned: `${fs}/theirs`,
      pathname: "/sys/fs/bpf/a",
    });
    const second = await data.must("POST", "/maps/adopt", { kernel_id: inside, pathname: "/sys/fs/bpf/own" });
    const [a, b] = [(first as Json).id, (second.map as Json).id];
    mkdirSync(`${root}/aside`);
    const foreign = [`${root}/aside/old`, `${root}/foreign`, `${root}/by_id/new_${map}`];
    for (const path of foreign) strange(path);
    const kernel = opened(bpf, `${root}/by_id/${map}`);
    t.teardown(() => bpf.close(kernel));
    const { id } = bpf.infoByFd(kernel) as { id: number };

    const listed = await data.run("mirror", "leave");
    t.match(listed, { code: 0, stderr: "" });
    const lines = listed.stdout.split("\n").filter((line) => !line.startsWith("log "));
    const stays = "not mapledger's, stays";
    t.same(
      lines.sort(),
      [
        "",
        `own pin    ${root}/by_id/${map}: map ${map} "routes", kernel map ${id}`,
        `own pin    ${root}/by_id/${a}: map ${a} "strange", kernel map ${outside}`,
        `own pin    ${root}/by_id/${b}: map ${b} "strange", kernel map ${inside}`,
        `session's  ${root}/tc/routes: map ${map} "routes", kernel map ${id}`,
        `session's  ${root}/a: map ${a} "strange", kernel map ${outside}`,
        `kept       ${root}/carried`,
        `kept       ${root}/refused`,
        `kept       ${root}/owner`,
        `owner's    ${root}/own: map ${b} "strange", kernel map ${inside}: ${stays}`,
        `aside      ${root}/aside/old: ${stays}`,
        `foreign    ${root}/foreign: ${stays}`,
        `foreign    ${root}/by_id/new_${map}: ${stays}`,
      ].sort(),
    );
    const running = await data.run("mirror", "leave", "--unpin");
    t.match(running, { code: 1, stderr: /another mapledger is using it: stop it first/ });
    await data.stop();

    execFileSync("mount", ["--bind", `${root}/tc/routes`, `${root}/tc/routes`]);
    const busy = await data.run("mirror", "leave", "--unpin");
    execFileSync("umount", [`${root}/tc/routes`]);
    t.match(busy, { code: 1, stderr: new RegExp(`${root}/tc/routes was not removed: EBUSY`) });
    t.ok(existsSync(`${root}/tc/routes`));
    t.same(readdirSync(`${root}/by_id`), [`new_${map}`], "the others are gone");
    t.ok(readlinkSync(`${root}/owner`), "the mark stays as long as anything does");
    t.match(data.events(MIRROR_LEAVE), [
      {
        caller: /^user:/,
        attr: {
          directory: root,
          removed: [
            `${root}/a`,
            `${root}/tc/routes`,
            `${root}/by_id/${map}`,
            `${root}/by_id/${a}`,
            `${root}/by_id/${b}`,
            `${root}/carried`,
            `${root}/refused`,
            `${root}/owner`,
          ],
        },
      },
    ]);
    for (const path of [...foreign, `${root}/own`, `${fs}/theirs`]) t.ok(existsSync(path), path);
    t.equal(bpf.lookup(kernel, u32(1), Buffer.alloc(8)), 0, "whoever has the kernel map open has it still");
  });

  t.test("mirror leave leaves nothing behind, and a start makes own kernel maps anew", async (t) => {
    const { fs, root } = bpffs(t);
    const data = new Data(t, root);
    await data.start("required");
    const map = await data.map(1);
    await data.must("PUT", `/directories/${encodeURIComponent("/sys/fs/bpf/tc")}`);
    await data.must("POST", `/maps/${map}/pin`, { pathname: "/sys/fs/bpf/tc/routes" });
    const other = new Data(t, `${fs}/elsewhere`);
    const nothing = await mapledger("mirror", "leave", "--data", data.path, "--bpffs", other.root);
    t.match(nothing, { code: 0, stdout: /elsewhere has no mark of mapledger/ });
    t.notOk(existsSync(other.root), "looking makes nothing");
    const kernel = opened(bpf, `${root}/by_id/${map}`);
    t.teardown(() => bpf.close(kernel));
    const { id } = bpf.infoByFd(kernel) as { id: number };
    await data.stop();
    const before = readdirSync(fs);
    const left = await data.run("mirror", "leave", "--unpin");
    t.match(left, { code: 0, stderr: "", stdout: /makes new kernel maps for its own/ });
    t.same(
      readdirSync(fs),
      before.filter((name) => name !== "ml"),
      "its directories are gone, too",
    );
    t.match(await data.run("mirror", "leave", "--unpin"), { code: 0, stdout: /^nothing was removed/ });
    t.equal(data.events(MIRROR_LEAVE).length, 1);
    await data.start("required");
    t.equal(valueAt(bpf, `${root}/by_id/${map}`, 1), 1);
    const { mirror } = (await data.must("GET", `/maps/${map}`)) as { mirror: Json };
    t.not(mirror.kernel_id, id, "another kernel map");
    t.ok(existsSync(`${root}/tc/routes`));
  });
}

const reason = unfitForMounts();
if (reason === null) run(openBpf() as Bpf);
else t.pass("bpf(2)", { skip: reason });
