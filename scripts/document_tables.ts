import { SETTINGS } from "../src/config.ts";
import { METRICS } from "../src/http/server/metrics.ts";

/** docs/operating.md's table of settings, a row each. */
export function settingsTable(): string {
  return Object.values(SETTINGS)
    .map(({ variable, fallback, what, takes, written = fallback }) => {
      const range = takes.startsWith("an integer") ? `; ${takes.replace("an integer ", "")}` : "";
      return `| \`${variable}\` | ${String(fallback) === "" ? "" : `\`${written}\``} | ${what}${range} |`;
    })
    .join("\n");
}

/** docs/operating.md's table of metrics. */
export function metricsTable(): string {
  return Object.entries(METRICS)
    .map(([name, help]) => `| \`${name}\` | ${help} |`)
    .join("\n");
}
