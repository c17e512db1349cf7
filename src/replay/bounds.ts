import { UNKNOWN_CMD } from "../abi/service.ts";
import type { Event } from "../log/event.ts";

/** The most bytes of a command's inputs and output buffers. */
const COMMAND_BYTES_MAX = 4 * 1024 * 1024;
/** The most elements of a batch that is sent by a resource route, whose body has an object for each. */
const ROUTE_ELEMENTS_MAX = 32_768;

const INSTEAD = "`mapledger import`, on the command line, can send it";

/** Why a command is too large for the service's own thread, which other requests wait for; null: it is not. */
export function tooLarge({ command }: Event): string | null {
  if (command.cmd === UNKNOWN_CMD) return null;
  const { key, value, attr, exact } = command as Sent;
  const bytes = (key?.length ?? 0) + (value?.length ?? 0) + (attr?.infoLen ?? 0);
  if (bytes > COMMAND_BYTES_MAX) return `it has more than ${COMMAND_BYTES_MAX} bytes: ${INSTEAD}`;
  const byRoute = command.session === 0 || exact === true;
  if (!byRoute || (attr?.count ?? 0) <= ROUTE_ELEMENTS_MAX || key == null) return null;
  return `it has more than ${ROUTE_ELEMENTS_MAX} elements: ${INSTEAD}`;
}

/** The fields of a command that its size depends on. */
interface Sent {
  readonly key?: Buffer | null;
  readonly value?: Buffer | null;
  readonly exact?: boolean;
  readonly attr?: { readonly infoLen?: number; readonly count?: number };
}
