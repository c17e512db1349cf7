/** An HTTP thread: answers requests for single elements, and passes all others on to the service's thread. */

import { Front } from "../http/fronts/front.ts";
import { FRONT } from "../http/fronts/protocol.ts";
import { thisThread } from "../supervisor/thread.ts";

const thread = thisThread(FRONT);
const front = new Front(thread.data, {
  connection: (client) => thread.ask("connection", client),
  refused: (refusal) => thread.say("refused", refusal),
});

// Until it listens, an error ends the thread, which is started again. Later ones are reported, and it goes on.
front.listening.then(() =>
  process.on("uncaughtException", (error) => thread.report(`an error occurred outside of any request: ${error.stack}`)),
);

thread.serve(
  {},
  {
    callers: (copy) => front.use(copy),
    tls: (tls) => front.renew(tls),
    close: () => {
      front.close().then(() => {
        thread.data.engine.close();
        thread.close();
      });
    },
  },
);
