import { type Bench, makeBench } from "./bench.ts";
import { ElementSteps } from "./element_steps.ts";
import { isLossy } from "./lossy.ts";
import { MapSteps } from "./map_steps.ts";
import { ReadBatches } from "./read_batch.ts";
import type { StreamType } from "./shapes.ts";
import type { Step } from "./stream.ts";
import type { Subject } from "./subject.ts";
import type { Twin } from "./twins.ts";

/**
 * Sends the same commands to two subjects and throws where they do not answer alike. What the kernel leaves free is the
 * order of a hash: which key comes next or last, and which elements are in a batch that is smaller than the map; what an
 * LRU map puts out; and when it is done with what was let go of.
 */
export class Differential {
  /** How many commands were about maps of each type. */
  readonly judged = new Map<StreamType, number>();
  readonly #bench: Bench;
  readonly #maps: MapSteps;
  readonly #elements: ElementSteps;
  readonly #batches: ReadBatches;

  constructor(service: Subject, kernel: Subject, possibleCpus: number) {
    this.#bench = makeBench(service, kernel, possibleCpus);
    this.#maps = new MapSteps(this.#bench);
    this.#elements = new ElementSteps(this.#bench);
    this.#batches = new ReadBatches(this.#bench);
  }

  /** Commands sent to each, but for those that only look whether all is as it should be. */
  get commands(): number {
    return this.#bench.judge.commands;
  }

  run(steps: readonly Step[]): void {
    for (const step of steps) {
      const before = this.commands;
      const type = this.#typeOf(step);
      this.#step(step);
      if (type !== null) this.judged.set(type, (this.judged.get(type) ?? 0) + this.commands - before);
    }
    for (const twin of this.#bench.twins.all) this.#check(twin, "at the end");
  }

  #typeOf(step: Step): StreamType | null {
    if (step.do === "create") return typeof step.shape.type === "number" ? null : step.shape.type;
    if ("map" in step) return this.#bench.twins.at(step.map).twin?.type ?? null;
    return step.do === "fd by id" ? (this.#bench.twins.twin(step.object)?.type ?? null) : null;
  }

  #step(step: Step): void {
    switch (step.do) {
      case "create":
        this.#maps.create(step.shape);
        break;
      case "open":
        this.#bench.twins.open(step.spec);
        break;
      case "remove cgroup":
        this.#bench.twins.removeCgroup(step.at);
        break;
      case "update":
        this.#elements.update(step);
        break;
      case "lookup":
        this.#elements.element(step, "BPF_MAP_LOOKUP_ELEM");
        break;
      case "take":
        this.#elements.element(step, "BPF_MAP_LOOKUP_AND_DELETE_ELEM");
        break;
      case "delete":
        this.#elements.delete(step);
        break;
      case "next":
        this.#elements.nextKey(step);
        break;
      case "read batch":
      case "take batch":
        this.#batches.run(step, this.#bench.twins.at(step.map));
        break;
      case "update batch":
        this.#elements.updateBatch(step);
        break;
      case "delete batch":
        this.#elements.deleteBatch(step);
        break;
      case "walk": {
        const { twin } = this.#bench.twins.at(step.map);
        if (twin !== null) this.#check(twin, "on the way");
        break;
      }
      case "freeze":
        this.#bench.judge.same("BPF_MAP_FREEZE", this.#bench.twins.at(step.map).fds, (fd) => ({ map_fd: fd }));
        break;
      case "close":
        this.#bench.twins.close(this.#bench.twins.at(step.map));
        break;
      case "dup":
        this.#bench.twins.dup(step.map);
        break;
      case "info":
        this.#maps.info(step);
        break;
      case "memory":
        this.#maps.memory(step);
        break;
      case "next id":
        this.#maps.nextId(step.object, step.add);
        break;
      case "fd by id":
        this.#maps.fdById(step);
        break;
      case "pin":
        this.#maps.pin(step);
        break;
      case "get":
        this.#maps.get(step);
        break;
      case "unlink":
      case "mkdir":
      case "rmdir":
        this.#maps.changePath(step);
        break;
      case "tail":
        this.#maps.tail(step);
        break;
      case "unknown":
        this.#bench.judge.equal(
          String(step.cmd),
          this.#bench.judge.both((subject) => subject.bpf({ cmd: step.cmd, attr: {} })),
        );
        break;
    }
  }

  #check(twin: Twin, when: string): void {
    if (isLossy(twin)) this.#bench.lossy.check(twin, when);
    else this.#bench.contents.check(twin, when);
  }
}
