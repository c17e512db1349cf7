import { CMD } from "../abi/service.ts";
import type { Event } from "../log/event.ts";
import type { Answer } from "./answer.ts";
import { opensFd } from "./compare.ts";
import type { Ids } from "./ids.ts";
import type { Description } from "./target.ts";

/**
 * Learns from an answer the target's ids of things that the command opened or created, and forgets those that it
 * closed.
 */
export function learn(event: Event, recorded: Answer, got: Answer, ids: Ids, described: Description): void {
  const { command } = event;
  if (recorded.errno !== null) return;
  if (command.cmd === CMD.CLOSE) ids.closeFd(command.session, command.fd);
  if (command.cmd === CMD.SESSION_END) ids.endSession(command.session);
  if (got.errno !== null || got.refused !== undefined) return;
  if (recorded.session !== undefined && got.session !== undefined)
    ids.openSession(recorded.session as number, got.session);
  if (!opensFd(event)) return;
  ids.openFd(command.session, recorded.ret as number, got.ret);
  learnMap(recorded.map as number | undefined, got, ids, described);
  const btf = got.btf ?? described.btf;
  if (recorded.btf !== undefined && btf !== undefined) ids.isSame("btf", String(recorded.btf), String(btf));
  const cgroup = got.cgroup ?? described.cgroup;
  if (recorded.cgroup !== undefined && cgroup !== undefined) ids.isSame("cgroup", recorded.cgroup, cgroup);
}

function learnMap(recorded: number | undefined, got: Answer, ids: Ids, described: Description): void {
  if (recorded === undefined || ids.map(recorded) !== undefined) return;
  const map = got.map ?? described.map;
  if (map !== undefined) ids.addMap(recorded, map);
  if (described.shape !== undefined) ids.addShape(recorded, described.shape);
}
