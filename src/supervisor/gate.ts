/**
 * Threads load their modules before the service listens, so that none needs a descriptor for that when connections have taken
 * them all; they begin their work when they are let through, which is when the engine has recovered and leaves them the cores.
 */
export class ThreadGate {
  readonly memory = new SharedArrayBuffer(BYTES);
  readonly #gate = new Int32Array(this.memory, 0, WORDS);

  /** Resolves when a thread stands at the gate. */
  async loaded(): Promise<void> {
    const waiting = Atomics.waitAsync(this.#gate, LOADED, 0);
    await waiting.value;
  }

  /** From now on whoever comes passes through. */
  open(): void {
    Atomics.store(this.#gate, OPEN, 1);
    Atomics.notify(this.#gate, OPEN);
  }
}

/** In a thread: its modules are loaded; returns when it may begin. */
export function passGate(memory: SharedArrayBuffer): void {
  const gate = new Int32Array(memory, 0, WORDS);
  Atomics.store(gate, LOADED, 1);
  Atomics.notify(gate, LOADED);
  Atomics.wait(gate, OPEN, 0);
}

const LOADED = 0;
const OPEN = 1;
const WORDS = 2;
const BYTES = 8;
