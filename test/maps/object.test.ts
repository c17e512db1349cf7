import t from "tap";
import { Service } from "../../conformance/service.ts";
import { CMD } from "../../src/abi/service.ts";
import { attrText, readCommand } from "../../src/log/attr.ts";
import { identityOf, type ProgFacts } from "../../src/maps/object.ts";

/** A program as events told of it before they kept its tag, load time and boot. */
const older: ProgFacts = { kind: "prog", progId: 5, progType: 6, expectedAttachType: 0, name: "filter" };
const program: ProgFacts = { ...older, tag: "a04f5eef06a7f555", loadTime: "1234567890123456789", boot: "b1" };

/** Opens a program by its id, which the machine says is this one; answers the object's id. */
function open(service: Service, facts: ProgFacts): number {
  const { outcome } = service.run({ cmd: CMD.OPEN, attr: { kind: "prog", id: facts.progId, found: { facts } } });
  return outcome.out?.object as number;
}

t.test("identityOf a program is its id, tag, load time and boot; its id alone if the rest is not known", async (t) => {
  t.equal(identityOf(older), "prog 5");
  t.equal(identityOf(program), "prog 5 a04f5eef06a7f555 1234567890123456789 b1");
  t.equal(identityOf({ ...program, name: "renamed" }), identityOf(program));
  const others: readonly Partial<ProgFacts>[] = [{ progId: 6 }, { tag: "00" }, { loadTime: "1" }, { boot: "b2" }];
  for (const other of others) t.not(identityOf({ ...program, ...other }), identityOf(program), JSON.stringify(other));
});

t.test("a program that has the id of another is another object, and a replay of the log says the same", async (t) => {
  const service = new Service();
  const opened = [older, older, program, { ...program, boot: "b2" }, program, older];
  t.same(
    opened.map((facts) => open(service, facts)),
    [1, 1, 2, 3, 2, 1],
  );
  const { state, fold } = service.cells();
  t.same(fold, state);
});

t.test("the log keeps a program's tag, load time and boot", async (t) => {
  const attr = { kind: "prog", id: 5, found: { facts: program } } as const;
  const parts = { session: 1, caller: "t", timeUs: 1, target: null, key: null, value: null, flags: 0n, exact: true };
  const text = attrText({ cmd: CMD.OPEN, attr });
  t.match(readCommand({ ...parts, cmd: CMD.OPEN, attr: text }), { attr });
});

t.test("without a kernel to ask, an id is that of the last program that is known to have it", async (t) => {
  const service = new Service();
  open(service, program);
  const last = open(service, { ...program, boot: "b2" });
  const { outcome } = service.run({ cmd: CMD.OPEN, attr: { kind: "prog", id: 5 } });
  t.equal(outcome.out?.object, last);
});
