// @ts-check
import { lstatSync, mkdirSync, realpathSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";

const MODE = 0o700;
const OTHERS_WRITE = 0o022;
const ROOT = 0;

/**
 * The directory of node's compile cache, made if it is not there: what lies in it is run, so that it is used only if nobody else can
 * write to it, nor put another in its place. null: there is none, and nothing is kept.
 * @param {NodeJS.ProcessEnv} environment
 * @returns {string | null}
 */
export function cacheDirectory(environment = process.env) {
  try {
    const caches = cachesIn(environment);
    if (caches === null) return null;
    make(caches);
    // Links above it are followed once, here: node is given the path that was looked at.
    const directory = join(realpathSync(caches), "mapledger");
    if (!isOutOfReach(dirname(directory))) return null;
    make(directory);
    const found = lstatSync(directory);
    const isOurs = found.isDirectory() && found.uid === process.geteuid?.() && (found.mode & 0o7777) === MODE;
    return isOurs ? directory : null;
  } catch {
    // A home that is not there or may not be written to, say: it goes without.
    return null;
  }
}

/**
 * As the XDG Base Directory Specification has it: a path that is not absolute does not count.
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
 * Whether nobody but this user and root can rename what is in a directory, or one above it; below /tmp others can at least be first.
 * @param {string} path without links
 * @returns {boolean}
 */
function isOutOfReach(path) {
  const { mode, uid } = lstatSync(path);
  if ((uid !== ROOT && uid !== process.geteuid?.()) || (mode & OTHERS_WRITE) !== 0) return false;
  return path === dirname(path) || isOutOfReach(dirname(path));
}
