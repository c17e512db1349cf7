/** Lets a thread load its modules before it may begin its work. */

export class ThreadGate {
  readonly memory = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);

  /** Lets the thread begin. If the thread reaches the gate later, it passes at once. */
  open(): void {
    const gate = new Int32Array(this.memory);
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
  }
}

/** Called in the thread when its modules are loaded; returns when the thread may begin. */
export function passGate(memory: SharedArrayBuffer): void {
  Atomics.wait(new Int32Array(memory), 0, 0);
}
