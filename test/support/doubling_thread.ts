import { PartFailed } from "../../src/supervisor/derived_parts.ts";
import { thisThread } from "../../src/supervisor/thread.ts";
import { DOUBLING, TooMany } from "./doubling.ts";

const thread = thisThread(DOUBLING);
let { limit } = thread.data;
let lastBytes = Buffer.alloc(0);

thread.serve(
  {
    double({ number }) {
      if (2 * number > limit) throw new TooMany(limit);
      if (number < 0) throw new Error("below zero");
      return 2 * number;
    },
    doubleBack: ({ number }) => thread.ask("double", { number }),
    bytes({ count }, transfer) {
      lastBytes = Buffer.allocUnsafeSlow(count);
      transfer.push(lastBytes.buffer);
      return lastBytes;
    },
    bytesLeft: () => lastBytes.length,
    fail() {
      throw new PartFailed({ part: "index", state: "failed", detail: "the disk is full", full: true });
    },
    die() {
      setImmediate(() => {
        throw new Error("out of order");
      });
      return new Promise<never>(() => {});
    },
  },
  {
    limit(said) {
      limit = said.limit;
      thread.say("limited", { limit });
    },
    close: () => thread.close(),
  },
);
