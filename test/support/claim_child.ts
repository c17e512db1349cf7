import { DirectoryLock } from "../../src/mirror/lock.ts";
import { ProgressMap } from "../../src/mirror/progress_map.ts";
import { openBpf } from "../../src/native/probe.ts";
import { hashOfSeq, MAPS } from "./progress.ts";

/** Another process in a directory of pins: `hold` takes its lock, `write` writes its progress map until it is killed. */
const [what = "", path = ""] = process.argv.slice(2);
const bpf = openBpf();
if ("off" in bpf) throw new Error(bpf.off);
if (what === "hold") {
  const lock = DirectoryLock.take(bpf, path);
  console.log(JSON.stringify(lock instanceof DirectoryLock ? { held: true } : lock));
  setInterval(() => {}, 1000);
} else {
  const progress = ProgressMap.open(bpf, path);
  if (typeof progress === "number") throw new Error(`opening ${path}: ${progress}`);
  const first = (progress.all()?.seq ?? 0) + 1;
  for (let seq = first; ; seq++) {
    const mapId = 1 + (seq % MAPS);
    const ret = progress.exceptions().has(mapId) ? progress.caughtUp(mapId) : progress.keep(mapId, seq - 1);
    const refused = ret || progress.reached(seq) || (seq % 3 === 0 ? progress.identify(hashOfSeq(seq)) : 0);
    if (refused !== 0) throw new Error(`event ${seq}: ${refused}`);
    // It has come further, however soon it is killed.
    if (seq === first) console.log("{}");
  }
}
