import { LOG_FILE, TREE_FILE } from "../data/layout.ts";

/** The databases of a data directory, with the folders of their migrations. */
export const DATABASES = {
  [LOG_FILE]: new URL("../../migrations/", import.meta.url),
  [TREE_FILE]: new URL("../../migrations/tree/", import.meta.url),
} as const;
