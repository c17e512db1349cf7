import t from "tap";
import { replay } from "./replay.ts";
import { Service } from "./service.ts";
import { readTranscripts } from "./transcript.ts";

for (const transcript of readTranscripts())
  t.test(`transcript ${transcript.name}: ${transcript.title}`, async (t) => {
    const service = new Service();
    const report = replay(service, transcript);
    for (const { line, out } of report.wrong) t.fail(`${JSON.stringify(line).slice(0, 400)}   but   ${JSON.stringify(out).slice(0, 300)}`);
    t.comment(report.replayed, [...report.skipped]);
    const cells = service.cells();
    t.same(cells.fold, cells.state);
    t.pass();
  });
