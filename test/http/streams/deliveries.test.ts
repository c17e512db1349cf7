import { test } from "tap";
import { Deliveries, type Delivery } from "../../../src/http/streams/deliveries.ts";

test("deliveries are written in slices, and other work has its turn between them", async (t) => {
  let nowMs = 0;
  const deliveries = new Deliveries(() => nowMs);
  const order: string[] = [];
  const done = Promise.withResolvers<void>();
  const again: Delivery = { deliver: () => order.push("again") };
  const slow = (name: number): Delivery => ({
    deliver() {
      nowMs += 0.2;
      order.push(String(name));
      if (name === 3) deliveries.add(again);
      if (name === 23) done.resolve();
    },
  });
  for (let name = 0; name < 24; name++) deliveries.add(slow(name));
  const beside = (): void => {
    order.push("|");
    if (order.at(-2) !== "again") setImmediate(beside);
  };
  setImmediate(beside);
  await done.promise;
  while (!order.includes("again")) await new Promise(setImmediate);
  t.same(
    order.filter((one) => one !== "|"),
    [...Array.from({ length: 24 }, (_, name) => String(name)), "again"],
    "in their order",
  );
  const slices = order.join(",").split("|").slice(0, 3);
  t.same(
    slices.map((slice) => slice.split(",").filter((one) => one !== "").length),
    [8, 8, 8],
    "what takes longer than a slice waits for the next turn",
  );
});
