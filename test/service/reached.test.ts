import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "tap";
import { startService } from "../support/service_process.ts";

test("metrics say how far index and history have come: to the log's end, without a request for them", async (t) => {
  const data = mkdtempSync(join(tmpdir(), "mapledger-reached-"));
  t.teardown(() => rmSync(data, { recursive: true }));
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  t.teardown(() => service.end("SIGTERM"));
  const created = await fetch(`${service.url}/v1/sessions`, {
    method: "POST",
    body: "{}",
    headers: { "content-type": "application/json" },
  });
  const { seq } = (await created.json()) as { seq: number };
  const reached = async (): Promise<number[]> => {
    const text = await (await fetch(`${service.url}/metrics`)).text();
    return ["index", "history"].map((part) =>
      Number(new RegExp(`^mapledger_${part}_seq (\\d+)$`, "m").exec(text)?.[1]),
    );
  };
  let seqs = await reached();
  while (!seqs.every((one) => one >= seq)) {
    await sleep(50);
    seqs = await reached();
  }
  t.ok(seq > 0, `${seqs} of ${seq}`);
});
