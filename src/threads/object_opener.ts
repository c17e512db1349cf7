/** The thread that opens real objects for sessions: nobody else waits if an open does. */
import { openForSession } from "../mirror/object_opener.ts";
import { OBJECT_OPENER } from "../mirror/protocol.ts";
import { openPlaces } from "../mirror/real_objects.ts";
import { openBpf } from "../native/probe.ts";
import { thisThread } from "../supervisor/thread.ts";

const thread = thisThread(OBJECT_OPENER);
const bpf = openBpf();
const places = openPlaces(thread.data);

thread.serve(
  {
    open({ spec }) {
      if ("off" in bpf) throw new Error(bpf.off);
      return openForSession(bpf, spec, places);
    },
  },
  { close: () => thread.close() },
);
