/**
 * Packed bodies. A body counts in flight by the bytes that it inflates to, as they come (`bodies.ts`). Only gzip and
 * deflate are accepted: they need little memory, whatever is sent. With brotli and zstd a few bytes of a body could
 * demand a window of megabytes, which would not be counted.
 */

import type { IncomingMessage } from "node:http";
import type { Readable, Transform } from "node:stream";
import { createGunzip, createInflate } from "node:zlib";
import { Problem } from "./problems.ts";

/** The encodings that are accepted. */
const DECODERS: ReadonlyMap<string, () => Transform> = new Map([
  ["gzip", createGunzip],
  ["x-gzip", createGunzip],
  ["deflate", createInflate],
]);

/** The name of what a body is packed with; null: it is as it is. Throws the problem of what cannot be undone. */
export function packing({ headers }: IncomingMessage): string | null {
  const encoding = headers["content-encoding"]?.trim().toLowerCase() ?? "";
  if (encoding === "" || encoding === "identity") return null;
  if (DECODERS.has(encoding)) return encoding;
  const detail = `a body is taken as it is, or with Content-Encoding: gzip or deflate; found ${JSON.stringify(encoding)}`;
  throw new Problem("unsupported-media-type", detail, {}, { "accept-encoding": "gzip, deflate" });
}

/** The bytes of a packed body as they are inflated, no faster than they are taken. To be destroyed by who takes no more. */
export function inflated(request: IncomingMessage, encoding: string): Readable {
  const inflating = (DECODERS.get(encoding) as () => Transform)();
  const broken = (): void => {
    if (!request.readableEnded) inflating.destroy(new Error("the request broke off"));
  };
  request.once("error", broken).once("close", broken);
  // Whoever listens after this one gets the error with what it is about.
  inflating.once("error", (error) =>
    Object.assign(error, { statusCode: 400, message: `the body is not ${encoding}: ${error.message}` }),
  );
  inflating.once("close", () => request.off("error", broken).off("close", broken).unpipe(inflating));
  return request.pipe(inflating);
}
