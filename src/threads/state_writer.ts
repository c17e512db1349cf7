/** The thread that writes to the state the cells that the engine has changed. */
import { NotWritten, STATE_WRITER } from "../state/protocol.ts";
import { StateWriter } from "../state/writer.ts";
import { thisThread } from "../supervisor/thread.ts";

const thread = thisThread(STATE_WRITER);
const { folder, log } = thread.data;
const writer = new StateWriter(folder, log, {
  folded: (seq) => thread.say("folded", { seq }),
  foldFailed: ({ message }) => thread.say("foldFailed", { message }),
});

thread.serve(
  {
    async write(cells) {
      try {
        return await writer.write(cells);
      } catch (error) {
        const { message, code } = error as Error & { readonly code?: string };
        throw new NotWritten(message, code);
      }
    },
    async sync() {
      await writer.sync();
      return null;
    },
  },
  {
    released: ({ seq }) => writer.released(seq),
    close() {
      writer.close().then(() => thread.close());
    },
  },
);
