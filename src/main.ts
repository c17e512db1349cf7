/** For who starts this file: the same as main.js, which node starts faster, as it has no types to strip. */
import "./main.js";
