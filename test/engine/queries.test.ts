import { serialize } from "node:v8";
import t from "tap";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import { FrameWriter } from "../../src/engine/frames.ts";
import { answerQuery } from "../../src/engine/queries.ts";
import { Service } from "../http/service.ts";
import { createAttr } from "../support/commands.ts";

t.test("what commands that run as one have taken out is not carried across threads", async (t) => {
  const { engine } = await Service.start(t);
  const who = { session: 1, caller: "anonymous" };
  const element = { ...who, target: { by: "id", id: 1 }, key: null, flags: 0n } as const;
  const attr = createAttr({ mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, keySize: 0, valueSize: 60_000 });
  engine.run([
    { ...who, session: 0, cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } },
    { ...who, cmd: CMD.BPF_MAP_CREATE, attr },
    { ...element, cmd: CMD.BPF_MAP_UPDATE_ELEM, value: Buffer.alloc(60_000, 1) },
  ]);
  const writer = new FrameWriter();
  writer.request({ ...element, cmd: CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM, value: null });
  const answer = await answerQuery(engine, "whole", { ...writer.take(), map: 1, seq: engine.seq });
  t.match(answer, { replies: [{ seq: 4, outcome: { errno: 0, map: 1 } }] });
  t.ok(serialize(answer).length < 1000);
});
