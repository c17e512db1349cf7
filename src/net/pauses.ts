/**
 * Pauses of a connection for several reasons: it is read on when none of them is left. Node itself resumes a socket
 * while it reads a body, whatever is noted here.
 */

/** A socket of node:net. */
export interface Pausable {
  pause(): unknown;
  resume(): unknown;
}

/** Bits: too many pipelined requests wait; its sender has to wait for others. */
export const PIPELINE = 1;
export const SENDER = 2;
type Reason = typeof PIPELINE | typeof SENDER;

const REASONS = new WeakMap<Pausable, number>();

export function pauseFor(connection: Pausable, reason: Reason): void {
  REASONS.set(connection, (REASONS.get(connection) ?? 0) | reason);
  connection.pause();
}

/** Ends this reason's pause, if there is one. */
export function resumeFrom(connection: Pausable, reason: Reason): void {
  const left = (REASONS.get(connection) ?? 0) & ~reason;
  REASONS.set(connection, left);
  if (left === 0) connection.resume();
}
