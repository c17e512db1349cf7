import type { Settings } from "../config.ts";
import { engineProtocol } from "../engine/protocol.ts";

interface EngineData {
  readonly settings: Settings;
  /** Make the state again from the log. */
  readonly rebuild: boolean;
  /** Opened when the thread may open the data directory (`supervisor/gate.ts`). */
  readonly gate: SharedArrayBuffer;
}

export const ENGINE_THREAD = engineProtocol<EngineData>();
