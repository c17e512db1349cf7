/**
 * The service's process: reads the settings, and lets the engine's thread load while this thread loads the service over
 * HTTP, which says when the engine begins. ARCHITECTURE.md describes the life of a command through these threads.
 */

import { readSettings, type Settings } from "../config.ts";
import { UMASK } from "../files/modes.ts";
import { ThreadGate } from "../supervisor/gate.ts";
import { ENGINE_THREAD } from "./engine_thread.ts";
import { checkSettingFiles } from "./setting_files.ts";

const USAGE = `usage: npm start [-- --rebuild]
  --rebuild   discard the state and build it from the log
All other settings are environment variables: see docs/operating.md.`;

process.umask(UMASK);
const settings = settingsOrExit();
const rebuild = argumentsOrExit();
const gate = new ThreadGate();
const thread = ENGINE_THREAD.start({ settings, rebuild, gate: gate.memory });
const died = new Promise<never>((_resolve, reject) => thread.once("error", reject));
// It is awaited later.
died.catch(() => {});
const { serve } = await import("./service.ts");
await serve({ settings, rebuild, engine: { thread, died, begin: () => gate.open() } });

function settingsOrExit(): Settings {
  try {
    const settings = readSettings(process.env);
    checkSettingFiles(settings);
    return settings;
  } catch (error) {
    return exit((error as Error).message);
  }
}

function argumentsOrExit(): boolean {
  const given = process.argv.slice(2);
  if (given.length === 0) return false;
  return given.length === 1 && given[0] === "--rebuild" ? true : exit(USAGE);
}

function exit(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}
