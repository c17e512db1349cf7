import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { errnoName } from "../abi/errno.ts";
import { cmdName } from "../abi/service.ts";
import type { BatchFigures } from "../engine/engine.ts";
import type { MirrorStatus } from "../engine/ports.ts";
import type { EngineStats } from "../engine/queries.ts";
import type { TreeStatus } from "../engine/tree.ts";

/** Every metric there is. */
export const METRICS = {
  mapledger_commands_total: "Commands recorded since the start, by command and errno (0 where it succeeded).",
  mapledger_batch_commands: "Commands in a batch of the engine.",
  mapledger_execute_seconds: "Time to decide a batch.",
  mapledger_commit_seconds: "Time to append a batch to the log, durably.",
  mapledger_mirror_seconds: "Time to carry a batch into the kernel's maps.",
  mapledger_queue_commands: "Commands that wait for their answer.",
  mapledger_streams: "Streams that follow the log.",
  mapledger_log_seq: "Seq of the last event in the log.",
  mapledger_state_seq: "Seq of the last event whose changes the state on disk has; the rest is pending.",
  mapledger_pending_cells: "Cells that wait to be written to the state on disk.",
  mapledger_tree_size: "Events in the Merkle tree; the rest waits to be hashed.",
  mapledger_tree_refused: "1 where the log is not what its tree has, so that no checkpoint is signed, otherwise 0.",
  mapledger_sessions: "Sessions that live.",
  mapledger_maps: "Maps that live.",
  mapledger_map_entries: "Elements in a map.",
  mapledger_map_max_entries: "Elements that a map can hold.",
  mapledger_mirror_on: "1 if kernel maps follow the state, 0 if the mirror is off.",
  mapledger_mirror_refusals_total: "What the kernel has refused the mirror since the start.",
  mapledger_mirror_drift_total:
    "Elements that comparisons by policy have found to differ in the kernel since the start.",
  mapledger_mirror_maps:
    "Maps by the state of their mirror (on, failed, lost, waiting, off). In all but on, no kernel map follows the map as it should.",
  mapledger_mirror_maps_behind:
    "Maps whose kernel map refused a change that the mirror tries again: those in the state failed.",
} as const;

type MetricName = keyof typeof METRICS;

const SECONDS = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const COMMANDS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096];
/** Of a map's mirror. */
const MIRROR_STATES = ["on", "failed", "lost", "waiting", "off"] as const satisfies readonly MirrorStatus["state"][];
const MS = 1000;

/** What the service measures about itself; what the engine counts is asked for when somebody looks. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #commands = this.#counter("mapledger_commands_total", ["cmd", "errno"]);
  readonly #batch = this.#histogram("mapledger_batch_commands", COMMANDS);
  readonly #execute = this.#histogram("mapledger_execute_seconds", SECONDS);
  readonly #commit = this.#histogram("mapledger_commit_seconds", SECONDS);
  readonly #mirror = this.#histogram("mapledger_mirror_seconds", SECONDS);
  readonly #queue = this.#gauge("mapledger_queue_commands");
  readonly #streams = this.#gauge("mapledger_streams");
  readonly #logSeq = this.#gauge("mapledger_log_seq");
  readonly #stateSeq = this.#gauge("mapledger_state_seq");
  readonly #pending = this.#gauge("mapledger_pending_cells");
  readonly #treeSize = this.#gauge("mapledger_tree_size");
  readonly #treeRefused = this.#gauge("mapledger_tree_refused");
  readonly #sessions = this.#gauge("mapledger_sessions");
  readonly #maps = this.#gauge("mapledger_maps");
  readonly #entries = this.#gauge("mapledger_map_entries", ["map", "name"]);
  readonly #maxEntries = this.#gauge("mapledger_map_max_entries", ["map", "name"]);
  readonly #mirrorOn = this.#gauge("mapledger_mirror_on");
  readonly #drift = this.#counter("mapledger_mirror_drift_total", []);
  readonly #refusals = this.#counter("mapledger_mirror_refusals_total", []);
  readonly #mirrorMaps = this.#gauge("mapledger_mirror_maps", ["state"]);
  readonly #behind = this.#gauge("mapledger_mirror_maps_behind");

  readonly contentType = this.#registry.contentType;

  /** The engine has done a batch. */
  batch({ commands, executeMs, commitMs, mirrorMs }: BatchFigures): void {
    this.#batch.observe(commands);
    this.#execute.observe(executeMs / MS);
    this.#commit.observe(commitMs / MS);
    this.#mirror.observe(mirrorMs / MS);
  }

  /** All of it in Prometheus' text format. */
  text(stats: EngineStats, waiting: number, streams: number, tree: TreeStatus): Promise<string> {
    this.#treeSize.set(tree.size);
    this.#treeRefused.set(tree.refusal === null ? 0 : 1);
    this.#commands.reset();
    for (const [cmd, errno, count] of stats.commands as [number, number, number][])
      this.#commands.inc(labelsOf(cmd, errno), count);
    this.#refusals.reset();
    this.#refusals.inc(stats.mirrorRefusals);
    this.#drift.reset();
    this.#drift.inc(stats.driftFound);
    this.#queue.set(waiting);
    this.#streams.set(streams);
    this.#logSeq.set(stats.seq);
    this.#stateSeq.set(stats.stateSeq);
    this.#pending.set(stats.pendingCells);
    this.#sessions.set(stats.sessions);
    this.#maps.set(stats.mapCount);
    this.#mirrorOn.set(stats.mirrorOff === null ? 1 : 0);
    for (const state of MIRROR_STATES) this.#mirrorMaps.set({ state }, stats.mirrorMaps[state]);
    this.#behind.set(stats.mirrorMaps.failed);
    this.#entries.reset();
    this.#maxEntries.reset();
    for (const { id, name, entries, maxEntries } of stats.maps) {
      this.#entries.set({ map: id, name }, entries);
      this.#maxEntries.set({ map: id, name }, maxEntries);
    }
    return this.#registry.metrics();
  }

  #counter<Label extends string>(name: MetricName, labelNames: Label[]): Counter<Label> {
    return new Counter({ name, help: METRICS[name], labelNames, registers: [this.#registry] });
  }

  #gauge<Label extends string>(name: MetricName, labelNames: Label[] = []): Gauge<Label> {
    return new Gauge({ name, help: METRICS[name], labelNames, registers: [this.#registry] });
  }

  #histogram(name: MetricName, buckets: number[]): Histogram {
    return new Histogram({ name, help: METRICS[name], buckets, registers: [this.#registry] });
  }
}

function labelsOf(cmd: number, errno: number): { cmd: string; errno: string } {
  // Names that callers made up are not worth a series each.
  return { cmd: cmdName(cmd) ?? "unknown", errno: errno === 0 ? "0" : errnoName(errno) };
}
