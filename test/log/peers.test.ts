import { test } from "tap";
import { CMD, UNKNOWN_CMD } from "../../src/abi/service.ts";
import { eventRow, rowEvent } from "../../src/log/event.ts";
import { eventJson } from "../../src/log/event_json.ts";
import type { Action } from "../../src/syscall/command.ts";
import { done } from "../../src/syscall/outcome.ts";
import { createAttr } from "../support/commands.ts";

const target = { by: "id", id: 7 } as const;
const key = Buffer.alloc(4);
const origin = { session: 0, caller: "bob", timeUs: 1 };

const ACTIONS: readonly Action[] = [
  { cmd: CMD.BPF_MAP_UPDATE_ELEM, target, key, value: key, flags: 0n, exact: false },
  { cmd: CMD.BPF_MAP_FREEZE, target, key: null, value: null, flags: 0n, exact: false },
  { cmd: CMD.BPF_MAP_CREATE, attr: createAttr({}) },
  { cmd: CMD.SESSION_OPEN, attr: { name: "x", ttlMs: 7 } },
  { cmd: CMD.OPEN, attr: { kind: "pipe" } },
  { cmd: CMD.DUP, fd: 3 },
  { cmd: CMD.UNLINK, attr: { pathname: "/x" } },
  { cmd: CMD.ACCESS_REFUSED, attr: { scope: "read", request: "GET /", more: 0 } },
  { cmd: CMD.MIRROR_DECIDE, target, attr: { take: "ledger", keys: null } },
  { cmd: CMD.MIRROR_TAKE_OVER, attr: { directory: "/x", owner: "y" } },
  { cmd: CMD.MIRROR_POLICY, target, attr: { policy: "report", intervalMs: 7 } },
  { cmd: UNKNOWN_CMD, number: 5, name: "BPF_PROG_LOAD" },
];

test("an event keeps its peer in attr, and is as it was without one", async (t) => {
  for (const action of ACTIONS)
    for (const peer of ["127.0.0.1", "uid=1000 pid=7", 'a"b,{}', undefined]) {
      const command = { ...action, ...origin, ...(peer !== undefined && { peer }) };
      const row = eventRow({ seq: 9, command, outcome: done(7) });
      const without = eventRow({ seq: 9, command: { ...action, ...origin }, outcome: done(7) });
      if (peer === undefined) t.same(row, without);
      else
        t.same(
          JSON.parse(row.attr ?? "{}"),
          { ...JSON.parse(without.attr ?? "{}"), peer },
          `${action.cmd} with ${peer}`,
        );
      const read = rowEvent(row);
      t.equal(read.command.peer, peer);
      t.same(eventRow(read), row, "and is read back");
      t.match(eventJson(row, "the session's"), { peer: peer ?? "the session's" });
      t.same((eventJson(row) as { attr: unknown }).attr, without.attr && JSON.parse(without.attr));
    }
});
