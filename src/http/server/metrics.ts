/** The service's Prometheus metrics. */

import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { errnoName } from "../../abi/errno.ts";
import { cmdName } from "../../abi/service.ts";
import type { MirrorStatus } from "../../engine/ports.ts";
import type { BatchFigures, EngineStats } from "../../engine/stats.ts";
import { PARTS, type PartFault } from "../../supervisor/derived_parts.ts";
import type { TreeStatus, WitnessStatus } from "../../tree/ports.ts";
import type { AccessFigures, CallerFigures } from "./caller_figures.ts";
import { processMemory } from "./process_memory.ts";

/** The names and help texts of all metrics; docs/operating.md has the same. */
export const METRICS = {
  mapledger_commands_total: "Commands recorded since the start, by command and errno (0 if it succeeded).",
  mapledger_batch_commands: "Commands in a batch of the engine.",
  mapledger_execute_seconds: "Time to decide a batch.",
  mapledger_commit_seconds: "Time to append a batch to the log, durably.",
  mapledger_mirror_seconds: "Time to write a batch to the kernel maps.",
  mapledger_queue_commands: "Commands that wait for their answer.",
  mapledger_streams: "Streams that follow the log.",
  mapledger_log_seq: "Seq of the last event in the log.",
  mapledger_state_seq: "Seq of the last event whose changes the state on disk has; the rest is pending.",
  mapledger_pending_cells: "Cells that wait to be written to the state on disk.",
  mapledger_part_failed:
    "1 if a part that is computed from the log (state, index, history, tree) has failed or is refused, otherwise 0.",
  mapledger_index_seq: "Seq of the last event in the index; later events are searched in the log.",
  mapledger_history_seq:
    "Seq of the last event in the history; a read as of a later moment waits until the history has it.",
  mapledger_tree_size: "Events in the Merkle tree; later events are not hashed yet.",
  mapledger_tree_refused: "1 if the log contradicts its tree, so that no checkpoint is signed, otherwise 0.",
  mapledger_witness_size: "Size of the newest checkpoint that a witness has cosigned.",
  mapledger_witness_alarm: "1 if a witness has seen another history of this log, otherwise 0.",
  mapledger_witness_failing:
    "1 if a witness has not cosigned the newest checkpoint, and it is sent again, otherwise 0.",
  mapledger_memory_bytes:
    "Resident memory of the process, by kind: anonymous (its own), files (mapped: the state's pages, which the kernel takes back when it needs memory, and programs), shared.",
  mapledger_sessions: "Live sessions.",
  mapledger_maps: "Live maps.",
  mapledger_map_entries: "Elements in a map, of the first 1,000 maps by id.",
  mapledger_map_max_entries: "Elements that a map can hold, of the first 1,000 maps by id.",
  mapledger_maps_without_series:
    "Live maps without mapledger_map_entries and mapledger_map_max_entries: all but the first 1,000 by id.",
  mapledger_mirror_on: "1 if kernel maps follow the state, 0 if the mirror is off.",
  mapledger_mirror_refusals_total:
    "Writes and other operations of the mirror that the kernel has refused since the start.",
  mapledger_mirror_drift_total:
    "Elements that comparisons by policy have found to differ in the kernel since the start.",
  mapledger_mirror_maps:
    "Maps by the state of their mirror: on, failed, lost, waiting, off. Only a map in the state on is followed by a kernel map as it should be.",
  mapledger_mirror_maps_behind:
    "Maps whose kernel map refused a change that the mirror tries again: those in the state failed.",
  mapledger_caller_commands_total:
    "Commands recorded since the start, by caller; the empty name stands for all callers that are no longer known.",
  mapledger_caller_refused_total:
    "Refusals since the start, by caller and reason: errno (the command failed), quota (the caller exceeded one), scope (the caller has no scope for it).",
  mapledger_caller_quota_used: "The present use of each quota, by caller.",
  mapledger_caller_quota_limit: "The limit of each quota, the same for every caller; 0: no limit.",
  mapledger_unknown_callers_total:
    "Requests of unknown callers refused since the start, by kind: no_token, unknown_token, unknown_uid, unknown_certificate.",
} as const;

type MetricName = keyof typeof METRICS;

const SECONDS = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const COMMANDS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096];
const MIRROR_STATES = ["on", "failed", "lost", "waiting", "off"] as const satisfies readonly MirrorStatus["state"][];
const MS = 1000;

/** The figures that the service's thread has itself. */
interface ServiceFigures {
  /** Commands that wait for their answers. */
  readonly waiting: number;
  readonly streams: number;
  readonly degraded: readonly PartFault[];
  readonly reached: Reached;
}

/** The last events that parts include which other threads keep. */
export interface Reached {
  readonly index: number;
  readonly history: number;
}

/** Collects figures of batches as they end, and all other figures when the metrics are requested. */
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
  readonly #partFailed = this.#gauge("mapledger_part_failed", ["part"]);
  readonly #indexSeq = this.#gauge("mapledger_index_seq");
  readonly #historySeq = this.#gauge("mapledger_history_seq");
  readonly #treeSize = this.#gauge("mapledger_tree_size");
  readonly #treeRefused = this.#gauge("mapledger_tree_refused");
  readonly #witnessSize = this.#gauge("mapledger_witness_size", ["witness"]);
  readonly #witnessAlarm = this.#gauge("mapledger_witness_alarm", ["witness"]);
  readonly #witnessFailing = this.#gauge("mapledger_witness_failing", ["witness"]);
  readonly #memory = this.#gauge("mapledger_memory_bytes", ["kind"]);
  readonly #sessions = this.#gauge("mapledger_sessions");
  readonly #maps = this.#gauge("mapledger_maps");
  readonly #entries = this.#gauge("mapledger_map_entries", ["map", "name"]);
  readonly #maxEntries = this.#gauge("mapledger_map_max_entries", ["map", "name"]);
  readonly #withoutSeries = this.#gauge("mapledger_maps_without_series");
  readonly #mirrorOn = this.#gauge("mapledger_mirror_on");
  readonly #drift = this.#counter("mapledger_mirror_drift_total", []);
  readonly #refusals = this.#counter("mapledger_mirror_refusals_total", []);
  readonly #mirrorMaps = this.#gauge("mapledger_mirror_maps", ["state"]);
  readonly #behind = this.#gauge("mapledger_mirror_maps_behind");
  readonly #callerCommands = this.#counter("mapledger_caller_commands_total", ["caller"]);
  readonly #callerRefused = this.#counter("mapledger_caller_refused_total", ["caller", "why"]);
  readonly #quotaUsed = this.#gauge("mapledger_caller_quota_used", ["caller", "quota"]);
  readonly #quotaLimit = this.#gauge("mapledger_caller_quota_limit", ["quota"]);
  readonly #unknownCallers = this.#counter("mapledger_unknown_callers_total", ["kind"]);

  readonly contentType = this.#registry.contentType;

  batch({ commands, executeMs, commitMs, mirrorMs }: BatchFigures): void {
    this.#batch.observe(commands);
    this.#execute.observe(executeMs / MS);
    this.#commit.observe(commitMs / MS);
    this.#mirror.observe(mirrorMs / MS);
  }

  /** The metrics in Prometheus' text format. */
  text(
    stats: EngineStats,
    { waiting, streams, degraded, reached }: ServiceFigures,
    tree: TreeStatus | null,
    { callers, limits, unknown }: AccessFigures,
    witnesses: readonly WitnessStatus[],
  ): Promise<string> {
    this.#setCallers(callers);
    for (const [quota, limit] of Object.entries(limits)) this.#quotaLimit.set({ quota }, limit);
    this.#unknownCallers.reset();
    for (const [kind, count] of Object.entries(unknown)) this.#unknownCallers.inc({ kind }, count);
    for (const { name, cosignedSize, state } of bySize(witnesses)) {
      this.#witnessSize.set({ witness: name }, cosignedSize);
      this.#witnessAlarm.set({ witness: name }, state === "alarm" ? 1 : 0);
      this.#witnessFailing.set({ witness: name }, state === "failing" ? 1 : 0);
    }
    for (const part of PARTS) this.#partFailed.set({ part }, degraded.some((fault) => fault.part === part) ? 1 : 0);
    this.#indexSeq.set(reached.index);
    this.#historySeq.set(reached.history);
    if (tree !== null) this.#treeSize.set(tree.size);
    if (tree !== null) this.#treeRefused.set(tree.refusal === null ? 0 : 1);
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
    for (const [kind, bytes] of processMemory()) this.#memory.set({ kind }, bytes);
    this.#sessions.set(stats.sessions);
    this.#maps.set(stats.mapCount);
    this.#mirrorOn.set(stats.mirrorOff === null ? 1 : 0);
    for (const state of MIRROR_STATES) this.#mirrorMaps.set({ state }, stats.mirrorMaps[state]);
    this.#behind.set(stats.mirrorMaps.failed);
    this.#entries.reset();
    this.#maxEntries.reset();
    // They are counted after they were listed.
    this.#withoutSeries.set(Math.max(0, stats.mapCount - stats.maps.length));
    for (const { id, name, entries, maxEntries } of stats.maps) {
      this.#entries.set({ map: id, name }, entries);
      this.#maxEntries.set({ map: id, name }, maxEntries);
    }
    return this.#registry.metrics();
  }

  #setCallers(callers: readonly CallerFigures[]): void {
    for (const metric of [this.#callerCommands, this.#callerRefused, this.#quotaUsed]) metric.reset();
    for (const { caller, commands, refused, used } of callers) {
      this.#callerCommands.inc({ caller }, commands);
      for (const [why, count] of Object.entries(refused)) this.#callerRefused.inc({ caller, why }, count);
      for (const [quota, amount] of Object.entries(used)) this.#quotaUsed.set({ caller, quota }, amount);
    }
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
  // All unknown commands share one series, because callers choose their names and numbers.
  return { cmd: cmdName(cmd) ?? "unknown", errno: errno === 0 ? "0" : errnoName(errno) };
}

/** If a witness has several keys, the key that has cosigned most comes last, so that its figures are shown. */
function bySize(witnesses: readonly WitnessStatus[]): WitnessStatus[] {
  return witnesses.toSorted((a, b) => a.cosignedSize - b.cosignedSize);
}
