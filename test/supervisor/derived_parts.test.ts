import t from "tap";
import { Damaged, Derived, faultIn, PartFailed, type PartFault } from "../../src/supervisor/derived_parts.ts";

interface Opened {
  readonly number: number;
  isClosed: boolean;
}

const error = (code: string, name = "Error"): Error => Object.assign(new Error(`it is ${code}`), { code, name });

function part({ discards = true, opening = () => {} }: { discards?: boolean; opening?: () => void } = {}) {
  const told: (PartFault | null)[] = [];
  const reports: string[] = [];
  const opened: Opened[] = [];
  let discarded = 0;
  const derived = new Derived<Opened>({
    part: "index",
    open() {
      opening();
      const open = { number: opened.length + 1, isClosed: false };
      opened.push(open);
      return open;
    },
    close(open) {
      open.isClosed = true;
    },
    ...(discards && { discard: () => void discarded++ }),
    told: (fault) => told.push(fault),
    report: (message) => reports.push(message),
    isWhole: () => true,
  });
  return { derived, told, reports, opened, discarded: () => discarded };
}

t.test("what an error says of a part", async (t) => {
  const rows = [
    [new Damaged("a page"), "damaged"],
    [error("SQLITE_CORRUPT", "SqliteError"), "damaged"],
    [error("SQLITE_NOTADB", "SqliteError"), "damaged"],
    [error("SQLITE_FULL", "SqliteError"), "full"],
    [error("SQLITE_IOERR_FSYNC", "SqliteError"), "failed"],
    [error("SQLITE_CANTOPEN", "SqliteError"), "failed"],
    [error("ENOSPC"), "full"],
    [error("EMFILE"), "failed"],
    [new Error("a bug"), null],
  ] as const;
  for (const [thrown, found] of rows) t.equal(faultIn(thrown), found, thrown.message);
});

t.test("a failure that is over when all is opened anew is nobody's", async (t) => {
  const { derived, told, opened, discarded } = part();
  const answer = await derived.use(({ number }) => {
    if (number === 1) throw error("EIO");
    return number;
  });
  t.equal(answer, 2);
  t.same(told, []);
  t.same([opened[0]?.isClosed, opened[1]?.isClosed, discarded()], [true, false, 0]);
});

t.test("a failure that stays is told of once, tried with each use, and over with one that succeeds", async (t) => {
  const { derived, told } = part();
  const fail = (): never => {
    throw error("ENOSPC");
  };
  for (let time = 0; time < 3; time++) await t.rejects(derived.use(fail), PartFailed);
  t.same(told, [{ part: "index", state: "failed", detail: "it is ENOSPC", full: true }]);
  t.equal(await derived.use(() => 7), 7);
  t.same(told.slice(1), [null]);
});

t.test("one that cannot be opened is tried with each use, whatever the reason", async (t) => {
  // The second is what rmSync throws where it lacks descriptors.
  for (const thrown of [error("EMFILE"), error(""), new Error("nobody knows")]) {
    let isBroken = true;
    const { derived, told } = part({
      opening() {
        if (isBroken) throw thrown;
      },
    });
    for (let time = 0; time < 2; time++)
      await t.rejects(
        derived.use(() => 1),
        PartFailed,
      );
    t.match(told, [{ state: "failed", detail: thrown.message }]);
    isBroken = false;
    t.equal(await derived.use(() => 1), 1);
    t.same(told.slice(1), [null]);
  }
});

t.test("what is damaged is thrown away and made again; if that is of no use, not at once again", async (t) => {
  const { derived, reports, discarded } = part();
  const answer = await derived.use(({ number }) => {
    if (number === 1) throw new Damaged("page 7 is another page");
    return number;
  });
  t.same([answer, discarded()], [2, 1]);
  t.match(reports, [/^the index is damaged, and is made again from the log: page 7/]);
  const broken = (): never => {
    throw new Damaged("page 7 is another page");
  };
  for (let time = 0; time < 3; time++) await t.rejects(derived.use(broken), PartFailed);
  t.equal(discarded(), 1);
});

t.test("evidence is refused, and never thrown away", async (t) => {
  const { derived, told } = part({ discards: false });
  const broken = (): never => {
    throw error("SQLITE_NOTADB", "SqliteError");
  };
  await t.rejects(derived.use(broken), PartFailed);
  t.match(told, [{ state: "refused", detail: "it is SQLITE_NOTADB" }]);
});

t.test("who uses a part that another has found failed uses the next one; a bug is whose it is", async (t) => {
  const { derived } = part();
  const { promise, reject } = Promise.withResolvers<number>();
  const other = derived.use(({ number }) => (number === 1 ? promise : number));
  await new Promise((resolve) => setImmediate(resolve));
  t.ok(await derived.failed(error("EIO")));
  reject(new Error("it was closed"));
  t.equal(await other, 2);
  await t.rejects(
    derived.use(() => Promise.reject(new Error("a bug"))),
    { message: "a bug" },
  );
  await derived.close();
});
