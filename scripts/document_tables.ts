import { SETTINGS } from "../src/config.ts";
import { ERRNO_PROBLEMS, PROBLEMS } from "../src/http/schemas/problems.ts";
import { METRICS } from "../src/http/server/metrics.ts";

/** The table of settings in docs/operating.md, a row each. */
export function settingsTable(): string {
  return Object.values(SETTINGS)
    .map(({ variable, fallback, what, takes, written = fallback }) => {
      const range = takes.startsWith("an integer") ? `; ${takes.replace("an integer ", "")}` : "";
      return `| \`${variable}\` | ${String(fallback) === "" ? "" : `\`${written}\``} | ${what}${range} |`;
    })
    .join("\n");
}

/** The table of metrics in docs/operating.md, a row each. */
export function metricsTable(): string {
  return Object.entries(METRICS)
    .map(([name, help]) => `| \`${name}\` | ${help} |`)
    .join("\n");
}

/** The table of errors in docs/api.md, a row for each HTTP status. */
export function errorsTable(): string {
  const errnos = Object.entries(ERRNO_PROBLEMS);
  const others = Object.entries(PROBLEMS);
  const statuses = new Set([...errnos, ...others].map(([, { status }]) => status));
  return [...statuses]
    .toSorted((one, other) => one - other)
    .map((status) => {
      const named = (rows: readonly (readonly [string, { readonly status: number }])[]): readonly string[] =>
        rows.filter(([, row]) => row.status === status).map(([name]) => name);
      const problems = named(others).map((name) => `\`${name}\``);
      return `| ${status} | ${named(errnos).join(", ")} | ${problems.join(", ")} |`;
    })
    .join("\n");
}
