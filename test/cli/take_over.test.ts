import { spawn } from "node:child_process";
import { once } from "node:events";
import { readlinkSync } from "node:fs";
import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import { ProgressMap, type Reached } from "../../src/mirror/progress_map.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { hex, type Json } from "../support/ledger.ts";
import { u32, u64 } from "../support/mirror.ts";
import { lastSeqIn } from "../support/mirror_rounds.ts";
import { bpffs, Data, opened, unfitForMounts, valueAt } from "../support/pinning.ts";
import { bare } from "../support/service_process.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const KILL_AT = new URL("../support/kill_at.ts", import.meta.url).href;

const { MIRROR_TAKE_OVER, MIRROR_LEAVE } = CMD;

/** `mapledger take-over`, killed where it would call a function of node:fs; answers the signal that ended it. */
async function killedAt(call: string, data: Data): Promise<NodeJS.Signals | null> {
  const words = ["take-over", "--data", data.path, "--bpffs", data.root];
  const child = spawn(process.execPath, ["--import", KILL_AT, MAIN, ...words], {
    stdio: "ignore",
    env: { ...bare(process.env), KILL_AT: call },
  });
  return (await once(child, "exit"))[1] as NodeJS.Signals | null;
}

function run(bpf: Bpf): void {
  function drift(path: string, key: number, value: number): void {
    const fd = opened(bpf, path);
    bpf.update(fd, u32(key), u64(value));
    bpf.close(fd);
  }

  t.test("take-over makes another log's kernel maps this one's, and nothing is written to them", async (t) => {
    const { root } = bpffs(t);
    const [former, next] = [new Data(t, root), new Data(t, root)];
    const pin = `${root}/by_id/1`;
    await former.start("required");
    await former.map(1);
    await next.start("off");
    await next.map(2);
    const running = await next.run("take-over");
    t.match(running, { code: 1, stderr: /another mapledger is using it: stop it, or ask it with --url/ });
    await next.stop();
    const held = await next.run("take-over");
    t.match(held, { code: 1, stderr: new RegExp(`${root} is held by process ${former.service?.child.pid}`) });
    t.same(next.events(MIRROR_TAKE_OVER), [], "what is refused is no event");
    await former.must("GET", `/maps/1/elements/${hex(u32(1))}`);
    await former.stop();
    const progress = ProgressMap.open(bpf, `${root}/carried`) as ProgressMap;
    const { seq, hashed } = progress.all() as Reached;
    progress.close();
    t.equal(seq, lastSeqIn(former.path), "a service that has stopped has come to the log's end, whatever came last");
    t.equal(hashed?.seq, seq, "and has hashed that event");
    drift(pin, 1, 777);
    const formers = readlinkSync(`${root}/owner`);

    for (const call of ["unlinkSync", "symlinkSync"]) {
      const before = next.events(MIRROR_TAKE_OVER).length;
      t.equal(await killedAt(call, next), "SIGKILL", `killed at ${call}`);
      t.equal(next.events(MIRROR_TAKE_OVER).length, before + 1, "the event is in the log");
      t.equal(readlinkSync(`${root}/owner`), formers, "the mark is still the other log's");
    }
    await next.start();
    t.match(next.said, /kernel mirror off: .*take-over/, "the mirror stays off");
    await next.stop();
    t.equal(valueAt(bpf, pin, 1), 777);

    const taken = await next.run("take-over");
    t.match(taken, { code: 0, stdout: /every map is undecided/ });
    t.match(next.events(MIRROR_TAKE_OVER).at(-1), {
      caller: /^user:/,
      attr: { directory: root, owner: new RegExp(`^log .* in ${former.path}$`) },
    });
    t.match(readlinkSync(`${root}/owner`), encodeURIComponent(next.path));
    t.same(await next.undecided(), [true]);
    t.match(await next.run("take-over"), { code: 1, stderr: /there is nothing to take over/ });

    await next.start("required");
    t.match(await next.must("GET", "/maps/1"), { mirror: { state: "on" } });
    const { events } = (await next.must("GET", "/events?cmd=MIRROR_DRIFT")) as { events: Json[] };
    t.match(events, [{ attr: { policy: "report", changed: 1, at: "start" } }]);
    await next.must("PUT", `/maps/1/elements/${hex(u32(2))}`, { value: hex(u64(2)) });
    t.equal(valueAt(bpf, pin, 1), 777, "what differs is left");
    t.equal(valueAt(bpf, pin, 2), 2, "and the map is followed");
    t.same(await next.undecided(), [true]);
    t.match(await former.run("mirror", "leave"), { code: 1, stderr: /the kernel maps follow the log/ });
    t.match(await former.run("mirror", "leave", "--unpin"), { code: 1, stderr: /is held by process/ });
    await next.stop();
    t.match(await former.run("mirror", "leave", "--unpin"), { code: 1, stderr: /the kernel maps follow the log/ });
    t.same(former.events(MIRROR_LEAVE), []);
    t.equal(valueAt(bpf, pin, 1), 777, "another log's kernel maps are not removed");
  });
}

const reason = unfitForMounts();
if (reason === null) run(openBpf() as Bpf);
else t.pass("bpf(2)", { skip: reason });
