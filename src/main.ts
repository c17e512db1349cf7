import { once } from "node:events";
import { rmSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { readSettings, type Settings } from "./config.ts";
import { EngineClient } from "./engine/client.ts";
import type { FromEngine } from "./engine/worker.ts";
import type { EngineData } from "./engine_main.ts";
import { type App, buildApp } from "./http/app.ts";
import { checkListen, readTokens } from "./http/auth.ts";
import { ThreadedEventReader } from "./sqlite/event_reader.ts";
import { VERSION } from "./version.ts";

const USAGE = `usage: npm start [-- --rebuild]
  --rebuild   make the state again from the log
Settings are environment variables: see the README.`;

/** Starts the service; answers how to stop it. Throws where it cannot start. */
