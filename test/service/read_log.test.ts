import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "tap";
import { SILENT_READS } from "../../src/http/server/read_log.ts";
import { ROUTE_SCOPES } from "../../src/http/server/route_scopes.ts";
import { startService } from "../support/service_process.ts";
import { ask } from "../support/unix_client.ts";

/** Reads that are commands, so that events tell of them. */
const COMMANDS = /^(lookupElement|listElements|nextKey|peekElement|lookupBatch|readMemory)(OfMap)?$/;

test("every operation that reads is a command, or leaves a line", async (t) => {
  for (const [operation, need] of Object.entries(ROUTE_SCOPES)) {
    const reads = Array.isArray(need) && need.length === 1 && need[0] === "read";
    if (reads) t.ok(COMMANDS.test(operation) !== SILENT_READS.has(operation), operation);
  }
  for (const operation of SILENT_READS) t.ok(Object.hasOwn(ROUTE_SCOPES, operation), operation);
});

test("reads that leave no event leave a line in the service's log, if that is set", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-reads-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const start = async (data: string, settings: Record<string, string>) => {
    const service = await startService({ MAPLEDGER_DATA: join(folder, data), MAPLEDGER_MIRROR: "off", ...settings });
    t.teardown(() => service.child.kill("SIGKILL"));
    const socket = join(folder, data, "mapledger.sock");
    await ask(socket, "POST", "/v1/sessions", {});
    const attr = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 4, map_name: "m" };
    await ask(socket, "POST", "/v1/sessions/1/maps", attr);
    await ask(socket, "GET", "/v1/maps/1/elements/00000001");
    await ask(socket, "GET", "/v1/maps/1/elements/00000001?at=2");
    await ask(socket, "GET", "/v1/maps/name:m/elements/00000001/history");
    await ask(socket, "GET", "/v1/events?map=1");
    await ask(socket, "GET", "/v1/events/2");
    await ask(socket, "GET", `/v1/maps/${encodeURIComponent(`\u001b[2J\n${"x".repeat(3000)}`)}/diff?from=1`);
    await service.end("SIGTERM");
    return service.lines.filter(({ msg }) => msg === "read");
  };
  const lines = await start("on", { MAPLEDGER_READ_LOG: "on" });
  const peer = `uid=${process.getuid?.()} pid=${process.pid}`;
  t.match(lines, [
    { caller: "owner", peer, operation: "lookupElementOfMap", map: "1", at: "2" },
    { caller: "owner", peer, operation: "elementHistory", map: "name:m" },
    { operation: "listEvents", map: "1", request: "GET /v1/events" },
    { operation: "getEvent", seq: "2" },
    { operation: "diffMap" },
  ]);
  t.equal(lines.length, 5);
  const hostile = JSON.stringify(lines[4]);
  t.ok(hostile.length < 1500);
  t.match(lines[4], { map: /^\\u001b\[2J\\u000ax+$/ }, "what a caller has written is shown, not sent to a terminal");
  t.same(await start("off", {}), []);
});
