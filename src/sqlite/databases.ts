/** The databases of a data directory, and the folders of the migrations that make them. */
export const DATABASES = {
  "events.sqlite": new URL("../../migrations/", import.meta.url),
  "tree.sqlite": new URL("../../migrations/tree/", import.meta.url),
  "index.sqlite": new URL("../../migrations/index/", import.meta.url),
} as const;
