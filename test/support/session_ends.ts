import { spawn } from "node:child_process";
import { ask, kill } from "./unix_client.ts";

export interface ToldEvent {
  readonly time: string;
  readonly cmd: string;
  readonly fd: number | null;
  readonly attr: Record<string, unknown> | null;
  readonly out: Record<string, unknown> | null;
}

/** The events of a session that has ended, or will soon. */
export async function eventsToItsEnd(socket: string, session: number): Promise<ToldEvent[]> {
  while ((await ask(socket, "GET", `/v1/sessions/${session}`)).status === 200)
    await new Promise((resolve) => setTimeout(resolve, 5));
  const { events } = await ask(socket, "GET", `/v1/events?session=${session}&limit=1000`);
  return events as ToldEvent[];
}

/** Milliseconds from the SIGKILL of a process to the end of its session, of so many, ascending. */
export async function timesToEnd(socket: string, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let turn = 0; turn < count; turn++) {
    const child = spawn("sleep", ["60"], { stdio: "ignore" });
    const { id } = await ask(socket, "POST", "/v1/sessions", { process: { pid: child.pid } });
    // At another moment each time between two looks at it.
    await new Promise((resolve) => setTimeout(resolve, turn * 7));
    const killedMs = await kill(child);
    const ended = (await eventsToItsEnd(socket, id as number)).at(-1) as ToldEvent;
    times.push(Date.parse(ended.time) - killedMs);
  }
  return times.sort((a, b) => a - b);
}
