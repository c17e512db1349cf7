import { runArchive } from "../../src/data/archive_job.ts";

/** Prepares an archive and is killed at a step of it. */
const [data = "", before = "", step = ""] = process.argv.slice(2);
await runArchive({ data, directory: "", before }, { treeSize: 999, segmentEvents: 50 }, (progress) => {
  if (progress.step === step) process.kill(process.pid, "SIGKILL");
});
