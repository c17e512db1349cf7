/**
 * node:http, as require() gives it. An import of it, by a name or by all, makes node read all of its exports, and so
 * load node's own fetch, which takes as long as half a start of node.
 */
export const http = process.getBuiltinModule("node:http");
