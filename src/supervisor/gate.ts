/**
 * Lets threads load early and begin late. They load their modules before the service listens, when descriptors are
 * still free (connections may use up all of them later). They begin their work when the engine has recovered and no
 * longer needs all cores.
 */

export class ThreadGate {
  readonly memory = new SharedArrayBuffer(BYTES);
  readonly #gate = new Int32Array(this.memory, 0, WORDS);

  /** Resolves when the thread has loaded its modules. */
  async loaded(): Promise<void> {
    const waiting = Atomics.waitAsync(this.#gate, LOADED, 0);
    await waiting.value;
  }

  /** Lets the thread begin. If the thread reaches the gate later, it passes at once. */
  open(): void {
    Atomics.store(this.#gate, OPEN, 1);
    Atomics.notify(this.#gate, OPEN);
  }
}

/** Called in the thread when its modules are loaded; returns when the thread may begin. */
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
