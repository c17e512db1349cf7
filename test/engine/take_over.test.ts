import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import { IGNORE } from "../../src/engine/followers.ts";
import { KernelMaps } from "../../src/engine/kernel_maps.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { LogEnd, Mirror } from "../../src/engine/ports.ts";
import type { Request, WholeReply } from "../../src/engine/request.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { done } from "../../src/syscall/outcome.ts";
import { State } from "../../src/syscall/state.ts";
import { HOST } from "../support/commands.ts";

const ORDER = { what: "take over", directory: "/x", caller: "operator" } as const;
const LOG: LogEnd = { id: "log", life: "life", lastSeq: 7, hashOf: () => null };

/** What happens in which order if a take-over is ordered, and what it answers. */
function ordered(reply: WholeReply, unmarked: string | null, off: string | null = "another log's") {
  const happened: unknown[] = [];
  const state = new State(new MemoryCells(), HOST, IGNORE);
  const mirror: Mirror = {
    ...disabledMirror("off"),
    follows: true,
    off,
    takeOver(_log, record) {
      const why = record("log former in /former");
      if (why === null) happened.push("mark");
      return why ?? unmarked;
    },
  };
  const kernelMaps = new KernelMaps({
    mirror,
    state,
    history: { log: LOG, past: { since: () => Promise.resolve(null), stood: () => Promise.resolve(null) } },
    commands: {
      run: () => true,
      runWhole([request]) {
        happened.push(request);
        return reply;
      },
      note: (request: Request) => happened.push(CMD.MIRROR_FOUND === request.cmd ? "taken up" : request),
    },
    operators: { notice() {}, report() {} },
    clock: { nowMs: () => 0 },
  });
  return { answer: kernelMaps.order(ORDER), happened };
}

const RECORDED: WholeReply = { replies: [{ seq: 8, outcome: done(0) }] };
const EVENT = {
  cmd: CMD.MIRROR_TAKE_OVER,
  caller: "operator",
  attr: { directory: "/x", owner: "log former in /former" },
};

t.test("MIRROR_TAKE_OVER is in the log before the directory is marked", async (t) => {
  const { answer, happened } = ordered(RECORDED, null);
  t.same(answer, { seq: 8 });
  t.match(happened, [EVENT, "mark", "taken up"]);
  t.equal(happened.length, 3);
});

t.test("MIRROR_TAKE_OVER that the log refuses marks nothing", async (t) => {
  const failure = { failure: "disk full", detail: "no room" } as const;
  const { answer, happened } = ordered(failure, null);
  t.same(answer, failure);
  t.match(happened, [EVENT]);
  t.equal(happened.length, 1);
});

t.test("MIRROR_TAKE_OVER whose mark is refused takes nothing up", async (t) => {
  const { answer, happened } = ordered(RECORDED, "making /x/owner: EROFS");
  t.same(answer, { refused: { errno: "EBUSY", detail: "making /x/owner: EROFS" } });
  t.notOk(happened.includes("taken up"));
});

t.test("MIRROR_TAKE_OVER of a directory that is this log's already is refused", async (t) => {
  const { answer, happened } = ordered(RECORDED, null, null);
  t.match(answer, { refused: { errno: "EINVAL" } });
  t.same(happened, []);
});
