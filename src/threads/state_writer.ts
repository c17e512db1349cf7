/** The thread that writes to the state the cells that the engine has changed. */
import { StoreWriter } from "../lmdb/store.ts";
import { writeCells } from "../lmdb/threaded_store.ts";
import { NotWritten, STATE_WRITER } from "../lmdb/writer_protocol.ts";
import { passGate } from "../supervisor/gate.ts";
import { thisThread } from "../supervisor/thread.ts";

const thread = thisThread(STATE_WRITER);
const { folder, gate } = thread.data;
passGate(gate);
const writer = new StoreWriter(folder);

thread.serve(
  {
    write(cells) {
      try {
        writeCells(writer, cells);
        return null;
      } catch (error) {
        const { message, code } = error as Error & { readonly code?: string };
        throw new NotWritten(message, code);
      }
    },
  },
  {
    close() {
      writer.close().then(() => thread.close());
    },
  },
);
