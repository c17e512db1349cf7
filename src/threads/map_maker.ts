/** The thread that makes kernel maps which take the kernel long. */
import { makeFor } from "../mirror/map_maker.ts";
import { MAP_MAKER } from "../mirror/protocol.ts";
import { openBpf } from "../native/probe.ts";
import { thisThread } from "../supervisor/thread.ts";

const thread = thisThread(MAP_MAKER);
const bpf = openBpf();
const { cpus } = thread.data;

thread.serve(
  {
    make({ wanted }) {
      if ("off" in bpf) throw new Error(bpf.off);
      return makeFor(bpf, cpus, wanted);
    },
  },
  { close: () => thread.close() },
);
