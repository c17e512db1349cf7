/**
 * Compressed bodies. The inflated bytes count in flight, as they arrive (`bodies.ts`). Only gzip and deflate are
 * accepted, because they always need little memory. With brotli and zstd a few bytes of a body could demand a window of
 * megabytes, which would not be counted.
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

/**
 * A body's Content-Encoding; null: the body is not compressed. Throws the problem of an encoding that is not accepted.
 */
export function packing({ headers }: IncomingMessage): string | null {
  const encoding = headers["content-encoding"]?.trim().toLowerCase() ?? "";
  if (encoding === "" || encoding === "identity") return null;
  if (DECODERS.has(encoding)) return encoding;
  const detail = `a body may be sent uncompressed, or with Content-Encoding gzip or deflate; found ${JSON.stringify(encoding)}`;
  throw new Problem("unsupported-media-type", detail, {}, { "accept-encoding": "gzip, deflate" });
}

/** The inflated bytes of a compressed body, at the reader's pace. A reader that stops early must destroy the stream. */
export function inflated(request: IncomingMessage, encoding: string): Readable {
  const inflating = (DECODERS.get(encoding) as () => Transform)();
  const broken = (): void => {
    if (!request.readableEnded) inflating.destroy(new Error("the request broke off"));
  };
  request.once("error", broken).once("close", broken);
  // This listener runs first, so all later ones get the error with its cause and status.
  inflating.once("error", (error) =>
    Object.assign(error, { statusCode: 400, message: `the body is not ${encoding}: ${error.message}` }),
  );
  inflating.once("close", () => request.off("error", broken).off("close", broken).unpipe(inflating));
  return request.pipe(inflating);
}
