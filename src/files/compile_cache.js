// @ts-check
import { lstatSync, mkdirSync, realpathSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { dirname, isAbsolute, join } from "node:path";

const MODE = 0o700;
const OTHERS_WRITE = 0o022;
const ROOT = 0;

/**
 * The directory of node's compile cache; it is made if it does not exist. Node runs the code that it finds in there, so
 * the directory is used only if no other user can write to it or replace it. Returns null if there is no such
 * directory; then nothing is cached.
 * @param {NodeJS.ProcessEnv} environment
 * @returns {string | null}
 */
export function cacheDirectory(environment = process.env) {
  try {
    const caches = cachesIn(environment);
    if (caches === null) return null;
    make(caches);
    // Symbolic links in the path are resolved once, here: node gets the same path that was checked.
    const directory = join(realpathSync(caches), "mapledger");
    if (!isOutOfReach(dirname(directory))) return null;
    make(directory);
    const found = lstatSync(directory);
    const isOurs = found.isDirectory() && found.uid === process.geteuid?.() && (found.mode & 0o7777) === MODE;
    return isOurs ? directory : null;
  } catch {
    // For example, the home directory does not exist or is not writable: node runs without a cache.
    return null;
  }
}

/**
 * The caches' directory by the XDG Base Directory Specification, which ignores relative paths.
 * @param {NodeJS.ProcessEnv} environment
 */
function cachesIn({ XDG_CACHE_HOME = "", HOME = "" }) {
  if (isAbsolute(XDG_CACHE_HOME)) return XDG_CACHE_HOME;
  return isAbsolute(HOME) ? join(HOME, ".cache") : null;
}

/** @param {string} path */
function make(path) {
  try {
    mkdirSync(path, { mode: MODE });
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== "EEXIST") throw error;
  }
}

/**
 * Whether only this user and root can create or rename entries of a directory and of all directories above it. Below
 * /tmp the answer is false, despite the sticky bit: another user could create the directory first.
 * @param {string} path without links
 * @returns {boolean}
 */
function isOutOfReach(path) {
  const { mode, uid } = lstatSync(path);
  if ((uid !== ROOT && uid !== process.geteuid?.()) || (mode & OTHERS_WRITE) !== 0) return false;
  return path === dirname(path) || isOutOfReach(dirname(path));
}

/** Turns node's compile cache on for this thread; those that `Protocol.start` starts have it, too. */
export function useCompileCache() {
  const directory = cacheDirectory();
  if (directory !== null) enableCompileCache(directory);
}
