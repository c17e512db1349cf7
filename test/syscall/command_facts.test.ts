import t from "tap";
import { CMD, type KnownCmd } from "../../src/abi/service.ts";
import { type CommandFacts, cmdsThat, commandFacts, factsOfNamed } from "../../src/syscall/command_facts.ts";
import { hasRedo } from "../../src/syscall/execute.ts";

const ALL = cmdsThat(() => true);

t.test("changesState: of these commands, and no others, a replay does something again", async (t) => {
  for (const cmd of ALL) t.equal(commandFacts(cmd)?.changesState, hasRedo(cmd as KnownCmd), String(cmd));
});

t.test("what changes a map or a name changes the state, and no page or read does", async (t) => {
  for (const cmd of ALL) {
    const { changes, changesState, answers, takes, leavesMaps } = commandFacts(cmd) as CommandFacts;
    if (changes !== null) t.ok(changesState, `${cmd} changes ${changes}`);
    if (takes) t.ok(changes === "map" && answers !== null, `${cmd} takes`);
    if (changes === "map") t.notOk(leavesMaps, `${cmd} changes a map`);
  }
});

t.test("commands that are not about maps have no facts, nor has what is no command", async (t) => {
  for (const cmd of [CMD.BPF_PROG_LOAD, CMD.BPF_TOKEN_CREATE, 38, -1, 4095, 1e9]) t.equal(commandFacts(cmd), undefined);
  for (const name of ["BPF_PROG_LOAD", "toString", "", null, 1]) t.equal(factsOfNamed(name), undefined);
});
