import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { interfaces } from "../../src/host.ts";
import type { ObjectRecord } from "../../src/maps/object.ts";
import { connectionsMax, streamLimit, threadConnectionsMax } from "../../src/mirror/descriptor_limit.ts";
import { Layout } from "../../src/mirror/layout.ts";
import { openForSession } from "../../src/mirror/object_opener.ts";
import { ObjectTable } from "../../src/mirror/object_table.ts";
import { bootId, startTimeOf } from "../../src/mirror/pidfd.ts";
import { PinTree } from "../../src/mirror/pin_tree.ts";
import { DEFAULT_PLACES } from "../../src/mirror/real_objects.ts";
import { WatchedProcesses } from "../../src/mirror/watched_processes.ts";
import { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { hash } from "../support/mirror.ts";
import { withoutDescriptors } from "../support/no_descriptors.ts";

/** What cannot be asked for want of descriptors is not taken for an answer. */
const skip = unfitForKernel() ?? false;

function kernel(): Bpf {
  const bpf = openBpf();
  if (!(bpf instanceof Bpf)) throw new Error(bpf.off);
  return bpf;
}

t.test("connections take half of the descriptors that the service does not need itself", (t) => {
  t.equal(connectionsMax(1024), 432);
  t.equal(connectionsMax(300), 70);
  t.equal(connectionsMax(100), 16);
  t.equal(connectionsMax(null), null);
  t.equal(threadConnectionsMax(216, 1), 216);
  t.equal(threadConnectionsMax(216, 2), 54, "three descriptors a connection of an HTTP thread");
  t.equal(threadConnectionsMax(1, 4), 1);
  t.end();
});

t.test("streams leave a quarter of a listener's connections to requests", (t) => {
  t.same(streamLimit(10_000, 2, 1024), { most: 162, by: "RLIMIT_NOFILE" });
  t.same(streamLimit(10_000, 1, 1024), { most: 324, by: "RLIMIT_NOFILE" });
  t.same(streamLimit(100, 2, 1024), { most: 100, by: "MAPLEDGER_STREAMS_MAX" });
  t.same(streamLimit(10_000, 2, null), { most: 10_000, by: "MAPLEDGER_STREAMS_MAX" });
  t.same(streamLimit(10_000, 2, 1024, 2), { most: 81, by: "RLIMIT_NOFILE" }, "of two HTTP threads");
  t.same(streamLimit(10_000, 2, 1024, 4), { most: 63, by: "RLIMIT_NOFILE" });
  t.end();
});

t.test("interfaces that cannot be read are not gone", { skip }, (t) => {
  const there = interfaces();
  t.ok(there?.includes(1));
  t.equal(
    withoutDescriptors(() => interfaces()),
    null,
  );
  t.equal(interfaces("/nowhere/at/all"), null, "sysfs is not mounted");
  const directory = t.testdir({ eth0: { ifindex: "7\n" }, lo: { ifindex: "1\n" }, gone: {}, bonding_masters: "" });
  t.same(interfaces(directory), [1, 7], "one that goes meanwhile is, and what is no interface is none");
  t.end();
});

t.test("a session's process has not exited because no pidfd could be opened", { skip }, async (t) => {
  const child = spawn("sleep", ["600"], { stdio: "ignore" });
  const pid = child.pid as number;
  const process = { pid, uid: 0, startTime: startTimeOf(pid), boot: bootId() };
  const processes = new WatchedProcesses();
  withoutDescriptors(() => {
    processes.watch(1, process);
    t.same(processes.exited(), [], "it lives, as far as anybody knows");
  });
  t.same(processes.exited(), []);
  processes.watch(2, { ...process, startTime: "1" });
  t.same(processes.exited(), [2], "another process has the pid of this one");
  processes.forget(2);
  child.kill("SIGKILL");
  await once(child, "exit");
  t.same(processes.exited(), [1]);
  processes.forget(1);
});

t.test("objects that could not be opened at a start have not ended, and are taken up later", { skip }, async (t) => {
  const bpf = kernel();
  const root = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .find((line) => line.split(" ")[2] === "cgroup2");
  const path = mkdtempSync(join(root?.split(" ")[1] ?? "/", "test-"));
  t.teardown(() => rmdirSync(path));
  const recordOf = (id: number, spec: Parameters<typeof openForSession>[1]): ObjectRecord => {
    const opened = openForSession(bpf, spec, DEFAULT_PLACES);
    if (!("held" in opened) || !("facts" in opened.found)) throw new Error(`opening a ${spec.kind}`);
    bpf.close(opened.held?.fd as number);
    return { id, ...opened.found.facts } as ObjectRecord;
  };
  const records = [recordOf(1, { kind: "pidfd", pid: process.pid }), recordOf(2, { kind: "cgroup", path })];
  const objects = new ObjectTable(bpf, DEFAULT_PLACES);
  withoutDescriptors(() => {
    objects.takeUp(records);
    t.same(objects.ended(), []);
    t.match(openForSession(bpf, { kind: "pipe" }, DEFAULT_PLACES), { later: "making a pipe: the service has EMFILE" });
  });
  t.equal(objects.fd(1), undefined);
  t.same(objects.ended(), []);
  t.ok(objects.fd(1) !== undefined && objects.fd(2) !== undefined);
  objects.close();
});

t.test("a pin that cannot be opened is not gone, and names no other map", { skip }, (t) => {
  const bpf = kernel();
  const root = mkdtempSync(join(BPFFS, "mlnofd"));
  const tree = new PinTree(bpf, new Layout(root));
  const path = join(root, "pin");
  const fd = bpf.create(hash);
  t.equal(bpf.pin(fd, path), 0);
  t.teardown(() => {
    tree.unpin("/sys/fs/bpf/pin", () => true);
    rmdirSync(root);
  });
  const id = tree.idAt(path) as number;
  t.ok(id > 0);
  withoutDescriptors(() => {
    t.equal(tree.lookAt(path), "unknown");
    t.equal(
      tree.unpin("/sys/fs/bpf/pin", () => true),
      null,
    );
  });
  t.equal(tree.lookAt(path), id, "it is still there");
  bpf.close(fd);
  t.end();
});
